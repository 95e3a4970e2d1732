"""``raftkv status``: how every node of the cluster sees itself, asked of each one at the same time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import click
import msgspec

from raftkv.api.cluster_answers import NodeStatus
from raftkv.api.problems import Problem
from raftkv.cli import advice, connection, exits, output, ring
from raftkv.cli.advice import learns
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.survey import Surveyed, survey
from raftkv.cli.tables import print_table

COLUMNS: Final = ("node", "role", "term", "leader", "applied", "revision", "peers", "stale", "address")
"""They fit into 80 columns, where addresses are those of IPv4."""

SHOWN_MS_MAX: Final = 1000
"""From here on staleness is shown in seconds, so that the table keeps its width."""


@click.command("status", short_help="Show every node of the cluster.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--follow", is_flag=True, help="Follow one node: a line now and whenever its status changes.")
@connection.options
@click.pass_context
def status(context: click.Context, /, *, as_json: bool, follow: bool, **given: Any) -> int:
    """Show every node of the cluster. Exit status 3 when none can serve writes and reads as they are by default.

    The last line says how many failures can be borne; on standard error if nodes are missing. It takes a second at
    most, whatever is dead, unless --timeout says more. The address of a node is shown without http:// or https://.
    """
    link = connection.chosen(context, given)
    if follow:
        return _follow(link, as_json=as_json)
    nodes = survey(link)
    told = advice.remark(nodes)
    answered = [node.status for node in nodes if node.status is not None]
    if as_json:
        content = {
            "nodes": [node.shown for node in nodes],
            "remark": told or None,
            "health": told or advice.health(answered),
            "hints": advice.hints(answered),
        }
        output.write(msgspec.json.encode(content) + b"\n")
    elif any(status.ring for status in answered):
        print_table(ring.COLUMNS, ring.table(nodes))
        output.write(f"{ring.summary(answered)}\n".encode())
    else:
        known = {member.id for status in answered for member in status.members or ()}
        cells = [row(node, known) for node in nodes]
        print_table(COLUMNS, [(line, _style(line[1])) for line in cells])
    for hint in advice.hints(answered):
        exits.complain(f"note: {hint}")
    if not any(status.ready for status in answered):
        exits.complain(told or advice.unserved(answered))
        return exits.UNAVAILABLE
    if told:
        exits.complain(told)
    elif not as_json:
        output.write(f"{advice.health(answered)}\n".encode())
    return exits.DONE


def _follow(link: ConnectionOptions, *, as_json: bool) -> int:
    """Print a line for each status of the first server that answers, until the stream breaks off."""
    with link.client(proves=True) as client:
        for found in client.follow():
            output.write((msgspec.json.encode(found) if as_json else _line(found).encode()) + b"\n")
    return exits.DONE


def _line(content: Mapping[str, object]) -> str:
    """A status, or why there is none, in one line."""
    from raftkv.client.records import typed  # noqa: PLC0415  commands load what they use

    silent = typed(content, Problem)
    if silent.code:
        return output.printable(f"no status: {silent.detail}")
    found = typed(content, NodeStatus)
    parts = [found.node, found.role]
    if not found.ring:
        parts += [f"term {found.term}", f"leader {found.leader or 'none'}"]
    parts += [f"revision {found.revision}", f"peers {_reached(found)}"]
    parts.append("ready" if found.ready else str(found.reason))
    return output.printable("  ".join(parts))


def row(node: Surveyed, known: Collection[str] = ()) -> tuple[str, ...]:
    """A node as the table shows it; ``known`` are the members, if somebody names them."""
    found, address = node.status, node.server.partition("://")[2]
    if found is None:
        is_gone = known and node.node and node.node not in known
        told = "refuses" if node.is_refused else ring.NO_MEMBER if is_gone else "no answer"
        return (node.node or "?", told, *["-"] * (len(COLUMNS) - 3), address)
    behind = found.commit_index - found.applied_index
    return (
        found.node,
        "learner" if learns(found) else found.role,
        str(found.term),
        found.leader or "none",
        f"{found.applied_index}+{behind}" if behind > 0 else str(found.applied_index),
        str(found.revision),
        _reached(found),
        _stale(found.staleness_ms),
        address,
    )


def _reached(found: NodeStatus) -> str:
    return f"{sum(peer.reachable for peer in found.peers)}/{len(found.peers)}"


def _stale(staleness_ms: int | None) -> str:
    if staleness_ms is None:
        return "?"
    return f"{staleness_ms}ms" if staleness_ms < SHOWN_MS_MAX else f"{staleness_ms // 1000}s"


def _style(role: str) -> str:
    return {"leader": "bold green", "no answer": "red"}.get(role, "")
