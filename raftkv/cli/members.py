"""``raftkv members``, ``transfer`` and ``repair``: who belongs to the cluster, who leads, do all hold the same?"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from raftkv.api.cluster_answers import LeaderNow, Member, MemberList, NodeStatus, RepairDone
from raftkv.cli import connection, exits, output
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.kinds import TIMEOUT
from raftkv.cli.tables import print_table

if TYPE_CHECKING:
    from raftkv.client import Client

_OF_A_LEADER: Final = frozenset({"voter", "learner"})
COLUMNS: Final = ("node", "state", "zone", "share", "reached", "http", "peer")
_NOWHERE, _WHOLE, _UNTOLD = "-", "all", "?"
_NOTHING: Final = ("", "", _NOWHERE, _WHOLE, _UNTOLD, "", "")
"""What says nothing in these columns: one of nothing else is left out."""

REPAIR_S: Final = 60.0
"""A repair compares everything: unless told otherwise, a node may take as long as a server lets any request take."""

REPLACE_S: Final = 3600.0
"""Whoever replaces a node waits until the new one has all data; the cluster serves meanwhile."""

LOOK_S: Final = 0.5

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
    _print_members(connection.chosen(context, given).client(proves=True).members(), as_json=as_json, is_read=True)
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
    """Let NODE join, as `raftkv node --join` asks for by itself. Data moves in afterwards; `raftkv status` shows it.

    In raft mode it is a learner first, and votes by itself once it has caught up. One that is a member already, at the
    same addresses, stays as it is.
    """
    client = _changing(connection.chosen(context, given))
    _print_members(client.add_member(node, http=http, peer=peer, zone=zone), as_json=as_json)
    return exits.DONE


@members.command("remove", short_help="Let a node leave.")
@click.argument("node")
@json_option
@connection.options
@click.pass_context
def remove(context: click.Context, /, node: str, *, as_json: bool, **given: Any) -> int:
    """Let NODE leave. It ends by itself when it hears of it.

    Without a leader one that is alive hands its data over first, as `raftkv status` shows. A leader hands over first.
    """
    _print_members(_changing(connection.chosen(context, given)).remove_member(node), as_json=as_json)
    return exits.DONE


@members.command("promote", short_help="Let a learner vote now.")
@click.argument("node")
@json_option
@connection.options
@click.pass_context
def promote(context: click.Context, /, node: str, *, as_json: bool, **given: Any) -> int:
    """Let NODE vote, if it has caught up. In raft mode, where a learner is promoted by itself a moment later."""
    _print_members(_changing(connection.chosen(context, given)).promote_member(node), as_json=as_json)
    return exits.DONE


@members.command("move", short_help="Let a node have other addresses.")
@click.argument("node")
@click.option("--http", required=True, metavar="HOST:PORT", help="Where clients reach it from now on.")
@click.option("--peer", required=True, metavar="HOST:PORT", help="Where the other nodes reach it from now on.")
@json_option
@connection.options
@click.pass_context
def move(context: click.Context, /, node: str, *, as_json: bool, http: str, peer: str, **given: Any) -> int:
    """Let NODE have other addresses, in raft mode. Its own file has to say the same when it starts there."""
    _print_members(
        _changing(connection.chosen(context, given)).move_member(node, http=http, peer=peer), as_json=as_json
    )
    return exits.DONE


@members.command("replace", short_help="Let one node take the place of another.")
@click.argument("old")
@click.argument("new")
@click.option("--http", required=True, metavar="HOST:PORT", help="Where clients reach NEW.")
@click.option("--peer", required=True, metavar="HOST:PORT", help="Where the other nodes reach NEW.")
@click.option("--zone", default="", metavar="ZONE", help="Its rack or room.")
@click.option(
    "--within", "within_s", type=TIMEOUT, default=REPLACE_S, metavar="TIME", help="Wait so long.  [default: 1h]"
)
@json_option
@connection.options
@click.pass_context
def replace(
    context: click.Context,
    /,
    old: str,
    new: str,
    *,
    as_json: bool,
    http: str,
    peer: str,
    zone: str,
    within_s: float,
    **given: Any,
) -> int:
    """Add NEW, wait until it votes, remove OLD, which may be lost. In raft mode; asked again, it goes on.

    OLD stays if NEW does not vote in time: exit status 3. A node that comes back under its own name with an empty disk
    needs none of this: it is given its data anew.
    """
    if old == new:
        raise click.UsageError("a node that has only lost its disk starts with an empty one, and is not replaced")
    client = _changing(connection.chosen(context, given))
    found = _told_members(client.add_member(new, http=http, peer=peer, zone=zone))
    if not any(member.state in _OF_A_LEADER for member in found.members):
        raise click.UsageError(f"without a leader nobody has to wait: add {new}, then remove {old}")
    exits.complain(f"{new} was let in; it is given the data")
    end_s = monotonic() + within_s
    while not any(member.id == new and member.state == "voter" for member in found.members):
        if monotonic() >= end_s:
            exits.complain(f"{new} has not caught up in time; {old} is still a member")
            return exits.UNAVAILABLE
        sleep(LOOK_S)
        found = _told_members(client.members(), is_read=True)
    exits.complain(f"{new} votes")
    if any(member.id == old for member in found.members):
        content = client.remove_member(old)
        exits.complain(f"{old} was removed")
    else:
        content = client.members()
    _print_members(content, as_json=as_json)
    return exits.DONE


@click.command("transfer", short_help="Let another node lead.")
@click.argument("node")
@json_option
@connection.options
@click.pass_context
def transfer(context: click.Context, /, node: str, *, as_json: bool, **given: Any) -> int:
    """Let NODE lead, in raft mode. Clients wait for a moment; no write is lost, and none is left in doubt by it."""
    from raftkv.client.records import typed  # noqa: PLC0415  commands load what they use

    content = _changing(connection.chosen(context, given)).transfer(node)
    led = typed(content, LeaderNow, is_read=False)
    told = msgspec.json.encode(content) if as_json else f"{led.leader} leads in term {led.term}".encode()
    output.write(told + b"\n")
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
    client = link.client(proves=True)
    found = typed(client.members(), MemberList)
    scheme = link.servers()[0].partition("://")[0]
    asked = {one.id: f"{scheme}://{one.http}" for one in found.members if one.state != "left"}
    if node is not None and node not in asked:
        raise click.UsageError(f"there is no member {node}; there are {', '.join(asked)}")
    if node is None and typed(client.status(), NodeStatus).mode == "raft":
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


def _changing(link: ConnectionOptions) -> Client:
    """Who changes the cluster proves that they may. Nodes wait for what passes by themselves; a refusal is told."""
    return link.client(proves=True, retry=False)


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


def _told_members(content: Mapping[str, object], *, is_read: bool = False) -> MemberList:
    from raftkv.client.records import typed  # noqa: PLC0415  commands load what they use

    return typed(content, MemberList, is_read=is_read)


def _print_members(content: Mapping[str, object], *, as_json: bool, is_read: bool = False) -> None:
    found = _told_members(content, is_read=is_read)
    if as_json:
        output.write(msgspec.json.encode(content) + b"\n")
        return
    rows = [_row(member, found.leader) for member in found.members]
    told = [place for place in range(len(COLUMNS)) if any(row[place] != _NOTHING[place] for row in rows)]
    print_table([COLUMNS[place] for place in told], [(tuple([row[place] for place in told]), "") for row in rows])


def _row(member: Member, leader: str | None) -> tuple[str, ...]:
    reached = _UNTOLD if member.reachable is None else "yes" if member.reachable else "no"
    state = "leader" if member.id == leader and member.state in {"voter", msgspec.UNSET} else member.state or "member"
    share = _WHOLE if member.share is msgspec.UNSET else f"{member.share:.1%}"
    return member.id, state, member.zone or _NOWHERE, share, reached, member.http, member.peer
