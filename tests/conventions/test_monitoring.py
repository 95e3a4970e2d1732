"""What the page on monitoring lists is what ``/metrics`` tells, word for word."""

from __future__ import annotations

import re
from pathlib import Path

from raftkv.api.metrics import METERS, Meter

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.rst"
ENTRY = re.compile(
    r"^``(\w+)``: (counter|gauge|histogram)(?: by ([^\n]*?))??(?:, (raft|quorum) mode)?\n((?:   .+\n)+)", re.MULTILINE
)


def told() -> list[Meter]:
    return [
        Meter(name, kind, " ".join(means.split()), tuple(re.findall(r"``(\w+)``", labels)), mode)  # type: ignore[arg-type]
        for name, kind, labels, mode, means in ENTRY.findall(PAGE.read_text())
    ]


def test_the_page_lists_every_metric_and_no_other() -> None:
    listed = [Meter(one.name, one.kind, one.means, one.labels, one.mode) for one in METERS]

    assert told() == listed
    assert len({one.name for one in METERS}) == len(METERS)
