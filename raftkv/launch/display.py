"""What ``raftkv up`` shows: plain lines for logs and pipes, a live table on a terminal.

Events go to standard output, what nodes say to standard error. This module must not start or end anything.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from raftkv.launch.supervisor import Display
from raftkv.launch.views import NodeView

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

COLUMNS: Final = ("node", "role", "term", "commit", "applied", "address", "pid")
RING_COLUMNS: Final = ("node", "state", "share", "hints", "moving", "address", "pid")
"""Of a leaderless cluster; hints are the writes that a node keeps for others."""

_RIGHT: Final = frozenset({"term", "commit", "applied", "share", "hints", "pid"})

ROUTINE: Final = " level=info "
"""How a node's log marks what the table and the events tell a person better."""


class PlainDisplay:
    """One line for everything that happens."""

    def event(self, sentence: str) -> None:
        """See ``Display``."""
        sys.stdout.write(f"{sentence}\n")
        sys.stdout.flush()

    def line(self, node_id: str, text: str) -> None:
        """See ``Display``."""
        sys.stderr.write(f"{node_id} | {text}\n")
        sys.stderr.flush()

    def show(self, views: tuple[NodeView, ...]) -> None:
        """See ``Display``: how things stand is not an event."""


class TableDisplay:
    """A table at the foot of the terminal; lines scroll above it, but not the routine of each node's log."""

    def __init__(self, live: Live, title: str, *, has_ring: bool) -> None:
        self._live = live
        self._title = title
        self._has_ring = has_ring
        self._shown: tuple[NodeView, ...] = ()

    def event(self, sentence: str) -> None:
        """See ``Display``."""
        self._live.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def line(self, node_id: str, text: str) -> None:
        """See ``Display``."""
        if ROUTINE in text:
            return
        self._live.console.print(f"{node_id} | {text}", style="dim", markup=False, highlight=False, soft_wrap=True)

    def show(self, views: tuple[NodeView, ...]) -> None:
        """See ``Display``."""
        if views != self._shown:
            self._shown = views
            self._live.update(table(self._title, views, has_ring=self._has_ring), refresh=True)


def table(title: str, views: tuple[NodeView, ...], *, has_ring: bool) -> Table:
    """The nodes as a table; a leaderless cluster ``has_ring``."""
    from rich.table import Table  # noqa: PLC0415  only a terminal pays for it
    from rich.text import Text  # noqa: PLC0415

    # Without a frame it fits 80 columns whatever happens to a node.
    drawn = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        title=title,
        title_justify="left",
        caption="Ctrl-C stops the cluster",
        caption_justify="left",
    )
    for name in RING_COLUMNS if has_ring else COLUMNS:
        drawn.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True)
    for view in views:
        style = "bold green" if view.role == "leader" else "green" if view.is_ready else "yellow"
        if view.is_gone:
            style = "red"
        first, *rest = _ring_cells(view) if has_ring else _leader_cells(view)
        drawn.add_row(view.id, Text(first, style), *rest, view.url, _pid(view))
    return drawn


def _pid(view: NodeView) -> str:
    """Whoever started a node again knows its process; we know only that ours is gone."""
    return str(view.pid) if view.exit_status is None else "-"


def _leader_cells(view: NodeView) -> tuple[str, ...]:
    found = view.status
    if found is None:
        return view.role, "-", "-", "-"
    return view.role, *[str(number) for number in (found.term, found.commit_index, found.applied_index)]


def _ring_cells(view: NodeView) -> tuple[str, ...]:
    found, member = view.status, view.membership
    if found is None or member is None:
        return view.role, "-", "-", "-"
    return member.state or "?", f"{member.share or 0.0:.1%}", str(found.hints_pending or 0), view.moving


@contextlib.contextmanager
def choose_display(cluster: str, *, has_ring: bool) -> Iterator[Display]:
    """The table on a terminal, plain lines otherwise."""
    if not sys.stdout.isatty():
        yield PlainDisplay()
        return
    from rich.console import Console  # noqa: PLC0415  only a terminal pays for it
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(), auto_refresh=False, transient=True) as live:
        yield TableDisplay(live, f"raftkv: {cluster}", has_ring=has_ring)
