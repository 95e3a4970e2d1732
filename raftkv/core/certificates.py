"""Contexts of TLS from PEM files: each file that will not do is named, with the reason, in one line.

Everybody who shows a certificate gets it from here: front-ends, the links between nodes, clients. Imports the standard
library and ``raftkv.core`` only.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from raftkv.core.errors import StartupError


def context_of(
    protocol: ssl._SSLMethod, section: str, *, cert: str | Path, key: str | Path, ca: str | Path = ""
) -> ssl.SSLContext:
    """A context of TLS 1.2 or newer that shows ``cert`` and trusts ``ca``, if that is named; no host name is checked.

    Raises ``StartupError``, one line that names the key of the configuration in ``section``, the file and the reason.
    """
    for setting, path in (("tls_cert", cert), ("tls_key", key), ("tls_ca", ca)):
        try:
            if path:
                Path(path).open("rb").close()
        except OSError as error:
            raise StartupError(f"{section}.{setting}: cannot read {path}: {error.strerror}") from None
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    try:
        # An encrypted key would make OpenSSL ask on the terminal; the empty password makes it fail instead.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        reason = f"{cert} and {key} are no certificate with its key: {_why(error)}"
        raise StartupError(f"{section}.tls_cert: {reason}") from None
    try:
        if ca:
            context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise StartupError(f"{section}.tls_ca: {ca} is no certificate authority: {_why(error)}") from None
    return context


def serving_clients(
    cert: str | Path, key: str | Path, client_ca: str | Path = "", protocols: Sequence[str] = ()
) -> ssl.SSLContext:
    """What a front-end shows its clients, whose own certificates are looked at if ``client_ca`` is named.

    Of ``protocols`` the first that a client offers is spoken (ALPN, RFC 7301). Raises as ``context_of``.
    """
    context = context_of(ssl.PROTOCOL_TLS_SERVER, "http", cert=cert, key=key)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if protocols:
        context.set_alpn_protocols(protocols)
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            reason = f"{client_ca} is no certificate authority: {_why(error)}"
            raise StartupError(f"http.tls_client_ca: {reason}") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class Renewing:
    """A context whose handshakes are made with what was read last: connections that there are go on as they are."""

    def __init__(self, read: Callable[[], ssl.SSLContext]) -> None:
        """Read for the first time; ``read`` raises ``StartupError``, here and in ``renew``."""
        self._read = read
        self._newest = read()
        self.context = read()
        # Called in every handshake, whether or not the client names a host.
        self.context.sni_callback = self._take_newest

    def renew(self) -> None:
        """Read the files anew; raises ``StartupError`` and keeps what there was when they will not do."""
        self._newest = self._read()

    def _take_newest(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, of: ssl.SSLContext) -> None:
        del name, of
        handshake.context = self._newest


def _why(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
