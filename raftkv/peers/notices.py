"""One log line where a stranger could cause thousands: each kind of notice is written at most once per interval.

What a notice is about comes from a fixed set (events and reasons of ours, ids of members), never from what a stranger
sent, so the table of notices stays small. Imports its logger and nothing else.
"""

from __future__ import annotations

from raftkv.process.loggers import get_logger

NOTICE_INTERVAL_S = 10.0

_log = get_logger("raftkv.peers")


class Notices:
    """Rate-limited log lines of one link."""

    def __init__(self) -> None:
        self._next_s: dict[tuple[str, str, str | None], float] = {}
        self._suppressed: dict[tuple[str, str, str | None], int] = {}

    def warn(self, event: str, *, reason: str, peer: str | None, now_s: float, **details: str) -> None:
        """Log ``event`` with its reason, unless the same was logged within the interval; counts what it left out.

        ``details`` are of this one time, and may be anything.
        """
        key = (event, reason, peer)
        if now_s < self._next_s.get(key, now_s):
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return
        self._next_s[key] = now_s + NOTICE_INTERVAL_S
        _log.warning(event, reason=reason, peer=peer, **details, suppressed=self._suppressed.pop(key, 0))
