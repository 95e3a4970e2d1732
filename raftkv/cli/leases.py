"""``raftkv lease``: leases by their numbers, for scripts that keep them for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from raftkv.api.answers import LeaseGranted, LeaseShown
from raftkv.api.values import text_to_json
from raftkv.cli import connection, exits, output
from raftkv.cli.advice import explaining
from raftkv.cli.keys import json_option, key_of, print_json, to_line
from raftkv.cli.kinds import DURATION
from raftkv.cli.survey import survey
from raftkv.cli.tables import print_table

if TYPE_CHECKING:
    from raftkv.client import LeaseInfo

NUMBER = click.IntRange(min=1, max=(1 << 53) - 1)


@click.group("lease", short_help="Grant, keep alive, show or revoke leases.")
def lease() -> None:
    """Leases: what goes with one (keys, locks) goes when it ends."""


@lease.command("grant", short_help="Make a lease, and print its number.")
@click.argument("ttl", type=DURATION)
@click.option("--id", "number", type=NUMBER, metavar="N", help="Its number.  [default: the cluster's choice]")
@json_option
@connection.options
@click.pass_context
def grant(context: click.Context, /, ttl: float, *, number: int | None, as_json: bool, **given: Any) -> int:
    """Make a lease that ends after TTL (10, 10s, 5m, 2h) unless it is kept alive, and print its number."""
    link = connection.chosen(context, given)
    with explaining(lambda: survey(link.patient())):
        granted = link.client().leases.grant(ttl, number=number)
    output.confirm(to_line(LeaseGranted(granted, ttl)) if as_json else b"%d\n" % granted)
    return exits.DONE


@lease.command("keepalive", short_help="Let leases live on.")
@click.argument("numbers", metavar="ID...", type=NUMBER, nargs=-1, required=True)
@json_option
@connection.options
@click.pass_context
def keepalive(context: click.Context, /, numbers: tuple[int, ...], *, as_json: bool, **given: Any) -> int:
    """Let leases live for their whole time again, all in one request. Exit status 1 when there is no such lease."""
    link = connection.chosen(context, given)
    with explaining(lambda: survey(link.patient())):
        gone = link.client().leases.keep_alive(numbers)
    if as_json:
        output.confirm(to_line({"missing": gone}))
    elif not gone:
        output.confirm(b"OK\n")
    return _missing(gone) if gone else exits.DONE


@lease.command("list", short_help="Print all leases.")
@json_option
@connection.options
@click.pass_context
def list_(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    """Print every lease: its number, how long it lives, how long still, and how many keys, locks and elections it has.

    With --json, one object a line.
    """
    link = connection.chosen(context, given)
    with explaining(lambda: survey(link.patient())):
        found = link.client().leases.list()
        if as_json:
            for one in found:
                print_json(LeaseShown(one.id, one.ttl, one.left, one.key_count))
        else:
            print_table(("lease", "ttl", "left", "keys"), [(_row(one), "") for one in found])
    return exits.DONE


def _row(one: LeaseInfo) -> tuple[str, ...]:
    return str(one.id), f"{one.ttl:g} s", f"{one.left:.1f} s", str(one.key_count)


@lease.command("show", short_help="Print a lease, and what goes with it.")
@click.argument("number", metavar="ID", type=NUMBER)
@json_option
@connection.options
@click.pass_context
def show(context: click.Context, /, number: int, *, as_json: bool, **given: Any) -> int:
    """Print how long the lease ID lives, how long still, and the keys, locks and elections that go with it."""
    link = connection.chosen(context, given)
    with explaining(lambda: survey(link.patient())):
        found = link.client().leases.find(number)
    if found is None:
        return _missing([number])
    if as_json:
        print_json({**msgspec.structs.asdict(found), "keys": list(map(text_to_json, found.keys))})
        return exits.DONE
    lines = [b"ttl\t%s\n" % f"{found.ttl:g} s".encode(), b"left\t%s\n" % f"{found.left:.1f} s".encode()]
    for kind, names in ((b"key", found.keys), (b"lock", found.locks), (b"election", found.elections)):
        lines += [b"%s\t%s\n" % (kind, output.escaped(key_of(name))) for name in names]
    output.write(b"".join(lines))
    return exits.DONE


@lease.command("revoke", short_help="End a lease.")
@click.argument("number", metavar="ID", type=NUMBER)
@json_option
@connection.options
@click.pass_context
def revoke(context: click.Context, /, number: int, *, as_json: bool, **given: Any) -> int:
    """End the lease ID now, with all that goes with it, and print how many keys that were."""
    link = connection.chosen(context, given)
    with explaining(lambda: survey(link.patient())):
        count = link.client().leases.revoke(number)
    output.confirm(to_line({"deleted": count}) if as_json else b"%d\n" % count)
    return exits.DONE


def _missing(numbers: tuple[int, ...] | list[int]) -> int:
    exits.complain(f"no such lease: {', '.join(map(str, numbers))}")
    return exits.NOT_FOUND
