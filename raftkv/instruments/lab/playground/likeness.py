"""A playground like a cluster that runs elsewhere: of its mode, size and replication settings, with a copy of its keys.

Nothing is done to the other cluster but to read: its status, and its keys, so many and so many bytes of them at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal

import msgspec

from raftkv.api.cluster_answers import NodeStatus
from raftkv.client import Client
from raftkv.core.config import QuorumSection
from raftkv.core.errors import UsageError
from raftkv.instruments.lab.additions import LIST_PREFIX
from raftkv.instruments.lab.playground.telling import KEY_PREFIX
from raftkv.instruments.local.cluster import LocalCluster

KEYS_MAX: Final = 10_000
BYTES_MAX: Final = 16 << 20
AT_ONCE: Final = 20
NODES_MAX: Final = 5
WRITE_WITHIN_S: Final = 30.0
OWN: Final = (KEY_PREFIX.decode(), (LIST_PREFIX + KEY_PREFIX).decode())
"""Keys of a playground's own clients begin so, and are new in every playground."""


class CopiedKeys(msgspec.Struct, kw_only=True):
    """What was copied; ``is_all``: nothing was left out for its size."""

    keys: int = 0
    size_bytes: int = 0
    is_all: bool = True


class Likeness(msgspec.Struct, frozen=True, kw_only=True):
    """What a playground takes over."""

    mode: str
    nodes: int
    quorum: QuorumSection


def likeness_of(client: Client) -> Likeness:
    """Of the cluster that ``client`` asks; raises ``UsageError`` when it is none that can be played with."""
    try:
        status = msgspec.convert(client.status(), NodeStatus)
    except msgspec.ValidationError:  # a proxy's
        raise UsageError("--like: that is no node of a cluster; ask one of its nodes") from None
    nodes = min(NODES_MAX, max(1, status.cluster_size))
    if status.mode == "raft":
        return Likeness(mode="raft", nodes=nodes, quorum=QuorumSection())
    n = min(nodes, status.n)
    conflicts: Literal["lww", "siblings"] = "siblings" if status.conflicts == "siblings" else "lww"
    quorum = QuorumSection(n=n, r=min(n, status.r), w=min(n, status.w), conflicts=conflicts, sloppy=False)
    return Likeness(mode="quorum", nodes=nodes, quorum=quorum)


def copy_keys(source: Client, cluster: LocalCluster) -> CopiedKeys:
    """Copy keys from ``source`` to ``cluster``, in order, until there are no more or it is enough."""
    copied = CopiedKeys()
    servers = [f"http://{site.http}" for site in cluster.sites.values()]
    with Client(servers, timeout_s=WRITE_WITHIN_S) as target:
        for some in _portions(_taken(source, copied)):
            target.batch(some)
    return copied


def _taken(source: Client, copied: CopiedKeys) -> Iterator[dict[str, object]]:
    for record in source.list():
        if record.key.startswith(OWN):
            continue
        value = record.value or b""
        if copied.keys >= KEYS_MAX or copied.size_bytes + len(value) > BYTES_MAX:
            copied.is_all = False
            return
        copied.keys += 1
        copied.size_bytes += len(record.key) + len(value)
        yield {"op": "put", "key": record.key, "value": value}


def _portions(operations: Iterator[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    while portion := list(islice(operations, AT_ONCE)):
        yield portion
