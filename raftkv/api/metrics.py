"""THE list of everything that ``/metrics`` tells: name, kind, what it means, in which mode, by which labels.

The page, ``docs/monitoring.rst``, the dashboard and the alerts are held against it by tests. Names are as Prometheus
wants them: base units, ``_total`` behind what only grows.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]


class Meter(msgspec.Struct, frozen=True):
    """One metric. ``modes`` has "raft" or "quorum" where only one of them has it."""

    name: str
    kind: Kind
    means: str
    labels: tuple[str, ...] = ()
    mode: Literal["raft", "quorum", ""] = ""
    is_occasional: bool = False
    """Does it appear only once there is something to tell?"""


_COUNTER: Final = "counter"
_GAUGE: Final = "gauge"
_HISTOGRAM: Final = "histogram"

_OF_REQUESTS: Final = ("route", "method", "code")
_OF_CALLS: Final = ("method", "code")

_OWN: Final = (
    Meter("raftkv_build_info", _GAUGE, "Always 1; which version of what runs here.", ("version", "python", "mode")),
    # whether it serves
    Meter("raftkv_replica_up", _GAUGE, "Does the replica answer its front-end?"),
    Meter("raftkv_ready", _GAUGE, "Can this node serve writes and reads as they are by default?"),
    Meter("raftkv_can_write", _GAUGE, "Are writes taken, as far as disks are concerned?"),
    Meter("raftkv_has_room", _GAUGE, "Is there room on this node's disk for writes?"),
    Meter("raftkv_cluster_size", _GAUGE, "Replicas that vote."),
    Meter("raftkv_peers_reachable", _GAUGE, "Peers with a live link."),
    Meter("raftkv_disk_free_bytes", _GAUGE, "What is free where the data lies, as of the last look, within a second."),
    Meter("raftkv_disk_reserve_bytes", _GAUGE, "Below so much free, writes that need room are refused."),
    Meter("raftkv_revision", _GAUGE, "The store's revision; without a leader the newest stamp of this node."),
    # requests
    Meter("raftkv_http_requests_total", _COUNTER, "Requests answered.", _OF_REQUESTS),
    Meter(
        "raftkv_http_request_duration_seconds",
        _HISTOGRAM,
        "From the request's head to its answer, of a stream to its first byte.",
        _OF_REQUESTS,
    ),
    Meter("raftkv_grpc_calls_total", _COUNTER, "Calls by gRPC that are over.", _OF_CALLS, is_occasional=True),
    Meter(
        "raftkv_grpc_call_duration_seconds",
        _HISTOGRAM,
        "From a call's head to its end, which of a stream is that of the stream.",
        _OF_CALLS,
        is_occasional=True,
    ),
    Meter("raftkv_http_in_flight", _GAUGE, "Requests being worked on, open streams included."),
    Meter("raftkv_http_streams", _GAUGE, "Open streams."),
    Meter("raftkv_http_streams_ended_total", _COUNTER, "Streams that are over.", ("how",)),
    Meter("raftkv_http_workers", _GAUGE, "Processes of the front-end that answer requests."),
    Meter("raftkv_listeners", _GAUGE, "Who hears of changes: watchers, and who waits."),
    # peers
    Meter("raftkv_peer_reachable", _GAUGE, "Is there a live link to the peer?", ("peer",)),
    Meter("raftkv_peer_outstanding_bytes", _GAUGE, "Sent to the peer and not yet taken by the network.", ("peer",)),
    Meter(
        "raftkv_peer_clock_ahead_seconds",
        _GAUGE,
        "How much later the peer's clock is than this node's; with a leader, only the leader asks.",
        ("peer",),
        is_occasional=True,
    ),
    Meter(
        "raftkv_peer_match_index",
        _GAUGE,
        "Up to which log index the peer is known to hold the leader's log; told by the leader.",
        ("peer",),
        mode="raft",
        is_occasional=True,
    ),
    Meter(
        "raftkv_peer_lag_entries",
        _GAUGE,
        "How many committed entries the peer is not known to hold; told by the leader.",
        ("peer",),
        mode="raft",
        is_occasional=True,
    ),
    Meter("raftkv_peer_hints", _GAUGE, "Writes that this node keeps for the peer.", ("peer",), mode="quorum"),
    # with a leader
    Meter("raftkv_has_leader", _GAUGE, "Does this node know a leader?", mode="raft"),
    Meter("raftkv_is_leader", _GAUGE, "Is this node the leader?", mode="raft"),
    Meter("raftkv_term", _GAUGE, "The term.", mode="raft"),
    Meter("raftkv_commit_index", _GAUGE, "The commit index.", mode="raft"),
    Meter("raftkv_applied_index", _GAUGE, "The applied index.", mode="raft"),
    Meter("raftkv_diverged", _GAUGE, "Did this node stop because its state differs from others'?", mode="raft"),
    Meter("raftkv_leader_changes_total", _COUNTER, "How often this node came to know another leader.", mode="raft"),
    Meter("raftkv_proposals_pending", _GAUGE, "Writes taken by this node and without an outcome.", mode="raft"),
    Meter(
        "raftkv_proposals_failed_total",
        _COUNTER,
        "Writes taken by this node that were not replicated in time, or not for all it knows.",
        mode="raft",
    ),
    Meter(
        "raftkv_proposal_duration_seconds",
        _HISTOGRAM,
        "From the proposal of an entry by this node until it was applied here.",
        mode="raft",
    ),
    Meter(
        "raftkv_log_flush_duration_seconds", _HISTOGRAM, "Writing and syncing a unit of the log (fsync).", mode="raft"
    ),
    Meter("raftkv_apply_duration_seconds", _HISTOGRAM, "Applying one entry to the state.", mode="raft"),
    Meter(
        "raftkv_state_commit_duration_seconds",
        _HISTOGRAM,
        "Making what was applied visible to readers, in one transaction of the state's tables.",
        mode="raft",
    ),
    Meter("raftkv_snapshot_make_duration_seconds", _HISTOGRAM, "Writing a snapshot of the state.", mode="raft"),
    Meter(
        "raftkv_snapshot_install_duration_seconds",
        _HISTOGRAM,
        "From the first piece of a snapshot from the leader until it was in force.",
        mode="raft",
    ),
    Meter("raftkv_snapshot_index", _GAUGE, "What the newest snapshot covers.", mode="raft"),
    Meter("raftkv_log_entries", _GAUGE, "Entries held, those kept behind the newest snapshot included.", mode="raft"),
    Meter("raftkv_log_bytes", _GAUGE, "The bytes of their commands.", mode="raft"),
    Meter("raftkv_keys", _GAUGE, "Keys in the applied state, those of users and locks included.", mode="raft"),
    Meter("raftkv_leases", _GAUGE, "Leases that live.", mode="raft"),
    Meter("raftkv_events", _GAUGE, "Changes of the past that are kept, for who watches or reads it.", mode="raft"),
    Meter("raftkv_state_bytes", _GAUGE, "What the applied state takes up on the disk.", mode="raft"),
    Meter(
        "raftkv_state_hash",
        _GAUGE,
        "52 bits of the hash of the state: equal on nodes with the same raftkv_applied_index.",
        mode="raft",
    ),
    # without one
    Meter("raftkv_hints_pending", _GAUGE, "Writes that this node keeps for others.", mode="quorum"),
    Meter("raftkv_repaired_keys_total", _COUNTER, "Versions that repair brought to this node.", mode="quorum"),
    Meter(
        "raftkv_speculative_reads_total",
        _COUNTER,
        "Reads for which others were asked because the first replicas were late.",
        mode="quorum",
    ),
    Meter("raftkv_operations_running", _GAUGE, "Reads and writes under way at this coordinator.", mode="quorum"),
    Meter(
        "raftkv_short_share_ratio", _GAUGE, "The part of all keys that cannot be read or written now.", mode="quorum"
    ),
    Meter("raftkv_clock_fault", _GAUGE, "Does this node stamp no writes because of the clocks?", mode="quorum"),
    Meter(
        "raftkv_store_commit_duration_seconds",
        _HISTOGRAM,
        "Making a batch of writes durable (fsync of the store's own log).",
        mode="quorum",
    ),
    # scheduled backups
    Meter(
        "raftkv_backup_interval_seconds",
        _GAUGE,
        "How often a backup is made, if there is a schedule.",
        is_occasional=True,
    ),
    Meter(
        "raftkv_backup_last_success_timestamp_seconds",
        _GAUGE,
        "When the newest backup was made of those where this node keeps them, since 1970.",
        is_occasional=True,
    ),
    Meter("raftkv_backup_last_size_bytes", _GAUGE, "How large it is.", is_occasional=True),
    Meter(
        "raftkv_backup_last_duration_seconds",
        _GAUGE,
        "How long it took, proved and put where it is kept, if this node made it since it started.",
        is_occasional=True,
    ),
    Meter("raftkv_backup_failures_total", _COUNTER, "Backups that this node could not make.", is_occasional=True),
    # its processes
    Meter("raftkv_log_lines_dropped_total", _COUNTER, "Lines of the log that nobody took.", ("process",)),
    Meter(
        "raftkv_certificate_end_timestamp_seconds",
        _GAUGE,
        "When the certificate that is shown to clients (http) or peers ends, since 1970.",
        ("certificate",),
        is_occasional=True,
    ),
    Meter("raftkv_process_cpu_seconds_total", _COUNTER, "Processor time used, user and system.", ("process",)),
    Meter(
        "raftkv_process_resident_memory_bytes",
        _GAUGE,
        "Memory held, shared pages counted by each process.",
        ("process",),
    ),
    Meter("raftkv_process_open_fds", _GAUGE, "Open file descriptors.", ("process",)),
    Meter("raftkv_process_max_fds", _GAUGE, "How many there may be in each process.", ("process",)),
    Meter("raftkv_process_start_time_seconds", _GAUGE, "When it was started, since 1970.", ("process",)),
    # the same of all of them together, by the names that any program's dashboards, and etcd's clients, read
    Meter("process_cpu_seconds_total", _COUNTER, "Processor time that all processes of the node used."),
    Meter("process_resident_memory_bytes", _GAUGE, "Memory that they hold, shared pages counted by each of them."),
    Meter("process_open_fds", _GAUGE, "Their open file descriptors."),
    Meter("process_max_fds", _GAUGE, "How many each of them may have at least."),
    Meter("process_start_time_seconds", _GAUGE, "When the first of them was started, since 1970."),
)

ALIASES: Final = {
    "etcd_server_has_leader": "raftkv_has_leader",
    "etcd_server_is_leader": "raftkv_is_leader",
    "etcd_server_leader_changes_seen_total": "raftkv_leader_changes_total",
    "etcd_server_proposals_committed_total": "raftkv_commit_index",
    "etcd_server_proposals_applied_total": "raftkv_applied_index",
    "etcd_server_proposals_pending": "raftkv_proposals_pending",
    "etcd_server_proposals_failed_total": "raftkv_proposals_failed_total",
    "etcd_disk_wal_fsync_duration_seconds": "raftkv_log_flush_duration_seconds",
    "etcd_disk_backend_commit_duration_seconds": "raftkv_state_commit_duration_seconds",
    "etcd_mvcc_db_total_size_in_bytes": "raftkv_state_bytes",
    "etcd_debugging_mvcc_db_total_size_in_bytes": "raftkv_state_bytes",
}
"""What dashboards made for etcd read, where ours says the same; what has no true counterpart here is left out."""


def _alias(name: str, of: Meter) -> Meter:
    kind: Kind = "counter" if name.endswith("_total") else of.kind
    return Meter(name, kind, f"{of.name}, as etcd names it.", mode=of.mode)


METERS: Final[tuple[Meter, ...]] = (
    *_OWN,
    *(_alias(name, of) for name, source in ALIASES.items() for of in _OWN if of.name == source),
)

BY_NAME: Final = {meter.name: meter for meter in METERS}
