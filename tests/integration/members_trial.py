"""A trial in which members of a real raft cluster come, go, move and are replaced under load, and are killed meanwhile.

Five machines; three of them found the cluster. One operator types one command at a time, as people do, and whoever is
told to leave has its disk emptied and may join again. What is asserted is what every trial asserts (``trial.py``): the
history is linearizable, nothing acknowledged is lost, the members that are left are equal, and no node ended by itself
but those that were removed.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec

from raftkv.api.cluster_answers import Member
from raftkv.core.config import Address, parse_address
from raftkv.instruments.lab import checker
from raftkv.instruments.lab.history import Outcome
from raftkv.instruments.lab.run import last_look
from raftkv.instruments.lab.script import Workload
from raftkv.instruments.lab.workload import Clients
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import free_ports, loopback_sites, wait_until
from raftkv.process.command import module
from tests.integration.audit import audit
from tests.integration.trial import RESUMED_COUNT, SEED, Trial, judge, leftovers, report, told

FOUNDERS = 3
MACHINES = 5
REMOVED = "was removed from the cluster"
SECTIONS = "[raft]\nsnapshot_entries = 200\ntrailing_entries = 20\nsegment_bytes = 262144\n"
SETTLED_S = 120.0
WITHIN_S = 20
FOLLOW_S = 1.0
WAIT_S = 120.0


class ChangingCluster(LocalCluster):
    """Each machine has a file of its own, as it would; ``away`` are those with an empty disk, which join by it."""

    def __init__(self, home: Path) -> None:
        sites = loopback_sites(MACHINES)
        super().__init__(home, sites[:FOUNDERS], SECTIONS, newcomers=sites[FOUNDERS:], obedient=False)
        self.away = {site.id for site in sites[FOUNDERS:]}
        for site in sites[:FOUNDERS]:
            shutil.copy(self.config, self._own_config(site.id))

    def command(self, node: str) -> list[str]:
        """See ``LocalNodes``: where to ask is looked at on the first start alone."""
        others = [f"--join={site.http}" for site in self.sites.values() if site.id != node]
        return module("raftkv", "node", str(self._own_config(node)), "--id", node) + others * (node in self.away)

    def move(self, node: str, peer: Address) -> None:
        """The node's own file says this address from now on."""
        file, site = self._own_config(node), self.sites[node]
        file.write_text(file.read_text().replace(f'"{site.peer}"', f'"{peer}"'))
        self.sites[node] = msgspec.structs.replace(site, peer=peer)

    def empty(self, node: str) -> None:
        """Its disk is empty, and its file names nobody else: it will join."""
        shutil.rmtree(self.data_dir(node), ignore_errors=True)
        head, _, rest = self.config.read_text().partition("[[node]]")
        site, sections = self.sites[node], rest[rest.index("[raft]") :]
        section = f'[[node]]\nid = "{node}"\nhttp = "{site.http}"\npeer = "{site.peer}"\n'
        self._own_config(node).write_text(head + section + sections)
        self.away.add(node)

    def members(self) -> dict[str, Member]:
        """The members, as the node says that knows their newest change; one that waits to be let in knows nobody."""
        statuses = [self.status(node) for node in tuple(self.processes)]
        known = [status for status in statuses if status is not None and status.members]
        newest = max(known, key=lambda status: status.configuration_index or 0, default=None)
        return {} if newest is None else {member.id: member for member in newest.members}

    def voters(self) -> list[str]:
        """Those of them that vote."""
        return sorted(node for node, member in self.members().items() if member.state == "voter")


class Changes:
    """Who changes the members, and what happens to them meanwhile; ``counts`` has it all, ``died`` what must not."""

    def __init__(self, cluster: ChangingCluster, random: Random, home: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.died: list[tuple[str, int]] = []
        self._cluster = cluster
        self._random = random
        self._said = (home / "operator.log").open("ab")
        self._typed: tuple[str, subprocess.Popen[bytes]] | None = None
        self._due: dict[str, tuple[float, str]] = {}
        """When a node that is down is started, or one that is stopped goes on."""
        self._followed_s = 0.0

    def close(self) -> None:
        """End the operator's command."""
        if self._typed is not None:
            self._typed[1].kill()
            self._typed[1].wait()
        self._said.close()

    # --- the operator

    def type(self, *words: str) -> None:
        """Begin a command, if none is under way."""
        if self._typed is None:
            servers = ",".join(f"http://{self._cluster.sites[node].http}" for node in self._cluster.processes)
            command = module("raftkv", "--config", str(self._cluster.config), *words, "--server", servers)
            self._said.write(f"{time.monotonic():.1f} {' '.join(words)}\n".encode())
            self._said.flush()
            process = subprocess.Popen(command, stdout=self._said, stderr=self._said)
            self._typed = (" ".join(words[:2]) if words[0] == "members" else words[0], process)

    @property
    def is_typing(self) -> bool:
        """Is a command under way?"""
        return self._typed is not None

    def join(self, node: str) -> None:
        """Start a machine with an empty disk."""
        self.counts["join"] += 1
        self._cluster.start(node)

    def remove(self, node: str) -> None:
        self.type("members", "remove", node)

    def replace(self, old: str, new: str) -> None:
        """``old`` goes for good once ``new`` votes."""
        self.join(new)
        self.type("members", "replace", old, new, *self._at(new), f"--within={WITHIN_S}s")

    def move(self, node: str) -> None:
        """To another port for its peers; the machine follows once the members say so, see ``look``."""
        (port,) = free_ports(1)
        self.type("members", "move", node, f"--http={self._cluster.sites[node].http}", f"--peer=127.0.0.1:{port}")

    def transfer(self, node: str) -> None:
        self.type("transfer", node)

    def _at(self, node: str) -> tuple[str, str]:
        site = self._cluster.sites[node]
        return f"--http={site.http}", f"--peer={site.peer}"

    # --- faults

    def kill(self, *nodes: str, for_s: float) -> None:
        """``kill -9``; started again after a while."""
        running = [node for node in nodes if node in self._cluster.processes]
        if running:
            self.counts["kill -9"] += len(running)
            self._cluster.kill(*running)
            self._due |= {node: (time.monotonic() + for_s, "start") for node in running}

    def stop(self, node: str, *, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        if node in self._cluster.processes and node not in self._due:
            self.counts["SIGSTOP"] += 1
            self._cluster.pause(node)
            self._due[node] = (time.monotonic() + for_s, "resume")

    # --- time passes

    def look(self) -> None:
        """Undo what is due, empty the disks of those that were removed, hear of the command, and follow it."""
        now_s = time.monotonic()
        for node, (at_s, what) in list(self._due.items()):
            if now_s >= at_s:
                del self._due[node]
                if what == "resume":
                    self._cluster.resume(node)
                elif node not in self._cluster.processes:
                    self._cluster.start(node)
        for node, status in self._cluster.ended().items():
            self._due.pop(node, None)
            if status == 2 and REMOVED in self._cluster.log(node)[-2000:]:
                self.counts["left"] += 1
                self._cluster.empty(node)
            else:
                self.died.append((node, status))
        if self._typed is not None and self._typed[1].poll() is not None:
            what, process = self._typed
            self._typed = None
            self.counts[f"{what}: {'done' if process.returncode == 0 else 'not done'}"] += 1
        if self._typed is None and now_s >= self._followed_s + FOLLOW_S:
            self._followed_s = now_s
            self._follow_moves()

    def _follow_moves(self) -> None:
        """Start machines again at the ports that the members know them by, whatever the command said came of it."""
        for node, member in self._cluster.members().items():
            if member.peer and member.peer != str(self._cluster.sites[node].peer):
                self.counts["moved"] += 1
                self.kill(node, for_s=0.0)
                self._cluster.move(node, parse_address(member.peer))

    def until(self, condition: Callable[[], object], what: str, limit_s: float = WAIT_S) -> None:
        """Look until ``condition`` holds."""

        def is_reached() -> bool:
            self.look()
            return bool(condition())

        wait_until(is_reached, what, limit_s)

    def storm(self, seconds: float, progress: Callable[[int], None]) -> None:
        """Changes at random, faults while they are under way, and mostly some operations before the next."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.look()
            if not self.is_typing:
                self._change()
            for _ in range(self._random.choice((0, 1, 1, 2))):
                time.sleep(self._random.uniform(0.05, 1.5))
                self.look()
                self._fault()
            if self._random.random() < 0.8:
                progress(self._random.randrange(5, 100))

    def _change(self) -> None:
        members = self._cluster.members()
        away = sorted(node for node in self._cluster.away - members.keys() if node not in self._cluster.processes)
        ready = sorted(members.keys() & self._cluster.processes.keys())
        if not ready:
            return
        one, dice = self._random.choice(ready), self._random.random()
        if away and (len(members) < 3 or dice < 0.2):
            self.join(away[0])
        elif away and dice < 0.4:
            self.replace(self._random.choice(sorted(members)), away[0])
        elif dice < 0.6 and len(members) > 2:
            self.remove(self._random.choice(sorted(members)))
        elif dice < 0.75:
            self.move(one)
        else:
            self.transfer(one)

    def _fault(self) -> None:
        running, dice = sorted(self._cluster.processes), self._random.random()
        if not running:
            return
        lasts_s = self._random.uniform(0.1, 3.0)
        if dice < 0.05:
            self.kill(*running, for_s=0.5)
        elif dice < 0.6:
            leader = self._cluster.leader_now()
            self.kill(leader if leader and dice < 0.35 else self._random.choice(running), for_s=lasts_s)
        else:
            self.stop(self._random.choice(running), for_s=lasts_s)

    def settle(self) -> list[str]:
        """End everything, and wait until all who are left vote and agree; returns the members."""
        self._due = {node: (0.0, what) for node, (_, what) in self._due.items()}
        self.until(lambda: not self.is_typing, "the last command", SETTLED_S)
        self.until(self._agreed, "the members to agree", SETTLED_S)
        return sorted(self._cluster.members())

    def _agreed(self) -> bool:
        members = self._cluster.members()
        if not members or len(self._cluster.voters()) < len(members):
            return False
        for node in sorted(members.keys() - self._cluster.processes.keys()):
            self._cluster.start(node)
        return all(map(self._cluster.is_ready, members))


def run_members_trial(
    home: Path, name: str, disturb: Callable[[Changes, Callable[[int], None]], None], *, clients: int = 12
) -> Counter[str]:
    """Let ``disturb(changes, progress)`` do its worst, and assert that all is well; returns what happened."""
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(ChangingCluster(home))
        changes = Changes(cluster, Random(f"{name}/{SEED}"), home)
        stack.callback(changes.close)
        cluster.start(*cluster.nodes)
        cluster.wait_ready()
        workload = Workload(seed=SEED, clients=clients, keys=3, rate_per_s=150.0)
        with Clients(workload, {site.id: site.http for site in cluster.sites.values()}) as asking:

            def progress(count: int) -> None:
                target = asking.counts()[Outcome.OK] + count
                changes.until(lambda: asking.counts()[Outcome.OK] >= target, f"{count} more operations")

            progress(100)
            disturb(changes, progress)
            cluster.nodes = changes.settle()
            progress(RESUMED_COUNT)
        changes.look()
        cluster.kill(*cluster.processes.keys() - set(cluster.nodes))
        cluster.wait_level()
        history = last_look(cluster, asking.history())
        copies = {node: cluster.copy(node) for node in cluster.nodes}
    history.write(home / "history.jsonl")
    trial = Trial(history=history, copies=copies, died=changes.died)
    verdict, found = judge(trial), audit(history, copies)
    outcomes = Counter(operation.outcome.value for operation in history)
    report(name, seed=SEED, outcomes=outcomes, happened=changes.counts, members=cluster.nodes, died=trial.died)

    assert not leftovers(home)
    assert isinstance(verdict, checker.Linearizable), told(verdict, home)
    assert not found, found
    assert not trial.died, f"nodes ended by themselves: {trial.died}"
    return changes.counts
