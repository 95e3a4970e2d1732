"""How a node that is new to a running cluster gets in, and whether one still belongs to it: it asks, over HTTP.

The node that was asked lets the new one in and tells who the others are; all else is gossip, or comes with the log.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from raftkv.api.cluster_answers import Member, MemberList, NodeStatus
from raftkv.client.client import Client
from raftkv.client.records import typed
from raftkv.core.config import ClusterSection, HttpSection, NodeSection
from raftkv.core.errors import Code, RaftkvError, StartupError
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.process.loggers import get_logger

JOIN_TIMEOUT_S: Final = 30.0
ATTEMPT_S: Final = 5.0
PAUSE_S: Final = 1.0
CHECK_S: Final = 1.0

FINAL: Final = frozenset({Code.FORBIDDEN, Code.UNAUTHENTICATED, Code.BAD_REQUEST})
"""Refusals that stay as long as nobody changes anything: to ask again is to wait for nothing."""

log_line = get_logger("raftkv.joining")


def join(
    node: NodeSection, seeds: Sequence[str], http: HttpSection, cluster: ClusterSection
) -> tuple[MemberEntry, ...]:
    """Ask ``seeds`` to let ``node`` in; returns the members.

    Raises ``StartupError`` when none does within 30 s, or one says that it never will.

    It is asked with a proof of the secret of ``cluster``: a node without it could never link to the others.
    """
    log_line.info("asking to be let in", seeds=",".join(seeds))
    deadline_s = time.monotonic() + JOIN_TIMEOUT_S
    with _client(seeds, http, timeout_s=ATTEMPT_S, secret_file=cluster.secret_path, cluster=cluster.name) as client:
        while True:
            try:
                content = client.add_member(node.id, http=node.http, peer=node.peer, zone=node.zone)
                members = typed(content, MemberList).members
            except RaftkvError as error:
                if error.code in FINAL or time.monotonic() + PAUSE_S >= deadline_s:
                    asked = ", ".join(seeds)
                    raise StartupError(f"no node of {asked} lets this node in: {error.detail}") from None
                time.sleep(PAUSE_S)
            else:
                return tuple([_entry(member, node.id) for member in members])


def check_still_member(node: NodeSection, entries: Iterable[MemberEntry], http: HttpSection) -> None:
    """Raise ``StartupError`` when a running node of the cluster says that ``node`` was removed while it was away.

    Nobody dials a node that has left, so gossip would not tell it. When no other node is up, the cluster is starting,
    and what this node remembers holds.
    """
    others = [entry.http for entry in entries if entry.id != node.id and entry.phase is not Phase.LEFT]
    if not others:
        return
    with _client(others, http, timeout_s=CHECK_S, retry=False) as client:
        try:
            members = typed(client.members(), MemberList).members
        except RaftkvError:
            return
    if node.id not in {member.id for member in members}:
        raise StartupError(
            "this node was removed from the cluster; to join again, it starts with an empty data directory"
        )


def check_not_removed(
    node: NodeSection, others: Sequence[str], configuration_index: int, http: HttpSection, cluster: ClusterSection
) -> None:
    """Raise ``StartupError`` when a node at one of ``others`` knows that ``node`` was removed while it was away.

    It must know so by no older configuration than this node, which has that at ``configuration_index``, and by one that
    is committed. When nobody answers, the cluster is starting, and what this node knows holds.
    """
    choices = {"secret_file": cluster.secret_path, "cluster": cluster.name}
    with _client(others, http, timeout_s=CHECK_S, retry=False, **choices) as client:
        try:
            found = typed(client.status(), NodeStatus)
        except RaftkvError:
            return
    theirs = found.configuration_index or 0
    is_newer = 0 < theirs <= found.commit_index and configuration_index <= theirs
    if is_newer and node.id not in {one.id for one in found.members or ()}:
        raise StartupError(
            "this node was removed from the cluster; to join again, it starts with an empty data directory and --join"
        )


def _client(addresses: Sequence[str], http: HttpSection, **choices: Any) -> Client:
    """Either all nodes of a cluster speak https, or none."""
    scheme = "https" if http.tls_cert else "http"
    return Client([f"{scheme}://{address}" for address in addresses], tls_ca=http.tls_ca or None, **choices)


def _entry(member: Member, own_id: str) -> MemberEntry:
    # Version 0 gives way to whatever gossip says; until then this node counts only itself as joining.
    phase = Phase.JOINING if member.id == own_id else Phase.UP
    return MemberEntry(member.id, member.http, member.peer, member.zone or "", phase=phase)
