"""Sends calls over kept-alive connections and waits: what the blocking client does where another one would await.

Neither the environment's proxies nor ``.netrc`` are looked at: a key-value store is not reached through a web proxy by
accident. Any thread may call.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, TypeVar

import msgspec

from raftkv.client.attempts import Attempt, Attempts, judged, unreached
from raftkv.client.calls import (
    LOST,
    Call,
    ExchangeError,
    LostError,
    NotSentError,
    learns,
    request_of,
    unanswered,
    unconnected,
)
from raftkv.client.channels import AnswerStream, Channel, Channels, what_else
from raftkv.client.errors import Setback, not_found
from raftkv.client.http1 import AnswerError, HttpAnswer
from raftkv.client.reach import Host, UnopenedError, host_of, is_close_without_a_word, trusting
from raftkv.core.proof import Prover

T = TypeVar("T")

PROBLEM_BYTES_MAX: Final = 1 << 20
"""Of an answer that was to be a stream and says why it is none."""


class Exchange:
    """Performs calls as ``attempts`` says, for any number of threads."""

    def __init__(self, attempts: Attempts, *, tls_ca: str | None, prover: Prover | None = None) -> None:
        """``tls_ca`` is a file of certificates to trust instead of the system's; raises ``UsageError``."""
        self._attempts = attempts
        self._hosts = {server: host_of(server) for server in attempts.servers}
        self._channels = Channels(tls=None if tls_ca is None else trusting(tls_ca))
        self._prover = prover

    def perform(self, call: Call, deadline_s: float) -> HttpAnswer:
        """Ask until there is an answer that stands, or raise; ``deadline_s`` is on the monotonic clock."""
        return self._persist(call, deadline_s, lambda attempt: self._judged(call, attempt))

    @contextlib.contextmanager
    def open(self, call: Call, deadline_s: float, silence_s: float) -> Iterator[AnswerStream]:
        """Ask until there is the head of an answer that stands, or raise, and give its body as it comes.

        ``silence_s`` is the longest that nothing may come. The connection is the stream's until the context is left.
        """
        with ExitStack() as stack:
            yield self._persist(call, deadline_s, lambda attempt: self._opened(call, attempt, silence_s, stack))

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._channels.close()

    def _persist(self, call: Call, deadline_s: float, ask: Callable[[Attempt], T | Setback]) -> T:
        steps = self._attempts.steps(call, deadline_s, time.monotonic)
        step = next(steps)
        while True:
            if isinstance(step, Attempt):
                outcome = ask(step)
                if not isinstance(outcome, Setback):
                    self._attempts.answered(step.server)
                    return outcome
                step = steps.send(outcome)
            else:
                time.sleep(step)
                step = next(steps)

    def _judged(self, call: Call, attempt: Attempt) -> HttpAnswer | Setback:
        host, deadline_s = self._hosts[attempt.server], time.monotonic() + attempt.timeout_s

        def ask() -> HttpAnswer:
            request = request_of(call, host, attempt.timeout_s, self._prover)
            with self._channels.lend(host, deadline_s) as channel:
                return _heard(channel, request, deadline_s, lambda: channel.hear(call.method, deadline_s))

        try:
            answer = self._told(host, deadline_s, ask)
            if learns(call, answer, self._prover):
                answer = self._told(host, deadline_s, ask)
        except ExchangeError as error:
            return unreached(error, is_read=call.is_read)
        return judged(answer, attempt.server, is_read=call.is_read) or answer

    def _opened(self, call: Call, attempt: Attempt, silence_s: float, outer: ExitStack) -> AnswerStream | Setback:
        host, deadline_s = self._hosts[attempt.server], time.monotonic() + attempt.timeout_s

        def ask() -> AnswerStream | Setback:
            request = request_of(call, host, attempt.timeout_s, self._prover)
            with ExitStack() as stack:
                channel = stack.enter_context(self._channels.lend(host, deadline_s))
                stack.callback(channel.end)
                head = _heard(channel, request, deadline_s, lambda: channel.begin(call.method, deadline_s))
                if head.status == 200:
                    outer.push(stack.pop_all())
                    return AnswerStream(channel, head, silence_s)
                body = _heard(channel, b"", deadline_s, lambda: channel.rest(PROBLEM_BYTES_MAX, deadline_s))
            answer = msgspec.structs.replace(head, body=body)
            setback = judged(answer, attempt.server, is_read=call.is_read)
            return setback or Setback(error=not_found(answer), retriable=False)

        try:
            return self._told(host, deadline_s, ask)
        except ExchangeError as error:
            return unreached(error, is_read=call.is_read)

    def _told(self, host: Host, deadline_s: float, ask: Callable[[], T]) -> T:
        """What ``ask`` gives; raises ``ExchangeError``."""
        try:
            return ask()
        except UnopenedError as error:
            raise unconnected(error, host.url) from None
        except TimeoutError:
            raise NotSentError(host.url, "was not connected to in time") from None
        except _SilentError:
            pass
        # A server that has never spoken HTTP to us took the request and closed.
        reason = what_else(self._channels, host, deadline_s)
        if reason is None:
            raise LostError(host.url, LOST)
        # Plain text is nothing to a TLS server; for the rest, who knows what stands in front of whom.
        kind = NotSentError if reason.startswith("speaks TLS") else LostError
        raise kind(host.url, reason, is_final=True)


class _SilentError(Exception):
    """A new connection was closed without a word."""


def _heard(channel: Channel, request: bytes, deadline_s: float, hear: Callable[[], T]) -> T:
    """Send ``request`` and ``hear`` what comes; raises ``ExchangeError`` or ``_SilentError``."""
    server, is_cut = channel.host.url, False
    try:
        channel.send(request, deadline_s)
    except TimeoutError:
        raise NotSentError(server, "did not take the whole request in time") from None
    except OSError:
        is_cut = True  # it may have said why before it closed
    try:
        return hear()
    except (OSError, AnswerError) as error:
        if channel.is_fresh and not is_cut and is_close_without_a_word(error):
            raise _SilentError from None
        raise unanswered(error, server, is_cut=is_cut) from None
