"""``raftkv txn``, ``increment``, ``touch`` and ``compact``: changes by what keys hold, their lives, and history."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raftkv.api.values import text_to_json
from raftkv.cli import connection, exits, output
from raftkv.cli.advice import explaining
from raftkv.cli.keys import json_option, key_of, missing, standard_input, to_line
from raftkv.cli.kinds import OPEN_DURATION
from raftkv.cli.survey import survey

if TYPE_CHECKING:
    from raftkv.client import OperationResult


@click.command("txn", short_help="Compare, and do one of two lists of operations.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@json_option
@connection.options
@click.pass_context
def txn(context: click.Context, /, file: Path, *, as_json: bool, **given: Any) -> int:
    """Carry out the transaction in FILE, which is JSON as POST /txn takes it; - is standard input.

    All of "success" is done if everything in "compare" holds, else all of "failure", and then the exit status is 1.
    """
    from raftkv.api.answers import TransactionDone  # noqa: PLC0415  commands load what they use
    from raftkv.client.records import typed  # noqa: PLC0415
    from raftkv.client.transactions import results_of  # noqa: PLC0415

    link = connection.chosen(context, given)
    transaction = _content(file)
    with explaining(lambda: survey(link.patient())):
        content = link.client().transact(transaction)
    done = typed(content, TransactionDone, is_read=False)
    if as_json:
        output.confirm(to_line(content))
    else:
        output.confirm(b"".join(_lines(results_of(done))))
    if done.succeeded:
        return exits.DONE
    exits.complain(f"what is compared does not hold at revision {done.revision}")
    return exits.NOT_FOUND


def _content(file: Path) -> bytes:
    try:
        return standard_input() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None


def _lines(results: Sequence[OperationResult]) -> Iterator[bytes]:
    """One for each operation, and each key that was listed: what was done, to which key, and what came of it."""
    for one in results:
        if one.op == "list":
            yield from [_line(one.op, record.key, _shown(record.value)) for record in one.records]
        else:
            yield _line(one.op, one.key, _told(one))
            yield from _lines(one.results)


def _line(name: str, key: str, told: bytes) -> bytes:
    return b"%s\t%s\t%s\n" % (name.encode(), output.escaped(key_of(key)), told)


def _told(one: OperationResult) -> bytes:
    if one.status not in {200, 201}:
        return b"not found" if one.status == 404 else b"status %d" % one.status
    if one.op == "delete_prefix":
        return b"%d deleted" % one.deleted
    if one.op == "txn":
        return b"succeeded" if one.succeeded else b"failed"
    if one.count is not None:
        return b"%d" % one.count
    return b"OK" if one.value is None else _shown(one.value)


def _shown(value: bytes | None) -> bytes:
    return output.escaped(value or b"")


@click.command(
    "increment",
    short_help="Add to the integer in a key.",
    context_settings={"ignore_unknown_options": True},  # -5 is a number
)
@click.argument("key")
@click.argument("by", metavar="[N]", type=int, default=1)
@click.option("--min", "minimum", type=int, metavar="N", help="Refuse a sum below N.")
@click.option("--max", "maximum", type=int, metavar="N", help="Refuse a sum above N.")
@json_option
@connection.options
@click.pass_context
def increment(context: click.Context, /, key: str, *, by: int, as_json: bool, **given: Any) -> int:
    """Add N (1) to the integer in KEY, 0 if there is no such key, and print the sum. N may be negative."""
    link = connection.chosen(context, given)
    client = link.client()
    with explaining(lambda: survey(link.patient())):
        found = client.increment(key_of(key), by, **given)
    output.confirm(to_line({"key": text_to_json(key), "value": found}) if as_json else b"%d\n" % found)
    return exits.DONE


@click.command("touch", short_help="Let a key live on.")
@click.argument("key")
@click.argument("ttl", type=OPEN_DURATION)
@json_option
@connection.options
@click.pass_context
def touch(context: click.Context, /, key: str, *, ttl: float, as_json: bool, **given: Any) -> int:
    """Let KEY expire after TTL (10, 10s, 5m, 2h, or never) from now on. Its value and revision stay; its lease goes."""
    link = connection.chosen(context, given)
    client = link.client()
    with explaining(lambda: survey(link.patient())):
        is_there = client.touch(key_of(key), None if math.isinf(ttl) else ttl)
    if not is_there:
        return missing(key)
    output.confirm(to_line({"key": text_to_json(key), "ttl": None if math.isinf(ttl) else ttl}) if as_json else b"OK\n")
    return exits.DONE


@click.command("compact", short_help="Forget history.")
@click.argument("revision", metavar="N", type=click.IntRange(min=1))
@json_option
@connection.options
@click.pass_context
def compact(context: click.Context, /, revision: int, *, as_json: bool, **given: Any) -> int:
    """Forget what the store was before revision N."""
    link = connection.chosen(context, given)
    client = link.client(proves=True)
    with explaining(lambda: survey(link.patient())):
        oldest = client.compact(revision)
    output.confirm(to_line({"compacted_revision": oldest}) if as_json else b"OK\n")
    return exits.DONE
