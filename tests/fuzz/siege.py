"""A real cluster under attack, and what must hold after every attack.

Mostly four members are configured and three run: the first is away, so that an attacker who holds the secret can speak
in its name. With majorities of three, one traitor cannot undo what the others have agreed on.

The judgement after an attack: every process of before is still there, every node is alive and takes writes that every
other reads, nothing was logged that a defect logs, and soon no process is larger by more than ``GROWTH_BYTES`` than
before all attacks, and the descriptors are those of then. A process that was replaced counts as one that died.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import requests

from raftkv.instruments.local.nodes import ClusterError, wait_until
from raftkv.instruments.local.processes import descendants
from raftkv.process.memory import GIVE_BACK_S
from tests.integration.processes import RealCluster

TRAITOR = "n1"
GROWTH_BYTES = 64 << 20
"""How much more memory any one process may hold during an attack than before it, and after it than before all."""

SPARE_FILES = 8
"""Files a node may rightly hold open now and not before: segments, snapshots, a state that took another's place."""

RECOVER_S = 30.0
GIVEN_BACK_S = 2 * GIVE_BACK_S
"""When a process has given back what the heap kept of an attack: it does that from time to time."""

DEFECTS = re.compile(r"Traceback|defect in|level=(?:error|critical)|\[(?:ERROR|CRITICAL)\]|Fatal error|never retrieved")


class Footprint(NamedTuple):
    """What one process holds."""

    memory_bytes: int
    sockets: int
    files: int


def footprint(pid: int) -> Footprint:
    """See ``/proc``; the process must be there."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            targets.append(str(link.readlink()))
    sockets = sum(target.startswith("socket:") for target in targets)
    return Footprint(pages * os.sysconf("SC_PAGE_SIZE"), sockets, len(targets) - sockets)


class Siege:
    """``cluster`` with what its processes held before the first attack."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.nodes = list(cluster.processes)
        self._writes = count()
        self._heard: dict[str, int] = {}
        for _ in range(20):  # what is made once and kept is made by the first requests
            self._serves()
        self.before = self._footprints()
        self._begun = self.before

    @contextmanager
    def attack(self) -> Iterator[Siege]:
        """One attack, whatever it is, and the judgement after it."""
        self._begun = self._footprints()
        yield self
        self.serves_soon()
        wait_until(self._has_let_go, "descriptors to be closed", RECOVER_S)
        with suppress(ClusterError):
            wait_until(lambda: not self._grown(self.before, GROWTH_BYTES), "memory to be given back", GIVEN_BACK_S)
        assert not self._grown(self.before, GROWTH_BYTES)

        for node in self.nodes:
            said = self._news(node)
            assert not DEFECTS.search(said), said[-4000:]

    def serves_soon(self) -> None:
        """Every node takes writes that every other reads, if not at once."""
        wait_until(self._serves, "every node to serve", RECOVER_S)

    def check_memory(self, more_bytes: int = 0) -> None:
        """No process has grown beyond bounds since the attack began, give or take ``more_bytes``."""
        assert not self._grown(self._begun, GROWTH_BYTES + more_bytes)

    def stands(self) -> bool:
        """Has no node ended? Cheap enough to ask after every single input."""
        return all(process.poll() is None for process in self.cluster.processes.values())

    def place(self, node: str) -> dict[str, int]:
        """Term and indexes of ``node`` now, for attackers that want to come close to them."""
        status = wait_until(partial(self.cluster.status, node), f"{node} to say how it stands")
        return {name: getattr(status, name) for name in ("term", "commit_index", "applied_index")}

    def _news(self, node: str) -> str:
        """What ``node`` has logged since it was asked the last time, so that each attack answers for its own."""
        log = self.cluster.log(node)
        begin, self._heard[node] = self._heard.get(node, 0), len(log)
        return log[begin:]

    def _footprints(self) -> dict[int, Footprint]:
        assert self.stands(), "a node ended"
        return {pid: footprint(pid) for node in self.nodes for pid in self._family(node)}

    def _family(self, node: str) -> set[int]:
        return descendants(self.cluster.processes[node].pid)

    def _grown(self, since: dict[int, Footprint], bound_bytes: int) -> dict[int, tuple[Footprint, Footprint]]:
        """What the processes held ``since`` and now that have grown by more than ``bound_bytes``."""
        now = self._footprints()
        assert now.keys() == since.keys(), "a process ended or was replaced"
        grown = {pid: held.memory_bytes - since[pid].memory_bytes for pid, held in now.items()}
        return {pid: (since[pid], now[pid]) for pid, more_bytes in grown.items() if more_bytes > bound_bytes}

    def _has_let_go(self) -> bool:
        now = self._footprints()
        return now.keys() != self.before.keys() or all(
            held.sockets <= self.before[pid].sockets and held.files <= self.before[pid].files + SPARE_FILES
            for pid, held in now.items()
        )

    def _serves(self) -> bool:
        """Does every node take a write that every node then reads?"""
        assert self.stands(), "a node ended"
        try:
            for writer in self.nodes:
                value = b"%d %s" % (next(self._writes), writer.encode())
                if self._ask(writer, "GET", "/livez")[0] != 200:
                    return False
                if self._ask(writer, "PUT", "/kv/siege", value)[0] not in (200, 201):
                    return False
                if any(self._ask(reader, "GET", "/kv/siege") != (200, value) for reader in self.nodes):
                    return False
        except requests.RequestException:
            return False
        return True

    def _ask(self, node: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        answer = self.cluster.request(method, node, path, data=body, timeout=RECOVER_S)
        return answer.status_code, answer.content
