"""``raftkv members`` and ``raftkv repair``: who belongs to the cluster, and do they hold the same?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from raftkv.api.answers import Member, MemberList, NodeStatus, RepairDone
from raftkv.cli import connection, exits, output
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.tables import print_table

COLUMNS: Final = ("node", "state", "zone", "share", "reached", "http", "peer")
REPAIR_S: Final = 60.0
"""A repair compares everything: unless told otherwise, a node may take as long as a server lets any request take."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("members", short_help="Show or change who belongs to the cluster.")
def members() -> None:
    """Show or change who belongs to the cluster."""


@members.command("list", short_help="Show the members.")
@json_option
@connection.options
@click.pass_context
def list_(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    """Show the members as the asked node knows them."""
    _print_members(connection.chosen(context, given).client().members(), as_json=as_json, is_read=True)
    return exits.DONE


@members.command("add", short_help="Let a node join.")
@click.argument("node")
@click.option("--http", required=True, metavar="HOST:PORT", help="Where clients reach it.")
@click.option("--peer", required=True, metavar="HOST:PORT", help="Where the other nodes reach it.")
@click.option("--zone", default="", metavar="ZONE", help="Its rack or room.")
@json_option
@connection.options
@click.pass_context
def add(context: click.Context, /, node: str, *, as_json: bool, http: str, peer: str, zone: str, **given: Any) -> int:
    """Let NODE join, as `raftkv node --join` asks for by itself. Data moves in afterwards; `raftkv status` shows it."""
    client = connection.chosen(context, given).client(proves=True)
    _print_members(client.add_member(node, http=http, peer=peer, zone=zone), as_json=as_json)
    return exits.DONE


@members.command("remove", short_help="Let a node leave.")
@click.argument("node")
@json_option
@connection.options
@click.pass_context
def remove(context: click.Context, /, node: str, *, as_json: bool, **given: Any) -> int:
    """Let NODE leave. One that is alive hands its data over first, as `raftkv status` shows."""
    _print_members(connection.chosen(context, given).client(proves=True).remove_member(node), as_json=as_json)
    return exits.DONE


@click.command("repair", short_help="Make the replicas agree now.")
@click.argument("node", required=False)
@json_option
@connection.options
@click.pass_context
def repair(context: click.Context, /, node: str | None, *, as_json: bool, **given: Any) -> int:
    """Let every node, one after the other, compare its data with all replicas of it, and exchange what differs.

    In raft mode NODE is one that stopped because its state differs: it throws its data away and fetches the others'.

    Exit status 3 when a node could not be asked or could not reach another.
    """
    from raftkv.client.records import typed  # noqa: PLC0415  commands load what they use

    link = connection.chosen(context, given)
    found = typed(link.client().members(), MemberList)
    scheme = link.servers()[0].partition("://")[0]
    asked = {one.id: f"{scheme}://{one.http}" for one in found.members if one.state != "left"}
    if node is not None and node not in asked:
        raise click.UsageError(f"there is no member {node}; there are {', '.join(asked)}")
    if node is None and typed(link.client().status(), NodeStatus).mode == "raft":
        raise click.UsageError("in raft mode a repair throws a node's data away: name the node that is to have others'")
    asked = asked if node is None else {node: asked[node]}
    done = {name: _repair(link, server) for name, server in asked.items()}
    if as_json:
        output.write(msgspec.json.encode({"nodes": {name: content for name, (content, _) in done.items()}}) + b"\n")
    else:
        for name, (content, result) in done.items():
            output.write(f"{name}: {_told(result) if result else content['error']}\n".encode())
    is_whole = all(result and not result.unreachable for _, result in done.values())
    return exits.DONE if is_whole else exits.UNAVAILABLE


def _repair(link: ConnectionOptions, server: str) -> tuple[Mapping[str, object], RepairDone | None]:
    """What ``server`` did, as it came too, or why it did nothing."""
    from raftkv.client.records import typed  # noqa: PLC0415  commands load what they use
    from raftkv.core.errors import Code, RaftkvError  # noqa: PLC0415

    with link.client((server,), timeout_s=link.timeout_s or REPAIR_S, retry=False, proves=True) as client:
        try:
            content = client.repair()
            return content, typed(content, RepairDone, is_read=False)
        except RaftkvError as error:
            if error.code == Code.NOT_SUPPORTED:
                raise
            return {"error": error.detail}, None


def _told(result: RepairDone) -> str:
    peers = ", ".join(result.peers) or "nobody"
    if result.peers and not result.ranges:
        return f"fetches its data anew from {peers}"
    text = f"compared {result.ranges} ranges with {peers}: {result.differing} differed, "
    text += f"{result.received} versions received, {result.sent} sent"
    return text + (f"; not reached: {', '.join(result.unreachable)}" if result.unreachable else "")


def _print_members(content: Mapping[str, object], *, as_json: bool, is_read: bool = False) -> None:
    from raftkv.client.records import typed  # noqa: PLC0415  commands load what they use

    found = typed(content, MemberList, is_read=is_read)
    if as_json:
        output.write(msgspec.json.encode(content) + b"\n")
        return
    print_table(COLUMNS, [(_row(member, found.leader), "") for member in found.members])


def _row(member: Member, leader: str | None) -> tuple[str, ...]:
    reached = "?" if member.reachable is None else "yes" if member.reachable else "no"
    state = member.state or ("leader" if member.id == leader else "member")
    share = "all" if member.share is msgspec.UNSET else f"{member.share:.1%}"
    return member.id, state, member.zone or "-", share, reached, member.http, member.peer
