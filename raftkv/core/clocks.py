"""The clock by which what is left of a lease is counted: it goes on while the machine sleeps, as clusters do.

All processes of a machine share it.
"""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def lease_now_s() -> float:
        """Seconds, from some time on; those of a suspended machine count."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

elif sys.platform == "darwin":

    def lease_now_s() -> float:
        """Seconds, from some time on; those of a suspended machine count."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

else:
    lease_now_s = time.monotonic
