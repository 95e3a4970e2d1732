"""Every node of a cluster asked at the same time: what each says of itself, or why it says nothing.

Whatever is dead, hangs or is cut off, the survey is over after ``ANSWER_S``, unless more time was asked for, and
after ``MISSED_S`` where only those are silent whom all others miss too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from raftkv.api.cluster_answers import NodeStatus, ProxyStatus
from raftkv.cli.connection import ConnectionOptions

if TYPE_CHECKING:
    from raftkv.client.credentials import Auth

ANSWER_S: Final = 0.5
"""How long all of them may take together: a person waits, and a node that hangs is what they want to see."""

MISSED_S: Final = 0.3
"""How long to wait for a node that none of those who answered reaches either."""

MAX_NODES: Final = 64

_REFUSALS: Final = frozenset({"unauthenticated", "forbidden"})


class Surveyed(msgspec.Struct, frozen=True, kw_only=True):
    """Who was asked at ``server``: a node's ``status``, or what a proxy told of those behind it, or the ``error``.

    ``node`` is empty when nobody knows who is there. ``content`` is the status as it came. ``is_refused``: it
    answered, and does not tell us.
    """

    server: str
    node: str = ""
    status: NodeStatus | None = None
    proxied: ProxyStatus | None = None
    content: Mapping[str, object] = {}
    error: str = ""
    is_refused: bool = False

    @property
    def name(self) -> str:
        """Who it is, or else where."""
        return self.node or self.server

    @property
    def shown(self) -> dict[str, Any]:
        """The same in JSON."""
        if self.status is None:
            return {"server": self.server, "error": self.error, "node": self.node or None}
        return {**self.content, "server": self.server}


def survey(link: ConnectionOptions) -> list[Surveyed]:
    """Ask the given servers, and the peers that they name as soon as they are named."""
    limit_s = link.timeout_s or ANSWER_S
    servers = link.servers()
    credentials = link.credentials()
    told: SimpleQueue[Surveyed | Exception] = SimpleQueue()
    nodes: dict[str, Surveyed] = {}
    end_s = monotonic() + limit_s

    def ask(urls: Iterable[str]) -> None:
        for url in urls:
            if url not in nodes and len(nodes) < MAX_NODES:
                nodes[url] = Surveyed(server=url, error=f"{url} did not answer within {limit_s:g} s")
                left_s = max(end_s - monotonic(), 0.001)
                # Nobody waits for it to end: names are looked up by the operating system, at its leisure.
                # Whoever was only told of by a server never sees a password.
                auth: Auth = credentials if url in servers or credentials is None else credentials.token or None
                Thread(target=_tell, args=(told, link, url, left_s, auth), daemon=True).start()

    ask(servers)
    answered: set[str] = set()
    while silent := nodes.keys() - answered:
        is_missed = link.timeout_s is None and all(_is_missed(url, nodes.values()) for url in silent)
        until_s = end_s - is_missed * (limit_s - MISSED_S)
        try:
            one = told.get(timeout=max(0.0, until_s - monotonic()))
        except Empty:
            if is_missed:
                error = f"did not answer within {MISSED_S:g} s, and no other node reaches it"
                nodes |= {url: Surveyed(server=url, error=f"{url} {error}") for url in silent}
            break
        if isinstance(one, Exception):
            raise one
        nodes[one.server] = one
        answered.add(one.server)
        known = {node.node for node in nodes.values()}
        ask(url for node, url in _urls(servers[0], [one]).items() if node not in known)
    names = link.named() | {url: node for node, url in _urls(servers[0], nodes.values()).items()}
    found = [msgspec.structs.replace(one, node=one.node or names.get(one.server, "")) for one in nodes.values()]
    found.sort(key=lambda one: one.status is not None)  # of two addresses of a node, that which answers
    unique = {one.name: one for one in found if one.proxied is None}  # a proxy has told who is behind it
    return sorted(unique.values(), key=lambda one: one.node or "~" + one.server)


def _is_missed(url: str, nodes: Iterable[Surveyed]) -> bool:
    """Has somebody who answered told of the node at ``url``, and nobody reaches it?"""
    address = url.partition("://")[2]
    told = [peer.reachable for one in nodes if one.status for peer in one.status.peers if peer.http == address]
    return bool(told) and not any(told)


def _urls(like: str, nodes: Iterable[Surveyed]) -> dict[str, str]:
    """Where everybody is whom ``nodes`` name; all nodes of a cluster speak the same."""
    scheme = like.partition("://")[0]
    told = [one.status or one.proxied for one in nodes]
    return {peer.id: f"{scheme}://{peer.http}" for one in told if one is not None for peer in one.peers if peer.http}


def _tell(
    told: SimpleQueue[Surveyed | Exception], link: ConnectionOptions, server: str, limit_s: float, auth: Auth
) -> None:
    """Ask ``server``, and put into ``told`` what comes of it, whatever it is."""
    try:
        told.put(_ask(link, server, limit_s, auth))
    except Exception as error:  # noqa: BLE001  it is raised where it is waited for
        told.put(error)


def _ask(link: ConnectionOptions, server: str, limit_s: float, auth: Auth) -> Surveyed:
    from raftkv.client.records import status_from_json  # noqa: PLC0415  commands load what they use
    from raftkv.core.errors import RaftkvError  # noqa: PLC0415

    with link.client((server,), timeout_s=limit_s, retry=False, proves=True, auth=auth) as client:
        try:
            content = client.status()
            status = status_from_json(content)
        except RaftkvError as error:
            return Surveyed(server=server, error=error.detail, is_refused=error.code in _REFUSALS)
    if isinstance(status, ProxyStatus):
        return Surveyed(server=server, proxied=status)
    return Surveyed(server=server, node=status.node, status=status, content=content)
