"""The plan behind every call: one server after the other until the cluster has answered or the time is up. Pure.

Rules. Every call ends by its deadline. A definite failure that may pass (no leader, overloaded, connection refused) is
retried at the next server, with growing and jittered waits between rounds, never sooner than ``Retry-After`` says. An
indefinite failure (504, connection lost) is retried only when sending twice does no harm. What is in doubt when the
time is up is raised as ``IndefiniteError``, even if the last attempt failed definitely; otherwise what a server said
last is raised, rather than that some other server could not be reached. When none could be, all are named; at once
when no server can ever be, as none trusts or none exists, and soon when nothing listens anywhere, unless a cluster that
starts is waited for or a write is in doubt, which a node that comes back can settle.

Whoever performs a call sends what a plan says, waits when it says so, and tells it what came of that; the clock and
chance are handed in. Calls of several threads share nothing but who answered last. Imports nothing of a server.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from raftkv.client.calls import Call, ExchangeError, LostError
from raftkv.client.errors import UNREACHABLE, Setback, judge
from raftkv.client.http1 import HttpAnswer
from raftkv.client.servers import ServerRounds, attempt_s, told_together
from raftkv.core.errors import Code, DefiniteError, IndefiniteError, RaftkvError


class Attempt(NamedTuple):
    """Send the call to ``server``, and be done with it within ``timeout_s``."""

    server: str
    timeout_s: float


class Attempts:
    """Plans calls at ``servers``, for any number of threads. The one that answered last is asked first."""

    def __init__(
        self,
        servers: tuple[str, ...],
        *,
        retry: bool,
        await_start: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``retry=False`` asks every server once at most; ``chance`` gives numbers from 0 to 1.

        ``await_start``: that nothing listens anywhere may pass until the deadline, as a cluster is about to start.
        """
        self.servers = servers
        self._retry = retry
        self._await_start = await_start
        self._preferred = 0
        self._chance = chance

    def answered(self, server: str) -> None:
        """``server`` gave an answer that stands."""
        self._preferred = self.servers.index(server)

    def steps(
        self, call: Call, deadline_s: float, now_s: Callable[[], float]
    ) -> Generator[Attempt | float, Setback | None, None]:
        """What to do, until an attempt succeeds: an attempt, whose setback is to be sent in, or seconds to wait.

        ``deadline_s`` is on the clock ``now_s``. Raises what the caller is to be told when there is no more to do.
        """
        remaining_s = max(0.0, deadline_s - now_s())
        rounds, attempts, place = ServerRounds(len(self.servers)), 0, self._preferred
        doubt: IndefiniteError | None = None
        told: RaftkvError | None = None
        silent: dict[str, Setback] = {}
        while True:
            server = self.servers[place]
            slice_s = attempt_s(remaining_s, servers=len(self.servers), repeatable=call.repeatable)
            answer = yield Attempt(server, slice_s)
            assert answer is not None
            attempts += 1
            error = answer.error
            if answer.settled:
                raise error
            if isinstance(error, IndefiniteError):
                doubt = doubt or error
            if answer.unreachable:
                silent[server] = answer
            else:
                silent.pop(server, None)
                told = error
            if not answer.retriable or (isinstance(error, IndefiniteError) and not call.repeatable):
                raise doubt or error
            self._preferred = place = (place + 1) % len(self.servers)
            wait_s = rounds.failed(error.retry_after_s, self._chance(), is_refused=answer.is_refused)
            remaining_s = deadline_s - now_s() - wait_s
            is_hopeless = len(silent) == len(self.servers) and all(setback.is_final for setback in silent.values())
            if rounds.is_nobody_there and doubt is None and not self._await_start:
                raise _none_reached(self.servers, silent)
            if remaining_s <= 0 or is_hopeless or (not self._retry and attempts >= len(self.servers)):
                raise doubt or told or _none_reached(self.servers, silent)
            if wait_s:
                yield wait_s


def unreached(error: ExchangeError, *, is_read: bool) -> Setback:
    """No answer came: of a write that the server may have, nobody knows."""
    kind: RaftkvError = DefiniteError(UNREACHABLE, str(error))
    if isinstance(error, LostError) and not is_read:
        kind = IndefiniteError(Code.OUTCOME_UNKNOWN, f"{error}; the write may have been applied")
    return Setback(
        error=kind, retriable=True, is_final=error.is_final, is_refused=error.is_refused, unreachable=error.reason
    )


def judged(answer: HttpAnswer, server: str, *, is_read: bool) -> Setback | None:
    """What an answer means; of one that is none of raftkv's, whose it was is named."""
    setback = judge(answer, is_read=is_read)
    if setback is None or setback.error.code != UNREACHABLE:
        return setback
    kind = IndefiniteError if isinstance(setback.error, IndefiniteError) else DefiniteError
    error = kind(UNREACHABLE, f"{server} {setback.error.detail}", retry_after_s=setback.error.retry_after_s)
    return msgspec.structs.replace(setback, error=error)


def _none_reached(servers: Sequence[str], silent: Mapping[str, Setback]) -> DefiniteError:
    """One failure that names every server and why, those with the same reason together."""
    if len(servers) == 1:
        (setback,) = silent.values()
        return DefiniteError(UNREACHABLE, f"{servers[0]} {setback.unreachable}")
    told = told_together({server: setback.unreachable for server, setback in silent.items()})
    return DefiniteError(UNREACHABLE, f"none of {len(servers)} servers can be reached: {told}")
