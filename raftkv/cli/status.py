"""``raftkv status``: how every node of the cluster sees itself, asked of each one at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import click
import msgspec

from raftkv.cli import advice, connection, exits, output, ring
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.tables import print_table

COLUMNS: Final = ("node", "role", "term", "leader", "commit", "applied", "revision", "peers", "stale", "address")
ANSWER_S: Final = 2.0
"""How long a node may take: a person waits, and a node that hangs is what they want to see."""

SHOWN_MS_MAX: Final = 1000
"""From here on staleness is shown in seconds, so that the table keeps its width."""

MAX_NODES: Final = 64


@click.command("status", short_help="Show every node of the cluster.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--follow", is_flag=True, help="Follow one node: a line now and whenever its status changes.")
@connection.options
@click.pass_context
def status(context: click.Context, /, *, as_json: bool, follow: bool, **given: Any) -> int:
    """Show every node of the cluster. Exit status 3 when none can serve writes and reads as they are by default.

    A line on standard error says when nodes are missing, and how many more may fail.
    """
    link = connection.chosen(context, given)
    if follow:
        return _follow(link, as_json=as_json)
    nodes = survey(link)
    told = advice.remark(nodes)
    if as_json:
        output.write(msgspec.json.encode({"nodes": nodes, "remark": told or None}) + b"\n")
    elif any("ring" in node for node in nodes):
        print_table(ring.COLUMNS, ring.table(nodes))
        output.write(f"{ring.summary(nodes)}\n".encode())
    else:
        cells = [row(node) for node in nodes]
        print_table(COLUMNS, [(line, _style(line[1])) for line in cells])
    if any(node.get("ready") for node in nodes):
        if told:
            exits.complain(told)
        return exits.DONE
    reason = next((str(node["reason"]) for node in nodes if node.get("reason")), "no node is ready")
    exits.complain(told or reason)
    return exits.UNAVAILABLE


def _follow(link: ConnectionOptions, *, as_json: bool) -> int:
    """Print a line for each status of the first server that answers, until the stream breaks off."""
    with link.client() as client:
        for found in client.follow():
            output.write((msgspec.json.encode(found) if as_json else _line(found).encode()) + b"\n")
    return exits.DONE


def _line(found: dict[str, Any]) -> str:
    """A status, or why there is none, in one line."""
    if "code" in found:
        return output.printable(f"no status: {found.get('detail')}")
    peers = found.get("peers", ())
    parts = [str(found.get("node")), str(found.get("role"))]
    if not found.get("ring"):
        parts += [f"term {found.get('term')}", f"leader {found.get('leader') or 'none'}"]
    reachable = sum(1 for peer in peers if peer.get("reachable"))
    parts += [f"revision {found.get('revision')}", f"peers {reachable}/{len(peers)}"]
    parts.append("ready" if found.get("ready") else str(found.get("reason")))
    return output.printable("  ".join(parts))


def survey(link: ConnectionOptions) -> list[dict[str, Any]]:
    """Ask the given servers, then the peers that they name and that were not asked yet."""
    servers = link.servers()
    with ThreadPoolExecutor(min(len(servers), MAX_NODES)) as pool:
        nodes = list(pool.map(lambda server: _ask(link, server), servers))
        more = _unasked(nodes, servers)
        nodes += list(pool.map(lambda server: _ask(link, server), more))
    names = {f"{_scheme(servers)}://{peer['http']}": peer["id"] for node in nodes for peer in node.get("peers", ())}
    nodes = [node for node in nodes if node.get("role") != "proxy"]  # it has told who is behind it
    nodes = [node if "node" in node else {**node, "node": names.get(node["server"])} for node in nodes]
    unique = {node.get("node") or node["server"]: node for node in reversed(nodes)}
    return sorted(unique.values(), key=lambda node: str(node.get("node") or "~" + node["server"]))


def _unasked(nodes: list[dict[str, Any]], servers: tuple[str, ...]) -> tuple[str, ...]:
    known = {node.get("node") for node in nodes}
    peers = {
        peer["id"]: f"{_scheme(servers)}://{peer['http']}"
        for node in nodes
        for peer in node.get("peers", ())
        if peer.get("http") and peer["id"] not in known
    }
    return tuple([url for url in peers.values() if url not in servers])[:MAX_NODES]


def _scheme(servers: tuple[str, ...]) -> str:
    """All nodes of a cluster speak the same."""
    return servers[0].partition("://")[0]


def _ask(link: ConnectionOptions, server: str) -> dict[str, Any]:
    """One node's status, how stale its own copy is, and where it was asked; or why there is no answer."""
    from raftkv.core.errors import RaftkvError  # noqa: PLC0415  commands load what they use

    limit_s = min(link.timeout_s or ANSWER_S, ANSWER_S)
    with link.client((server,), timeout_s=limit_s, retry=False) as client:
        try:
            found = client.status()
            local = (
                None
                if found.get("ring") or found["role"] == "proxy"
                else client.page(limit=1, keys_only=True, consistency="local")
            )
        except RaftkvError as error:
            return {"server": server, "error": error.detail}
    return {**found, "server": server, "staleness_ms": None if local is None else local.staleness_ms}


def row(node: dict[str, Any]) -> tuple[str, ...]:
    """A node as the table shows it."""
    if "error" in node:
        return (str(node.get("node") or "?"), "no answer", "-", "-", "-", "-", "-", "-", "-", node["server"])
    peers = node.get("peers", ())
    reachable = sum(1 for peer in peers if peer.get("reachable"))
    staleness_ms = node.get("staleness_ms")
    numbers = [str(node.get(name, "-")) for name in ("commit_index", "applied_index", "revision")]
    return (
        str(node.get("node", "?")),
        str(node.get("role", "?")),
        str(node.get("term", "-")),
        str(node.get("leader") or "none"),
        *numbers,
        f"{reachable}/{len(peers)}",
        _stale(staleness_ms),
        node["server"],
    )


def _stale(staleness_ms: int | None) -> str:
    if staleness_ms is None:
        return "?"
    return f"{staleness_ms} ms" if staleness_ms < SHOWN_MS_MAX else f"{staleness_ms // 1000} s"


def _style(role: str) -> str:
    return {"leader": "bold green", "no answer": "red"}.get(role, "")
