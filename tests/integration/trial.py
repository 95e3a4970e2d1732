"""A trial: a real cluster under a real workload is disturbed, healed, and then judged by what its clients saw.

``run_trial`` asserts what every trial asserts: the history is linearizable, with a last look at every key; every
acknowledged write is on every node, nothing refused or invented is on any, all nodes are equal; clients were served
again after the disturbance; no node ended by itself unless that was expected; nothing is left behind. With
``RAFTKV_FAULTS_REPORT`` the figures of each trial are appended to that file, as lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from raftkv.instruments.lab import checker
from raftkv.instruments.lab.disks import SmallDisk
from raftkv.instruments.lab.faults import AnyFault
from raftkv.instruments.lab.history import LAST_LOOK, History, Outcome
from raftkv.instruments.lab.namespaces import Namespaces
from raftkv.instruments.lab.nemesis import Nemesis
from raftkv.instruments.lab.run import last_look
from raftkv.instruments.lab.script import Workload
from raftkv.instruments.lab.witness import render
from raftkv.instruments.lab.workload import Clients
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites, wait_until
from tests.integration.audit import audit

SEED = int(os.environ.get("RAFTKV_FAULTS_SEED", "1"))
SOAK_S = float(os.environ.get("RAFTKV_FAULTS_S", "60"))
"""How long each of the long trials disturbs its cluster."""

RESUMED_COUNT = 50
RESUMED_S = 60.0


class Stage(msgspec.Struct, frozen=True):
    """What a disturbance has to work with."""

    cluster: LocalCluster
    nemesis: Nemesis
    clients: Clients
    disks: dict[str, SmallDisk]
    random: Random

    def progress(self, count: int) -> None:
        """Wait until so many more operations have succeeded."""
        target = self.clients.counts()[Outcome.OK] + count
        self._reach(lambda: self.clients.counts()[Outcome.OK] >= target, f"{count} more operations")

    def recovery(self) -> None:
        """Wait until every node serves."""
        self._reach(lambda: all(map(self.cluster.is_ready, self.cluster.nodes)), "all nodes to be ready")

    def _reach(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for ``condition``, and start nodes again that end meanwhile because of a fault that is over."""

        def is_reached() -> bool:
            self.nemesis.revive()
            return condition()

        wait_until(is_reached, what, RESUMED_S)

    def strike(self, fault: AnyFault, for_s: float, rest_s: float = 0.0) -> None:
        """One fault from its beginning to its end, and a rest."""
        begun = self.nemesis.begin(fault)
        time.sleep(for_s)
        self.nemesis.end(begun)
        time.sleep(rest_s)

    def storm(self, faults: list[AnyFault], seconds: float) -> None:
        """Faults of all these kinds for so many seconds, sometimes two at once, sometimes before the last is over."""
        end_s = time.monotonic() + seconds
        lasting: list[AnyFault] = []
        while time.monotonic() < end_s:
            if lasting and (len(lasting) == 2 or self.random.random() < 0.6):
                self.nemesis.end(lasting.pop(self.random.randrange(len(lasting))))
            else:
                lasting.append(self.nemesis.begin(self.random.choice(faults)))
            time.sleep(self.random.uniform(0.2, 3.0 if lasting else 1.0))
            if not lasting and self.random.random() < 0.7:
                self.progress(self.random.randrange(200))
        self.nemesis.heal()


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen: the history with a last look at every key, and each node's own copy of everything."""

    history: History
    copies: dict[str, dict[bytes, bytes]]
    died: list[tuple[str, int]]


def run_trial(home: Path, name: str, disturb: Callable[[Stage], None], *, may_die: bool = False, **kind: Any) -> None:
    """Disturb a cluster and assert that all is well; with ``may_die`` nodes may end by themselves.

    For ``kind`` see ``perform``.
    """
    trial = perform(home, name, disturb, **kind)
    began_s = time.monotonic()
    verdict = judge(trial)
    found = audit(trial.history, trial.copies)
    report(name, checked_s=round(time.monotonic() - began_s, 2), audited_keys=found.acknowledged_count)

    assert isinstance(verdict, checker.Linearizable), told(verdict, home)
    assert not found, found
    assert may_die or not trial.died, f"nodes ended by themselves: {trial.died}"


def judge(trial: Trial) -> checker.Verdict:
    """Is what the clients saw linearizable?"""
    return checker.check(trial.history)


def perform(
    home: Path,
    name: str,
    disturb: Callable[[Stage], None],
    *,
    size: int = 3,
    sections: str = "",
    workload: Workload | None = None,
    in_namespaces: bool = False,
    under: dict[str, tuple[str, ...]] | None = None,
    disk_bytes: int = 0,
) -> Trial:
    """Disturb a cluster and heal it; ``under`` are commands that nodes run under, ``disk_bytes`` sizes small disks."""
    workload = workload or Workload(seed=SEED, clients=40)
    random = Random(f"{name}/{SEED}")
    with contextlib.ExitStack() as stack:
        namespaces = stack.enter_context(Namespaces(size)) if in_namespaces else None
        sites = namespaces.sites if namespaces is not None else loopback_sites(size)
        sites = tuple(msgspec.structs.replace(s, under=(under or {}).get(s.id, ()) + s.under) for s in sites)
        cluster = LocalCluster(home, sites, sections)
        disks = {node: SmallDisk(cluster.data_dir(node), disk_bytes) for node in cluster.nodes if disk_bytes}
        for disk in disks.values():
            stack.enter_context(disk)
        stack.enter_context(cluster)
        nemesis = Nemesis(cluster, random=random, namespaces=namespaces, disks=disks)
        stack.callback(lambda: (home / "events.json").write_bytes(msgspec.json.encode(nemesis.events)))
        cluster.start()
        cluster.wait_ready()
        with Clients(workload, {site.id: site.http for site in sites}) as clients, nemesis:
            stage = Stage(cluster, nemesis, clients, disks, random)
            stage.progress(100)
            disturb(stage)
            nemesis.heal()
            healed_s = time.monotonic()
            stage.progress(RESUMED_COUNT)
            resumed_s = time.monotonic() - healed_s
            stage.recovery()
            stage.progress(RESUMED_COUNT)
        cluster.wait_level()
        history = last_look(cluster, clients.history())
        copies = {node: cluster.copy(node) for node in cluster.nodes}
        trial = Trial(history=history, copies=copies, died=[*nemesis.deaths, *cluster.ended().items()])
    history.write(home / "history.jsonl")
    assert not leftovers(home)
    report(name, seed=SEED, resumed_s=round(resumed_s, 2), **_figures(trial, nemesis))
    return trial


def leftovers(home: Path) -> list[str]:
    """Processes, mounts and networks of a trial at ``home`` that should be gone."""
    found = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {home}/" in line]
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                found += [command] if f" {home}/" in command else []
    return found + [str(path) for path in Path("/sys/class/net").glob(f"rk{os.getpid()}*")]


def told(verdict: checker.Verdict, home: Path) -> str:
    story = render(verdict.witness) if isinstance(verdict, checker.NotLinearizable) else repr(verdict)
    return f"{story}\nthe whole history: {home / 'history.jsonl'}"


def _figures(trial: Trial, nemesis: Nemesis) -> dict[str, Any]:
    operations = trial.history.operations
    return {
        "seconds": round((operations[-1].invoked_ns - operations[0].invoked_ns) / 1e9, 1),
        "outcomes": Counter(operation.outcome.value for operation in operations if operation.note != LAST_LOOK),
        "resent": sum("sent " in operation.note for operation in operations),
        "faults": Counter(type(event.fault).__name__ for event in nemesis.events if event.what == "begin"),
        "deaths": len(trial.died),
    }


def report(name: str, **figures: Any) -> None:
    path = os.environ.get("RAFTKV_FAULTS_REPORT")
    if path:
        with Path(path).open("a") as lines:
            lines.write(json.dumps({"trial": name, **figures}) + "\n")
