"""``raftkv watch``: what changes, line by line, or a command for each revision."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from raftkv.api.values import text_to_json, value_to_json
from raftkv.cli import connection, exits, output
from raftkv.cli.advice import explaining
from raftkv.cli.keys import json_option, key_of, to_line
from raftkv.cli.survey import survey

if TYPE_CHECKING:
    from datetime import datetime

    from raftkv.client import WatchedChange, WatchedRevision
    from raftkv.client.watches import ClientStream
    from raftkv.client.watching import ChangeType


@click.command("watch", short_help="Print what changes, as it does.")
@click.argument("prefix", required=False)
@click.option("--key", metavar="KEY", help="Watch this key alone.")
@click.option("--from", "from_revision", type=click.IntRange(min=1), metavar="N", help="Begin with revision N.")
@click.option("--previous", is_flag=True, help="Show what was there before, too.")
@click.option("--times", is_flag=True, help="Begin each line with the time, by the cluster's clock.")
@click.option("--only", type=click.Choice(["put", "delete"]), help="Only what was put, or deleted.")
@click.option("--exec", "command", metavar="CMD", help="Run CMD for each revision.")
@json_option
@connection.options
@click.pass_context
def watch(
    context: click.Context,
    /,
    prefix: str | None,
    *,
    key: str | None,
    from_revision: int | None,
    previous: bool,
    times: bool,
    only: ChangeType | None,
    command: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Print what changes under PREFIX, or anywhere: revision, put or delete, key and value, with tabs between.

    Ends with Ctrl-C, or when its reader leaves; goes from node to node by itself. --json prints an object for each
    revision; so does --exec give it to CMD, on standard input, with RAFTKV_REVISION in the environment.
    """
    if key is not None and prefix is not None:
        raise click.UsageError("it takes a PREFIX or --key KEY", context)
    link = connection.chosen(context, given)
    client = link.client()
    chosen: dict[str, Any] = {"prefix": prefix or ""} if key is None else {"key": key_of(key)}
    watched = client.watch(from_revision=from_revision, previous=previous, only=only, **chosen)
    environment = {**os.environ, "RAFTKV_SERVERS": ",".join(client.servers)}
    revisions = watched.revisions()
    with explaining(lambda: survey(link.patient())), _until_nobody_reads(revisions):
        for one in revisions:
            if command is not None:
                _run(command, one, environment)
            elif as_json:
                output.write(to_line(_shown(one)))
            else:
                began = _local(one.time) if times else b""
                output.write(b"".join([began + _line(change, previous=previous) for change in one.changes]))
    return exits.DONE


@contextlib.contextmanager
def _until_nobody_reads(revisions: ClientStream[WatchedRevision]) -> Iterator[None]:
    """An end by Ctrl-C, or with the last reader of standard output, is as it should be."""
    threading.Thread(target=_close_without_reader, args=(revisions,), daemon=True).start()
    with revisions, contextlib.suppress(KeyboardInterrupt):
        yield


def _close_without_reader(revisions: ClientStream[WatchedRevision]) -> None:
    """A watch may have nothing to print for days: whether anybody reads shows otherwise only in trying to."""
    gone = select.poll()
    gone.register(1, 0)
    if gone.poll():  # which is told of an error or the other end's going, and nothing else
        revisions.close()


def _local(time: datetime | None) -> bytes:
    """As a clock here shows it."""
    return b"%s\t" % ("-" if time is None else time.astimezone().isoformat(timespec="milliseconds")).encode()


def _line(change: WatchedChange, *, previous: bool) -> bytes:
    fields = [b"%d" % change.revision, change.type.encode(), output.escaped(key_of(change.key))]
    fields += [output.escaped(one or b"") for one in (change.value, *((change.previous,) if previous else ()))]
    return b"\t".join(fields) + b"\n"


def _shown(one: WatchedRevision) -> dict[str, Any]:
    def change(each: WatchedChange) -> dict[str, Any]:
        values = ("value", each.value), ("previous", each.previous)
        shown = {name: None if content is None else value_to_json(content) for name, content in values}
        return {**msgspec.structs.asdict(each), "key": text_to_json(each.key), **shown}

    return {**msgspec.structs.asdict(one), "changes": [change(each) for each in one.changes]}


def _run(command: str, one: WatchedRevision, environment: dict[str, str]) -> None:
    """Run it to its end; that it fails is told, and no reason to miss the next revision."""
    done = subprocess.run(  # noqa: S603  it is what was typed
        ["/bin/sh", "-c", command],
        input=to_line(_shown(one)),
        env={**environment, "RAFTKV_REVISION": str(one.revision)},
        check=False,
    )
    if done.returncode:
        how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        exits.complain(f"revision {one.revision}: the command ended with {how}")
