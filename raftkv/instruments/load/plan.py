"""What one run does to a cluster: values that are checked once, and the presets of reference 4. Pure."""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.errors import UsageError

VALUE_BYTES_MIN: Final = 48
"""A value names its run and the number of its write, so that a read can tell how old it is."""

KEYS_MAX: Final = 10_000_000
OPERATIONS_MAX: Final = 20_000_000
"""Then the clients stop: what is remembered of each write, 16 bytes, must fit the memory."""

CLIENTS_MAX: Final = 10_000


class LoadError(Exception):
    """A run could not be made; the message is for a person."""


class Distribution(enum.StrEnum):
    """Which keys are asked for."""

    UNIFORM = "uniform"
    ZIPFIAN = "zipfian"
    LOCAL_IN_TIME = "local-in-time"


class Ratio(msgspec.Struct, frozen=True):
    """So many writes to so many reads."""

    writes: int
    reads: int

    def __str__(self) -> str:
        return f"{self.writes}/{self.reads}"

    @property
    def write_share(self) -> float:
        """The share of writes, 0 to 1."""
        return self.writes / (self.writes + self.reads)


RATIOS: Final = (Ratio(1, 99), Ratio(10, 90), Ratio(50, 50), Ratio(90, 10))
"""Those of reference 4."""


def parse_ratio(text: str) -> Ratio:
    """Read ``WRITES/READS``, in percent; raises ``UsageError`` with a reason."""
    writes, slash, reads = text.partition("/")
    if not (slash and writes.isdecimal() and reads.isdecimal() and len(text) <= 20 and int(writes) + int(reads) == 100):
        raise UsageError(f"{text!r} is not a ratio of writes to reads, two numbers of 100 together like 10/90")
    return Ratio(int(writes), int(reads))


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The same plan draws the same operations, keys and nodes again; only what depends on time differs.

    Without ``rate_per_s`` the loop is closed. ``consistency``, ``r`` (reads) and ``w`` (writes) are sent as they are;
    empty means the cluster's own. ``exponent`` belongs to the zipfian distribution. ``fill`` writes every key once
    before anything is measured, and without ``keep`` what the run wrote is deleted when it ends. ``timeout_s`` is also
    the servers' deadline.
    """

    ratio: Ratio = RATIOS[1]
    clients: Annotated[int, Meta(ge=1, le=CLIENTS_MAX)] = 32
    rate_per_s: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    seconds: Annotated[float, Meta(gt=0, le=86_400)] = 10.0
    warm_up_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0
    keys: Annotated[int, Meta(ge=1, le=KEYS_MAX)] = 1000
    distribution: Distribution = Distribution.UNIFORM
    exponent: Annotated[float, Meta(gt=0, le=10)] = 0.99
    value_bytes: Annotated[int, Meta(ge=VALUE_BYTES_MIN, le=16 << 20)] = 100
    consistency: str = ""
    r: str = ""
    w: str = ""
    seed: int = 1
    fill: bool = True
    keep: bool = False
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
