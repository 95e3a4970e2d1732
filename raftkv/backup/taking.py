"""A backup of a running cluster, as it is asked for over HTTP: of one node where there is a leader, of all without one.

Rules: it needs the cluster's secret, or an operator; nothing of it is held in memory but the piece that is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from raftkv.api.cluster_answers import MemberList, NodeStatus
from raftkv.backup.fetching import store
from raftkv.client.records import typed
from raftkv.core.errors import RaftkvError
from raftkv.core.status import MemberState

if TYPE_CHECKING:
    from raftkv.client import Client
    from raftkv.client.arguments import BackupLevel
    from raftkv.formats.backups import BackupManifest

Passing = Callable[[Iterable[bytes]], Iterable[bytes]]
"""What pieces pass through on their way to the disk, so that whoever watches can slow or stop them."""


class ClientOf(Protocol):
    """Makes clients of ``servers``, or of those that are asked by default."""

    def __call__(
        self, servers: tuple[str, ...] | None = None, *, proves: bool = True, retry: bool = True
    ) -> Client: ...


def take(
    client_of: ClientOf, draft: Path, *, scheme: str, level: BackupLevel | None = None, passing: Passing = iter
) -> BackupManifest:
    """Back the cluster up to ``draft``; with a ``level`` what one node holds. Raises ``RaftkvError``, ``StartupError``.

    ``scheme`` is what all nodes speak.
    """

    def pieces(servers: tuple[str, ...] | None = None) -> Iterable[bytes]:
        return passing(_pieces(client_of, servers, level))

    with client_of(proves=True) as client:
        status = typed(client.status(), NodeStatus)
        if status.mode != "quorum" or level is not None:
            return store(pieces(), draft)
        members = typed(client.members(), MemberList).members
    from raftkv.backup.gathering import AskedNode, gather  # noqa: PLC0415  RocksDB takes a while to load

    nodes: dict[str, AskedNode | None] = {}
    for member in members:
        if member.state == MemberState.LEFT:
            continue
        server = (f"{scheme}://{member.http}",)
        try:
            with client_of(server, proves=True, retry=False) as client:
                seen = typed(client.status(), NodeStatus)
        except RaftkvError:
            nodes[member.id] = None
            continue
        is_moving = bool(seen.hints_pending) or bool(seen.transfer)
        nodes[member.id] = AskedNode(is_moving=is_moving, pieces=partial(pieces, server))
    return gather(nodes, status.w, draft)


def _pieces(client_of: ClientOf, servers: tuple[str, ...] | None, level: BackupLevel | None) -> Iterator[bytes]:
    with client_of(servers, proves=True) as client:
        yield from client.backup(level)
