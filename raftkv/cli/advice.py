"""What the nodes' own words, put together, mean for somebody who runs the cluster: can it serve, can it bear more?

``remark``, ``health`` and ``hints`` are pure. ``explaining`` looks at every node when a request was refused for lack of
a majority, because the node that refused it knows only that nobody answers it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from raftkv.api.cluster_answers import NodeStatus
from raftkv.cli.survey import Surveyed
from raftkv.core.errors import Code, DefiniteError
from raftkv.core.voters import majority

NEARLY_FULL: Final = 2
"""A disk with less free than so many times the reserve is told of."""

ENDS_SOON_S: Final = 14 * 86_400
"""Certificates are told of so long before they end."""

APART_S: Final = 1.0
"""Clocks further apart than this are told of; nothing is refused for it yet."""

OVERDUE: Final = 2
"""Intervals without a backup that are told of."""

_WORDS: Final = {0: "no", 1: "one", 2: "two", 3: "three"}
_FOR_LACK_OF_NODES: Final = frozenset({Code.NO_LEADER, Code.QUORUM_UNREACHABLE})


def remark(nodes: Sequence[Surveyed]) -> str:
    """What is amiss with the cluster, in one sentence; empty when nothing is."""
    answered = [node.status for node in nodes if node.status is not None]
    if not answered:
        what = "no node tells how it is" if any(node.is_refused for node in nodes) else "no node answers"
        return f"{what}: {_reasons(nodes)}"
    size = _size(answered)
    count = min(sum([not learns(status) for status in answered]), size)
    if count == size:
        return _unready(answered)
    return _missing(answered, count, size)


def _missing(answered: Sequence[NodeStatus], count: int, size: int) -> str:
    """What it means that ``count`` of ``size`` nodes answer."""
    told = f"{count} of {size} nodes answer{'s' if count == 1 else ''}"
    spare, is_served = count - majority(size), any(status.ready for status in answered)
    if not is_served and any(status.ring for status in answered):
        reason = next((status.reason for status in answered if status.reason), "no node is ready")
        return f"{told}, none of them ready ({reason}); local reads answer (--consistency local)"
    if any(status.ring for status in answered) or (spare < 0 and is_served):
        return f"degraded: {told}"
    if spare < 0:
        return f"{told}: no writes, no linearizable reads; local reads answer (--consistency local)"
    amiss = _told_unready(answered)
    if amiss:  # then the count says nothing of what can be borne: one of them may take no part at all
        return f"degraded: {told}; {'; '.join(amiss)}"
    more = f"{spare} further failure{'' if spare == 1 else 's'}" if spare else "no further failure"
    return f"degraded: {told}; {more} can be borne"


def health(answered: Sequence[NodeStatus]) -> str:
    """What can be borne, where ``remark`` has nothing to say."""
    newest = _newest(answered)
    if newest.ring:
        return f"healthy: of the {newest.n} replicas of each key {_failures(newest.n - max(newest.r, newest.w))}"
    size = _size(answered)
    return f"healthy: {_failures(size - majority(size))}"


def unserved(answered: Sequence[NodeStatus]) -> str:
    """Why nobody is served though all nodes answer."""
    reason = next((status.reason for status in answered if status.reason), "no node is ready")
    is_about_leaders = not any(status.ring for status in answered) and any(status.has_room for status in answered)
    return f"{reason}: no writes, no linearizable reads" if is_about_leaders else reason


def _failures(count: int) -> str:
    return f"{_WORDS.get(count, str(count))} failure{'' if count in {0, 1} else 's'} can be borne"


def hints(answered: Sequence[NodeStatus]) -> list[str]:
    """What may become trouble, and is none yet."""
    return [
        *_disks(answered),
        *_certificates(answered),
        *_clocks(answered),
        *_versions(answered),
        *_backups(answered),
    ]


def _disks(answered: Sequence[NodeStatus]) -> Iterator[str]:
    for status in answered:
        free, reserve = status.disk_free_bytes, status.disk_reserve_bytes
        if free is not None and reserve and status.has_room and free < NEARLY_FULL * reserve:
            yield f"{status.node}: {free >> 20} MiB of disk are free; below {reserve >> 20} MiB writes are refused"


def _certificates(answered: Sequence[NodeStatus]) -> Iterator[str]:
    for status in answered:
        left_s = status.certificate_ends_in_s
        if left_s is not None and left_s < ENDS_SOON_S:
            days = left_s // 86_400
            told = "has ended" if left_s < 0 else f"ends in {days} day{'' if days == 1 else 's'}"
            yield f"{status.node}: a certificate {told}"


def _clocks(answered: Sequence[NodeStatus]) -> Iterator[str]:
    told: set[frozenset[str]] = set()
    for status in answered:
        for peer in status.peers:
            apart_s, pair = peer.clock_ahead_s or 0.0, frozenset((status.node, peer.id))
            if abs(apart_s) >= APART_S and pair not in told:
                told.add(pair)
                way = "ahead of" if apart_s > 0 else "behind"
                yield f"the clock of {peer.id} is {abs(apart_s):.1f} s {way} that of {status.node}"


def _versions(answered: Sequence[NodeStatus]) -> Iterator[str]:
    by_version: dict[str, list[str]] = {}
    for status in answered:
        by_version.setdefault(status.version, []).append(status.node)
    if len(by_version) > 1:
        told = "; ".join(f"{version}: {', '.join(names)}" for version, names in sorted(by_version.items()))
        yield f"versions differ: {told}"


def _backups(answered: Sequence[NodeStatus]) -> Iterator[str]:
    """The newest of all nodes counts, since each keeps what it made itself."""
    interval_s = min((one.backup_interval_s for one in answered if one.backup_interval_s is not None), default=None)
    age_s = min((one.backup_age_s for one in answered if one.backup_age_s is not None), default=None)
    if interval_s is None:
        return
    if age_s is None:
        yield f"no backup is known, though one is to be made every {_span(interval_s)}"
    elif age_s > OVERDUE * interval_s:
        yield f"the newest backup is {_span(age_s)} old, though one is to be made every {_span(interval_s)}"


def _span(span_s: int) -> str:
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if span_s >= 2 * unit_s:
            return f"{span_s // unit_s} {unit}"
    return f"{span_s} s"


def _unready(answered: Sequence[NodeStatus]) -> str:
    """Who is not ready while others are, and why: nodes of which all answer may still serve nobody."""
    told = _told_unready(answered)
    return f"degraded: {'; '.join(told)}" if 0 < len(told) < len(answered) else ""


def _told_unready(answered: Sequence[NodeStatus]) -> list[str]:
    return [f"{status.node} is not ready: {status.reason}" for status in answered if status.reason]


def learns(status: NodeStatus) -> bool:
    """Does the node catch up before it votes? It decides nothing, and its failure costs nothing."""
    return any(member.id == status.node and member.state == "learner" for member in status.members or ())


def _size(answered: Sequence[NodeStatus]) -> int:
    """How many nodes there are, as the node that applied most knows it; in a ring, those that have not left."""
    newest = _newest(answered)
    if newest.ring and newest.members:
        return sum(member.state != "left" for member in newest.members)
    return newest.cluster_size or len(newest.peers) + 1


def _newest(answered: Sequence[NodeStatus]) -> NodeStatus:
    return max(answered, key=lambda status: status.applied_index)


def _reasons(nodes: Sequence[Surveyed]) -> str:
    from raftkv.client.servers import told_together  # noqa: PLC0415  commands load what they use

    return told_together({node.server: node.error.removeprefix(f"{node.server} ") for node in nodes})


@contextlib.contextmanager
def explaining(survey: Callable[[], Sequence[Surveyed]]) -> Iterator[None]:
    """Raise what was refused for lack of nodes with the reason that all nodes together show."""
    try:
        yield
    except DefiniteError as error:
        if error.code not in _FOR_LACK_OF_NODES:
            raise
        found = remark(survey())
        if not found:
            raise
        raise DefiniteError(error.code, found) from None
