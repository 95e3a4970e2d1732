"""A log as its tests open and fill it."""

import random

from raftkv.instruments.sim.raft import LOG_DIRECTORY
from raftkv.storage.log.log import Log

SEGMENT_BYTES = 2048


def open_log(disk):
    return Log.open(disk, LOG_DIRECTORY, segment_bytes=SEGMENT_BYTES, random_bytes=random.Random(7).randbytes)


def append_and_flush(log, value, flushed, count):
    """Append ``value`` again and again, each flushed and then noted in ``flushed``."""
    for index in range(1, count + 1):
        log.append(value, index, 1)
        log.flush()
        flushed.append((value, index, 1))
