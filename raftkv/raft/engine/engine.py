"""The engine, put together: PySyncObj between our journal and our transport. Nobody else makes these.

What the rest of the package sees of it are ports that each consumer declares beside its class; peers are called by
their ids there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raftkv.raft.electorate import Electorate
from raftkv.raft.engine.internals import Core, Nodes
from raftkv.raft.engine.journal import LogJournal
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.membership.configurations import Configurations
from raftkv.raft.settings import ReplicaSettings
from raftkv.storage.log.log import Log


class RaftEngine(NamedTuple):
    """``core`` elects and replicates, ``transport`` holds what it says until it may leave."""

    core: Core
    transport: GuardedTransport


def wire_engine(
    settings: ReplicaSettings,
    electorate: Electorate,
    log: Log,
    configurations: Configurations,
    *,
    applied_index: int,
    apply: Callable[[int, int, bytes], None],
    counts: Callable[[], bool],
    has_room: Callable[[str, int], bool],
    needs_snapshot: Callable[[str], None],
    clock: Callable[[], float],
    wall_ms: Callable[[], int],
) -> RaftEngine:
    """An engine over ``log``, of which all up to ``applied_index`` is applied; what is committed later is ``apply``-ed.

    ``counts``: does what this node acknowledges count? ``has_room``: may so many more bytes go to that peer?
    ``needs_snapshot`` is told who lacks more than the log has.
    """
    nodes = Nodes()
    transport = GuardedTransport(
        nodes,
        counts=counts,
        has_room=has_room,
        needs_snapshot=needs_snapshot,
        heartbeat_s=settings.heartbeat_s,
        clock=clock,
        wall_ms=wall_ms,
    )
    core = Core(
        node_id=settings.node_id,
        nodes=nodes,
        voters=electorate.other_voters,
        learners=[peer for peer in electorate.others if peer not in electorate.other_voters],
        journal=LogJournal(log, configurations),
        transport=transport,
        election_timeout_s=settings.election_timeout_s,
        heartbeat_s=settings.heartbeat_s,
        largest_command_bytes=settings.largest_command_bytes,
        apply=apply,
        is_up=transport.is_up,
    )
    transport.core = core
    core.resume(applied_index)
    return RaftEngine(core, transport)
