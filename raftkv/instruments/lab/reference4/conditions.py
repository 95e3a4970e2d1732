"""Does a cluster have the N, R and W that a run is about? Set, asked, and seen: nothing is measured before it is so.

What a node says about itself could be wrong, so it is also watched: a write must name W acknowledgements and cannot be
faster than the delays of so many replicas allow, and a read must name the R replicas that answered it.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import Acknowledged
from raftkv.api.bodies import KeyAndValue, NewSizes
from raftkv.api.cluster_answers import QuorumSizes
from raftkv.instruments.lab.reference4.choices import Choice
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError, wait_until

ASK_S: Final = 10.0
PROBE: Final = "probe"


def establish(cluster: LocalCluster, choice: Choice) -> None:
    """Make ``cluster`` have what ``choice`` says by default, and wait until every node says so."""
    node = cluster.nodes[0]
    _expect(cluster, node, "POST", paths.CONFIG, NewSizes(n=choice.n, r=choice.r, w=choice.w))
    wait_until(lambda: all(_sizes(cluster, node) == choice_sizes(choice) for node in cluster.nodes), "N, R and W")


def assert_in_force(cluster: LocalCluster, choice: Choice) -> None:
    """Raise ``ClusterError`` unless every node has what ``choice`` says, by its word and by its deeds."""
    for node in cluster.nodes:
        found = _sizes(cluster, node)
        if found != choice_sizes(choice):
            raise ClusterError(f"{node}: n, r and w are {found}, not {choice_sizes(choice)}")
        began_s = time.monotonic()
        _, answer = _expect(cluster, node, "POST", f"{paths.PUT}?w={choice.w}", KeyAndValue(PROBE, node))
        took_s = time.monotonic() - began_s
        acks = msgspec.json.decode(answer, type=Acknowledged).acks
        if acks != choice.w:
            raise ClusterError(f"{node}: a write has {acks} acknowledgements, not {choice.w}")
        if took_s < choice.least_write_s:
            raise ClusterError(
                f"{node}: a write took {took_s:.3f} s, less than {choice.least_write_s:g} s: not W={choice.w}"
            )
        # Whether it finds the key is what the runs are about.
        path = f"{paths.GET}?key={PROBE}&consistency=eventual&r={choice.r}"
        headers, _ = _expect(cluster, node, "GET", path, besides=404)
        # Where one replica answers it is the asked node, which need not name itself.
        replicas = set(headers.get(names.REPLICAS.low, node).split(","))
        if len(replicas) < choice.r or not replicas <= set(cluster.nodes):
            raise ClusterError(f"{node}: a read was answered by {sorted(replicas)}, not by {choice.r} replicas")


def choice_sizes(choice: Choice) -> tuple[int, int, int]:
    """N, R and W of a choice."""
    return choice.n, choice.r, choice.w


def _sizes(cluster: LocalCluster, node: str) -> tuple[int, int, int]:
    _, answer = _expect(cluster, node, "GET", paths.CONFIG)
    sizes = msgspec.json.decode(answer, type=QuorumSizes)
    return sizes.n, sizes.r, sizes.w


def _expect(
    cluster: LocalCluster,
    node: str,
    method: str,
    path: str,
    document: NewSizes | KeyAndValue | None = None,
    *,
    besides: int = 0,
) -> tuple[dict[str, str], bytes]:
    """The headers and body of an answer; raises ``ClusterError`` unless it is one of success, or ``besides``."""
    body = b"" if document is None else msgspec.json.encode(document)
    content_type = names.JSON if body else ""
    status, headers, answer = cluster.exchange(node, method, path, body, timeout_s=ASK_S, content_type=content_type)
    if not 200 <= status < 300 and status != besides:
        raise ClusterError(f"{node}: {method} {path} is answered {status}: {answer[:300]!r}")
    return headers, answer
