"""One HTTP exchange with one server over a kept-alive connection, and what its failures mean.

``NotSentError`` is definite: the server cannot have the whole request, and raftkv acts on whole requests only.
Everything else that goes wrong is ``LostError``, in doubt: the server may have it. Neither the environment's proxies
nor ``.netrc`` are looked at: a key-value store is not reached through a web proxy by accident. Any thread may call.
"""

from __future__ import annotations

import ssl
import time
from http.client import HTTPException, IncompleteRead
from typing import Final

import msgspec

from raftkv.client.channels import Channel, Channels, Heard, what_else
from raftkv.client.errors import Reply
from raftkv.client.reach import Host, UnopenedError, host_of
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


class Exchange:
    """Sends calls."""

    def __init__(self, servers: tuple[str, ...], *, tls_ca: str | None, prover: Prover | None = None) -> None:
        """``tls_ca`` is a file of certificates to trust instead of the system's; raises ``UsageError``."""
        self._hosts = {server: host_of(server) for server in servers}
        self._channels = Channels(tls_ca=tls_ca)
        self._prover = prover

    def send(self, server: str, call: Call, timeout_s: float) -> Reply:
        """Send ``call`` and wait for the whole answer; raises ``NotSentError`` or ``LostError``.

        The server is told to give up a little earlier than we do, so that it is the one to say what became of a write.
        """
        deadline_s = time.monotonic() + timeout_s
        told = f"timeout={min(60.0, max(0.05, timeout_s * 0.9)):.2f}"
        target = f"{call.path}?{call.query}&{told}" if call.query else f"{call.path}?{told}"
        if self._prover is None or not call.needs_proof:
            return self._send(server, call, target, call.headers, deadline_s)
        shown = self._prover.authorization(call.method, target, call.body)
        reply = self._send(server, call, target, {**call.headers, "Authorization": shown}, deadline_s)
        if reply.status == 401 and self._prover.learn(reply.headers.get("www-authenticate", "")):
            shown = self._prover.authorization(call.method, target, call.body)
            reply = self._send(server, call, target, {**call.headers, "Authorization": shown}, deadline_s)
        return reply

    def _send(self, server: str, call: Call, target: str, headers: dict[str, str], deadline_s: float) -> Reply:
        host = self._hosts[server]
        request = _encoded(host, call, target, headers)
        try:
            with self._channels.lend(host, deadline_s) as channel:
                heard = _heard(channel, call, request, deadline_s)
        except UnopenedError as error:
            raise NotSentError(server, str(error), is_final=error.is_final, is_refused=error.is_refused) from None
        except _SilentError:
            raise self._silence(host, deadline_s) from None
        except TimeoutError:
            raise NotSentError(server, "was not connected to in time") from None
        return Reply(status=heard.status, headers=heard.headers, body=heard.body)

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._channels.close()

    def _silence(self, host: Host, deadline_s: float) -> ExchangeError:
        """A server that has never spoken HTTP to us took the request and closed."""
        reason = what_else(self._channels, host, deadline_s)
        if reason is None:
            return LostError(host.url, _LOST)
        # Plain text is nothing to a TLS server; for the rest, who knows what stands in front of whom.
        kind = NotSentError if reason.startswith("speaks TLS") else LostError
        return kind(host.url, reason, is_final=True)


_LOST: Final = "closed the connection before it had answered"
_MUTUAL: Final = "asks for a certificate of ours, as the port does that nodes use among themselves (peer)"


class _SilentError(Exception):
    """A new connection was closed without a word."""


def _heard(channel: Channel, call: Call, request: bytes, deadline_s: float) -> Heard:
    server = channel.host.url
    cut: OSError | None = None
    try:
        channel.send(request, deadline_s)
    except TimeoutError:
        raise NotSentError(server, "did not take the whole request in time") from None
    except OSError as error:
        cut = error  # it may have said why before it closed
    try:
        return channel.hear(call.method, deadline_s)
    except TimeoutError:
        raise LostError(server, "did not answer in time") from None
    except (OSError, HTTPException, ValueError) as error:
        if cut is not None:
            raise NotSentError(server, "closed the connection before it had the whole request") from None
        if "CERTIFICATE_REQUIRED" in str(getattr(error, "reason", "")):
            raise NotSentError(server, _MUTUAL, is_final=True) from None
        if isinstance(error, ConnectionError) and channel.is_fresh:
            raise _SilentError from None
        if isinstance(error, ConnectionError | IncompleteRead | ssl.SSLEOFError):
            raise LostError(server, _LOST) from None
        raise LostError(server, f"answers what is not readable ({type(error).__name__}: {error})") from None


def _encoded(host: Host, call: Call, target: str, headers: dict[str, str]) -> bytes:
    """The request's bytes. The path goes as it is: ".." is a key like any other."""
    name = f"[{host.name}]" if ":" in host.name else host.name
    lines = [
        f"{call.method} {target} HTTP/1.1",
        f"Host: {name}:{host.port}",
        "User-Agent: raftkv-client",
        "Accept-Encoding: identity",
    ]
    if call.body or not call.is_read:
        lines.append(f"Content-Length: {len(call.body)}")
    lines += [f"{name}: {_one_line(name, value)}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + call.body


def _one_line(name: str, value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise UsageError(f"{name}: must be visible ASCII characters")
    return value
