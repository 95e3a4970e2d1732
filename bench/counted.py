"""``python -m bench.counted``: what a put and a get cost each layer, counted in one process, beside what was recorded.

The counts are those of ``bench.counting``, for one request of a round of ten (``bench.rounds``): the same on every
machine, under every load. The default tests fail where one is above ``limits.json`` by more than the margin.
``--record`` writes what is counted now, after a change that is worth its cost, or that saves some; its commit says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import msgspec
import structlog
from rich.console import Console
from rich.table import Table

from bench import layers, rounds
from bench.counting import Counted

LIMITS: Final = Path(__file__).with_name("limits.json")
MARGIN: Final = 0.10
LEAST: Final = 0.03
"""So much more is no finding in any layer: some forty instructions."""

CALLS_MARGIN: Final = 0.05


def recorded() -> dict[str, Counted]:
    """What ``limits.json`` says."""
    return msgspec.json.decode(LIMITS.read_bytes(), type=dict[str, Counted])


def record(counted: Mapping[str, Counted]) -> None:
    """Let ``limits.json`` say this."""
    found = {
        what: Counted(layers=_rounded(one.layers, 3), calls=_rounded(one.calls, 1)) for what, one in counted.items()
    }
    LIMITS.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _rounded(numbers: Mapping[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in sorted(numbers.items()) if round(value, digits)}


def over(counted: Mapping[str, Counted], limits: Mapping[str, Counted]) -> list[str]:
    """What costs more than the limits allow: a line for each, the largest growth first."""
    found: list[tuple[float, str]] = []
    for what, now in counted.items():
        then = limits.get(what, Counted(layers={}, calls={}))
        for layer, cost in now.layers.items():
            known = then.layers.get(layer, 0.0)
            if cost > known * (1 + MARGIN) + LEAST:
                found.append((cost - known, f"{what}: layer {layer} costs {cost:.2f}, recorded is {known:.2f}"))
        for kind, count in now.calls.items():
            known = then.calls.get(kind, 0.0)
            if count > known + CALLS_MARGIN:
                found.append((count - known, f"{what}: {count:.1f} {kind}, recorded are {known:.1f}"))
    return [line for _, line in sorted(found, reverse=True)]


def table(counted: Mapping[str, Counted], limits: Mapping[str, Counted]) -> Table:
    """A line for each layer; what was recorded stands behind a count that differs."""
    found = Table(title="of one request: instructions by layer, as multiples of a plain piece of code; calls")
    found.add_column("layer")
    for what in counted:
        found.add_column(what.replace(", ", "\n"), justify="right")
    for layer in layers.TOLD:
        cells = [_cell(one.layers.get(layer, 0), limits.get(what), layer) for what, one in counted.items()]
        if any(cells):
            found.add_row(layer, *cells)
    found.add_section()
    totals = [sum(one.layers.values()) for one in counted.values()]
    found.add_row("all", *[f"{total:.2f}" for total in totals], style="bold")
    for kind in dict.fromkeys(kind for one in counted.values() for kind in one.calls):
        found.add_row(kind, *[f"{one.calls[kind]:.1f}" for one in counted.values()])
    return found


def _cell(cost: float, limit: Counted | None, layer: str) -> str:
    known = 0.0 if limit is None else limit.layers.get(layer, 0.0)
    if round(cost, 2) == round(known, 2) == 0:
        return ""
    return f"{cost:.2f}" if abs(cost - known) < 0.005 else f"{cost:.2f} ({known:.2f})"


@click.command()
@click.option("--record", "is_recording", is_flag=True, help="Make what is counted now the limits.")
def main(*, is_recording: bool) -> None:
    """Count what a put and a get cost each layer, and tell what costs more than was recorded."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    counted = rounds.count()
    console = Console(highlight=False)
    console.print(table(counted, recorded() if LIMITS.exists() else {}))
    if is_recording:
        record(counted)
        return
    lines = over(counted, recorded())
    for line in lines:
        console.print(line, style="red", markup=False)
    if lines:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
