"""Whom a client connects to, and why it could not: each reason in its own words. Pure: errors in, sentences out.

What is known of a request decides what may be sent again: ``UnopenedError`` is definite, ``UnheardError`` in doubt.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from raftkv.client.http1 import CLOSED, AnswerError, CutError, Headers, RequestForm
from raftkv.client.servers import TRUST_ENVIRONMENT
from raftkv.core.errors import UsageError

CONNECT_TIMEOUT_S: Final = 1.0
"""A machine that does not take a connection within a second is as good as down, and the next server is asked."""

IDLE_S: Final = 30.0
"""Well below what servers keep an idle connection open for."""


class Host(NamedTuple):
    """Whom to connect to; ``name`` has no brackets."""

    name: str
    port: int
    is_tls: bool = False

    @property
    def url(self) -> str:
        """How messages name it."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """As a request names it."""
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"

    def form(self, method: str, headers: Headers = ()) -> RequestForm:
        """Of requests to it; raises ``UsageError``."""
        return RequestForm(method, [("Host", self.authority), *headers])


def host_of(url: str) -> Host:
    """The host of a base URL that names a port."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Host(parts.hostname, parts.port, parts.scheme == "https")


class UnopenedError(Exception):
    """No connection came about, so nothing was sent.

    ``is_final``: to try again without a change makes no sense. ``is_refused``: nothing listens there.
    ``is_distrusted``: TLS is spoken, by somebody whom we do not trust.
    """

    def __init__(
        self, reason: str, *, is_final: bool = False, is_refused: bool = False, is_distrusted: bool = False
    ) -> None:
        super().__init__(reason)
        self.is_final = is_final
        self.is_refused = is_refused
        self.is_distrusted = is_distrusted


class UnheardError(Exception):
    """The request was sent, wholly or in part, and no whole answer came; the reason goes on after the server's name.

    ``is_silence``: it was waited for too long. ``is_cut``: the server cannot have the whole request, and raftkv acts on
    whole requests only. ``is_final``: to try again without a change makes no sense. ``is_wordless``: a server that has
    never said anything on this connection took the request and closed.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_silence: bool = False,
        is_cut: bool = False,
        is_final: bool = False,
        is_wordless: bool = False,
    ) -> None:
        super().__init__(reason)
        self.is_silence = is_silence
        self.is_cut = is_cut
        self.is_final = is_final
        self.is_wordless = is_wordless


_MUTUAL: Final = "asks for a certificate of ours, as the port does that nodes use among themselves (peer)"


def unheard(error: OSError | AnswerError, *, is_cut: bool = False, is_fresh: bool = False) -> UnheardError:
    """What it means to who sent a request that the connection, or the answer, came to ``error``.

    ``is_cut``: it was not sent whole. ``is_fresh``: it was the first on its connection.
    """
    if isinstance(error, TimeoutError):
        reason = "did not take the whole request in time" if is_cut else "did not answer in time"
        return UnheardError(reason, is_silence=True, is_cut=is_cut)
    if is_cut:
        return UnheardError("closed the connection before it had the whole request", is_cut=True)
    if "CERTIFICATE_REQUIRED" in str(getattr(error, "reason", "")):
        return UnheardError(_MUTUAL, is_cut=True, is_final=True)
    if isinstance(error, CutError):
        return UnheardError(str(error), is_wordless=is_fresh and error.is_silent)
    if isinstance(error, ConnectionError | ssl.SSLEOFError):
        return UnheardError(CLOSED, is_wordless=is_fresh and isinstance(error, ConnectionError))
    shown = error if isinstance(error, AnswerError) else f"{type(error).__name__}: {error}"
    return UnheardError(f"answers what is not readable ({shown})")


def silent(timeout_s: float) -> UnheardError:
    """Nothing came of a body for ``timeout_s``."""
    return UnheardError(f"said nothing for {timeout_s:g} s", is_silence=True)


def unopened(error: OSError | UnicodeError, host: Host, *, in_handshake: bool) -> UnopenedError:
    """What it means that a connection, or the TLS handshake on it, failed with ``error``."""
    if in_handshake:
        return _no_handshake(error)
    if isinstance(error, socket.gaierror | UnicodeError):
        return _no_name(error, host.name)
    if isinstance(error, TimeoutError):
        return UnopenedError("does not take connections")
    if error.errno == errno.ECONNREFUSED:
        return UnopenedError("refuses connections: nothing listens there", is_refused=True)
    return UnopenedError(f"cannot be reached ({error.strerror or error})")


def _no_name(error: socket.gaierror | UnicodeError, name: str) -> UnopenedError:
    if isinstance(error, UnicodeError):
        return UnopenedError(f"{name!r} cannot be the name of a host", is_final=True)
    if error.errno == socket.EAI_AGAIN:
        return UnopenedError(f"the name {name!r} cannot be looked up now ({error.strerror})")
    return UnopenedError(f"there is no host {name!r} ({error.strerror})", is_final=True)


_PLAIN_ANSWERS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
)


def _no_handshake(error: OSError | UnicodeError) -> UnopenedError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnopenedError(_distrust(error), is_final=True, is_distrusted=True)
    if isinstance(error, ssl.SSLEOFError):
        return UnopenedError("ends the connection during the TLS handshake: does it speak TLS?")
    if isinstance(error, ssl.SSLError):
        if error.reason in _PLAIN_ANSWERS:
            return UnopenedError("does not speak TLS: http:// instead of https://?", is_final=True)
        return UnopenedError(f"fails in the TLS handshake: {error.reason or error}")
    if isinstance(error, TimeoutError):
        return UnopenedError("takes the connection and does not answer the TLS handshake")
    return UnopenedError(f"ends the connection during the TLS handshake ({getattr(error, 'strerror', None) or error})")


_OUT_OF_TIME: Final = {9: "is not valid yet", 10: "has expired"}
"""By OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    if "mismatch" in error.verify_message or "not valid for" in error.verify_message:
        return f"shows a certificate of another host: {error.verify_message}"
    if error.verify_code in _OUT_OF_TIME:
        return f"shows a certificate that {_OUT_OF_TIME[error.verify_code]}, if the clock here is right"
    return (
        f"shows a certificate that is not trusted ({error.verify_message}): name the authority that signed it "
        "by --cacert FILE, tls_ca=FILE or RAFTKV_CACERT"
    )


Cert = str | tuple[str, str] | None
"""The file of our own certificate, with its key in it, or in a file of its own."""


def trusting(tls_ca: str | None, cert: Cert = None) -> ssl.SSLContext:
    """Who is trusted: the certificates in the file ``tls_ca``, or the system's; ``cert`` is shown to who asks for one.

    Raises ``UsageError``.
    """
    context = _trusting(tls_ca)
    if cert is not None:
        shown, key = (cert, None) if isinstance(cert, str) else cert
        try:
            # An encrypted key would make OpenSSL ask on the terminal; the empty password makes it fail instead.
            context.load_cert_chain(shown, key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise UsageError(
                f"{' and '.join([shown, *([key] if key else [])])}: no certificate with its key: {reason}"
            ) from None
    return context


def _trusting(tls_ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=tls_ca)
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{tls_ca}: not a file of certificates to trust: {reason}") from None


def trusting_as_told(tls_ca: str | None, cert: Cert = None) -> ssl.SSLContext | None:
    """Who is trusted by the argument, else by ``RAFTKV_CACERT``; ``None``: whom the system trusts, to be seen later."""
    named = tls_ca or os.environ.get(TRUST_ENVIRONMENT) or None
    return None if named is None and cert is None else trusting(named, cert)
