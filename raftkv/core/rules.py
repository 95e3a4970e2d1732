"""The rules of a cluster as one value: what all of its nodes must share, or they compute and promise other things.

Every key of the configuration is either such a rule or the node's own affair; ``OWN`` says why, and a test holds the
two lists against the configuration. Some rules hold for the life of the cluster: entries and keys lie on the disks that
were made by them. The others may change while no node runs. Either way nodes with different rules do not take part in
one cluster: they compare them when they greet each other (``raftkv.peers.greeting``): the values themselves
and no digest of them, as they are few, and whoever differs is told which. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from raftkv.core.config import ClusterConfig

Rule = str | int | float | bool
"""A rule's value; members are one text, sorted."""

FORMATS: Final = {"formats.hash": 1}
"""What replicas compute and compare. How entries are encoded is no rule: nodes that read more and less stand together,
and say how much when they greet each other."""

ALWAYS: Final = {
    "raft": ("raft.idempotency_window_s", "raft.idempotency_keys"),
    "quorum": ("quorum.vnodes", "quorum.conflicts", "quorum.max_siblings"),
}
"""By mode: for the life of the cluster."""

SIZES: Final = ("http.max_value_bytes", "http.max_key_bytes", "http.max_batch_operations")
"""What one node takes in one message, another must be able to. What one node took from a client, another must let be
read, and must take again: a retry that it refused would be told that nothing happened."""

FIRST_SIZES: Final = ("quorum.n", "quorum.r", "quorum.w")
"""Where a leaderless cluster begins. ``POST /config`` changes what is in force, and gossip carries it; that is no rule.
These stay equal all the same: a node that was away, or has just started, goes by them until it hears of others."""

TOGETHER: Final = {
    # Votes are withheld, and leases end, by the first two.
    "raft": ("raft.election_timeout_s", "raft.clock_drift_bound", *SIZES),
    "quorum": ("quorum.tombstone_grace_s", "quorum.clock_ahead_s", *FIRST_SIZES, *SIZES),
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
    "raft.preferred_leader": "each node says for itself whether it wants to lead; who does makes way for nobody",
    "quorum.sloppy": "a coordinator's choice, which each request may make for itself",
    "raft.seeds": "whom a node asks to be let in",
    "quorum.seeds": "whom a node asks to be let in",
    "quorum.gossip_s": "how often a node speaks",
    "quorum.suspect_after_s": "when a node thinks ill of another",
    "quorum.down_after_s": "likewise",
    "quorum.replica_timeout_s": "how long a coordinator waits",
    "quorum.anti_entropy_s": "how often a node compares",
    "quorum.max_hints": "what a node keeps for others",
    "quorum.transfer_bytes_per_s": "how fast a node sends",
    "quorum.disk_reserve_bytes": "a node's own disk",
    "quorum.rights_validity_s": "for how long a node goes by what it has heard of rights",
    "history.events": "what is in force goes through the log: the leader's; nodes before it greet without such a rule",
    "history.age_s": "likewise",
    "history.size_bytes": "likewise",
    "delays.leader_after_message_s": "how slow a node is made on purpose; any node may be slow",
    "delays.follower_update_s": "likewise",
    "delays.follower_read_s": "likewise",
    "http.workers": "processes of a node",
    "http.tls_cert": "a node's own door",
    "http.tls_key": "likewise",
    "http.tls_ca": "whom a node trusts when it asks another over https",
    "http.tls_client_ca": "whose word a node takes for who a client is; what a user may do is the same at every node",
    "http.max_list_limit": "how long a page a node gives; a longer one is capped, and says where to go on",
    "http.hosts": "by which names clients reach a node",
    "http.request_timeout_s": "how long a node lets a request take that does not say so itself",
    "http.max_pending": "how many requests wait at a node",
    "http.max_connections": "how many clients a node serves",
    "http.max_held_bytes": "a node's own memory",
    "http.console": "whether a node shows its pages",
    "auth.enabled": "what a node insists on before it serves; whether authentication is on is the cluster's state",
    "auth.open_to_anyone": "what a node may be started with; the state is in force all the same",
    "auth.root_password_file": "what the first root user is made of, once; from then on the state has it",
    "auth.token_ttl_s": "how long the tokens are good that a node gives; each says so itself",
    "auth.password_remembered_s": "how seldom a node works out the same password again",
    "auth.max_password_checks": "how much of its processor and memory a node lets passwords take",
    "backup.interval_s": "when a node makes backups, if it is the one that does",
    "backup.directory": "where a node keeps them",
    "backup.node": "which node does, by each one's own file; two make two, and neither harms the other",
    "backup.keep": "how many a node keeps of those that lie where it makes them",
    "backup.keep_s": "likewise",
    "backup.bytes_per_s": "how fast a node makes them",
    "backup.timeout_s": "when a node gives one up",
    "backup.s3_bucket": "where a node keeps them",
    "backup.s3_prefix": "likewise",
    "backup.s3_endpoint": "likewise",
    "log.level": "what a node says",
    "log.format": "likewise",
    "log.access": "likewise",
    "log.otlp": "likewise",
    "etcd.enabled": "what a node answers clients besides",
    "etcd.version": "what it tells them of itself",
    "peers.tls_cert": "how a node shows who it is on a link",
    "peers.tls_key": "likewise",
    "peers.tls_ca": "whom a node trusts on a link; who does not trust each other does not link up",
    "peers.silence_timeout_s": "when a node makes its own link anew",
    "peers.window_bytes": "how much a node sends ahead",
    "node.id": "who a node is; in raft mode all ids together are the rule ``members``",
    "node.http": "where clients reach one node",
    "node.peer": "where peers reach one node",
    "node.http_bind": "where one node listens",
    "node.peer_bind": "likewise",
    "node.etcd": "where clients of etcd reach one node besides",
    "node.etcd_bind": "where one node listens",
    "node.zone": "where one node stands",
}
"""Keys that each node may have its own way, with the reason."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules by name: those ``always`` in force, and those that all running nodes hold ``together``."""

    always: Mapping[str, Rule]
    together: Mapping[str, Rule]

    @property
    def all(self) -> dict[str, Rule]:
        """Every rule."""
        return {**self.always, **self.together}


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
