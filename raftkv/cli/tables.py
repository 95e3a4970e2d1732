"""A table on standard output: lines to a terminal, plain columns to a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

Row = tuple[tuple[str, ...], str]
"""The cells, and the style that a terminal gives them."""


def print_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print ``rows`` under ``columns``."""
    if not sys.stdout.isatty():
        lines = [tuple(columns), *(cells for cells, _ in rows)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
        for line in lines:
            padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            sys.stdout.write("  ".join(padded).rstrip() + "\n")
        return
    from rich.console import Console  # noqa: PLC0415  only a terminal pays for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table()
    for name in columns:
        table.add_column(name)
    for cells, style in rows:
        table.add_row(*[Text(cell, style) for cell in cells])
    Console().print(table)
