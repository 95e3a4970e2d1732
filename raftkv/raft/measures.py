"""What a raft replica measures while it works, part by part; see ``raftkv.core.measures``."""

from __future__ import annotations

from raftkv.core.measures import DurationCounts, Durations


class RaftMeasures:
    """Who does the work observes it here."""

    def __init__(self) -> None:
        self.log_flush = Durations()
        self.proposal = Durations()
        """From this node's proposal of an entry until it was applied here."""

        self.apply = Durations()
        self.state_commit = Durations()
        self.snapshot_make = Durations()
        self.snapshot_install = Durations()
        self.leader_changes_count = 0
        self.failed_writes_count = 0

    @property
    def durations(self) -> dict[str, DurationCounts]:
        """All that was timed, by the names of the metrics."""
        return {f"{name}_duration_seconds": timed.so_far for name, timed in vars(self).items() if _is_timed(timed)}


def _is_timed(measure: object) -> bool:
    return isinstance(measure, Durations)
