"""Every node of a cluster asked at the same time: what each says of itself, or why it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from raftkv.api.answers import NodeStatus, ProxyStatus
from raftkv.cli.connection import ConnectionOptions

ANSWER_S: Final = 2.0
"""How long a node may take: a person waits, and a node that hangs is what they want to see."""

MAX_NODES: Final = 64


class Surveyed(msgspec.Struct, frozen=True, kw_only=True):
    """Who was asked at ``server``: a node's ``status``, or what a proxy told of those behind it, or the ``error``.

    ``node`` is empty when nobody knows who is there. ``content`` is the status as it came, and ``staleness_ms`` how
    stale the node's own copy is, ``None`` when it cannot tell.
    """

    server: str
    node: str = ""
    status: NodeStatus | None = None
    proxied: ProxyStatus | None = None
    content: Mapping[str, object] = {}
    staleness_ms: int | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """Who it is, or else where."""
        return self.node or self.server

    @property
    def shown(self) -> dict[str, Any]:
        """The same in JSON."""
        if self.status is None:
            return {"server": self.server, "error": self.error, "node": self.node or None}
        return {**self.content, "server": self.server, "staleness_ms": self.staleness_ms}


def survey(link: ConnectionOptions) -> list[Surveyed]:
    """Ask the given servers, then the peers that they name and that were not asked yet."""
    servers = link.servers()
    with ThreadPoolExecutor(min(len(servers), MAX_NODES)) as pool:
        nodes = list(pool.map(lambda server: _ask(link, server), servers))
        known = {one.node for one in nodes}
        more = [url for node, url in _urls(nodes).items() if node not in known and url not in servers]
        nodes += pool.map(lambda server: _ask(link, server), more[:MAX_NODES])
    names = {url: node for node, url in _urls(nodes).items()}
    nodes = [msgspec.structs.replace(one, node=one.node or names.get(one.server, "")) for one in nodes]
    unique = {one.name: one for one in reversed(nodes) if one.proxied is None}  # a proxy has told who is behind it
    return sorted(unique.values(), key=lambda one: one.node or "~" + one.server)


def _urls(nodes: list[Surveyed]) -> dict[str, str]:
    """Where everybody is whom ``nodes`` name; all nodes of a cluster speak the same."""
    scheme = nodes[0].server.partition("://")[0]
    told = [one.status or one.proxied for one in nodes]
    return {peer.id: f"{scheme}://{peer.http}" for one in told if one is not None for peer in one.peers if peer.http}


def _ask(link: ConnectionOptions, server: str) -> Surveyed:
    from raftkv.client.records import status_from_json  # noqa: PLC0415  commands load what they use
    from raftkv.core.errors import RaftkvError  # noqa: PLC0415

    limit_s = min(link.timeout_s or ANSWER_S, ANSWER_S)
    with link.client((server,), timeout_s=limit_s, retry=False) as client:
        try:
            content = client.status()
            status = status_from_json(content)
            if isinstance(status, ProxyStatus):
                return Surveyed(server=server, proxied=status)
            stale_ms = None
            if not status.ring:
                stale_ms = client.page(limit=1, keys_only=True, consistency="local").staleness_ms
        except RaftkvError as error:
            return Surveyed(server=server, error=error.detail)
    return Surveyed(server=server, node=status.node, status=status, content=content, staleness_ms=stale_ms)
