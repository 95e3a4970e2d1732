"""One call as an HTTP request, and what it means that no answer came. Pure: no socket, no clock.

``NotSentError`` is definite: the server cannot have the whole request, and raftkv acts on whole requests only.
Everything else that goes wrong is ``LostError``, in doubt: the server may have it.
"""

from __future__ import annotations

import ssl
from typing import Final

import msgspec

from raftkv.client.http1 import AnswerError, CutError, HttpAnswer, RequestForm
from raftkv.client.reach import Host, UnopenedError
from raftkv.core.errors import UsageError
from raftkv.core.proof import Prover


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request; ``path`` is percent-encoded, ``query`` too. ``repeatable``: sending it twice does no harm.

    ``needs_proof``: it is for who holds the cluster's secret.
    """

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""
    is_read: bool
    repeatable: bool
    needs_proof: bool = False


class ExchangeError(Exception):
    """No answer of ``server``; ``is_final``: to try again without a change of address or trust makes no sense.

    ``is_refused``: nothing listens there.
    """

    def __init__(self, server: str, reason: str, *, is_final: bool = False, is_refused: bool = False) -> None:
        super().__init__(f"{server} {reason}")
        self.reason = reason
        self.is_final = is_final
        self.is_refused = is_refused


class NotSentError(ExchangeError):
    """The server does not have the request."""


class LostError(ExchangeError):
    """The server may have the request, and its answer did not arrive."""


LOST: Final = "closed the connection before it had answered"
_MUTUAL: Final = "asks for a certificate of ours, as the port does that nodes use among themselves (peer)"


def request_of(call: Call, host: Host, timeout_s: float, prover: Prover | None) -> bytes:
    """The request; raises ``UsageError`` when it cannot be one.

    The server is told to give up a little earlier than we do, so that it is the one to say what became of a write.
    """
    told = f"timeout={min(60.0, max(0.05, timeout_s * 0.9)):.2f}"
    target = f"{call.path}?{call.query}&{told}" if call.query else f"{call.path}?{told}"
    headers = [("Host", host.authority), ("User-Agent", "raftkv-client"), ("Accept-Encoding", "identity")]
    for name, value in call.headers.items():
        if not value.isascii():
            raise UsageError(f"{name}: must be visible ASCII characters")
        headers.append((name, value))
    if prover is not None and call.needs_proof:
        headers.append(("Authorization", prover.authorization(call.method, target, call.body)))
    return RequestForm(call.method, headers).request(target, call.body)


def learns(call: Call, answer: HttpAnswer, prover: Prover | None) -> bool:
    """Does ``answer`` teach ``prover`` what the same call is to be sent again with?"""
    if prover is None or not call.needs_proof or answer.status != 401:
        return False
    return prover.learn(answer.header("www-authenticate"))


def unconnected(error: UnopenedError, server: str) -> NotSentError:
    """No connection came about."""
    return NotSentError(server, str(error), is_final=error.is_final, is_refused=error.is_refused)


def unanswered(error: OSError | AnswerError, server: str, *, is_cut: bool) -> ExchangeError:
    """Whether ``server`` may have the request whose answer came to ``error``; ``is_cut``: it was not sent whole."""
    if isinstance(error, TimeoutError):
        return LostError(server, "did not answer in time")
    if is_cut:
        return NotSentError(server, "closed the connection before it had the whole request")
    if "CERTIFICATE_REQUIRED" in str(getattr(error, "reason", "")):
        return NotSentError(server, _MUTUAL, is_final=True)
    if isinstance(error, ConnectionError | CutError | ssl.SSLEOFError):
        return LostError(server, LOST)
    shown = error if isinstance(error, AnswerError) else f"{type(error).__name__}: {error}"
    return LostError(server, f"answers what is not readable ({shown})")
