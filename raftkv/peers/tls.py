"""TLS for the peer link: both sides show a certificate signed by the cluster's own authority.

The host name is not checked: who a node is, is proven by the authority's signature together with the shared-secret
handshake inside the channel, and addresses behind NAT or in containers rarely match a certificate. Imports the standard
library and ``raftkv.core`` only.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from raftkv.core.errors import StartupError


class PeerTls(msgspec.Struct, frozen=True, kw_only=True):
    """The two ends of mutual TLS, made from the same certificate."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def peer_tls(cert: str | Path, key: str | Path, ca: str | Path) -> PeerTls:
    """Build both contexts from PEM files; raises ``StartupError``, one line naming the file and the reason."""
    for setting, path in (("tls_cert", cert), ("tls_key", key), ("tls_ca", ca)):
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise StartupError(f"peers.{setting}: cannot read {path}: {error.strerror}") from None
    server = _context(ssl.PROTOCOL_TLS_SERVER, cert, key, ca)
    # Sessions are never resumed (each connection proves itself anew), so no tickets are sent.
    server.num_tickets = 0
    server.options |= ssl.OP_NO_RENEGOTIATION
    return PeerTls(server=server, client=_context(ssl.PROTOCOL_TLS_CLIENT, cert, key, ca))


def _context(protocol: ssl._SSLMethod, cert: str | Path, key: str | Path, ca: str | Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        # An encrypted key would make OpenSSL ask on the terminal; the empty password makes it fail instead.
        context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise StartupError(f"peers.tls_cert: {cert} and {key} are no certificate with its key: {_why(error)}") from None
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, ValueError) as error:
        raise StartupError(f"peers.tls_ca: {ca} is no certificate authority: {_why(error)}") from None
    return context


def _why(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
