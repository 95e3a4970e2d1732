"""The rules of a cluster as one value: what all of its nodes must share, or they compute and promise other things.

Every key of the configuration is either such a rule or the node's own affair; ``OWN`` says why, and a test holds the
two lists against the configuration. Some rules hold for the life of the cluster: entries and keys lie on the disks that
were made by them. The others may change while no node runs. Either way nodes with different rules do not take part in
one cluster: they compare them when they greet each other (``raftkv.peers.greeting``). Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from raftkv.core.config import ClusterConfig

Rule = str | int | float | bool
"""A rule's value; members are one text, sorted."""

FORMATS: Final = {"formats.command": 1, "formats.hash": 1}
"""How entries are encoded and what replicas compute from them: nodes that differ here are of different versions."""

ALWAYS: Final = {
    "raft": ("raft.idempotency_window_s", "raft.idempotency_keys"),
    "quorum": ("quorum.vnodes", "quorum.conflicts", "quorum.max_siblings"),
}
"""By mode: for the life of the cluster."""

TOGETHER: Final = {
    # Votes are withheld, and leases end, by these; what one node takes in one message, another must be able to.
    "raft": ("raft.election_timeout_s", "raft.clock_drift_bound", "http.max_value_bytes"),
    "quorum": ("quorum.tombstone_grace_s", "quorum.clock_ahead_s", "http.max_value_bytes", "http.max_key_bytes"),
}
"""By mode: equal on all nodes that run, changed while none does."""

NAMED: Final = ("cluster.name", "cluster.mode")
MEMBERS: Final = "members"
"""In raft mode the ids of all nodes; a leaderless cluster changes its members as it runs."""

OWN: Final = {
    "cluster.data_dir": "where a node keeps its data",
    "cluster.secret_file": "where the secret lies; the secret itself is proven",
    "raft.heartbeat_s": "a leader's habit; followers only wait longer",
    "raft.snapshot_entries": "when a node compacts its own log",
    "raft.snapshot_log_bytes": "likewise",
    "raft.trailing_entries": "likewise",
    "raft.segment_bytes": "files of a node",
    "raft.disk_reserve_bytes": "a node's own disk",
    "quorum.n": "where a cluster begins; POST /config changes it, and gossip carries it",
    "quorum.r": "likewise",
    "quorum.w": "likewise",
    "quorum.sloppy": "a coordinator's choice, which each request may make for itself",
    "quorum.seeds": "whom a node asks to be let in",
    "quorum.gossip_s": "how often a node speaks",
    "quorum.suspect_after_s": "when a node thinks ill of another",
    "quorum.down_after_s": "likewise",
    "quorum.replica_timeout_s": "how long a coordinator waits",
    "quorum.anti_entropy_s": "how often a node compares",
    "quorum.max_hints": "what a node keeps for others",
    "quorum.transfer_bytes_per_s": "how fast a node sends",
    "quorum.disk_reserve_bytes": "a node's own disk",
}
"""Keys that each node may have its own way, with the reason. All of ``[delays]``, ``[peers]`` and ``[http]`` that is no
rule is about a node's own doors and links, and every ``[[node]]`` is about one node."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules by name: those ``always`` in force, and those that all running nodes hold ``together``."""

    always: Mapping[str, Rule]
    together: Mapping[str, Rule]

    @property
    def all(self) -> dict[str, Rule]:
        """Every rule."""
        return {**self.always, **self.together}

    @property
    def digest(self) -> str:
        """Equal for equal rules: 16 hexadecimal digits of BLAKE2b over all of them, sorted."""
        text = msgspec.json.encode(sorted(self.all.items()))
        return hashlib.blake2b(text, digest_size=8).hexdigest()


def rules_of(config: ClusterConfig) -> Rules:
    """The rules that ``config`` sets."""
    mode = config.cluster.mode

    def value(name: str) -> Rule:
        section, key = name.split(".")
        found: Rule = getattr(getattr(config, section), key)
        return found

    always: dict[str, Rule] = {**FORMATS, **{name: value(name) for name in (*NAMED, *ALWAYS[mode])}}
    if mode == "raft":
        always[MEMBERS] = "+".join(sorted(node.id for node in config.node))
    return Rules(always=always, together={name: value(name) for name in TOGETHER[mode]})


def differences(theirs: Mapping[str, Rule], ours: Mapping[str, Rule]) -> str:
    """The rules that differ, with both values; empty if none does. One that a side does not know differs as well."""
    names = [name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]
    return ", ".join(f"{name} {theirs.get(name, 'unknown')} (here {ours.get(name, 'unknown')})" for name in names)
