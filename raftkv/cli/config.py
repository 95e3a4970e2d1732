"""``raftkv config``: look at a configuration before a node is started with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from raftkv.cli import exits
from raftkv.cli.output import printable

COLOURS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


@click.group(short_help="Check a configuration, or show it.")
def config() -> None:
    """Look at a configuration before a node is started with it."""


@config.command("check", short_help="Say all that a start would find wrong.")
@click.argument("file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--id", "node_id", envvar="RAFTKV_ID", help="Check the addresses and names of this node alone.")
def check(file: Path | None, node_id: str | None) -> int:
    """Say all that a start with CONFIG and the environment would find wrong here. Creates nothing.

    One line for each finding. Exit status: 0, or 2 if a node would not start.
    """
    from raftkv.launch.inspection import inspect  # noqa: PLC0415  commands load what they use

    failed = False
    for finding in inspect(file, node_id):
        failed |= finding.level == "error"
        click.echo(f"{click.style(f'{finding.level:<8}', fg=COLOURS[finding.level])} {printable(finding.text)}")
    return exits.USAGE if failed else exits.DONE


@config.command("show", short_help="Show every key and where its value comes from.")
@click.argument("file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
def show(file: Path | None) -> int:
    """Show the configuration in force: CONFIG, the environment over it, defaults. What is shown is TOML again."""
    from raftkv.launch.settings import settings  # noqa: PLC0415  commands load what they use

    section = ""
    for setting in settings(file, os.environ):
        if setting.section != section:
            click.echo(setting.section if not section else f"\n{setting.section}")
            section = setting.section
        click.echo(f"{f'{setting.key} = {printable(setting.value)}':<42} # {printable(setting.source)}")
    return exits.DONE
