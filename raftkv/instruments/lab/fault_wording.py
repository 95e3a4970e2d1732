"""Faults in words, for people: as short as a label on a picture. Pure. Imports ``lab.faults`` only."""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.instruments.lab.faults import (
    AnyFault,
    Delay,
    Destroy,
    FullDisk,
    Kill,
    Loss,
    Mute,
    Partition,
    Pause,
    SlowClock,
    Throttle,
    WallClock,
)


def in_words(fault: AnyFault) -> str:  # noqa: C901, PLR0911  one line for each kind
    """What ``fault`` does, and to whom."""
    match fault:
        case Partition(groups=groups):
            return "partition " + " | ".join(_named(group) for group in groups)
        case Mute(senders=senders, receivers=receivers):
            return f"{_named(receivers)} cannot hear {_named(senders)}"
        case Kill(nodes=nodes):
            return f"kill -9 {_named(nodes)}"
        case Destroy(nodes=nodes):
            return f"disk of {_named(nodes)} lost"
        case Pause(nodes=nodes):
            return f"pause {_named(nodes)}"
        case Delay(nodes=nodes, delay_s=delay_s):
            return f"{delay_s * 1000:g} ms to and from {_named(nodes)}"
        case Throttle(nodes=nodes, bytes_per_s=bytes_per_s):
            return f"{_named(nodes)} sends {bytes_per_s / 1000:g} kB/s"
        case Loss(nodes=nodes, share=share):
            return f"{share:.0%} of packets to {_named(nodes)} lost"
        case WallClock(nodes=nodes, offset_s=offset_s):
            return f"clock of {_named(nodes)} {abs(offset_s):g} s {'ahead' if offset_s > 0 else 'behind'}"
        case SlowClock(nodes=nodes, rate=rate):
            return f"clock of {_named(nodes)} at {rate:.0%} of its speed"
        case FullDisk(nodes=nodes):
            return f"disk of {_named(nodes)} full"


def _named(nodes: Sequence[str]) -> str:
    return " ".join(nodes)
