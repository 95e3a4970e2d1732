"""Passwords: worked out beside the loop, few at a time, and no faster for whoever guesses.

They are kept as argon2id hashes (RFC 9106) with 19 MiB, two passes and one lane: less memory than the RFC's second
recommended choice (64 MiB, three passes, four lanes), so that several workers of a small machine can check some at
once; what OWASP's password storage cheat sheet has as its least. A check takes some tens of milliseconds of processor
time, so more than a few at once are refused. What was right is known again for a while by a MAC under a key that this
process drew for itself, so that the password itself is nowhere kept. An unknown user takes as long as a known one.
Must not import Flask.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from raftkv.core.config import AuthSection
from raftkv.core.errors import Code, DefiniteError
from raftkv.core.rights import Caller, User

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MEMORY_KIB: Final = 19 << 10
PASSES: Final = 2
LANES: Final = 1

WAITING_MAX: Final = 32
"""How many wait for their turn: what they hold is small, and the last has its answer within a second or two."""

FAILURE_S: Final = 0.5
"""What a wrong password costs who gave it, besides the check."""

FAILING_MAX: Final = 256
"""So many at a time are kept waiting for that; more are told at once that there are too many."""

REMEMBERED_MAX: Final = 10_000

Result = TypeVar("Result")
log = logging.getLogger("raftkv.http")


@cache
def _hasher() -> PasswordHasher:
    """Loaded by whoever has to do with passwords, and by nobody else."""
    from argon2 import PasswordHasher  # noqa: PLC0415

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


@cache
def _of_nobody() -> str:
    """A hash of a password that nobody has."""
    return _hasher().hash(secrets.token_hex(16))


def hashed(password: str) -> str:
    """The encoded hash of ``password``; takes as long as a check."""
    return _hasher().hash(password)


def _matches(encoded: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415

    try:
        return _hasher().verify(encoded or _of_nobody(), password) and bool(encoded)
    except (VerificationError, InvalidHashError):
        return False


class Passwords:
    """The passwords that one worker has to do with; everything happens on its loop but the working out."""

    def __init__(self, chosen: AuthSection, *, monotonic_s: Callable[[], float]) -> None:
        self._remembered_s = chosen.password_remembered_s
        self._monotonic_s = monotonic_s
        self._limit = chosen.max_password_checks + WAITING_MAX
        self._threads = ThreadPoolExecutor(chosen.max_password_checks, thread_name_prefix="password")
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, float] = {}
        """The MACs of what was right, and until when each is known."""

        self._under_way: dict[bytes, asyncio.Future[bool]] = {}
        self._working = 0
        self._failing = 0

    def known(self, name: str, user: User, password: str) -> Caller | None:
        """Who ``name`` is, if it is ``user``, and it is remembered that this is its password."""
        mac = self._mac(name, user.generation, user.password, password)
        return Caller(name, user.generation) if self._known.get(mac, -math.inf) > self._monotonic_s() else None

    async def caller(self, name: str, user: User | None, password: str, client: str) -> Caller | None:
        """Who ``name`` is, if it is ``user`` and has that ``password``; raises ``DefiniteError`` if too many ask.

        ``client`` is the address that it comes from, for the log.
        """
        known = None if user is None else self.known(name, user, password)
        if known is not None:
            return known
        generation, encoded = (0, "") if user is None else (user.generation, user.password)
        mac = self._mac(name, generation, encoded, password)
        if await self._is_right(mac, encoded, password):
            self._remember(mac)
            return Caller(name, generation)
        log.warning("a wrong password for %s from %s", "an unknown user" if user is None else repr(name), client or "?")
        await self._pause()
        return None

    async def hashed(self, password: str) -> str:
        """The encoded hash of a new password; raises ``DefiniteError`` if too many ask."""
        return await self._worked_out(hashed, password)

    def close(self) -> None:
        """Nobody waits any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _mac(self, name: str, generation: int, encoded: str, password: str) -> bytes:
        parts = [part.encode("utf-8", "surrogatepass") for part in (name, str(generation), encoded, password)]
        told = b"".join([b"%d:%b" % (len(part), part) for part in parts])
        return hmac.digest(self._key, told, hashlib.sha256)

    async def _is_right(self, mac: bytes, encoded: str, password: str) -> bool:
        """Worked out once for all who ask the same at the same time."""
        under_way = self._under_way.get(mac)
        if under_way is None:
            under_way = asyncio.ensure_future(self._worked_out(_matches, encoded, password))
            self._under_way[mac] = under_way
            under_way.add_done_callback(lambda _: self._under_way.pop(mac))
        return await asyncio.shield(under_way)

    async def _worked_out(self, work: Callable[..., Result], *arguments: str) -> Result:
        if self._working >= self._limit:
            raise DefiniteError(Code.OVERLOADED, "too many passwords are checked already", retry_after_s=1.0)
        self._working += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._working -= 1

    def _remember(self, mac: bytes) -> None:
        if not self._remembered_s:
            return
        now_s = self._monotonic_s()
        if len(self._known) >= REMEMBERED_MAX:
            self._known = {known: until_s for known, until_s in self._known.items() if until_s > now_s}
        if len(self._known) < REMEMBERED_MAX:
            self._known[mac] = now_s + self._remembered_s

    async def _pause(self) -> None:
        if self._failing >= FAILING_MAX:
            raise DefiniteError(Code.OVERLOADED, "too many wrong passwords come in", retry_after_s=1.0)
        self._failing += 1
        try:
            await asyncio.sleep(FAILURE_S)
        finally:
            self._failing -= 1
