"""What a curve is made of: measured points, kept in a file between runs, and the panels that show them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.surroundings import Surroundings

Numbers = dict[str, float]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: ``numbers`` by name, and the machine's load average of a minute when it ended."""

    numbers: Numbers
    load_average_1m: float


class Point(msgspec.Struct, kw_only=True):
    """All turns of one system at one place of a curve; ``what`` is the scenario, where there are several."""

    curve: str
    what: str
    system: str
    x: float
    turns: list[Turn] = []

    def median(self, number: str) -> float:
        """Of the turns that have this number."""
        return statistics.median(self.values(number))

    def values(self, number: str) -> list[float]:
        """Of all turns that have it."""
        return [turn.numbers[number] for turn in self.turns if number in turn.numbers]


class Curves(msgspec.Struct, kw_only=True):
    """All that was measured, as stored: a run goes on where the last one ended."""

    surroundings: list[Surroundings] = []
    points: list[Point] = []

    def point(self, curve: str, what: str, system: str, x: float) -> Point:
        """The point there, a new one if need be."""
        for point in self.points:
            if (point.curve, point.what, point.system, point.x) == (curve, what, system, x):
                return point
        self.points.append(Point(curve=curve, what=what, system=system, x=x))
        return self.points[-1]

    def of(self, curve: str, what: str, number: str) -> dict[str, list[Point]]:
        """The points that have ``number``, by system, in order."""
        found: dict[str, list[Point]] = {}
        for point in sorted(self.points, key=lambda point: point.x):
            if (point.curve, point.what) == (curve, what) and point.values(number):
                found.setdefault(point.system, []).append(point)
        return found


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One graph: a number of one scenario over the curve's x."""

    what: str
    number: str
    title: str


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One picture: ``xs`` are where it is measured, ``rows`` its panels."""

    name: str
    title: str
    x_title: str
    xs: tuple[float, ...]
    rows: tuple[tuple[Panel, ...], ...]


THREE: Final = (("put", "put"), ("get", "linearizable get"), ("local-get", "local get"))


def rates(scenarios: Sequence[tuple[str, str]] = THREE) -> tuple[tuple[Panel, ...], ...]:
    """Operations per second, and what one costs."""
    return (
        tuple(
            [Panel(what=what, number="operations_per_s", title=f"{title}: operations/s") for what, title in scenarios]
        ),
        tuple([Panel(what=what, number="cpu_us", title=f"{title}: CPU us, all nodes") for what, title in scenarios]),
    )


CURVES: Final = {
    curve.name: curve
    for curve in (
        Curve(
            name="connections",
            title="By connections: values of 100 bytes, three nodes",
            x_title="connections",
            xs=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            rows=(*rates(), tuple([Panel(what=w, number="p50_ms", title=f"{t}: p50, ms") for w, t in THREE])),
        ),
        Curve(
            name="values",
            title="By size of values: 32 connections, three nodes",
            x_title="bytes",
            xs=(100, 1000, 10_000, 100_000, 1_000_000),
            rows=rates(),
        ),
        Curve(name="nodes", title="By nodes: 32 connections, 100 bytes", x_title="nodes", xs=(3, 5, 7), rows=rates()),
        Curve(
            name="workers",
            title="By front-end workers of each node (etcd has none): 32 connections, 100 bytes",
            x_title="http.workers",
            xs=(1, 2, 4),
            rows=rates(),
        ),
        Curve(
            name="watchers",
            title="By watchers of the same keys, which 50 puts a second change; three nodes",
            x_title="watchers",
            xs=(3, 30, 300, 1000),
            rows=(
                (
                    Panel(what="watch", number="p50_ms", title="p50 after the acknowledgement, ms"),
                    Panel(what="watch", number="p99_ms", title="p99 after the acknowledgement, ms"),
                    Panel(what="watch", number="event_us", title="CPU us of an event, all nodes"),
                ),
            ),
        ),
        Curve(
            name="keys",
            title="By keys: values of 100 bytes, three nodes",
            x_title="keys",
            xs=(1e3, 1e4, 1e5, 1e6, 1e7),
            rows=(
                (
                    Panel(what="put", number="operations_per_s", title="put, 32 connections: operations/s"),
                    Panel(what="put", number="cpu_us", title="put: CPU us, all nodes"),
                    Panel(what="fill", number="keys_per_s", title="filling: keys/s"),
                ),
                (
                    Panel(what="hold", number="own_mib", title="own memory of a node, MiB"),
                    Panel(what="hold", number="disk_mib", title="disk of a node, MiB"),
                    Panel(what="start", number="seconds", title="all nodes started again: s to a leader"),
                ),
            ),
        ),
    )
}


def load_curves(path: Path) -> Curves:
    """What was stored at ``path``, if anything was."""
    return msgspec.json.decode(path.read_bytes(), type=Curves) if path.exists() else Curves()


def store_curves(curves: Curves, path: Path) -> None:
    """Store it, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(curves), indent=1) + b"\n")
    draft.rename(path)
