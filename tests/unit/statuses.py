"""What ``GET /status`` says, as tests need it: whole, with what matters to a test in it."""

from typing import Any

import msgspec

from raftkv.api.cluster_answers import NodeStatus
from raftkv.cli.survey import Surveyed

STATUS: dict[str, Any] = {
    "node": "n1",
    "mode": "raft",
    "role": "leader",
    "leader": "n1",
    "term": 3,
    "commit_index": 12,
    "applied_index": 11,
    "revision": 9,
    "peers": [{"id": "n2", "http": "127.0.0.1:1", "reachable": False}],
    "version": "1.0",
    "ready": True,
    "reason": None,
    "staleness_ms": 4,
}


def node_status(**changes: Any) -> NodeStatus:
    """As a client reads it."""
    return msgspec.convert({**STATUS, **changes}, NodeStatus)


def surveyed(**changes: Any) -> Surveyed:
    """A node that answered."""
    status = node_status(**changes)
    return Surveyed(server=f"http://{status.node}", node=status.node, status=status)


def silent(server: str, error: str = "gone", node: str = "") -> Surveyed:
    """A node that did not."""
    return Surveyed(server=server, node=node, error=error)
