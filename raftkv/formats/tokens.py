"""Tokens: what a front-end gives to whoever proved by a password who it is, and any node of the cluster takes. Pure.

A token is ``rkv1.CONTENT.MAC``. ``CONTENT`` is msgpack ``[user, generation, expires_ms]``, ``expires_ms`` Unix time;
``MAC`` is HMAC-SHA256 (RFC 2104) of the label, the cluster's name and ``CONTENT`` as it is written, joined by line
feeds; both are base64 for URLs without padding (RFC 4648, section 5). There is one way to sign, and a token cannot name
another. The key is made of the cluster's secret for this alone, so that no token is good for anything else that is
signed by that. Nobody stores tokens: one ends by itself, and is worth nothing once the user's generation is another.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from raftkv.core.rights import Caller, Generation, Name

LABEL: Final = b"raftkv token"
REMEMBERED_MAX: Final = 1_000
BYTES_MAX: Final = 1024
"""A name of 64 characters takes up to 256 bytes, in base64 a third more."""

_FORM: Final = re.compile(rb"rkv1\.([A-Za-z0-9_-]{8,900})\.([A-Za-z0-9_-]{43})")


class _Content(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    user: Name
    generation: Generation
    expires_ms: Annotated[int, Meta(ge=0, le=1 << 53)]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Content).decode


class TokenFlaw(enum.Enum):
    """Why a token is worth nothing."""

    FOREIGN = "it is no token of this cluster"
    EXPIRED = "it has expired; log in again"


class Bearer(NamedTuple):
    """Whom a good token names, and until when (Unix time, milliseconds)."""

    caller: Caller
    expires_ms: int


class Tokens:
    """Makes and reads tokens of the cluster named ``cluster``, whose key is ``key``.

    ``wall_ms`` is the clock. Nodes whose clocks differ take tokens that much longer, or shorter.
    """

    def __init__(self, key: bytes, cluster: str, *, wall_ms: Callable[[], int], ttl_ms: int) -> None:
        self._mac = hmac.new(hmac.digest(key, LABEL + b" key", "sha256"), digestmod=hashlib.sha256)
        self._mac.update(LABEL + b"\n" + cluster.encode() + b"\n")
        self._wall_ms = wall_ms
        self.ttl_ms = ttl_ms
        self._signed = lru_cache(REMEMBERED_MAX)(self._decoded)
        """Only what was signed here is remembered, whatever strangers make up."""

    def make(self, caller: Caller) -> str:
        """A token that names ``caller``, from now on."""
        content = _text(_encode(_Content(caller.user, caller.generation, self._wall_ms() + self.ttl_ms)))
        return b".".join((b"rkv1", content, self._signature(content))).decode()

    def read(self, token: bytes) -> Bearer | TokenFlaw:
        """Whom ``token`` names; its generation is still to be held against the user's."""
        try:
            bearer = self._signed(token)
        except ValueError:
            return TokenFlaw.FOREIGN
        return bearer if self._wall_ms() < bearer.expires_ms else TokenFlaw.EXPIRED

    def named(self, token: bytes) -> Caller | None:
        """Whom ``token`` names, if this cluster has signed it, though it may have expired since."""
        try:
            return self._signed(token).caller
        except ValueError:
            return None

    def _decoded(self, token: bytes) -> Bearer:
        """Whom ``token`` names, if this cluster has signed it; else raises ``ValueError``, as msgspec and base64 do."""
        found = _FORM.fullmatch(token) if len(token) <= BYTES_MAX else None
        if found is None or not hmac.compare_digest(found[2], self._signature(found[1])):
            raise ValueError
        content = _decode(base64.b64decode(found[1] + b"=" * (-len(found[1]) % 4), b"-_", validate=True))
        return Bearer(Caller(content.user, content.generation), content.expires_ms)

    def _signature(self, content: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(content)
        return _text(mac.digest())


def _text(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
