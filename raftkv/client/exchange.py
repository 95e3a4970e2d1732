"""One HTTP exchange with one server over a kept-alive connection, and what its failures mean.

The one place that touches requests. ``NotSentError`` is definite: the connection was never made. Everything else that
goes wrong is ``LostError``, in doubt: the server may have the request. Neither the environment's proxies nor ``.netrc``
are looked at: a key-value store is not reached through a web proxy by accident.
"""

from __future__ import annotations

import ssl
from typing import Final

import msgspec
import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, SSLError

from raftkv.client.errors import Reply
from raftkv.core.proof import Prover

CONNECT_TIMEOUT_S: Final = 1.0
"""A machine that does not take a connection within a second is as good as down, and the next server is asked."""


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


class NotSentError(Exception):
    """The server does not have the request."""


class LostError(Exception):
    """The server may have the request, and its answer did not arrive."""


class Exchange:
    """Sends calls. One thread at a time."""

    def __init__(self, *, tls_ca: str | None, prover: Prover | None = None) -> None:
        """``tls_ca`` is a file of certificates to trust instead of the usual ones."""
        self._prover = prover
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"User-Agent": "raftkv-client", "Accept-Encoding": "identity"})
        self._verify: bool | str = True if tls_ca is None else tls_ca

    def send(self, server: str, call: Call, timeout_s: float) -> Reply:
        """Send ``call`` and wait for the whole answer; raises ``NotSentError`` or ``LostError``.

        The server is told to give up a little earlier than we do, so that it is the one to say what became of a write.
        """
        told = f"timeout={min(60.0, max(0.05, timeout_s * 0.9)):.2f}"
        target = f"{call.path}?{call.query}&{told}" if call.query else f"{call.path}?{told}"
        if self._prover is None or not call.needs_proof:
            return self._send(server, call, target, call.headers, timeout_s)
        shown = self._prover.authorization(call.method, target, call.body)
        reply = self._send(server, call, target, {**call.headers, "Authorization": shown}, timeout_s)
        if reply.status == 401 and self._prover.learn(reply.headers.get("www-authenticate", "")):
            shown = self._prover.authorization(call.method, target, call.body)
            reply = self._send(server, call, target, {**call.headers, "Authorization": shown}, timeout_s)
        return reply

    def _send(self, server: str, call: Call, target: str, headers: dict[str, str], timeout_s: float) -> Reply:
        request = requests.Request(call.method, server, headers=headers, data=call.body)
        prepared = self._session.prepare_request(request)
        # Set after the preparation, which would resolve dot segments: ".." is a key like any other.
        prepared.url = f"{server}{target}"
        try:
            response = self._session.send(
                prepared,
                timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
                allow_redirects=False,
                verify=self._verify,
            )
        except requests.ConnectTimeout:
            raise NotSentError(f"{server} does not take connections") from None
        except requests.ConnectionError as error:
            reason = _reason(error)
            if isinstance(reason, NewConnectionError | ConnectTimeoutError):
                raise NotSentError(f"{server} cannot be reached") from None
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise NotSentError(f"{server} is not trusted: {reason.verify_message}") from None
            raise LostError(f"the connection to {server} was lost") from None
        except requests.Timeout:
            raise LostError(f"{server} did not answer in time") from None
        except (requests.RequestException, OSError) as error:
            raise LostError(f"{server}: {type(error).__name__}: {error}") from None
        found = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status_code, headers=found, body=response.content)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _reason(error: requests.ConnectionError) -> object:
    """What is behind ``error``: an exception of urllib3's, or of the system where that only wraps it."""
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return reason.args[0] if isinstance(reason, SSLError) and reason.args else reason
