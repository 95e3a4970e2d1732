"""A simulated leaderless cluster as scenarios are written against it: ask a node, look at what another holds."""

from __future__ import annotations

from raftkv.core.requests import AddMember, Consistency, Delete, Get, Placing, Put, Read, Write
from raftkv.core.results import KeyRecord, MembersChanged, Siblings
from raftkv.formats.gossip import Phase
from raftkv.instruments.sim.quorum import QuorumMode, entry_of, quorum_settings
from tests.simulation.scenario import Scenario

KEYS = [b"key %d" % number for number in range(20)]


def placing(**chosen):
    return Placing(**chosen) if chosen else None


class Leaderless(Scenario):
    """``size`` machines, of which the first ``members`` begin; connected and told of each other.

    ``rules`` are those that a machine has otherwise than the others, by its name.
    """

    def __init__(self, size=3, *, members=0, seed=0, flush_s=0.0, rules=None, **settings):
        names = [f"n{number}" for number in range(1, size + 1)]
        self.mode = QuorumMode(quorum_settings(**settings), members=tuple(names[: members or size]))
        super().__init__(names, self.mode, seed=seed, flush_s=flush_s, begins=False)
        for name, others in (rules or {}).items():
            self.machines[name].rules |= others
        self.begin()
        self.run(0.5)

    def replica(self, name):
        return self.machines[name].process

    def lose_disk(self, name):
        """``name`` starts again with an empty disk."""
        self.mode.lose_disk(name)
        self.restart(name)

    def written(self, key, value, *, w=0, **more):
        return Write(operations=(Put(key=key, value=value),), acks=w, placing=placing(**more))

    def put(self, node, key, value, *, w=0, **more):
        return self.ask(node, self.written(key, value, w=w, **more))

    def delete(self, node, key, *, w=0, **more):
        return self.ask(node, Write(operations=(Delete(key=key),), acks=w, placing=placing(**more)))

    def read(self, node, key, *, r=0, **more):
        return self.ask(node, Read(query=Get(key=key), consistency=Consistency.EVENTUAL, r=r, placing=placing(**more)))

    def get(self, node, key, *, r=0, **more):
        """The value, the values, or ``None``."""
        content = self.read(node, key, r=r, **more).content
        if isinstance(content, Siblings):
            return [record.value for record in content.records]
        return content.value if isinstance(content, KeyRecord) else None

    def held(self, name):
        """The newest value of each key that ``name`` holds; ``None`` for a tombstone."""
        return {key: state.versions[-1].value for key, state in self.replica(name).contents().items()}

    def run_until_level(self, limit_s=60.0):
        self.run_until(self.mode.is_level, limit_s)


def joining(cluster, *names, via):
    """``names`` are let in by ``via``, then started."""
    told = {}
    for name in names:
        outcome = cluster.ask(via, AddMember(id=name, http=f"{name}:1", peer=f"{name}:2"))
        assert isinstance(outcome, MembersChanged)
        told[name] = [entry_of(one.id, Phase.JOINING if one.id == name else Phase.UP) for one in outcome.members]
    for name, members in told.items():
        cluster.mode.let_in(name, tuple(members))
