"""Tables and sentences on standard output, as wide as the terminal is; plain columns and whole lines to a pipe."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

from raftkv.cli.output import printable, write

Row = tuple[tuple[str, ...], str]
"""The cells, and the style that a terminal gives them."""


def print_text(text: str) -> None:
    """Print ``text``; a terminal gets it broken between words, what follows a break as far in as its line began."""
    if not sys.stdout.isatty():
        click.echo(text)
        return
    width = shutil.get_terminal_size().columns
    for line in text.split("\n"):
        margin = " " * (len(line) - len(line.lstrip()))
        folded = textwrap.wrap(line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
        click.echo("\n".join(folded))


def print_figures(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows`` of a name and figures, aligned to the right, under ``columns``; a terminal wraps what is long."""
    lines: list[Sequence[str]] = [columns, *rows]
    names, *widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    if not sys.stdout.isatty():
        for name, *figures in lines:
            aligned = [figure.rjust(width) for figure, width in zip(figures, widths, strict=True)]
            click.echo("  ".join([name.ljust(names), *aligned]))
        return
    from rich.console import Console  # noqa: PLC0415  only a terminal pays for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    is_tight = names + sum(width + 2 for width in widths) > console.width
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 1 if is_tight else 2))
    for place, column in enumerate(columns):
        longest_word = max(len(word) for line in lines for word in (line[place].split() or [""]))
        table.add_column(Text(column), justify="right" if place else "left", min_width=longest_word)
    for cells in rows:
        table.add_row(*map(Text, cells))
    console.print(table)


def print_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print ``rows`` under ``columns``; on a terminal too narrow for them cells fold."""
    rows = [(tuple(map(printable, cells)), style) for cells, style in rows]
    lines = [tuple(columns), *(cells for cells, _ in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    if not sys.stdout.isatty():
        for line in lines:
            padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            write(("  ".join(padded).rstrip() + "\n").encode())
        return
    from rich.console import Console  # noqa: PLC0415  only a terminal pays for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    is_tight = sum(widths) + 2 * (len(widths) - 1) > console.width
    table = Table(box=None, pad_edge=False, padding=(0, 1 if is_tight else 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    for cells, style in rows:
        table.add_row(*[Text(cell, style) for cell in cells])
    console.print(table)
