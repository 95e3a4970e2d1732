"""``raftkv get``, ``set``, ``delete`` and ``list``: thin over the client. Output is bytes, so values stay exact."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from raftkv.api import paths
from raftkv.api.values import text_to_json, value_to_json
from raftkv.cli import connection, exits, output
from raftkv.cli.advice import explaining
from raftkv.cli.kinds import DURATION, MOMENT, REPLICAS
from raftkv.cli.survey import survey
from raftkv.process import descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from raftkv.client import Record
    from raftkv.client.arguments import Consistency

CONSISTENCIES: Final = ("linearizable", "lease", "eventual", "local")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
advance_option = click.option(
    "--advance",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many revisions to pass over.  [default: 1000000]",
)
consistency_option = click.option("--consistency", type=click.Choice(CONSISTENCIES), help="What the read promises.")
w_option = click.option(
    "--w", "acks", type=REPLICAS, metavar="leader|majority|all|N", help="How many replicas must hold the write."
)
r_option = click.option("--r", type=click.IntRange(min=1), metavar="N", help="How many replicas must answer.")
n_option = click.option("--n", type=click.IntRange(min=1), metavar="N", help="How many replicas the key has.")
sloppy_option = click.option(
    "--sloppy/--strict", default=None, help="May other nodes stand in for replicas that cannot be reached?"
)
context_option = click.option(
    "--context", "causal", default="", metavar="TEXT", help="What get said that the writer has seen; it is replaced."
)
revision_option = click.option(
    "--revision", type=click.IntRange(min=1), metavar="N", help="As it stood at revision N of the store."
)
at_option = click.option(
    "--at", type=MOMENT, metavar="TIME", help="As it stood 1h or 5m ago, or at 15:00, 2026-07-01T15:00, ..."
)
if_revision_option = click.option(
    "--if-revision", type=click.IntRange(min=0), metavar="N", help="Only if the key stands at revision N."
)


@click.command("get", short_help="Print the value of a key.")
@click.argument("key")
@click.option("--raw", is_flag=True, help="Print the value's bytes and nothing else, not even a line's end.")
@click.option("--replicas", "side_by_side", is_flag=True, help="What each node holds of it, without a leader.")
@json_option
@revision_option
@at_option
@consistency_option
@r_option
@n_option
@sloppy_option
@connection.options
@click.pass_context
def get(context: click.Context, /, key: str, *, raw: bool, side_by_side: bool, as_json: bool, **given: Any) -> int:
    """Print the value of KEY. When it has several (siblings): all of them, one on a line, and the exit status is 1."""
    from raftkv.client.errors import SiblingsFound  # noqa: PLC0415  commands load what they use

    _check_moment(context, given["revision"], given["at"])
    link = connection.chosen(context, given)
    if side_by_side and (raw or any(one is not None for one in given.values())):
        raise click.UsageError("--replicas asks every node what it has, and takes no other choices", context)
    client = link.client()
    if side_by_side:
        with explaining(lambda: survey(link.patient())):
            told = client.ask("GET", paths.filled(paths.RING_KEY, key_of(key)))
        return _print_replicas(key, told, as_json=as_json)
    try:
        with explaining(lambda: survey(link.patient())):
            record = client.get_record(key_of(key), **given) if as_json else None
            value = None if as_json else client.get(key_of(key), **given)
    except SiblingsFound as found:
        return _print_siblings(key, found.records, raw=raw, as_json=as_json)
    if record is not None:
        print_json(_shown(record))
        return exits.DONE
    if value is None:
        return missing(key)
    output.write(value if raw else value + b"\n")
    return exits.DONE


def _print_replicas(key: str, told: object, *, as_json: bool) -> int:
    from raftkv.api.cluster_answers import KeyOnRing  # noqa: PLC0415  only this command pays for it
    from raftkv.cli import replicas, tables  # noqa: PLC0415

    shown = msgspec.convert(told, KeyOnRing)
    if as_json:
        print_json(told)
    else:
        tables.print_table(replicas.COLUMNS, replicas.table(shown))
    return exits.DONE if replicas.is_found(shown) else missing(key)


def _print_siblings(key: str, records: tuple[Any, ...], *, raw: bool, as_json: bool) -> int:
    """A script that expects one value must not take the first of several for it."""
    replacing = records[0].context
    if as_json:
        print_json({"key": text_to_json(key), "siblings": [_shown(record) for record in records], "context": replacing})
    elif not raw:
        output.write(b"".join(record.value + b"\n" for record in records))
    hint = f"; raftkv set {key} VALUE --context {replacing} replaces them" if replacing else ""
    exits.complain(f"{len(records)} concurrent values{hint}")
    return exits.NOT_FOUND


@click.command("set", short_help="Store a value.")
@click.argument("key")
@click.argument("value")
@click.option("--ttl", type=DURATION, metavar="TIME", help="Let the key expire after 10, 10s, 5m, 2h, ...")
@click.option("--lease", type=click.IntRange(min=1), metavar="ID", help="Let the key go when the lease ends.")
@if_revision_option
@click.option("--if-absent", is_flag=True, help="Only if the key does not exist.")
@w_option
@n_option
@sloppy_option
@context_option
@json_option
@connection.options
@click.pass_context
def set_(context: click.Context, /, key: str, value: str, *, causal: str, as_json: bool, **given: Any) -> int:
    """Store VALUE under KEY. The value - is read from standard input; one that begins with - goes after --."""
    if given["if_absent"] and given["if_revision"] is not None:
        raise click.UsageError("--if-absent and --if-revision exclude each other", context)
    if given["ttl"] is not None and given["lease"] is not None:
        raise click.UsageError("--ttl and --lease exclude each other", context)
    link = connection.chosen(context, given)
    content = standard_input() if value == "-" else os.fsencode(value)
    client = link.client()
    with explaining(lambda: survey(link.patient())):
        revision = client.set(key_of(key), content, context=causal, **given)
    if as_json:
        output.confirm(to_line({"key": text_to_json(key), "revision": revision or None}))
    else:
        output.confirm(b"OK\n")
    _warn_of_less(client.durability)
    return exits.DONE


@click.command("delete", short_help="Remove a key, or all with a prefix.")
@click.argument("key", required=False)
@click.option("--prefix", metavar="PREFIX", help="Remove every key that begins with PREFIX, and print how many.")
@if_revision_option
@w_option
@n_option
@sloppy_option
@context_option
@json_option
@connection.options
@click.pass_context
def delete(
    context: click.Context, /, key: str | None, *, prefix: str | None, causal: str, as_json: bool, **given: Any
) -> int:
    """Remove KEY; or, with --prefix, all keys of a prefix at once."""
    if (key is None) == (prefix is None):
        raise click.UsageError("it takes a KEY or --prefix PREFIX", context)
    link = connection.chosen(context, given)
    client = link.client()
    if prefix is not None:
        if causal or any(one is not None for one in given.values()):
            raise click.UsageError("--prefix takes no other choices", context)
        with explaining(lambda: survey(link.patient())):
            count = client.delete_prefix(prefix)
        output.confirm(
            to_line({"prefix": text_to_json(prefix), "deleted": count}) if as_json else f"{count}\n".encode()
        )
        return exits.DONE
    assert key is not None
    with explaining(lambda: survey(link.patient())):
        is_deleted = client.delete(key_of(key), context=causal, **given)
    if not is_deleted:
        return missing(key)
    if as_json:
        output.confirm(to_line({"key": text_to_json(key), "deleted": 1}))
    else:
        output.confirm(b"OK\n")
    _warn_of_less(client.durability)
    return exits.DONE


def _warn_of_less(durability: str) -> None:
    """OK is not the whole truth about a write that fewer than a majority hold, as was asked for."""
    if durability == "leader" or durability.isdigit():
        holders = "the leader alone holds" if durability == "leader" else f"{durability} replicas hold"
        exits.complain(f"{holders} the write so far; it may be lost")


@click.command("list", short_help="Print keys in order.")
@click.argument("prefix", default="")
@click.option("--values", is_flag=True, help="Print a tab and the value after each key.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N keys.")
@click.option(
    "-0", "separate_by_zeros", is_flag=True, help="End each key, and value, by a zero byte, and escape nothing."
)
@json_option
@revision_option
@at_option
@consistency_option
@connection.options
@click.pass_context
def list_(
    context: click.Context,
    /,
    prefix: str,
    *,
    values: bool,
    limit: int | None,
    as_json: bool,
    separate_by_zeros: bool,
    revision: int | None,
    at: datetime | None,
    consistency: Consistency | None,
    **given: Any,
) -> int:
    r"""Print the keys that begin with PREFIX, one on a line, or all keys. With --json, an array of records.

    A line shows what is not printable, and the backslash, escaped (\n, \x1b, \\), so that no key can pass for two, or
    steer a terminal; -0 prints keys as they are, a zero byte after each, for xargs -0.
    """
    if separate_by_zeros and as_json:
        raise click.UsageError("-0 and --json exclude each other", context)
    _check_moment(context, revision, at)
    link = connection.chosen(context, given)
    keys_only = not values and not as_json
    records = link.client().list(
        prefix, limit=limit, keys_only=keys_only, revision=revision, at=at, consistency=consistency
    )
    with explaining(lambda: survey(link.patient())):
        _print_records(records, values=values, as_json=as_json, separate_by_zeros=separate_by_zeros)
    return exits.DONE


def _print_records(records: Iterator[Record], *, values: bool, as_json: bool, separate_by_zeros: bool) -> None:
    if as_json:
        separator = b"[\n"
        for record in records:
            output.write(separator + msgspec.json.encode(_shown(record)))
            separator = b",\n"
        output.write(b"[]\n" if separator == b"[\n" else b"\n]\n")
        return
    for record in records:
        fields = [key_of(record.key)] + ([record.value] if values and record.value is not None else [])
        if separate_by_zeros:
            output.write(b"".join(field + b"\0" for field in fields))
        else:
            output.write(b"\t".join(map(output.escaped, fields)) + b"\n")


def _check_moment(context: click.Context, revision: int | None, at: datetime | None) -> None:
    if revision is not None and at is not None:
        raise click.UsageError("--revision and --at exclude each other", context)


def key_of(text: str) -> bytes:
    """The key as it was typed, byte for byte."""
    return os.fsencode(text)


def missing(key: str) -> int:
    """Say that there is no such key; the exit status."""
    exits.complain(f"no such key: {output.escaped(key_of(key)).decode()}")
    return exits.NOT_FOUND


def _shown(record: Any) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.structs.asdict(record)
    return {
        **shown,
        "key": text_to_json(record.key),
        "value": None if record.value is None else value_to_json(record.value),
    }


def to_line(content: Any) -> bytes:
    """One line of JSON."""
    return msgspec.json.encode(content) + b"\n"


def print_json(content: Any) -> None:
    """Print what was read."""
    output.write(to_line(content))


def standard_input() -> bytes:
    """All of it."""
    if descriptors.was_closed(0):
        raise click.UsageError("standard input is closed, and - reads the value from there")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise click.UsageError(f"standard input: {error.strerror}") from None
