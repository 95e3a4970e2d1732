"""May this node stamp, and if not, why: what is asked before a write, told in the status, and logged once it lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.process.loggers import get_logger
from raftkv.quorum.cluster_time import ClusterTime
from raftkv.quorum.data.upkeep import Upkeep
from raftkv.quorum.data.versions import HybridClock
from raftkv.quorum.settings import QuorumSettings

UNTIMELY_S: Final = 1.0
"""How long nothing is stamped before it is logged: a node that starts needs a moment to hear the others' clocks."""

log_line = get_logger("raftkv.quorum")


class Timeliness:
    """What agreed time allows this node to do."""

    def __init__(
        self,
        settings: QuorumSettings,
        *,
        time: ClusterTime,
        stamps: HybridClock,
        upkeep: Upkeep,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._time = time
        self._stamps = stamps
        self._upkeep = upkeep
        self._clock = clock
        self._told = "", clock(), False

    @property
    def is_in_service(self) -> bool:
        """Is the data here known not to be too old to be let back?"""
        return self._upkeep.is_in_service(self._clock())

    def look(self, now_s: float) -> None:
        """Log it when nothing has been stamped for a while, and why, and when it is again."""
        fault = self.fault
        # How far ahead stamps are changes all the time; that they are is what is told, once.
        kind, (known, since_s, is_told) = fault.partition(":")[0], self._told
        if kind != known:
            self._told = kind, now_s, False
            if is_told and not kind:
                log_line.warning("writes are stamped again")
        elif kind and not is_told and now_s - since_s >= UNTIMELY_S:
            self._told = kind, since_s, True
            log_line.warning("nothing is stamped", reason=fault)

    @property
    def fault(self) -> str:
        """Why this node may not stamp now; empty when it may."""
        if self._time.fault:
            return self._time.fault
        if not self.is_in_service:
            return "no agreed time: whether the data here is too old depends on clocks that were not heard yet"
        if self._has_run_ahead:
            lead_s, limit_s = self._time.lead_s(self._stamps.last), self._settings.clock_ahead_s
            return (
                f"stamps ahead of the agreed time: by {lead_s:.0f} s, which is more than quorum.clock_ahead_s "
                f"({limit_s:g}), since a majority of clocks was wrong; set it higher on all nodes until that time has "
                "passed, or wait"
            )
        return ""

    @property
    def _has_run_ahead(self) -> bool:
        """Would what is stamped here be further ahead of agreed time than others take?"""
        return self._time.lead_s(self._stamps.last) > self._settings.clock_ahead_s
