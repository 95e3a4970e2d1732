"""The dashboard and the alerts in ``packaging`` speak of metrics, and labels of metrics, that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftkv.api.metrics import BY_NAME, Meter

PACKAGING = Path(__file__).parents[2] / "packaging"
ALERTS = PACKAGING / "prometheus" / "alerts.yml"
DASHBOARD = PACKAGING / "grafana" / "raftkv.json"
PROMTOOL = shutil.which("promtool")

SELECTOR = re.compile(r"\b((?:raftkv|process|etcd)_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?")
OF_THE_SCRAPE = {"job", "instance"}
"""Labels that Prometheus gives."""


def expressions() -> Iterator[str]:
    """Every expression of both."""
    text = ALERTS.read_text()
    # An expression is one line, or what is indented below ">-".
    for one, folded in re.findall(r"^ +expr: (?:([^>\n].*)|>-\n((?:          .*\n)+))", text, re.MULTILINE):
        yield one or folded
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def meter_of(name: str) -> tuple[Meter | None, str]:
    """The metric of a series, and what its name says beyond that."""
    for suffix in ("", "_bucket", "_count", "_sum"):
        meter = BY_NAME.get(name.removesuffix(suffix))
        if meter is not None and (meter.kind == "histogram") == bool(suffix):
            return meter, suffix
    return None, ""


def test_every_series_that_is_asked_for_is_one_that_nodes_tell() -> None:
    found = [(name, labels) for text in expressions() for name, labels in SELECTOR.findall(text)]

    assert len({name for name, _ in found}) > 35
    for name, labels in found:
        if name == "up":  # Prometheus' own
            continue
        meter, suffix = meter_of(name)
        assert meter is not None, name
        allowed = {*meter.labels, *OF_THE_SCRAPE, *({"le"} if suffix == "_bucket" else ())}
        assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", labels)) <= allowed, (name, labels)


def test_counters_are_never_read_without_a_rate_and_gauges_never_with_one() -> None:
    for text in expressions():
        for function, name in re.findall(r"(?:(rate|increase)\()?\b((?:raftkv|process)_[a-z0-9_]+)\b", text):
            meter, _ = meter_of(name)
            assert meter is not None
            grows = meter.kind in {"counter", "histogram"} or meter.name == "raftkv_commit_index"
            assert bool(function) <= grows, text
            assert meter.kind == "gauge" or function, text


def test_what_labels_words_speak_of_their_series_have() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            by = re.search(r"^(?:max|sum|count) by \(([^)]*)\)|sum by \(([^)]*), le\)", target["expr"])
            if by is not None:
                kept = set((by[1] or by[2]).split(", "))
            else:
                name = SELECTOR.search(target["expr"])
                assert name is not None
                meter, _ = meter_of(name[1])
                assert meter is not None
                kept = {*meter.labels, *OF_THE_SCRAPE}
            assert wanted <= kept or not wanted, target


def test_panels_lie_beside_each_other_and_have_ids_of_their_own() -> None:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]])
def test_prometheus_own_tool_takes_the_alerts_and_they_do_what_they_are_for(command: list[str]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *command], cwd=ALERTS.parent, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
