"""Which servers there are, and when one is asked again. Pure: no socket, no clock, randomness comes in as a value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from raftkv.core.errors import UsageError

DEFAULT_SERVERS: Final = ("http://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.1:8003")
DEFAULT_PORT: Final = 8001
ENVIRONMENT: Final = "RAFTKV_SERVERS"
TRUST_ENVIRONMENT: Final = "RAFTKV_CACERT"

_LIKE: Final = "the address of a server, like http://127.0.0.1:8001"
_PLAIN: Final = re.compile(r"[\w.:%-]+")
"""What the name of a host, or an address, is made of."""

FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 1.0
"""Waits between rounds double from the first to the longest: a restart of a node takes about a second."""

NAMED_MAX: Final = 5
"""Of more servers than these that could not be reached for one reason, the rest is only counted."""

REFUSED_ROUNDS_MAX: Final = 6
"""So many rounds in which nothing listened anywhere, about a second with their waits, and no cluster is running."""

SMALLEST_SLICE_S: Final = 0.2
"""No attempt gets less than this (or what remains): a shorter one would only fail on a loaded machine."""


def parse_servers(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Base URLs from a list or a comma-separated string; ``None`` means the environment, then the embedded cluster.

    ``host:port`` alone means ``http``; a port that is not named is 8001; each is returned whole, as
    ``http://host:port``. Raises ``UsageError`` with a reason.
    """
    if given is None:
        given = os.environ.get(ENVIRONMENT) or DEFAULT_SERVERS
    texts = given.split(",") if isinstance(given, str) else [part for text in given for part in text.split(",")]
    servers = tuple(dict.fromkeys(_base_url(text.strip()) for text in texts if text.strip()))
    if not servers:
        raise UsageError("no server is named")
    return servers


def _base_url(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"{text!r} is not {_LIKE}") from None
    if "@" in parts.netloc:
        # Not shown: it may hold a password.
        said = "auth=(name, password), --user and RAFTKV_USER say who asks"
        raise UsageError(f"the address of a server has no name or password before @: {said}")
    if parts.scheme not in ("http", "https") or not host or port == 0 or not _PLAIN.fullmatch(host):
        raise UsageError(f"{text!r} is not {_LIKE}")
    if host.isdigit():
        raise UsageError(f"{text!r} names a port and no host: the address of a server is {_LIKE[4:]}")
    for part, what in ((parts.path.strip("/"), "path"), (parts.query, "query"), (parts.fragment, "fragment")):
        if part:
            raise UsageError(f"{text!r} has a {what} ({part!r}): the address of a server ends with its port")
    if not url.isascii() or not url.isprintable() or url[-1] in "?#":
        raise UsageError(f"{text!r} is not {_LIKE}")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}:{DEFAULT_PORT if port is None else port}"


def attempt_s(remaining_s: float, *, servers: int, repeatable: bool) -> float:
    """How long one attempt may take: half of what remains while another server could be asked, or all of it."""
    if servers == 1 or not repeatable:
        return remaining_s
    return min(remaining_s, max(remaining_s / 2, SMALLEST_SLICE_S))


class ServerRounds:
    """When to try again. Every server is tried once in a round, without a wait; a wait follows, longer each round.

    ``is_nobody_there``: every server refused every connection, for as long as a node takes to start again.
    """

    def __init__(self, servers: int) -> None:
        self._servers = servers
        self._failures = 0
        self._refusals = 0
        self._hint_s = 0.0

    @property
    def is_nobody_there(self) -> bool:
        return self._refusals >= REFUSED_ROUNDS_MAX * self._servers

    def failed(self, retry_after_s: float | None, jitter: float, *, is_refused: bool = False) -> float:
        """Seconds to wait before the next attempt; ``jitter`` is between 0 and 1, ``is_refused``: nothing listened.

        The longest ``Retry-After`` of a round is honoured in full; jitter only adds to it, so that clients who were
        turned away together do not come back together.
        """
        self._failures += 1
        self._refusals = self._refusals + 1 if is_refused else 0
        self._hint_s = max(self._hint_s, retry_after_s or 0.0)
        if self._failures % self._servers:
            return 0.0
        rounds = self._failures // self._servers
        backoff_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(rounds - 1, 16)) * (0.5 + 0.5 * jitter)
        hint_s, self._hint_s = self._hint_s * (1 + 0.1 * jitter), 0.0
        return max(backoff_s, hint_s)


def told_together(reasons: Mapping[str, str]) -> str:
    """Every server and why it cannot be reached, those with the same reason together."""
    groups: dict[str, list[str]] = {}
    for server, reason in reasons.items():
        groups.setdefault(reason, []).append(server)
    return "; ".join(f"{_listed(named)}{' each' if named[1:] else ''} {reason}" for reason, named in groups.items())


def _listed(servers: Sequence[str]) -> str:
    more = len(servers) - NAMED_MAX
    return ", ".join([*servers[:NAMED_MAX], *([f"{more} more"] if more > 0 else [])])
