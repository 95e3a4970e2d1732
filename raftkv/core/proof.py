"""Proof over HTTP that whoever asks holds the cluster's secret; the secret itself never travels. Pure but for memory.

A request that changes the cluster, or asks one replica alone, brings ``Authorization: Raftkv TIME MAC``. ``MAC`` is
HMAC-SHA256 (RFC 2104) under the cluster's key of the label, the cluster's name, the method, the target (path and
query), the SHA-256 of the body, and ``TIME``, joined by line feeds; digests are lower-case hexadecimal. ``TIME`` is
Unix time in milliseconds. So a proof that was overheard is good for that one request of that one cluster, for a minute,
and at a process that has seen it not even once more. Whoever has another time of day is told ours, and signs by it.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

SCHEME: Final = "Raftkv"
LABEL: Final = b"raftkv proof"

WINDOW_MS: Final = 60_000
"""How far the time of a proof may be from that of the node, either way."""

REMEMBERED_MAX: Final = 10_000
"""Proofs that were used within the window: only who holds the secret adds one."""

_PROOF: Final = re.compile(rb"(?i:raftkv) +(?P<at_ms>[0-9]{1,15}) +(?P<mac>[0-9a-f]{64})")
_CHALLENGE: Final = re.compile(r"(?i:raftkv) +time=\"(?P<at_ms>[0-9]{1,15})\"")


class Verdict(enum.Enum):
    """What there is to say of a proof."""

    GOOD = enum.auto()
    MISSING = enum.auto()
    OUT_OF_TIME = enum.auto()
    USED = enum.auto()
    WRONG = enum.auto()


def _mac(key: bytes, cluster: str, at_ms: int, request: tuple[str, bytes, bytes]) -> str:
    method, target, body = request
    digest = hashlib.sha256(body).hexdigest().encode()
    message = b"\n".join((LABEL, cluster.encode(), method.encode(), target, digest, b"%d" % at_ms))
    return hmac.new(key, message, hashlib.sha256).hexdigest()


class Prover:
    """Signs requests to the cluster named ``cluster``, whose key is ``key``; ``wall_ms`` is the clock."""

    def __init__(self, key: bytes, cluster: str, *, wall_ms: Callable[[], int]) -> None:
        self._key = key
        self._cluster = cluster
        self._wall_ms = wall_ms
        self._ahead_ms = 0

    def authorization(self, method: str, target: str, body: bytes) -> str:
        """The value of ``Authorization`` for this one request; ``target`` is path and query as they are sent."""
        at_ms = max(0, self._wall_ms() + self._ahead_ms)
        request = (method, target.encode("latin-1"), body)
        return f"{SCHEME} {at_ms} {_mac(self._key, self._cluster, at_ms, request)}"

    def learn(self, challenge: str) -> bool:
        """Take the server's time from its ``WWW-Authenticate``; is it so different that signing again may help?"""
        found = _CHALLENGE.search(challenge)
        if found is None:
            return False
        before_ms, self._ahead_ms = self._ahead_ms, int(found["at_ms"]) - self._wall_ms()
        return abs(self._ahead_ms - before_ms) > WINDOW_MS // 2


class Verifier:
    """Judges proofs of one cluster and remembers those that were used. ``wall_ms`` is the clock."""

    def __init__(self, key: bytes, cluster: str, *, wall_ms: Callable[[], int]) -> None:
        self._key = key
        self._cluster = cluster
        self._wall_ms = wall_ms
        self._used: dict[str, int] = {}

    @property
    def challenge(self) -> bytes:
        """``WWW-Authenticate`` of a refusal (RFC 9110, section 11.6.1): the scheme, and what time it is here."""
        return b'%s time="%d"' % (SCHEME.encode(), self._wall_ms())

    def judge(self, authorization: bytes, method: str, target: bytes, body: bytes) -> Verdict:
        """What the header ``authorization`` proves of this request."""
        found = _PROOF.fullmatch(authorization.strip())
        if found is None:
            return Verdict.MISSING
        at_ms, shown = int(found["at_ms"]), found["mac"].decode()
        if not hmac.compare_digest(shown, _mac(self._key, self._cluster, at_ms, (method, target, body))):
            return Verdict.WRONG
        now_ms = self._wall_ms()
        if abs(at_ms - now_ms) > WINDOW_MS:
            return Verdict.OUT_OF_TIME
        return Verdict.GOOD if self._first_use(shown, at_ms, now_ms) else Verdict.USED

    def _first_use(self, shown: str, at_ms: int, now_ms: int) -> bool:
        if shown in self._used:
            return False
        if len(self._used) >= REMEMBERED_MAX:
            self._used = {mac: made_ms for mac, made_ms in self._used.items() if abs(now_ms - made_ms) <= WINDOW_MS}
        if len(self._used) >= REMEMBERED_MAX:
            return False
        self._used[shown] = at_ms
        return True
