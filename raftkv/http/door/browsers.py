"""What a web page could have its visitor's browser do to a node, and why it may not.

A browser reaches addresses that the page's author cannot, this machine's own among them, and needs no leave to send a
plain request. Two rules keep such requests out, before anything of them is read. The name that a client asks for must
be one of this node's: those that the configuration lists, loopback names, or an address as such; so that no foreign
name can be made to point here (DNS rebinding). And a request that a browser says comes from another site (Fetch
Metadata, ``Sec-Fetch-Site``; RFC 6454, ``Origin``; by older browsers ``Referer``) reaches nothing but the public
pages. Clients that are no browsers send none of these headers. This module must not import Flask.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

from raftkv.api import paths
from raftkv.api.paths import READ_METHODS
from raftkv.core.config import ClusterConfig
from raftkv.core.errors import Code
from raftkv.http.messages import HttpResponse
from raftkv.http.problems import problem

PUBLIC_PATHS: Final = paths.raw(paths.LIVEZ, paths.READYZ, paths.HEALTH, paths.DOCS, paths.OPENAPI, paths.CONSOLE)
"""What any page may link to: it tells nothing that is kept here."""

ADDED_BY_BROWSERS: Final = frozenset(
    {"origin", "referer", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"}
)
"""What a proxy judges by and does not pass on: behind it they would speak of another host."""

_KNOWN_MAX: Final = 256
_KNOWN_BYTES_MAX: Final = 300
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{0,5})?")
_CLOSE: Final = (b"connection", b"close")


def names_of(config: ClusterConfig) -> frozenset[str]:
    """The names that the configuration gives its nodes, and those of ``http.hosts``."""
    hosts = set(config.http.hosts)
    for node in config.node:
        hosts |= {address.host for address in node.client_addresses}
    return frozenset(hosts)


class BrowserGuard:
    """Refuses what browsers should not have sent to a server that answers to the names ``hosts``."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        self._known: set[bytes] = set()

    def is_plain(self, headers: Mapping[bytes, bytes]) -> bool:
        """Is this certainly a request that ``refusal`` has nothing against? Most are, and this is quick to tell."""
        return (
            headers.get(b"host") in self._known
            and b"origin" not in headers
            and b"sec-fetch-site" not in headers
            and b"referer" not in headers
        )

    def refusal(
        self, method: str, path: bytes, headers: Mapping[bytes, bytes], *, host_needed: bool = True
    ) -> HttpResponse | None:
        """Why this request is not heard; ``None`` when it is. HTTP/1.1 needs a Host (RFC 9112, section 3.2)."""
        host = headers.get(b"host")
        if host not in self._known:
            refusal = self._wrong_host(host, host_needed=host_needed)
            if refusal is not None:
                return refusal
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None and (method in READ_METHODS or b"referer" not in headers):
            return None
        if path in PUBLIC_PATHS and method in READ_METHODS:
            return None
        came_from = origin if origin is not None else headers.get(b"referer") if site is None else None
        if site in (None, b"same-origin", b"none") and (
            came_from is None or _authority(came_from) == (host or b"").lower()
        ):
            return None
        detail = "a page of another site sent this; a browser reaches this node only from its own pages"
        return problem(Code.CROSS_SITE, detail, headers=(_CLOSE,))

    def _wrong_host(self, host: bytes | None, *, host_needed: bool) -> HttpResponse | None:
        if host is None:
            if not host_needed:
                return None
            return problem(Code.BAD_REQUEST, "Host: missing", headers=(_CLOSE,))
        found = _HOST.fullmatch(host)
        if found is None:
            return problem(
                Code.BAD_REQUEST, "Host: must be a name or an address, and perhaps a port", headers=(_CLOSE,)
            )
        name = found[1].decode().lower().removesuffix(".")
        if not self._answers_to(name):
            detail = f"this node does not answer to the name {name!r}; if it should, list it in http.hosts"
            return problem(Code.MISDIRECTED, detail, headers=(_CLOSE,))
        if len(self._known) < _KNOWN_MAX and len(host) <= _KNOWN_BYTES_MAX:
            self._known.add(host)
        return None

    def _answers_to(self, name: str) -> bool:
        if name in self._hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _authority(url: bytes) -> bytes:
    """The host and port of an origin or a URL, empty for ``null`` and what else has none."""
    return url.partition(b"://")[2].partition(b"/")[0].lower()
