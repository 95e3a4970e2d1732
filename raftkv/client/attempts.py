"""The loop behind every call: asks one server after the other until the cluster has answered or the time is up.

Rules. Every call ends by its deadline. A definite failure that may pass (no leader, overloaded, connection refused) is
retried at the next server, with growing and jittered waits between rounds, never sooner than ``Retry-After`` says. An
indefinite failure (504, connection lost) is retried only when sending twice does no harm. What is in doubt when the
time is up is raised as ``IndefiniteError``, even if the last attempt failed definitely; otherwise what a server said
last is raised, rather than that some other server could not be reached. When none could be, all are named; at once
when no server can ever be, as none trusts or none exists, and soon when nothing listens anywhere, unless a cluster that
starts is waited for or a write is in doubt, which a node that comes back can settle.

Calls of several threads share nothing but who answered last. This module must not import anything of the server.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

import msgspec

from raftkv.client.errors import UNREACHABLE, Reply, Setback, judge
from raftkv.client.exchange import Call, Exchange, LostError, NotSentError
from raftkv.client.servers import Rounds, attempt_s, told_together
from raftkv.core.errors import Code, DefiniteError, IndefiniteError, RaftkvError
from raftkv.core.proof import Prover


class Attempts:
    """Performs calls at ``servers``, for any number of threads. The one that answered last is asked first."""

    def __init__(
        self,
        servers: tuple[str, ...],
        *,
        retry: bool,
        await_start: bool = False,
        tls_ca: str | None,
        prover: Prover | None = None,
    ) -> None:
        """``retry=False`` asks every server once at most; ``prover`` signs what changes the cluster.

        ``await_start``: that nothing listens anywhere may pass until the deadline, as a cluster is about to start.
        Raises ``UsageError`` when ``tls_ca`` cannot be used.
        """
        self.servers = servers
        self._retry = retry
        self._await_start = await_start
        self._preferred = 0
        self._exchange = Exchange(servers, tls_ca=tls_ca, prover=prover)

    def perform(self, call: Call, deadline_s: float) -> Reply:
        """Ask until there is an answer that stands, or raise; ``deadline_s`` is on the monotonic clock."""
        remaining_s = max(0.0, deadline_s - time.monotonic())
        rounds, attempts, place = Rounds(len(self.servers)), 0, self._preferred
        doubt: IndefiniteError | None = None
        told: RaftkvError | None = None
        silent: dict[str, Setback] = {}
        while True:
            server = self.servers[place]
            slice_s = attempt_s(remaining_s, servers=len(self.servers), repeatable=call.repeatable)
            answer = self._attempt(server, call, slice_s)
            if isinstance(answer, Reply):
                self._preferred = place
                return answer
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
            jitter = random.random()  # noqa: S311  not for secrets
            wait_s = rounds.failed(error.retry_after_s, jitter, is_refused=answer.is_refused)
            remaining_s = deadline_s - time.monotonic() - wait_s
            is_hopeless = len(silent) == len(self.servers) and all(setback.is_final for setback in silent.values())
            if rounds.is_nobody_there and doubt is None and not self._await_start:
                raise _none_reached(self.servers, silent)
            if remaining_s <= 0 or is_hopeless or (not self._retry and attempts >= len(self.servers)):
                raise doubt or told or _none_reached(self.servers, silent)
            if wait_s:
                time.sleep(wait_s)

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._exchange.close()

    def _attempt(self, server: str, call: Call, timeout_s: float) -> Reply | Setback:
        try:
            reply = self._exchange.send(server, call, timeout_s)
        except (NotSentError, LostError) as error:
            kind: RaftkvError = DefiniteError(UNREACHABLE, str(error))
            if isinstance(error, LostError) and not call.is_read:
                kind = IndefiniteError(Code.OUTCOME_UNKNOWN, f"{error}; the write may have been applied")
            return Setback(
                error=kind,
                retriable=True,
                is_final=error.is_final,
                is_refused=error.is_refused,
                unreachable=error.reason,
            )
        return _at(server, judge(reply, is_read=call.is_read)) or reply


def _at(server: str, setback: Setback | None) -> Setback | None:
    """What is said of an answer that is none of raftkv's names whose it was."""
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
