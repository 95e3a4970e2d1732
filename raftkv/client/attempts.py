"""The plan behind every call: one server after the other until the cluster has answered or the time is up. Pure.

Rules. Every call ends by its deadline. A definite failure that may pass (no leader, overloaded, connection refused) is
retried at the next server, with growing and jittered waits between rounds, never sooner than ``Retry-After`` says. An
indefinite failure (504, connection lost) is retried only when sending twice does no harm. What is in doubt when the
time is up is raised as ``IndefiniteError``, even if the last attempt failed definitely; otherwise what a server said
last is raised, rather than that some other server could not be reached. When none could be, all are named; at once
when no server can ever be, as none trusts or none exists, and soon when nothing listens anywhere, unless a cluster that
starts is waited for or a write is in doubt, which a node that comes back can settle.

A first request that is met by a close without a word is looked into: whoever does that to the next connection too, or
takes a TLS handshake, is no server of ours at an http:// address, while one that was just killed refuses.

A server that wants to know who asks is told, by ``credentials``, and asked once more.

Clock and chance are handed in. Calls of several threads or tasks share nothing but who answered last. Imports nothing
of a server.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from raftkv.api import paths
from raftkv.client.calls import Call, learns, request_of
from raftkv.client.credentials import Credentials
from raftkv.client.errors import UNREACHABLE, Setback, judge, not_found
from raftkv.client.http1 import HttpAnswer
from raftkv.client.reach import CONNECT_TIMEOUT_S, Host, UnheardError, UnopenedError, host_of
from raftkv.client.servers import ServerRounds, attempt_s, told_together
from raftkv.client.steps import AnswerBody, AskHead, AskWhole, Plan, TakePiece, Wait
from raftkv.core.errors import Code, DefiniteError, IndefiniteError, RaftkvError
from raftkv.core.proof import Prover

T = TypeVar("T")

PROBLEM_BYTES_MAX: Final = 1 << 20
"""Of an answer that was to be a stream and says why it is none."""

GREET_S: Final = 0.5
"""Who speaks TLS answers a greeting at once."""

_TLS: Final = "speaks TLS: https:// instead of http://?"
_PEER: Final = "closes every connection without a word, as the port does that nodes use among themselves (peer)"


class Attempts:
    """Plans calls at ``servers``, for any number of threads. The one that answered last is asked first."""

    def __init__(
        self,
        servers: tuple[str, ...],
        *,
        retry: bool,
        now_s: Callable[[], float],
        await_start: bool = False,
        prover: Prover | None = None,
        credentials: Credentials | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``retry=False`` asks every server once at most; ``chance`` gives numbers from 0 to 1.

        ``now_s`` is the clock of every deadline. ``await_start``: that nothing listens anywhere may pass until the
        deadline, as a cluster is about to start.
        """
        self.servers = servers
        self.now_s = now_s
        self._hosts = tuple(host_of(server) for server in servers)
        self._retry = retry
        self._await_start = await_start
        self._prover = prover
        self._credentials = credentials or Credentials()
        self._preferred = 0
        self._chance = chance

    def answer(self, call: Call, deadline_s: float) -> Plan[HttpAnswer]:
        """Ask until there is an answer that stands, or raise what the caller is to be told."""
        return self._persist(call, deadline_s, self._whole)

    def begun(self, call: Call, deadline_s: float) -> Plan[AnswerBody]:
        """As ``answer``, but only the head of it is there, and its body is to be taken."""
        return self._persist(call, deadline_s, self._head)

    def _persist(
        self, call: Call, deadline_s: float, attempt: Callable[[Call, Host, float], Plan[T | Setback]]
    ) -> Plan[T]:
        count, remaining_s = len(self.servers), max(0.0, deadline_s - self.now_s())
        rounds, attempts, place = ServerRounds(count), 0, self._preferred
        doubt: IndefiniteError | None = None
        told: RaftkvError | None = None
        silent: dict[str, Setback] = {}
        while True:
            slice_s = call.wait_s + attempt_s(remaining_s - call.wait_s, servers=count, repeatable=call.repeatable)
            answer = yield from attempt(call, self._hosts[place], slice_s)
            if not isinstance(answer, Setback):
                self._preferred = place
                return answer
            attempts += 1
            error = answer.error
            if answer.settled:
                raise error
            if isinstance(error, IndefiniteError):
                doubt = doubt or error
            if answer.unreachable:
                silent[self.servers[place]] = answer
            else:
                silent.pop(self.servers[place], None)
                told = error
            if not answer.retriable or (isinstance(error, IndefiniteError) and not call.repeatable):
                raise doubt or error
            self._preferred = place = (place + 1) % count
            wait_s = rounds.failed(error.retry_after_s, self._chance(), is_refused=answer.is_refused)
            remaining_s = deadline_s - self.now_s() - wait_s
            is_hopeless = len(silent) == count and all(setback.is_final for setback in silent.values())
            if rounds.is_nobody_there and doubt is None and not self._await_start:
                raise _none_reached(self.servers, silent)
            if remaining_s <= 0 or is_hopeless or (not self._retry and attempts >= count):
                raise doubt or told or _none_reached(self.servers, silent)
            if wait_s:
                yield Wait(wait_s)

    # -- one attempt

    def _whole(self, call: Call, host: Host, timeout_s: float) -> Plan[HttpAnswer | Setback]:
        until_s = self.now_s() + timeout_s
        shown = yield from self._shown(host, until_s)
        heard = yield AskWhole(host, call.method, request_of(call, host, timeout_s, self._prover, shown), timeout_s)
        if isinstance(heard, HttpAnswer) and heard.status == 401:
            setback = yield from self._let_in(call, host, heard, shown, until_s)
            if setback is not None:
                return setback
            left_s = until_s - self.now_s()
            request = request_of(call, host, left_s, self._prover, self._credentials.token)
            heard = yield AskWhole(host, call.method, request, left_s)
        if isinstance(heard, UnopenedError | UnheardError):
            return (yield from self._unreached(heard, call, host, until_s))
        assert isinstance(heard, HttpAnswer)
        return _judged(heard, host, is_read=call.is_read) or heard

    def _head(self, call: Call, host: Host, timeout_s: float) -> Plan[AnswerBody | Setback]:
        until_s = self.now_s() + timeout_s
        shown = yield from self._shown(host, until_s)
        begun = yield from self._begun_once(call, host, shown, until_s)
        if isinstance(begun, HttpAnswer) and begun.status == 401:
            setback = yield from self._let_in(call, host, begun, shown, until_s)
            if setback is not None:
                return setback
            begun = yield from self._begun_once(call, host, self._credentials.token, until_s)
        if isinstance(begun, HttpAnswer):
            return _judged(begun, host, is_read=call.is_read) or Setback(error=not_found(begun), retriable=False)
        return begun

    def _begun_once(
        self, call: Call, host: Host, token: str, until_s: float
    ) -> Plan[AnswerBody | HttpAnswer | Setback]:
        """The stream that was asked for, or the whole answer that says why it is none."""
        left_s = until_s - self.now_s()
        begun = yield AskHead(host, call.method, request_of(call, host, left_s, self._prover, token), left_s)
        if isinstance(begun, UnopenedError | UnheardError):
            return (yield from self._unreached(begun, call, host, until_s))
        assert begun is not None
        assert not isinstance(begun, HttpAnswer | bytes)
        if begun.head.status == 200:
            return begun
        body = b""
        try:
            while len(body) <= PROBLEM_BYTES_MAX:
                piece = yield TakePiece(begun, until_s - self.now_s())
                if isinstance(piece, UnheardError):
                    return (yield from self._unreached(piece, call, host, until_s))
                assert isinstance(piece, bytes)
                if not piece:
                    break
                body += piece
        finally:
            begun.end()
        return msgspec.structs.replace(begun.head, body=body)

    # -- who asks

    def _shown(self, host: Host, until_s: float) -> Plan[str]:
        """The token to show, which is replaced before it ends if that can be."""
        token = self._credentials.token
        if self._credentials.is_due(self.now_s()):
            yield from self._credentials.renew(host, token, until_s, self.now_s)
        return self._credentials.token

    def _let_in(self, call: Call, host: Host, answer: HttpAnswer, shown: str, until_s: float) -> Plan[Setback | None]:
        """What to do about a 401: ``None`` says that the same call may fare better now."""
        refused = _judged(answer, host, is_read=call.is_read)
        if call.needs_proof and self._prover is not None:
            return None if learns(call, answer, self._prover) else refused
        if not self._credentials.can_log_in:
            return refused
        heard = yield from self._credentials.renew(host, shown, until_s, self.now_s)
        if isinstance(heard, UnopenedError | UnheardError):
            login = Call(method="POST", path="", is_read=True, repeatable=True)  # it changes nothing
            return (yield from self._unreached(heard, login, host, until_s))
        if isinstance(heard, HttpAnswer):
            return _judged(heard, host, is_read=True) or refused
        return None

    def _unreached(
        self, failure: UnopenedError | UnheardError, call: Call, host: Host, until_s: float
    ) -> Plan[Setback]:
        """No answer came: of a write that the server may have, nobody knows."""
        if isinstance(failure, UnheardError) and failure.is_wordless:
            failure = yield from self._looked_into(failure, host, until_s)
        detail = f"{host.url} {failure}"
        error: RaftkvError = DefiniteError(UNREACHABLE, detail)
        if isinstance(failure, UnheardError) and not (failure.is_cut or call.is_read):
            error = IndefiniteError(Code.OUTCOME_UNKNOWN, f"{detail}; the write may have been applied")
        is_refused = isinstance(failure, UnopenedError) and failure.is_refused
        return Setback(
            error=error, retriable=True, is_final=failure.is_final, is_refused=is_refused, unreachable=str(failure)
        )

    def _looked_into(self, failure: UnheardError, host: Host, until_s: float) -> Plan[UnheardError]:
        """Why a server that spoke no HTTP on a new connection never will; ``failure`` itself when it may."""
        until_s = min(until_s, self.now_s() + CONNECT_TIMEOUT_S)
        if host.is_tls:
            return failure
        asked, by_tls = host.form("GET").request(paths.LIVEZ), host._replace(is_tls=True)
        greeted = yield AskWhole(by_tls, "GET", asked, min(GREET_S, until_s - self.now_s()), is_apart=True)
        if not isinstance(greeted, UnopenedError) or greeted.is_distrusted:
            # Plain text is nothing to a TLS server; for the rest, who knows what stands in front of whom.
            return UnheardError(_TLS, is_cut=True, is_final=True)
        heard = yield AskWhole(host, "GET", asked, until_s - self.now_s(), is_apart=True)
        if isinstance(heard, UnheardError) and heard.is_wordless:
            return UnheardError(_PEER, is_final=True)
        return failure


def _judged(answer: HttpAnswer, host: Host, *, is_read: bool) -> Setback | None:
    """What an answer means; of one that is none of raftkv's, whose it was is named."""
    setback = judge(answer, is_read=is_read)
    if setback is None or setback.error.code != UNREACHABLE:
        return setback
    kind = IndefiniteError if isinstance(setback.error, IndefiniteError) else DefiniteError
    error = kind(UNREACHABLE, f"{host.url} {setback.error.detail}", retry_after_s=setback.error.retry_after_s)
    return msgspec.structs.replace(setback, error=error)


def _none_reached(servers: Sequence[str], silent: Mapping[str, Setback]) -> DefiniteError:
    """One failure that names every server and why, those with the same reason together."""
    if len(servers) == 1:
        (setback,) = silent.values()
        return DefiniteError(UNREACHABLE, f"{servers[0]} {setback.unreachable}")
    told = told_together({server: setback.unreachable for server, setback in silent.items()})
    return DefiniteError(UNREACHABLE, f"none of {len(servers)} servers can be reached: {told}")
