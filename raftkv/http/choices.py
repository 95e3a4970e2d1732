"""What a request chooses beside its body, as one frozen value a route: read once, checked once, passed on as a type.

The fields of a route's type are what it takes: a query parameter goes by its own name, and ``match``,
``idempotency_key`` and ``context`` come from headers. What is not among them is refused, and so is what makes no sense;
a value that only the node's status can judge (a level of consistency) is left to the handler. This module must not
import Flask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final, Literal, TypeVar

import msgspec

from raftkv.api.bodies import AccessWord
from raftkv.api.headers import CONTEXT, IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, LAST_EVENT_ID, Header
from raftkv.core.requests import DEFAULT, LATEST, MAJORITY, NOW, Consistency, Match, Placing
from raftkv.http import parameters, replicas
from raftkv.http.messages import HttpRequest
from raftkv.http.parameters import flag, seconds, whole_number
from raftkv.http.replicas import KnownSizes


class Nothing(msgspec.Struct, frozen=True):
    """There is nothing to choose."""


class Anything(Nothing, frozen=True):
    """Whatever is chosen, it is not looked at."""


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """``timeout``: how many seconds the request may take."""

    timeout: float | None = None


class Placed(Timed, frozen=True, kw_only=True):
    """Which replicas are asked, where there is a choice; see ``raftkv.core.requests.Placing``."""

    n: int = DEFAULT
    sloppy: bool | None = None

    @property
    def placing(self) -> Placing | None:
        """The same for the replica; ``None`` where nothing was chosen."""
        return Placing(n=self.n, sloppy=self.sloppy) if self.n or self.sloppy is not None else None


class Reading(Placed, frozen=True, kw_only=True):
    """How a read is made; see ``raftkv.core.requests.Read``."""

    consistency: Consistency | None = None
    r: int = DEFAULT

    @property
    def names_replicas(self) -> tuple[str, ...]:
        """What it says of replicas, which only an eventual read has a use for."""
        named = (("n", self.n), ("r", self.r), ("sloppy", self.sloppy is not None))
        return tuple([name for name, is_named in named if is_named])


class MomentReading(Reading, frozen=True, kw_only=True):
    """``revision``, or ``at_ms`` by the log's clock: as it stood then; 0 for now."""

    revision: int = LATEST
    at_ms: int = NOW


class KeyReading(Reading, frozen=True, kw_only=True):
    """A read whose key is a parameter."""

    key: bytes | None = None


class LocalReading(Timed, frozen=True, kw_only=True):
    """A read of what this node has."""

    key: bytes | None = None


class Listing(MomentReading, frozen=True, kw_only=True):
    """Which page is asked for."""

    prefix: bytes = b""
    start: bytes = b""
    end: bytes | None = None
    limit: int = parameters.NUMBER_MAX
    keys_only: bool = False


class Watching(Timed, frozen=True, kw_only=True):
    """Whose changes are watched, from where on, and how they are told; seconds."""

    key: bytes | None = None
    prefix: bytes = b""
    start: bytes = b""
    end: bytes | None = None
    from_revision: int | None = None
    last_event_id: int | None = None
    previous: bool = False
    only: Literal["put", "delete"] | None = None
    progress_s: float | None = None


class Looking(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown beside sights: how the asked node stands, and what it is asked."""

    standing: bool = False
    traffic: bool = False


class Observing(Timed, frozen=True, kw_only=True):
    """From where on the leaders of an election are told; seconds."""

    last_event_id: int | None = None
    progress_s: float | None = None


class BackingUp(Timed, frozen=True, kw_only=True):
    """How new what is backed up must be; ``None``: as new as the mode can give."""

    consistency: Consistency | None = None


class Batching(Placed, frozen=True, kw_only=True):
    """How writes are made, whatever they are about; see ``raftkv.core.requests.Write``."""

    w: int = MAJORITY
    redirect: bool = False
    idempotency_key: str | None = None


class LeaseListing(Reading, frozen=True, kw_only=True):
    """Which page of leases is asked for."""

    start_lease: int = 0
    limit: int = parameters.NUMBER_MAX


class LockListing(Timed, frozen=True, kw_only=True):
    """Which page of locks is asked for."""

    prefix: bytes = b""
    start: bytes = b""
    limit: int = parameters.NUMBER_MAX


class Acquiring(Timed, frozen=True, kw_only=True):
    """How something comes to be held."""

    idempotency_key: str | None = None


class Releasing(Timed, frozen=True, kw_only=True):
    """Which grant is let go."""

    token: int = 0


class Deleting(Batching, frozen=True, kw_only=True):
    """Which keys are deleted."""

    prefix: bytes = b""
    start: bytes = b""
    end: bytes | None = None


class Writing(Batching, frozen=True, kw_only=True):
    """How one key is written: on what condition, and by whom that has seen what."""

    match: Match | None = None
    context: bytes = b""

    @property
    def placing(self) -> Placing | None:
        """See ``Placed``."""
        if self.context or self.n or self.sloppy is not None:
            return Placing(n=self.n, sloppy=self.sloppy, context=self.context)
        return None


class Putting(Writing, frozen=True, kw_only=True):
    """``ttl``: after how many seconds the key expires; ``lease``: with which one it goes."""

    ttl: float | None = None
    lease: int = 0

    @property
    def ttl_ms(self) -> int:
        """In milliseconds, 0 for never."""
        return 0 if self.ttl is None else max(1, round(self.ttl * 1000))


class PermissionNaming(Timed, frozen=True, kw_only=True):
    """Which permission of a role is meant."""

    access: AccessWord | None = None
    key: bytes | None = None
    prefix: bytes | None = None
    start: bytes | None = None
    end: bytes | None = None


class KeyWriting(Writing, frozen=True, kw_only=True):
    """A write whose key is a parameter."""

    key: bytes | None = None


FromHeaders = Callable[[dict[bytes, bytes], Callable[[], KnownSizes]], Any]

_QUERY: Final[dict[str, Callable[[dict[str, str], KnownSizes], Any]]] = {
    "timeout": lambda found, _: parameters.timeout(found),
    "consistency": lambda found, _: parameters.consistency(found["consistency"]),
    "n": replicas.n_of,
    "sloppy": replicas.sloppy_of,
    "r": replicas.r_of,
    "w": replicas.w_of,
    "redirect": lambda found, _: flag(found, "redirect"),
    "ttl": lambda found, _: seconds(found, "ttl", parameters.MAX_TTL_S),
    "lease": lambda found, _: parameters.lease_of(found),
    "start_lease": lambda found, _: parameters.start_lease_of(found),
    "token": lambda found, _: parameters.token_of(found),
    "revision": lambda found, _: parameters.revision_of(found),
    "at_ms": lambda found, _: parameters.at_ms_of(found),
    "key": lambda found, _: parameters.bytes_in(found["key"]),
    "prefix": lambda found, _: parameters.bytes_in(found["prefix"]),
    "start": lambda found, _: parameters.bytes_in(found["start"]),
    "end": lambda found, _: parameters.end_of(parameters.bytes_in(found["end"])),
    "limit": lambda found, _: whole_number(found, "limit", parameters.NUMBER_MAX),
    "keys_only": lambda found, _: flag(found, "keys_only"),
    "from_revision": lambda found, _: parameters.from_revision_of(found),
    "previous": lambda found, _: flag(found, "previous"),
    "standing": lambda found, _: flag(found, "standing"),
    "traffic": lambda found, _: flag(found, "traffic"),
    "access": lambda found, _: parameters.access_of(found["access"]),
    "only": lambda found, _: parameters.only_of(found["only"]),
    "progress_s": lambda found, _: seconds(found, "progress_s", parameters.MAX_PROGRESS_S),
}
"""How each query parameter is read; it means the same on every route."""

_HEADERS: Final[dict[str, tuple[tuple[Header, ...], FromHeaders]]] = {
    "match": ((IF_MATCH, IF_NONE_MATCH), lambda found, _: parameters.precondition(found)),
    "idempotency_key": ((IDEMPOTENCY_KEY,), lambda found, _: parameters.idempotency_key(found)),
    "context": ((CONTEXT,), replicas.context_of),
    "last_event_id": ((LAST_EVENT_ID,), lambda found, _: parameters.last_event_id(found)),
}
"""Which headers make each of the other fields, and how."""

Choices = TypeVar("Choices", bound=msgspec.Struct)


class Form(msgspec.Struct, frozen=True, eq=False):
    """How values of ``kind`` are read; ``nothing_chosen`` is what most requests choose.

    ``query`` are the fields that are query parameters, ``made`` those that are made from ``headers``.
    """

    kind: type[Any]
    query: frozenset[str]
    made: tuple[tuple[str, FromHeaders], ...]
    headers: tuple[Header, ...]
    nothing_chosen: Any

    def read(self, request: HttpRequest, sizes: Callable[[], KnownSizes]) -> Any:
        """What ``request`` chooses in a cluster of ``sizes``; raises ``DefiniteError``."""
        chosen, query = self.nothing_chosen, request.query
        if query and self.kind is not Anything:
            read = _remembered if len(query) <= parameters.REMEMBERED_BYTES_MAX else _chosen
            chosen = read(self, query, sizes())
        given = request.headers
        for header in self.headers:
            if header.raw in given:
                return msgspec.structs.replace(chosen, **{name: make(given, sizes) for name, make in self.made})
        return chosen


def _chosen(form: Form, query: bytes, known: KnownSizes) -> Any:
    found = parameters.arguments(query, form.query)
    return form.kind(**{name: _QUERY[name](found, known) for name in form.kind.__struct_fields__ if name in found})


_remembered = lru_cache(maxsize=1024)(_chosen)


@cache
def form_of(kind: type[Any]) -> Form:
    """How values of ``kind`` are read."""
    fields = kind.__struct_fields__
    made = tuple([(name, _HEADERS[name][1]) for name in fields if name in _HEADERS])
    headers = tuple([header for name, _ in made for header in _HEADERS[name][0]])
    return Form(kind, frozenset(fields) & _QUERY.keys(), made, headers, kind())
