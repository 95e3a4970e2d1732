"""All runs, one cluster of real processes for each choice; results are kept as JSON, one file for each run.

Reads go to any node. Writes go to the leader where there is one, as the reference has it, otherwise to any node.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from raftkv.backup.fetching import workspace
from raftkv.instruments.lab.reference4.choices import CHOICES, CLIENTS, Choice
from raftkv.instruments.lab.reference4.conditions import assert_in_force, establish
from raftkv.instruments.load.dialect import RaftkvDialect
from raftkv.instruments.load.engine import LoadTarget
from raftkv.instruments.load.plan import RATIOS, Ratio
from raftkv.instruments.load.result import Result
from raftkv.instruments.load.run import run
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError, loopback_sites

SETTLE_S: Final = 60.0


class ReferenceRun(msgspec.Struct, frozen=True, kw_only=True):
    """One choice under one ratio."""

    choice: Choice
    result: Result

    @property
    def ratio(self) -> Ratio:
        """Of writes to reads."""
        return self.result.plan.ratio

    @property
    def name(self) -> str:
        """For files: letters, digits and hyphens."""
        return f"{self.choice.name}-{self.ratio.writes}-{self.ratio.reads}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How long each run is, and what it draws."""

    seconds: float
    warm_up_s: float = 2.0
    seed: int = 1
    clients: int = CLIENTS


def perform(
    settings: Settings,
    folder: Path,
    *,
    tell: Callable[[str], None],
    choices: Sequence[Choice] = CHOICES,
    ratios: Sequence[Ratio] = RATIOS,
) -> tuple[ReferenceRun, ...]:
    """Run every choice under every ratio; ``tell`` hears what happens. Raises ``ClusterError`` or ``LoadError``."""
    folder.mkdir(parents=True, exist_ok=True)
    runs: list[ReferenceRun] = []
    for choice in choices:
        tell(f"{choice.title}: starting {choice.n} nodes")
        with workspace(Path(tempfile.gettempdir()), "raftkv-reference4") as home:
            sites = loopback_sites(choice.n)
            with LocalCluster(home, sites, choice.sections, mode=choice.mode) as cluster:
                cluster.start()
                cluster.wait_ready()
                establish(cluster, choice)
                for ratio in ratios:
                    runs.append(measure(cluster, choice, ratio, settings))
                    (folder / f"{runs[-1].name}.json").write_bytes(msgspec.json.encode(runs[-1]))
                    tell(f"  {ratio}: {told(runs[-1].result)}")
    return tuple(runs)


def measure(cluster: LocalCluster, choice: Choice, ratio: Ratio, settings: Settings) -> ReferenceRun:
    """One run on a cluster that ``choice`` was set on; raises ``ClusterError`` when it is not in force."""
    if choice.mode == "raft":  # without a leader every write was on all nodes before its client went on
        cluster.wait_level(SETTLE_S)  # what an earlier run left under way must not slow this one
    assert_in_force(cluster, choice)
    plan = choice.plan(
        ratio,
        seconds=settings.seconds,
        warm_up_s=settings.warm_up_s,
        seed=settings.seed,
        clients=settings.clients,
    )
    servers = [LoadTarget(site.http.host, site.http.port) for site in cluster.sites.values()]
    leader = cluster.leader() if choice.mode == "raft" else None
    writers = () if leader is None else (cluster.nodes.index(leader),)
    result = uvloop.run(run(plan, servers, RaftkvDialect(plan), writers=writers))
    if leader is not None and cluster.leader() != leader:
        raise ClusterError(f"{leader} did not stay the leader while {choice.title}, {ratio} was measured")
    return ReferenceRun(choice=choice, result=result)


def load(folder: Path) -> tuple[ReferenceRun, ...]:
    """The runs whose results ``folder`` has, in the order of choices and ratios."""
    found = [msgspec.json.decode(path.read_bytes(), type=ReferenceRun) for path in folder.glob("*.json")]
    order = [choice.name for choice in CHOICES]
    return tuple(sorted(found, key=lambda run: (order.index(run.choice.name), run.ratio.write_share)))


def told(result: Result) -> str:
    """A result in one line."""
    means = [f"a {kind} takes {each.mean_ms:.0f} ms" for kind, each in result.latency.items()]
    fresh = result.freshness
    parts = [f"{result.per_second:.0f} op/s", *means, f"{fresh.stale} of {fresh.reads} reads stale"]
    return ", ".join([*parts, f"{result.error_count} errors"] if result.error_count else parts)
