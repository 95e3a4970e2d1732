"""Delays between the nodes of a leaderless cluster, measured from outside before the workload begins.

Nothing but HTTP and this process's clock: a write at one node that is acknowledged as soon as that node has it, and
reads of the other nodes' own copies until they show it; and reads that wait for one replica or for two. The figures
hold the HTTP of this machine, too, which is why differences are taken later. Bounded in number and time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from raftkv.api import paths
from raftkv.client.channels import Channels
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.instruments.lab.record import MeasuredDelay
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError

WRITES: Final = 25
"""Per node; so many delays of each pair of nodes are known then."""

READS: Final = 30
SHOWN_S: Final = 10.0
KEY_PREFIX: Final = "probe"

Ask = Callable[[Host, str, str], tuple[int, float, float]]


def measured_delays(cluster: LocalCluster) -> tuple[MeasuredDelay, ...]:
    """Delays of writes and of reads at every node; raises ``ClusterError`` when something does not answer."""
    found: list[MeasuredDelay] = []
    hosts = {site.id: Host(site.http.host, site.http.port) for site in cluster.sites.values()}
    with contextlib.closing(Channels()) as channels:
        ask = partial(_ask, channels)
        try:
            for origin in cluster.nodes:
                for number in range(WRITES):
                    found += _write(ask, hosts, origin, number)
                found += _reads(ask, hosts[origin], origin)
        except (UnopenedError, UnheardError) as error:
            raise ClusterError(f"delays could not be measured: {error}") from None
    return tuple(found)


def _write(ask: Ask, hosts: Mapping[str, Host], origin: str, number: int) -> list[MeasuredDelay]:
    key = f"{KEY_PREFIX}/{origin}/{number}"
    status, _, acknowledged_s = ask(hosts[origin], "PUT", f"{paths.filled(paths.KEY, key)}?w=1")
    if status not in (200, 201):
        raise ClusterError(f"{origin} refuses a write: {status}")
    found = []
    missing = [node for node in hosts if node != origin]
    while missing:
        for node in list(missing):
            status, began_s, ended_s = ask(hosts[node], "GET", f"{paths.LOCAL_READ}?key={key}")
            if status == 200:
                missing.remove(node)
                seconds = (began_s + ended_s) / 2 - acknowledged_s
                found.append(MeasuredDelay(kind="write", origin=origin, number=number, node=node, seconds=seconds))
            elif ended_s - acknowledged_s > SHOWN_S:
                raise ClusterError(f"{node} did not show a write at {origin} within {SHOWN_S:g} s")
    return found


def _reads(ask: Ask, host: Host, origin: str) -> list[MeasuredDelay]:
    found, path = [], paths.filled(paths.KEY, f"{KEY_PREFIX}/{origin}/0")
    for number in range(READS):
        for replicas in (1, 2):
            _, began_s, ended_s = ask(host, "GET", f"{path}?r={replicas}")
            seconds = ended_s - began_s
            found.append(MeasuredDelay(kind="read", origin=origin, number=number, replicas=replicas, seconds=seconds))
    return found


def _ask(channels: Channels, host: Host, method: str, target: str) -> tuple[int, float, float]:
    """The status, and when the request was sent and answered."""
    began_s = time.monotonic()
    answer = channels.exchange(host, method, target, body=b"x" if method == "PUT" else b"", timeout_s=SHOWN_S)
    return answer.status, began_s, time.monotonic()
