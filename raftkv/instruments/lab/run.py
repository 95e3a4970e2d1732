"""A scenario's run: each variant gets a fresh cluster of real processes, the same workload and the same faults.

After the last fault everything is healed and given time to agree; then every key is looked at once more, as strongly as
the variant's mode can, so that a report can tell what was lost for good from what was only late. What was seen is
written down as it was; nothing is judged here. Rules: clusters live in a directory of their own that is gone
afterwards, or with the next run if this one is killed; every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from random import Random
from typing import Final

from raftkv.api import paths
from raftkv.backup.fetching import workspace
from raftkv.instruments.lab.dialect import ClientStep
from raftkv.instruments.lab.exchange import channel, observe
from raftkv.instruments.lab.faults import Loss, Throttle
from raftkv.instruments.lab.history import LAST_LOOK, GetAction, History, ObservedOperation, Outcome
from raftkv.instruments.lab.namespaces import Namespaces, why_unavailable
from raftkv.instruments.lab.nemesis import FaultEvent, Nemesis, play
from raftkv.instruments.lab.probe import measured_delays
from raftkv.instruments.lab.record import SCENARIO, Evidence, LabRun, Performed, write_evidence, write_run
from raftkv.instruments.lab.scenario import Scenario, ScenarioError, Variant
from raftkv.instruments.lab.workload import Clients
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError, Site, loopback_sites, wait_until

Tell = Callable[[str], None]

OUTCOMES: Final = {Outcome.OK: "answered", Outcome.FAILED: "refused", Outcome.UNKNOWN: "of unknown outcome"}

AGREE_S: Final = 20.0
"""How long nodes are waited for, when all is healed, to hand over what they keep for each other."""

LOOK_S: Final = 5.0
REPAIR_S: Final = 30.0


def perform(
    name: str,
    scenario: Scenario,
    folder: Path,
    *,
    source: str,
    command: str,
    tell: Tell,
    in_namespaces: bool = False,
) -> LabRun:
    """Run every variant and write everything into ``folder``; raises ``ClusterError`` when a cluster does not start.

    ``source`` is the text that the scenario was read from. With ``in_namespaces`` every node has a network of its own;
    raises ``ScenarioError`` where that cannot be had, or is needed and not asked for.
    """
    reason = why_unavailable() if in_namespaces else None
    if not in_namespaces and any(isinstance(planned.fault, Loss | Throttle) for planned in scenario.fault):
        reason = "loss and throttle happen to a node's own network only: run this with --namespaces"
    if reason is not None:
        raise ScenarioError(reason)
    began = dt.datetime.now(dt.UTC)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCENARIO).write_text(source)
    performed = []
    expected_s = [scenario.expected_s(variant) for variant in scenario.variant]
    pace, began_s = 1.0, time.monotonic()
    for number, variant in enumerate(scenario.variant, start=1):
        left = f"{number}/{len(scenario.variant)}, about {pace * sum(expected_s[number - 1 :]):.0f} s left"
        tell(f"[{left}] {variant.name}: {variant.about}")
        with Namespaces(scenario.nodes) if in_namespaces else contextlib.nullcontext() as namespaces:
            evidence = perform_variant(scenario, variant, folder, tell, namespaces)
        write_evidence(folder, evidence)
        performed.append(evidence.performed)
        pace = (time.monotonic() - began_s) / sum(expected_s[:number])
    run = describe(name, scenario, began, command=command, performed=tuple(performed), in_namespaces=in_namespaces)
    write_run(folder, run)
    return run


def describe(
    name: str,
    scenario: Scenario,
    began: dt.datetime,
    *,
    command: str,
    performed: tuple[Performed, ...],
    story: str = "",
    in_namespaces: bool = False,
    by_hand: bool = False,
) -> LabRun:
    """A run that began at ``began``, with the machine and the versions it ran on."""
    return LabRun(
        name=name,
        scenario=scenario,
        command=command,
        started=began.isoformat(timespec="milliseconds"),
        machine=f"{platform.system()} {platform.release()}, {os.cpu_count()} cores",
        versions={"raftkv": importlib.metadata.version("raftkv"), "python": platform.python_version()},
        performed=performed,
        story=story,
        in_namespaces=in_namespaces,
        by_hand=by_hand,
    )


def perform_variant(
    scenario: Scenario, variant: Variant, folder: Path, tell: Tell, namespaces: Namespaces | None = None
) -> Evidence:
    """Run one variant; its cluster's configuration and logs go to ``folder``."""
    sites = loopback_sites(scenario.nodes) if namespaces is None else namespaces.sites
    with started(variant, sites, folder) as cluster:
        delays = measured_delays(cluster) if scenario.is_probed(variant) else ()
        servers = {site.id: site.http for site in cluster.sites.values()}
        random = Random(f"{scenario.seed}/faults")  # noqa: S311  a plan, not a secret
        began_ns = time.monotonic_ns()

        def observe(event: FaultEvent) -> None:
            tell(f"      {(event.at_ns - began_ns) / 1e9:5.1f} s  {event.fault.words} {event.what}s")

        nemesis = Nemesis(cluster, random=random, namespaces=namespaces, observe=observe)
        with Clients(scenario.workload_of(variant), servers) as clients:
            began_ns = time.monotonic_ns()
            with nemesis:
                play(nemesis, scenario.fault, threading.Event())
                time.sleep(max(0.0, began_ns / 1e9 + scenario.duration_s - time.monotonic()))
        ended_ns = time.monotonic_ns()
        counts = clients.counts()
        tell("      " + ", ".join(f"{counts[outcome]:,} {words}" for outcome, words in OUTCOMES.items()))
        agree(cluster, nemesis.destroyed)
        history = last_look(cluster, clients.history(), n=variant.replicas, destroyed=nemesis.destroyed)
        deaths = [*nemesis.deaths, *cluster.ended().items()]
    performed = Performed(
        variant=variant,
        began_ns=began_ns,
        ended_ns=ended_ns,
        deaths=deaths,
        destroyed=sorted(nemesis.destroyed),
    )
    return Evidence(performed=performed, history=history, events=tuple(nemesis.events), delays=delays)


@contextlib.contextmanager
def started(variant: Variant, sites: Sequence[Site], folder: Path) -> Iterator[LocalCluster]:
    """A cluster of ``variant`` at ``sites`` that is ready; only its configuration and logs stay, in ``folder``."""
    with workspace(Path(tempfile.gettempdir()), "raftkv-lab") as home:
        try:
            with LocalCluster(home, sites, variant.sections(), mode=variant.mode) as cluster:
                cluster.start()
                cluster.wait_ready()
                yield cluster
        finally:
            kept = folder / variant.slug
            kept.mkdir(parents=True, exist_ok=True)
            for path in [home / "cluster.toml", *home.glob("*.log")]:
                shutil.copy(path, kept)


def agree(cluster: LocalCluster, destroyed: AbstractSet[str] = frozenset()) -> None:
    """Wait until the nodes that are left serve and have told each other what they know."""
    left = [node for node in cluster.nodes if node not in destroyed]
    cluster.wait_ready(*left)
    if cluster.mode == "raft":
        return
    if not destroyed:
        wait_until(lambda: not _hints_pending(cluster), "hints to be handed over", AGREE_S)
    for node in left:
        answer = cluster.ask(node, paths.REPAIR, REPAIR_S, method="POST")
        if answer is None or answer[0] != 200:
            raise ClusterError(f"{node} was asked to repair and answered {answer}")


def _hints_pending(cluster: LocalCluster) -> int:
    statuses = [cluster.status(node) for node in cluster.nodes]
    return sum(1 if status is None else status.hints_pending or 0 for status in statuses)


def last_look(
    cluster: LocalCluster, history: History, *, n: int = 3, destroyed: AbstractSet[str] = frozenset()
) -> History:
    """``history`` with one more read of every key by a new client, from all of ``n`` replicas or through the leader."""
    left = [node for node in cluster.nodes if node not in destroyed]
    query = "consistency=linearizable" if cluster.mode == "raft" else f"r={min(n, len(left))}"
    client = 1 + max((operation.client for operation in history), default=0)
    return History([*history, *asyncio.run(_looks(cluster.sites[left[0]], history.by_key(), client, query))])


async def _looks(site: Site, keys: Iterable[bytes], client: int, query: str) -> list[ObservedOperation]:
    looks = []
    with contextlib.closing(channel(site.http)) as asked:
        for key in keys:
            step = ClientStep(key=key, action=GetAction())
            found, look = await observe(
                asked, step, client=client, node=site.id, timeout_s=LOOK_S, query=query, note=LAST_LOOK
            )
            if found.outcome is not Outcome.OK:
                raise ClusterError(f"{site.id} cannot show {key!r} although all is healed: {found.note}")
            looks.append(look)
    return looks
