"""A store of etcd's as ``raftkv import`` reads it: by its JSON gateway, page by page, all of one revision.

It reads and never writes. Any server that speaks etcd's v3 API will do, another raftkv too. Whatever goes wrong is one
``SourceError``, in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NoReturn, TypeVar

import msgspec

from raftkv.api.headers import JSON
from raftkv.client.channels import Channels
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.core.keys import prefix_end

PAGE_KEYS: Final = 500
PAGE_BYTES: Final = 4 << 20
"""Pages are asked for that are about so large: of fewer keys where values are long."""

_RESOURCE_EXHAUSTED: Final = 8
_OUT_OF_RANGE: Final = 11
_UNAUTHENTICATED: Final = 16

Read = TypeVar("Read")


class SourceError(Exception):
    """It cannot be read; the message is a sentence for a person."""


class SourceKey(msgspec.Struct, frozen=True):
    """A key as the gateway tells it."""

    key: bytes
    value: bytes = b""
    lease: int = 0


class _Header(msgspec.Struct, frozen=True):
    revision: int = 0


class _Page(msgspec.Struct, frozen=True):
    header: _Header = _Header()
    kvs: tuple[SourceKey, ...] = ()
    more: bool = False
    count: int = 0


class _Lease(msgspec.Struct, frozen=True):
    ttl: int = msgspec.field(default=0, name="TTL")


class _Login(msgspec.Struct, frozen=True):
    name: str
    password: str


class _Token(msgspec.Struct, frozen=True):
    token: str = ""


class _SourceProblem(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    error: str = ""


class EtcdSource:
    """``user`` is a name and its password, if any is needed; no request takes longer than ``timeout_s``."""

    def __init__(self, host: Host, channels: Channels, *, user: tuple[str, str] | None, timeout_s: float) -> None:
        self._host = host
        self._channels = channels
        self._user = user
        self._timeout_s = timeout_s
        self._token = ""
        self.revision = 0
        """Which all pages are of; 0 before the first."""
        self.count = 0
        """How many keys there are in all, as the first page says."""

    def pages(self, prefix: bytes) -> Iterator[tuple[SourceKey, ...]]:
        """All keys with ``prefix``, in their order. Raises ``SourceError``."""
        start, end, limit = prefix or b"\0", prefix_end(prefix) or b"\0", PAGE_KEYS
        while True:
            query: dict[str, object] = {"key": start, "range_end": end, "limit": str(limit)}
            if self.revision:
                query["revision"] = str(self.revision)
            found = self._page(query)
            if found is None:
                if limit == 1:
                    raise SourceError(f"{self._host.url}: a key is too large to be read")
                limit = max(1, limit // 4)
                continue
            if not self.revision:
                self.revision, self.count = found.header.revision, found.count
            if found.kvs:
                yield found.kvs
                start = found.kvs[-1].key + b"\0"
            if not found.more:
                return
            size_bytes = sum(len(one.key) + len(one.value) for one in found.kvs)
            limit = max(1, min(PAGE_KEYS, math.ceil(len(found.kvs) * PAGE_BYTES / max(1, size_bytes))))

    def ttl_s(self, lease: int) -> int:
        """How long the lease has left; less than 1: it has ended. Raises ``SourceError``."""
        answer = self._ask("/v3/lease/timetolive", {"ID": str(lease)})
        return _read(answer, _Lease, self._host).ttl if isinstance(answer, bytes) else self._fail(answer)

    def _page(self, query: dict[str, object]) -> _Page | None:
        """``None``: so many keys are too much for one answer."""
        answer = self._ask("/v3/kv/range", query)
        if isinstance(answer, bytes):
            return _read(answer, _Page, self._host)
        if answer.code == _OUT_OF_RANGE:
            raise SourceError(f"{self._host.url}: revision {self.revision} has been compacted meanwhile; run it again")
        return None if answer.code == _RESOURCE_EXHAUSTED else self._fail(answer)

    def _ask(self, path: str, body: dict[str, object]) -> bytes | _SourceProblem:
        if self._user is not None and not self._token:
            self._log_in(*self._user)
        answer = self._exchange(path, body)
        if isinstance(answer, _SourceProblem) and answer.code == _UNAUTHENTICATED and self._user is not None:
            self._log_in(*self._user)  # tokens are good for some minutes
            answer = self._exchange(path, body)
        return answer

    def _log_in(self, name: str, password: str) -> None:
        self._token = ""
        answer = self._exchange("/v3/auth/authenticate", _Login(name, password))
        self._token = _read(answer, _Token, self._host).token if isinstance(answer, bytes) else self._fail(answer)

    def _exchange(self, path: str, body: dict[str, object] | _Login) -> bytes | _SourceProblem:
        headers = [("Content-Type", JSON)]
        if self._token:
            headers.append(("Authorization", self._token))
        data = msgspec.json.encode(body)
        try:
            answer = self._channels.exchange(
                self._host, "POST", path, headers=headers, body=data, timeout_s=self._timeout_s
            )
        except (UnopenedError, UnheardError) as error:
            raise SourceError(f"{self._host.url} {error}") from None
        if answer.status == 200:
            return answer.body
        try:
            return msgspec.json.decode(answer.body, type=_SourceProblem)
        except msgspec.DecodeError:
            raise SourceError(f"{self._host.url} does not speak etcd's v3 API (status {answer.status})") from None

    def _fail(self, problem: _SourceProblem) -> NoReturn:
        raise SourceError(f"{self._host.url}: {problem.message or problem.error}")


def _read(body: bytes, kind: type[Read], host: Host) -> Read:
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.DecodeError as error:
        raise SourceError(f"{host.url} does not speak etcd's v3 API: {error}") from None
