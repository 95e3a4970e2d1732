"""Which parts a raft replica has, and who gets whom. Nothing is decided here.

Chance is drawn in the order of these lines: a simulated run is the same again only as long as that stays.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from raftkv.core.errors import Refused
from raftkv.core.sights import SightsShower, nothing_seen
from raftkv.formats.commands import HISTORY_FORMAT
from raftkv.formats.configurations import ConfiguredMember
from raftkv.machine.machine import Machine
from raftkv.raft.applied import AppliedMachine
from raftkv.raft.conversation import RaftConversation
from raftkv.raft.delays import Delays
from raftkv.raft.electorate import Electorate
from raftkv.raft.engine.engine import wire_engine
from raftkv.raft.engine.internals import Core
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.leadership.following import Following
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.leadership.lease_time import LeaseTime
from raftkv.raft.leadership.preference import Preference
from raftkv.raft.leadership.voting import Voting
from raftkv.raft.measures import RaftMeasures
from raftkv.raft.membership.changes import MemberChanges
from raftkv.raft.membership.configurations import Configurations
from raftkv.raft.ports import RaftLink, Snapshots, StatePort
from raftkv.raft.reading.confirming import Confirming
from raftkv.raft.reading.eventual import EventualReads
from raftkv.raft.reading.freshness import Freshness, Vouching
from raftkv.raft.reading.gate import ReadGate
from raftkv.raft.reading.readers import Readers
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.requests import RaftRequests
from raftkv.raft.room import DiskRoom
from raftkv.raft.settings import ReplicaSettings
from raftkv.raft.snapshots.installing import Installing
from raftkv.raft.snapshots.transfer import Transfers
from raftkv.raft.standing.divergence import Divergence
from raftkv.raft.standing.participation import Participation
from raftkv.raft.standing.readmission import Memory, Readmission
from raftkv.raft.writing.appends import Appends
from raftkv.raft.writing.arrivals import Arrivals
from raftkv.raft.writing.proposals import Proposals
from raftkv.raft.writing.proposing import Proposing
from raftkv.raft.writing.stamping import Stamping
from raftkv.raft.writing.visibility import Visibility
from raftkv.storage.log.log import Log


class RaftWorld(NamedTuple):
    """What a replica stands on, and where time, chance and room come from (see ``raftkv.raft.ports``)."""

    log: Log
    state: StatePort
    snapshots: Snapshots
    link: RaftLink
    clock: Callable[[], float]
    wall_ms: Callable[[], int]
    free_bytes: Callable[[], int]
    random: random_module.Random
    reads: Callable[[str], int]
    """The newest format of commands that a peer is known to read."""

    disk_of: Callable[[str], str] = lambda _peer: ""
    """The disk by which a node was met last, this one's own under its own name."""

    reach: Callable[[Mapping[str, str]], None] = lambda _addresses: None
    """Told who is to be linked to from now on, this node included, and where: their peer addresses, by id."""

    show_sights: SightsShower = nothing_seen


class RaftParts:
    """What one replica consists of, each part once; ``wire_raft`` makes them in the order of what they need."""

    configurations: Configurations
    electorate: Electorate
    measures: RaftMeasures
    core: Core
    transport: GuardedTransport
    applied: AppliedMachine
    conversation: RaftConversation
    requests: RaftRequests
    room: DiskRoom
    delays: Delays
    # who takes part
    readmission: Readmission
    divergence: Divergence
    participation: Participation
    changes: MemberChanges
    # who leads
    elections: Elections
    agreed_time: AgreedTime
    voting: Voting
    following: Following
    handover: Handover
    preference: Preference
    # reading
    rounds: ReadRounds
    gate: ReadGate
    eventual: EventualReads
    freshness: Freshness
    confirming: Confirming
    readers: Readers
    # writing
    stamping: Stamping
    proposals: Proposals
    appends: Appends
    arrivals: Arrivals
    visibility: Visibility
    proposing: Proposing
    # snapshots
    transfers: Transfers
    installing: Installing


def wire_raft(
    settings: ReplicaSettings, world: RaftWorld, *, memory: Memory, save: Callable[[Memory], None]
) -> RaftParts:
    """All parts of one replica; ``memory`` and ``save`` are as ``Readmission`` needs them."""
    parts = RaftParts()
    now_s = world.clock()
    machine = Machine(world.state.tables, settings.limits, newest_format=settings.reads)
    entries = world.log.entries
    parts.configurations = Configurations(settings.founding, world.snapshots.newest, entries)
    configuration = parts.configurations.newest
    parts.electorate = Electorate(settings.node_id, configuration.voters, configuration.learners)
    parts.measures = RaftMeasures()
    parts.room = DiskRoom(world.free_bytes, reserve_bytes=settings.disk_reserve_bytes)
    parts.delays = Delays(
        settings.delays,
        peers=parts.electorate.others,
        limit_bytes=settings.window_bytes,
        max_waiting=settings.max_waiting,
    )
    parts.readmission = Readmission(
        parts.electorate,
        memory,
        nonce=world.random.getrandbits(62),
        heartbeat_s=settings.heartbeat_s,
        save=save,
        disk=world.disk_of(settings.node_id),
    )
    parts.divergence = Divergence(parts.electorate, heartbeat_s=settings.heartbeat_s)
    parts.divergence.applied(machine.applied_index, machine.state_hash)
    _wire_core(parts, settings, world, machine.applied_index)
    if parts.electorate.is_alone:
        parts.core.election_deadline_s = now_s
    _wire_books(parts, settings, world, machine.applied_index, now_s)
    parts.stamping = Stamping(
        core=parts.core,
        agreed_time=parts.agreed_time,
        lease_time=LeaseTime(machine.lease_ms, now_s),
        machine=lambda: parts.applied.machine,
        clock=world.clock,
        wall_ms=world.wall_ms,
        all_read=lambda: all(world.reads(peer) >= HISTORY_FORMAT for peer in parts.electorate.other_voters),
    )
    parts.applied = AppliedMachine(
        world.state,
        machine,
        divergence=parts.divergence,
        visibility=parts.visibility,
        freshness=parts.freshness,
        proposals=parts.proposals,
        stamped=parts.stamping.applied,
        clock=world.clock,
        measures=parts.measures,
    )
    _wire_snapshots(parts, settings, world)
    _wire_leadership(parts, settings, world, now_s)
    _wire_writing(parts, settings, world, now_s)
    _wire_reading(parts, settings, world)
    _wire_conversation(parts, world)
    parts.requests = RaftRequests(
        settings=settings,
        electorate=parts.electorate,
        proposals=parts.proposals,
        readers=parts.readers,
        readmission=parts.readmission,
        participation=parts.participation,
        machine=lambda: parts.applied.machine,
        state_path=lambda: str(parts.applied.state.directory),
        reads=world.reads,
        changes=parts.changes,
        clock=world.clock,
        show_sights=world.show_sights,
    )
    _wire_membership(parts, world)
    return parts


def _wire_membership(parts: RaftParts, world: RaftWorld) -> None:
    """Whatever comes into force reaches the engine, the link and all who count, at once."""

    def link() -> None:
        members = [*parts.configurations.newest.members, *[member for member, _ in parts.changes.leaving.values()]]
        _reach(world, members)
        parts.core.set_peers(parts.electorate.other_voters, [*_learners(parts), *parts.changes.leaving])

    def changed() -> None:
        configuration = parts.configurations.newest
        parts.electorate.put(configuration.voters, configuration.learners)
        if parts.configurations.newest_index:
            parts.readmission.configured(configuration)
        link()

    parts.configurations.changed, parts.changes.told = changed, link
    if parts.configurations.newest_index:
        parts.readmission.configured(parts.configurations.newest)
        link()


def _reach(world: RaftWorld, members: Sequence[ConfiguredMember]) -> None:
    """Link to these; where there are none, as before.

    A snapshot of before any change does not say who the members are: a node that was let in and is sent one knows them
    by word alone, until the log has come that far.
    """
    if members:
        world.reach({member.id: member.peer for member in members})


def _learners(parts: RaftParts) -> list[str]:
    electorate = parts.electorate
    return [peer for peer in electorate.others if peer not in electorate.other_voters]


def _wire_core(parts: RaftParts, settings: ReplicaSettings, world: RaftWorld, applied_index: int) -> None:
    """The engine, which calls parts that are made later: only once all are there."""
    link, clock = world.link, world.clock

    def apply(index: int, term: int, entry: bytes) -> None:
        parts.applied.apply(index, term, entry)

    def has_room(peer: str, queued_bytes: int) -> bool:
        if parts.changes.withholds(peer):
            return False
        queued_bytes += parts.delays.leaving(peer).waiting_bytes
        return link.outstanding_bytes(peer) + queued_bytes < settings.window_bytes

    def offer_snapshot(peer: str) -> None:
        parts.transfers.offer(peer, parts.core.term, clock())

    parts.core, parts.transport = wire_engine(
        settings,
        parts.electorate,
        world.log,
        parts.configurations,
        applied_index=applied_index,
        apply=apply,
        counts=lambda: parts.readmission.counts,
        has_room=has_room,
        needs_snapshot=offer_snapshot,
        clock=clock,
        wall_ms=world.wall_ms,
    )


def _wire_books(
    parts: RaftParts, settings: ReplicaSettings, world: RaftWorld, applied_index: int, now_s: float
) -> None:
    """What only keeps account: it sends nothing, and knows at most one other."""
    electorate, random = parts.electorate, world.random
    timeout_s, max_waiting = settings.election_timeout_s, settings.max_waiting
    parts.elections = Elections(electorate=electorate, election_timeout_s=timeout_s, started_at_s=now_s, random=random)
    parts.agreed_time = AgreedTime(electorate)
    parts.rounds = ReadRounds(
        electorate,
        election_timeout_s=timeout_s,
        drift_bound=settings.clock_drift_bound,
        heartbeat_s=settings.heartbeat_s,
    )
    parts.gate = ReadGate(
        parts.rounds, first_number=random.getrandbits(32), max_waiting=max_waiting, ask=parts.transport.post
    )
    parts.proposals = Proposals(
        electorate, origin=random.getrandbits(63) + 1, max_waiting=max_waiting, measures=parts.measures
    )
    parts.eventual = EventualReads(first_number=random.getrandbits(32), max_waiting=max_waiting)
    parts.freshness = Freshness(life=random.getrandbits(62), started_at_s=now_s, shown_index=applied_index)
    parts.visibility = Visibility(parts.core, parts.readmission, applied_index)


def _wire_snapshots(parts: RaftParts, settings: ReplicaSettings, world: RaftWorld) -> None:
    state = world.state
    parts.transfers = Transfers(
        snapshots=world.snapshots,
        log=world.log,
        configurations=parts.configurations,
        entries_between=settings.snapshot_entries,
        log_bytes=settings.snapshot_log_bytes,
        trailing_entries=settings.trailing_entries,
        match_indexes=parts.core.match_indexes,
        post=parts.transport.post,
        state_directory=lambda: state.directory,
        fresh_directory=state.fresh_directory,
        has_room=lambda: parts.room.spares(world.log.segment_bytes),
        measures=parts.measures,
    )
    parts.installing = Installing(
        configurations=parts.configurations,
        core=parts.core,
        outgoing=parts.transport,
        log=world.log,
        transfers=parts.transfers,
        applied=parts.applied,
        proposals=parts.proposals,
    )


def _wire_leadership(parts: RaftParts, settings: ReplicaSettings, world: RaftWorld, now_s: float) -> None:
    """Who takes part, who leads, and what another leader changes."""

    def turn_away(refusal: Refused) -> None:
        parts.proposals.abandon(refusal)
        parts.gate.abandon(refusal, but_ready=False)
        parts.eventual.abandon(refusal)

    parts.appends = Appends(
        electorate=parts.electorate,
        core=parts.core,
        proposals=parts.proposals,
        outgoing=parts.transport,
        visibility=parts.visibility,
        clock=world.clock,
        stamp_ms=parts.stamping.stamp_ms,
    )
    parts.participation = Participation(
        electorate=parts.electorate,
        core=parts.core,
        outgoing=parts.transport,
        rounds=parts.rounds,
        readmission=parts.readmission,
        divergence=parts.divergence,
        turn_away=turn_away,
    )
    parts.voting = Voting(
        electorate=parts.electorate,
        core=parts.core,
        ballots=parts.transport,
        outgoing=parts.transport,
        elections=parts.elections,
        rounds=parts.rounds,
        agreed_time=parts.agreed_time,
        readmission=parts.readmission,
        room=parts.room,
        election_timeout_s=settings.election_timeout_s,
    )
    parts.handover = Handover(
        electorate=parts.electorate,
        core=parts.core,
        outgoing=parts.transport,
        room=parts.room,
        election_timeout_s=settings.election_timeout_s,
        held_bytes=settings.largest_command_bytes,
        forswear=parts.rounds.forswear,
    )
    parts.preference = Preference(
        is_preferred=settings.preferred_leader == settings.node_id,
        electorate=parts.electorate,
        core=parts.core,
        outgoing=parts.transport,
        handover=parts.handover,
        readmission=parts.readmission,
        room=parts.room,
        reads=world.reads,
        election_timeout_s=settings.election_timeout_s,
    )
    parts.changes = MemberChanges(
        electorate=parts.electorate,
        core=parts.core,
        configurations=parts.configurations,
        outgoing=parts.transport,
        handover=parts.handover,
        reads=world.reads,
        disk_of=world.disk_of,
        election_timeout_s=settings.election_timeout_s,
        heartbeat_s=settings.heartbeat_s,
    )
    parts.following = Following(
        core=parts.core,
        elections=parts.elections,
        outgoing=parts.transport,
        election_timeout_s=settings.election_timeout_s,
        started_at_s=now_s,
        on_change=(
            parts.proposals.release,
            parts.appends.forget,
            parts.visibility.forget,
            parts.transport.forget_notices,
            parts.transfers.stop_sending,
        ),
        measures=parts.measures,
    )


def _wire_writing(parts: RaftParts, settings: ReplicaSettings, world: RaftWorld, now_s: float) -> None:
    parts.arrivals = Arrivals(
        engine=parts.transport,
        elections=parts.elections,
        delays=parts.delays,
        room=parts.room,
    )
    parts.proposing = Proposing(
        settings=settings,
        electorate=parts.electorate,
        core=parts.core,
        outgoing=parts.transport,
        proposals=parts.proposals,
        appends=parts.appends,
        visibility=parts.visibility,
        following=parts.following,
        handover=parts.handover,
        room=parts.room,
        machine=lambda: parts.applied.machine,
        stamp_ms=parts.stamping.stamp_ms,
        adoption=settings.adoption,
        reads=world.reads,
        expiry_checked_at_s=now_s,
    )


def _wire_reading(parts: RaftParts, settings: ReplicaSettings, world: RaftWorld) -> None:
    parts.readers = Readers(
        settings=settings,
        electorate=parts.electorate,
        core=parts.core,
        outgoing=parts.transport,
        gate=parts.gate,
        eventual=parts.eventual,
        delays=parts.delays,
        freshness=parts.freshness,
        readmission=parts.readmission,
        state=world.state,
        usual_r=lambda: parts.applied.machine.sizes[0],
        rights=lambda: parts.applied.machine.rights,
        clock=world.clock,
    )
    parts.confirming = Confirming(
        electorate=parts.electorate,
        core=parts.core,
        outgoing=parts.transport,
        rounds=parts.rounds,
        gate=parts.gate,
        eventual=parts.eventual,
        freshness=parts.freshness,
        vouching=Vouching(heartbeat_s=settings.heartbeat_s),
        elections=parts.elections,
        following=parts.following,
        handover=parts.handover,
        agreed_time=parts.agreed_time,
        readmission=parts.readmission,
        room=parts.room,
        wall_ms=world.wall_ms,
    )


def _wire_conversation(parts: RaftParts, world: RaftWorld) -> None:
    """Who takes which messages, and who hears of connections, in this order."""
    clock, transfers = world.clock, parts.transfers
    parts.conversation = RaftConversation(
        (
            parts.transport,
            parts.participation,
            parts.changes,
            parts.voting,
            parts.preference,
            parts.confirming,
            parts.freshness,
            parts.readers,
            parts.arrivals,
            parts.proposing,
            parts.visibility,
            parts.installing,
        ),
        core=parts.core,
        participation=parts.participation,
        on_up=parts.transport.link_up,
        on_down=(
            parts.transport.link_down,
            lambda peer: transfers.link_down(peer, clock()),
            parts.visibility.lost,
            parts.delays.link_down,
            parts.handover.lost,
            parts.preference.lost,
            parts.divergence.lost,
            parts.proposing.lost,
            parts.changes.lost,
        ),
        link=world.link,
        clock=clock,
    )
