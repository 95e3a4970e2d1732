"""Which parts a replica of the leaderless mode has, and who gets whom. Nothing is decided here.

Chance is drawn in the order of these lines: a simulated run is the same again only as long as that stays.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterable
from typing import NamedTuple

from raftkv.core.sights import SightsShower, nothing_seen
from raftkv.core.status import QuorumStatus
from raftkv.formats import quorum_messages
from raftkv.formats.commands import CALLERS_FORMAT
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.conversation import QuorumConversation
from raftkv.quorum.coordination.coordination import Coordination
from raftkv.quorum.coordination.operations import Dispatch
from raftkv.quorum.coordination.speculation import Speculation
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.upkeep import Upkeep
from raftkv.quorum.data.versions import CONFLICTS, HybridClock
from raftkv.quorum.delivery import Delivery
from raftkv.quorum.membership.changes import RightsChanges
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.membership.rights import SharedRights
from raftkv.quorum.outbox import Outbox, QuorumLink
from raftkv.quorum.repair.anti_entropy import AntiEntropy
from raftkv.quorum.repair.handoff import Handoff
from raftkv.quorum.requests import QuorumRequests
from raftkv.quorum.sampling import Sampling
from raftkv.quorum.serving.local import Local
from raftkv.quorum.serving.serving import Serving
from raftkv.quorum.settings import QuorumSettings
from raftkv.quorum.timeliness import Timeliness
from raftkv.quorum.timers import Timers


class QuorumWorld(NamedTuple):
    """What a replica stands on, and where time, chance and room come from."""

    store: Store
    link: QuorumLink
    clock: Callable[[], float]
    wall_us: Callable[[], int]
    free_bytes: Callable[[], int]
    random: random_module.Random
    reads: Callable[[str], int]
    """Tells the newest format of commands that a peer is known to read: who reads that of callers judges rights."""
    speaks: Callable[[str], int] = lambda _peer: 0
    """Tells the newest protocol that both speak; 0 for one that was not met."""

    store_path: str = ""
    show_sights: SightsShower = nothing_seen


class QuorumParts:
    """What one replica consists of, each part once; ``wire_quorum`` makes them in the order of what they need."""

    timers: Timers
    sampling: Sampling
    outbox: Outbox
    placement: Placement
    conversation: QuorumConversation
    time: ClusterTime
    stamps: HybridClock
    upkeep: Upkeep
    timeliness: Timeliness
    members: Members
    rights: SharedRights
    changes: RightsChanges
    intake: Intake
    serving: Serving
    speculation: Speculation
    coordination: Coordination
    handoff: Handoff
    local: Local
    anti_entropy: AntiEntropy
    delivery: Delivery
    requests: QuorumRequests


def wire_quorum(
    settings: QuorumSettings,
    own: MemberEntry,
    configured: Iterable[MemberEntry],
    world: QuorumWorld,
    *,
    status: Callable[[], QuorumStatus],
) -> QuorumParts:
    """All parts of one replica. Raises ``StartupError`` when the data here is too old to be let back."""
    parts, now_s = QuorumParts(), world.clock()
    parts.timers = Timers()
    parts.sampling = Sampling(clock=world.clock, wall_us=world.wall_us)
    parts.outbox = Outbox(settings.node_id, world.link)
    _wire_ways_in(parts, settings, world)
    _wire_time(parts, settings, world)
    parts.members = Members(
        settings,
        own,
        tuple(configured),
        placement=parts.placement,
        store=world.store,
        outbox=parts.outbox,
        link=world.link,
        is_up=parts.conversation.is_up,
        now_s=now_s,
        random=world.random,
    )
    parts.rights = SharedRights(
        node_id=settings.node_id,
        store=world.store,
        outbox=parts.outbox,
        members=lambda: parts.members.ids,
        is_up=parts.conversation.is_up,
        reads=world.reads,
        has_its_data=lambda: parts.members.can_read,
        has_lost_data=lambda: parts.members.has_lost_data,
        is_founder=world.store.is_unproven and own.phase is Phase.UP,
        clock=world.clock,
        is_too_far_ahead=parts.stamps.is_too_far_ahead,
        gossip_s=settings.gossip_s,
        validity_s=settings.rights_validity_s,
    )
    parts.changes = RightsChanges(
        shared=parts.rights,
        timers=parts.timers,
        random=world.random,
        next_stamp=parts.stamps.next,
        fault=lambda: "" if parts.timeliness.is_in_service else parts.timeliness.fault or "not in service",
    )
    dispatch = _wire_data(parts, settings, world)
    parts.coordination = Coordination(dispatch)
    parts.handoff = Handoff(dispatch, world.store)
    parts.anti_entropy = AntiEntropy(
        settings,
        placement=parts.placement,
        members=parts.members,
        store=world.store,
        intake=parts.intake,
        outbox=parts.outbox,
        new_id=dispatch.new_id,
        is_up=parts.conversation.is_up,
        sampling=parts.sampling,
        now_s=now_s,
    )
    _wire_inside(parts, settings, world, status)
    # Who is alone has heard a majority of the clocks before anybody can ask.
    parts.time.work(now_s)
    parts.upkeep.let_in(now_s)
    return parts


def _wire_ways_in(parts: QuorumParts, settings: QuorumSettings, world: QuorumWorld) -> None:
    """Who is asked and heard; what is called before it is there is called when all is there."""

    def take(node: str, message: quorum_messages.Message) -> None:
        parts.delivery.take(node, message)

    def changed(peer: str, *, up: bool) -> None:
        parts.delivery.link_changed(peer, up=up)

    def is_usable(node: str) -> bool:
        return parts.delivery.is_usable(node)

    parts.placement = Placement(settings.vnodes, is_usable=is_usable)
    parts.conversation = QuorumConversation(
        world.link, take=take, changed=changed, now_s=world.clock, silence_s=settings.silence_s
    )


def _wire_time(parts: QuorumParts, settings: QuorumSettings, world: QuorumWorld) -> None:
    parts.time = ClusterTime(
        settings,
        members=lambda: parts.members.ids,
        outbox=parts.outbox,
        now_s=world.clock,
        wall_us=world.wall_us,
        is_up=parts.conversation.is_up,
    )
    parts.stamps = HybridClock(world.store.clock_mark, parts.time.now_us, limit_us=parts.time.limit_us)
    parts.upkeep = Upkeep(
        settings, store=world.store, stamps=parts.stamps, time=parts.time, free_bytes=world.free_bytes
    )
    parts.timeliness = Timeliness(
        settings, time=parts.time, stamps=parts.stamps, upkeep=parts.upkeep, clock=world.clock
    )


def _wire_data(parts: QuorumParts, settings: QuorumSettings, world: QuorumWorld) -> Dispatch:
    """What is kept here and served to others, and how others are asked for theirs."""
    store, random, conflicts, now_ms = world.store, world.random, CONFLICTS[settings.conflicts], parts.time.now_ms
    actor = store.actor(settings.node_id, lambda: f"{random.getrandbits(64):016x}")
    parts.intake = Intake(settings, store=store, clock=parts.stamps, room=parts.upkeep)
    parts.serving = Serving(
        settings=settings,
        store=store,
        intake=parts.intake,
        clock=parts.stamps,
        conflicts=conflicts,
        outbox=parts.outbox,
        timers=parts.timers,
        now_s=world.clock,
        now_ms=now_ms,
        actor=actor,
        can_read=lambda: parts.members.can_read,
        rights=lambda: parts.rights.rights,
        tell_rights=parts.rights.tell,
    )
    parts.local = Local(
        settings.node_id, store=store, intake=parts.intake, clock=parts.stamps, conflicts=conflicts, now_ms=now_ms
    )
    parts.speculation = Speculation(settings.silence_s)
    return Dispatch(
        settings=settings,
        placement=parts.placement,
        outbox=parts.outbox,
        timers=parts.timers,
        clock=parts.stamps,
        conflicts=conflicts,
        now_s=world.clock,
        now_ms=now_ms,
        last_id=random.getrandbits(62) + 1,
        unanswered=parts.conversation.unanswered,
        fetch_own=parts.serving.fetched,
        can_fetch_own=lambda: parts.timeliness.is_in_service and parts.members.can_read,
        speculation=parts.speculation,
        judges=lambda node: node == settings.node_id or world.reads(node) >= CALLERS_FORMAT,
        sampling=parts.sampling,
    )


def _wire_inside(
    parts: QuorumParts, settings: QuorumSettings, world: QuorumWorld, status: Callable[[], QuorumStatus]
) -> None:
    """From what comes in, of peers and of clients, to the parts that it concerns."""
    parts.delivery = Delivery(
        settings=settings,
        conversation=parts.conversation,
        outbox=parts.outbox,
        link=world.link,
        timeliness=parts.timeliness,
        serving=parts.serving,
        coordination=parts.coordination,
        anti_entropy=parts.anti_entropy,
        handoff=parts.handoff,
        members=parts.members,
        rights=parts.rights,
        time=parts.time,
        upkeep=parts.upkeep,
        clock=world.clock,
    )
    parts.requests = QuorumRequests(
        settings=settings,
        coordination=parts.coordination,
        local=parts.local,
        anti_entropy=parts.anti_entropy,
        members=parts.members,
        rights=parts.rights,
        changes=parts.changes,
        placement=parts.placement,
        timeliness=parts.timeliness,
        stamps=parts.stamps,
        store_path=world.store_path,
        status=status,
        clock=world.clock,
        show_sights=world.show_sights,
        speaks=world.speaks,
    )
