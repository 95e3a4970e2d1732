"""What the nodes' own words, put together, mean for somebody who runs the cluster: can it serve, can it bear more?

``remark`` is pure. ``explaining`` looks at every node when a request was refused for lack of a majority, because the
node that refused it knows only that nobody answers it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from raftkv.api.answers import NodeStatus
from raftkv.cli.survey import Surveyed
from raftkv.core.errors import Code, DefiniteError
from raftkv.core.voters import majority

_FOR_LACK_OF_NODES: Final = frozenset({Code.NO_LEADER, Code.QUORUM_UNREACHABLE})


def remark(nodes: Sequence[Surveyed]) -> str:
    """What is amiss with the cluster, in one sentence; empty when nothing is."""
    answered = [node.status for node in nodes if node.status is not None]
    if not answered:
        return f"no node answers: {_reasons(nodes)}"
    size = _size(answered)
    count = min(len(answered), size)
    if count == size:
        return _unready(answered)
    told = f"{count} of {size} nodes answer{'s' if count == 1 else ''}"
    spare, is_served = count - majority(size), any(status.ready for status in answered)
    if any(status.ring for status in answered) or (spare < 0 and is_served):
        return f"degraded: {told}"
    if spare < 0:
        return f"{told}: no writes, no linearizable reads; --consistency local answers"
    amiss = _told_unready(answered)
    if amiss:  # then the count says nothing of what can be borne: one of them may take no part at all
        return f"degraded: {told}; {'; '.join(amiss)}"
    more = f"{spare} further failure{'' if spare == 1 else 's'}" if spare else "no further failure"
    return f"degraded: {told}; {more} can be borne"


def _unready(answered: Sequence[NodeStatus]) -> str:
    """Who is not ready while others are, and why: nodes of which all answer may still serve nobody."""
    told = _told_unready(answered)
    return f"degraded: {'; '.join(told)}" if 0 < len(told) < len(answered) else ""


def _told_unready(answered: Sequence[NodeStatus]) -> list[str]:
    return [f"{status.node} is not ready: {status.reason}" for status in answered if status.reason]


def _size(answered: Sequence[NodeStatus]) -> int:
    """How many nodes there are, as the node that applied most knows it; in a ring, those that have not left."""
    newest = max(answered, key=lambda status: status.applied_index)
    if newest.members:
        return sum(member.state != "left" for member in newest.members)
    return newest.cluster_size or len(newest.peers) + 1


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
