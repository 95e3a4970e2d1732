"""The loop behind every call: asks one server after the other until the cluster has answered or the time is up.

Rules. Every call ends by its deadline. A definite failure that may pass (no leader, overloaded, connection refused) is
retried at the next server, with growing and jittered waits between rounds, never sooner than ``Retry-After`` says. An
indefinite failure (504, connection lost) is retried only when sending twice does no harm. What is in doubt when the
time is up is raised as ``IndefiniteError``, even if the last attempt failed definitely; otherwise what a server said
last is raised, rather than that some other server could not be reached.

This module must not import anything of the server.
"""

from __future__ import annotations

import random
import time

from raftkv.client.errors import UNREACHABLE, Reply, Setback, judge
from raftkv.client.exchange import Call, Exchange, LostError, NotSentError
from raftkv.client.servers import Rounds, attempt_s
from raftkv.core.errors import Code, DefiniteError, IndefiniteError, RaftkvError
from raftkv.core.proof import Prover


class Attempts:
    """Performs calls at ``servers``. The one that answered last is asked first. One thread at a time."""

    def __init__(
        self, servers: tuple[str, ...], *, retry: bool, tls_ca: str | None, prover: Prover | None = None
    ) -> None:
        """``retry=False`` asks every server once at most; ``prover`` signs what changes the cluster."""
        self.servers = servers
        self._retry = retry
        self._current = 0
        self._exchange = Exchange(tls_ca=tls_ca, prover=prover)

    def perform(self, call: Call, deadline_s: float) -> Reply:
        """Ask until there is an answer that stands, or raise; ``deadline_s`` is on the monotonic clock."""
        remaining_s = max(0.0, deadline_s - time.monotonic())
        rounds, attempts = Rounds(len(self.servers)), 0
        doubt: IndefiniteError | None = None
        told: RaftkvError | None = None
        while True:
            slice_s = attempt_s(remaining_s, servers=len(self.servers), repeatable=call.repeatable)
            answer = self._attempt(call, slice_s)
            if isinstance(answer, Reply):
                return answer
            attempts += 1
            error = answer.error
            if answer.settled:
                raise error
            if isinstance(error, IndefiniteError):
                doubt = doubt or error
            if error.code != UNREACHABLE:
                told = error
            if not answer.retriable or (isinstance(error, IndefiniteError) and not call.repeatable):
                raise doubt or error
            self._current = (self._current + 1) % len(self.servers)
            wait_s = rounds.failed(error.retry_after_s, random.random())  # noqa: S311  jitter, not secrets
            remaining_s = deadline_s - time.monotonic() - wait_s
            if remaining_s <= 0 or (not self._retry and attempts >= len(self.servers)):
                raise doubt or told or error
            if wait_s:
                time.sleep(wait_s)

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._exchange.close()

    def _attempt(self, call: Call, timeout_s: float) -> Reply | Setback:
        server = self.servers[self._current]
        try:
            reply = self._exchange.send(server, call, timeout_s)
        except NotSentError as error:
            return Setback(error=DefiniteError(UNREACHABLE, str(error)), retriable=True)
        except LostError as error:
            if call.is_read:
                return Setback(error=DefiniteError(UNREACHABLE, str(error)), retriable=True)
            unknown = IndefiniteError(Code.OUTCOME_UNKNOWN, f"{error}; the write may have been applied")
            return Setback(error=unknown, retriable=True)
        return judge(reply, is_read=call.is_read) or reply
