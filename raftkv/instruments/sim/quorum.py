"""Leaderless replicas for the simulator: the real ones, on its clock, network and disk.

What a replica's engine holds is in memory and kept by the machine; its commits go through the machine's virtual disk
one step each, so that the disk may fail, fill up, or stop the machine before or after any of them. A machine that is
no member runs nothing, until an operator lets it join.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.requests import Request
from raftkv.core.rules import Rule
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.formats.rights import Document
from raftkv.formats.versions import KeyState
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.machines import SimulatedMachine
from raftkv.instruments.sim.mistakes import Copy
from raftkv.instruments.sim.nemesis import StruckMode
from raftkv.instruments.sim.plan import Plan
from raftkv.instruments.sim.promises import check_replicas
from raftkv.instruments.sim.quorum_clients import QuorumClients
from raftkv.instruments.sim.quorum_engine import SimulatedEngine
from raftkv.instruments.sim.quorum_plan import AHEAD_S, QuorumPlan
from raftkv.instruments.sim.quorum_plan import draw as draw_quorum
from raftkv.instruments.sim.rights_history import RightsHistory
from raftkv.peers.greeting import Greeter
from raftkv.quorum.assembly import QuorumWorld
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.membership.gossip import CHANGING
from raftkv.quorum.membership.members import remembered_members
from raftkv.quorum.membership.rights import SharedRights
from raftkv.quorum.membership.ring import position
from raftkv.quorum.replica import QuorumReplica
from raftkv.quorum.settings import QuorumSettings

LOOK_PACES: Final = 0.2
"""How often it is looked whether all replicas are level; it takes long."""


class Kept(msgspec.Struct):
    """What a machine keeps through the lives of its processes: its engine, and the members it is configured with.

    Without ``configured`` it is no member. ``turned_away`` are those that it was configured with when it was told that
    it had been removed, which may have been old news.
    """

    engine: SimulatedEngine
    configured: tuple[MemberEntry, ...] = ()
    losses: int = 0
    turned_away: tuple[MemberEntry, ...] = ()


class SimulatedQuorum(QuorumReplica):
    """The real replica, and what is looked at from outside."""

    name: str

    @property
    def store(self) -> Store:
        """What it holds."""
        return self._store

    @property
    def entries(self) -> dict[str, MemberEntry]:
        """What it knows of the members."""
        return self.parts.members._membership.entries  # noqa: SLF001

    @property
    def view(self) -> str:
        """By which rings it places keys."""
        return self.parts.placement.view

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, R and W as it knows them."""
        return self.parts.members.sizes

    def owners(self, key: bytes) -> tuple[str, ...]:
        """Who is to hold ``key``, as far as it knows."""
        ring = self.parts.placement.reading
        assert ring is not None
        return ring.preference(position(key), self.sizes[0])[: self.sizes[0]]

    @property
    def repaired_count(self) -> int:
        """How many versions repair has brought to it."""
        return self.status().repaired_keys

    def contents(self) -> dict[bytes, KeyState]:
        """All keys and states that it holds durably."""
        return dict(self._store.scan(b"", None))


class Absent:
    """Runs on a machine that is no member: nothing."""

    sent_ahead = False

    @property
    def conversation(self) -> Absent:
        """See ``Process``."""
        return self

    def link_up(self, peer: str) -> None:
        """See ``LinkEvents``."""

    def link_down(self, peer: str) -> None:
        """See ``LinkEvents``."""

    def received(self, peer: str, payload: bytes) -> None:
        """See ``LinkEvents``."""

    def submit(self, _request: Request, _deadline_s: float) -> Pending:
        """See ``Process``."""
        pending = Pending()
        pending.resolve(Refused(code=Code.QUORUM_UNREACHABLE, detail="nobody is there"))
        return pending

    def begin_work(self, now_s: float) -> None:
        """See ``Process``."""

    def finish_work(self, now_s: float) -> float:
        """See ``Process``."""
        return now_s + 60.0


class QuorumPort:
    """``QuorumLink`` of the leaderless mode: the network connects everybody, and members ignore who is none."""

    def __init__(self, greeter: Greeter) -> None:
        self.send = greeter.send
        self.flush = greeter.flush
        self.outstanding_bytes = greeter.outstanding_bytes
        self.close_peer = greeter.close_peer

    def set_members(self, addresses: dict[str, str]) -> None:
        """See ``QuorumLink``."""


def quorum_settings(**changes: Any) -> QuorumSettings:
    """Settings that suit a simulation; ``node_id`` is put in for each machine."""
    settings = QuorumSettings(
        node_id="",
        n=3,
        r=2,
        w=2,
        vnodes=4,
        conflicts="lww",
        sloppy=True,
        gossip_s=0.3,
        suspect_after_s=2.0,
        down_after_s=8.0,
        replica_timeout_s=0.2,
        anti_entropy_s=0.5,
        tombstone_grace_s=86_400.0,
        max_hints=10_000,
        transfer_bytes_per_s=1 << 30,
        clock_ahead_s=60.0,
        max_siblings=64,
        disk_reserve_bytes=0,
        window_bytes=1 << 20,
        max_waiting=10_000,
    )
    return msgspec.structs.replace(settings, **changes)


class QuorumMode(StruckMode):
    """Makes leaderless replicas; ``members`` are those of the beginning, by default all machines.

    The nemesis empties no disks here: what was acknowledged may be lost with one, so this mode's plan says when
    (``lose_disk``). It flips and adds no rows: RocksDB checks its blocks, and replicas compare and join all they hold.
    """

    def __init__(
        self, settings: QuorumSettings, *, members: tuple[str, ...] = (), plan: QuorumPlan | None = None
    ) -> None:
        self.settings = settings
        self.members_first = members
        self._plan = plan
        self.rights = RightsHistory()
        self.rights.validity_s = settings.rights_validity_s
        self._looked_s = float("-inf")
        self._pace_s = 0.0
        self.rules: Mapping[str, Rule] = {
            "quorum.vnodes": settings.vnodes,
            "quorum.conflicts": settings.conflicts,
            "quorum.clock_ahead_s": settings.clock_ahead_s,
            "quorum.n": settings.n,
            "quorum.r": settings.r,
            "quorum.w": settings.w,
        }
        others: dict[str, Rule] = {
            "quorum.vnodes": settings.vnodes + 1,
            "quorum.conflicts": "siblings" if settings.conflicts == "lww" else "lww",
            "quorum.clock_ahead_s": 2 * settings.clock_ahead_s,
            "quorum.n": settings.n + 1,
        }
        if settings.n > 1:
            others |= {
                "quorum.r": settings.r % settings.n + 1,
                "quorum.w": settings.w % settings.n + 1,
            }
        self.other_rules: Mapping[str, Rule] = others

    def attach(self, cluster: SimulatedCluster) -> None:
        """See ``Mode``."""
        self.cluster = cluster
        first = self.members_first or tuple(cluster.machines)
        entries = tuple(entry_of(name) for name in first)
        for machine in cluster.machines.values():
            machine.keeps = Kept(SimulatedEngine(machine), entries if machine.name in first else ())
            machine.rules = dict(self.rules)

    def make(self, machine: SimulatedMachine, port: Greeter) -> SimulatedQuorum | Absent:
        """See ``Mode``."""
        kept: Kept = machine.keeps
        if not kept.configured:
            return Absent()
        kept.engine.begin_life()
        ruled = {name.removeprefix("quorum."): value for name, value in machine.rules.items()}
        settings = msgspec.structs.replace(self.settings, node_id=machine.name, **ruled)
        store = Store(kept.engine, CONFLICTS[settings.conflicts], max_siblings=settings.max_siblings)
        remembered = remembered_members(store)
        if remembered is not None and self._was_removed(machine.name):
            kept.configured, kept.turned_away = (), kept.configured
            return Absent()
        own = next(entry for entry in kept.configured if entry.id == machine.name)
        replica = SimulatedQuorum(
            settings,
            msgspec.structs.replace(own, generation=machine.wall_us() // 1000),
            kept.configured,
            QuorumWorld(
                store=store,
                link=QuorumPort(port),
                clock=machine.now_s,
                wall_us=machine.wall_us,
                free_bytes=machine.free_bytes,
                random=random_module.Random(machine.random.getrandbits(64)),
                reads=port.reads,
                speaks=port.speaks,
            ),
            misfits=port.misfits,
        )
        replica.name = machine.name
        self._watch(machine.name, replica.parts.rights)
        return replica

    def _watch(self, node: str, shared: SharedRights) -> None:
        """Hear of every document of rights that is judged by, the one that the disk had at the start to begin with."""
        self.rights.began(node, tuple(shared.rows.values()), self.cluster.now_s)
        take = shared.take

        def watched(document: Document) -> None:
            self.rights.taken(node, document, self.cluster.now_s)
            take(document)

        shared.take = watched  # type: ignore[method-assign]

    def _was_removed(self, name: str) -> bool:
        """What a node that starts asks of those that run (``raftkv.joining``).

        Any of them may answer; a node that is refused by one who has not heard yet that it was let in again is
        started once more by whoever looks after it.
        """
        phases = {entry.phase for replica in self.replicas() if (entry := replica.entries.get(name)) is not None}
        return phases == {Phase.LEFT}

    def replicas(self) -> list[SimulatedQuorum]:
        """Those that run."""
        working = [machine.process for machine in self.cluster.machines.values() if machine.is_working]
        return [process for process in working if isinstance(process, SimulatedQuorum)]

    def members(self) -> list[str]:
        """The machines that are to run a replica, whether they do or not."""
        return [name for name, machine in self.cluster.machines.items() if machine.keeps.configured]

    # --- operators

    def let_in(self, name: str, members: tuple[MemberEntry, ...]) -> None:
        """Start ``name``, which joins with an empty disk, as ``members`` tell it."""
        machine = self.cluster.machines[name]
        losses = machine.keeps.losses + bool(machine.keeps.configured)  # perhaps it was a member after all
        machine.keeps, machine.identity = Kept(SimulatedEngine(machine), members, losses), None
        machine.rules = dict(self.rules)
        if machine.process is not None:
            machine.end()
        machine.start()

    def lose_disk(self, name: str) -> None:
        """The machine stops, and starts with an empty disk and the members as somebody else knows them."""
        others = [replica for replica in self.replicas() if replica.name != name]
        if not others:
            return
        entries = tuple(entry_of(entry.id) for entry in others[0].entries.values() if entry.phase is not Phase.LEFT)
        machine = self.cluster.machines[name]
        if name not in {entry.id for entry in entries} or not isinstance(machine.process, SimulatedQuorum):
            return
        self.cluster.note(name, "loses its disk")
        machine.end(power=True)
        machine.keeps = Kept(SimulatedEngine(machine), entries, machine.keeps.losses + 1)
        machine.identity, machine.rules = None, dict(self.rules)

    def copied(self, machine: SimulatedMachine) -> Kept:
        """See ``MendingMode``."""
        kept: Kept = machine.keeps
        return Kept(kept.engine.copied(), kept.configured, kept.losses)

    def can_lose(self, name: str) -> bool:
        """See ``MendingMode``: so many losses as the plan allows, of members."""
        assert self._plan is not None
        running = {replica.name: replica for replica in self.replicas()}
        is_member = name in running and running[name].entries[name].phase is Phase.UP and not self.is_changing
        return is_member and len(running) > 1 and self.losses < self._plan.losses

    def put_back(self, name: str, copy: Copy) -> None:
        """See ``MendingMode``: the configuration is not on that disk, and stays."""
        machine = self.cluster.machines[name]
        machine.keeps = Kept(copy.keeps.engine, machine.keeps.configured, machine.keeps.losses + 1)

    def begin_anew(self, name: str) -> None:
        """See ``MendingMode``: with the members as somebody else knows them, or as the copy did."""
        machine = self.cluster.machines[name]
        entries, losses = machine.keeps.configured, machine.keeps.losses
        for other in [replica for replica in self.replicas() if replica.name != name][:1]:
            phases = {entry.id: entry.phase for entry in other.entries.values() if entry.phase is not Phase.LEFT}
            entries = tuple([entry_of(one) for one in phases]) if name in phases else ()
        machine.keeps = Kept(SimulatedEngine(machine), entries, losses)

    def set_clocks(self) -> None:
        """All clocks are set ahead together, as by a time server that is wrong, or right again."""
        machines = self.cluster.machines.values()
        offset_s = 0.0 if all(machine.wall_offset_s == AHEAD_S for machine in machines) else AHEAD_S
        for machine in machines:
            machine.wall_offset_s = offset_s
        self.cluster.note("op", f"sets all clocks {offset_s:+g} s off")

    def strangers(self, via: str) -> list[str]:
        """The machines that are no members, as far as ``via`` knows; a process may still be saying farewell there."""
        replica = self.cluster.machines[via].process
        assert isinstance(replica, SimulatedQuorum)
        members = {entry.id for entry in replica.entries.values() if entry.phase is not Phase.LEFT}
        return [name for name in self.cluster.machines if name not in members]

    @property
    def is_changing(self) -> bool:
        """Does anybody know of a member on its way in or out?"""
        entries = [entry for replica in self.replicas() for entry in replica.entries.values()]
        return any(entry.phase in CHANGING for entry in entries)

    @property
    def losses(self) -> int:
        """How many disks were lost."""
        return sum(machine.keeps.losses for machine in self.cluster.machines.values())

    # --- what a whole run asks for

    def clients(self, cluster: SimulatedCluster, plan: Plan) -> QuorumClients:
        """See ``SimulatedMode``."""
        assert self._plan is not None
        self._pace_s = plan.pace_s
        self._clients = QuorumClients(cluster, plan, self._plan, self)
        return self._clients

    def useful(self) -> tuple[str, ...]:
        """See ``SimulatedMode``: the members, but for those that have left and are only saying so."""
        running = self.replicas()
        return tuple(one.name for one in running if one.entries[one.name].phase is not Phase.LEFT)

    def is_level(self) -> bool:
        """See ``SimulatedMode``."""
        if self.cluster.now_s - self._looked_s < LOOK_PACES * self._pace_s:
            return False
        self._looked_s = self.cluster.now_s
        self._start_again()
        unlevel = check_replicas(self.replicas())
        if unlevel:
            self.cluster.transcript.describe(self.cluster.now_s, "sim", f"is not level yet: {unlevel}")
        return not unlevel

    def _start_again(self) -> None:
        """Whoever looks after a node that was turned away by old news starts it once more: the others have heard."""
        for machine in self.cluster.machines.values():
            kept: Kept = machine.keeps
            if not kept.turned_away or not isinstance(machine.process, Absent):
                continue
            entries = [replica.entries.get(machine.name) for replica in self.replicas()]
            if any(entry is not None and entry.phase is not Phase.LEFT for entry in entries):
                kept.configured, kept.turned_away = kept.turned_away, ()
                machine.end()
                machine.start()

    def check_end(self) -> None:
        """See ``SimulatedMode``."""
        unlevel = check_replicas(self.replicas())
        assert not unlevel, unlevel
        self._clients.check_end()

    def counts(self) -> Counter[str]:
        """See ``SimulatedMode``."""
        found = Counter(self._clients.events)
        found["disks lost"] = self.losses
        for machine in self.cluster.machines.values():
            found["lives"] += machine.lives_count
        for replica in self.replicas():
            found["keys repaired"] += replica.repaired_count
        return found


def entry_of(name: str, phase: Phase = Phase.UP) -> MemberEntry:
    """The member of that name, as a configuration has it."""
    return MemberEntry(name, f"{name}:1", f"{name}:2", phase=phase)


def drawn(plan: Plan) -> QuorumMode:
    """The mode of one seed's run: what concerns the leaderless mode is drawn in ``quorum_plan``."""
    quorum = draw_quorum(plan)
    return QuorumMode(quorum_settings(**quorum.settings), members=plan.names[: quorum.members], plan=quorum)
