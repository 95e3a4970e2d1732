"""TLS for the peer link: both sides show a certificate that the cluster's own authority signed and that names them.

A certificate names a node by its id or by the host of its peer address: as a DNS name, where one ``*`` may stand for
the first label, or as an IP address. So whoever stole one node's certificate and the secret is still no other node.
Imports
the standard library and ``raftkv.core`` only.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from raftkv.core.certificates import context_of
from raftkv.core.config import Address


class PeerTls(msgspec.Struct, frozen=True, kw_only=True):
    """The two ends of mutual TLS, made from the same certificate."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def peer_tls(cert: str | Path, key: str | Path, ca: str | Path) -> PeerTls:
    """Build both contexts from PEM files; raises ``StartupError``, one line naming the file and the reason."""
    server = context_of(ssl.PROTOCOL_TLS_SERVER, "peers", cert=cert, key=key, ca=ca)
    client = context_of(ssl.PROTOCOL_TLS_CLIENT, "peers", cert=cert, key=key, ca=ca)
    server.verify_mode = client.verify_mode = ssl.CERT_REQUIRED
    # Sessions are never resumed (each connection proves itself anew), so no tickets are sent.
    server.num_tickets = 0
    server.options |= ssl.OP_NO_RENEGOTIATION
    return PeerTls(server=server, client=client)


def misnamed(certificate: Mapping[str, Any] | None, peer: str, address: Address | None) -> str | None:
    """Why ``certificate`` (as ``getpeercert`` tells it; ``None``: no TLS is spoken) is not that of ``peer``, if so."""
    if certificate is None:
        return None
    names = [_plain(name) for kind, name in certificate.get("subjectAltName", ()) if kind in {"DNS", "IP Address"}]
    wanted = [peer] if address is None else [peer, address.host]
    if any(_is_among(names, _plain(name)) for name in wanted):
        return None
    return f"its certificate names {', '.join(names) or 'nobody'}, and neither {' nor '.join(wanted)}"


def _is_among(names: Sequence[str], wanted: str) -> bool:
    first, dot, rest = wanted.partition(".")
    return wanted in names or bool(first and dot and rest and f"*.{rest}" in names)


def _plain(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower().rstrip(".")
