"""The front-end's view of the applied state: it shows what was committed, whatever it has seen before."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.core.requests import Get, List
from raftkv.core.results import Found, KeyPage, KeyRecord, Missing
from raftkv.core.rights import NOBODY
from raftkv.frontend.applied import AppliedState

# In a process of its own, as a replica is: LMDB opens one environment once in a process.
WRITES = """
import sys
from pathlib import Path
from raftkv.core.requests import Delete, Put, Write
from raftkv.formats import entries, layout
from raftkv.machine.conversion import command_of
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import RepeatLimits
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import open_state

directory = Path(sys.argv[1])
tables = StateTables(open_state(directory, layout.TABLES), layout.TABLES, directory)
machine = Machine(tables, RepeatLimits())
for line in sys.stdin:
    key, _, value = line.rstrip().partition(" ")
    operation = Put(key=key.encode(), value=bytes.fromhex(value)) if value else Delete(key=key.encode())
    index = machine.applied_index + 1
    machine.apply(index, 1, entries.encode(1000 + index, 1, index, command_of(Write(operations=(operation,)))))
    tables.commit()
    print(machine.revision, flush=True)
"""


class Writer:
    """Commits one change after another."""

    def __init__(self, directory: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, "-c", WRITES, str(directory)], **pipes)

    def write(self, key: str, value: bytes) -> int:
        """Without a value the key goes; the revision."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(key, value.hex(), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    found = Writer(tmp_path / "state")
    found.write("k", b"v")
    yield found
    found.close()


@pytest.fixture
def state(writer: Writer, tmp_path: Path) -> Iterator[AppliedState]:
    assert writer
    found = AppliedState(str(tmp_path / "state"))
    yield found
    found.close()


def look(state: AppliedState, key: bytes = b"k") -> Found:
    with state:
        found = state.read(Get(key=key), NOBODY)
    assert isinstance(found, KeyRecord | Missing)
    return found


def test_what_was_found_under_a_key_is_no_answer_to_another_question(state: AppliedState) -> None:
    look(state)
    with state:
        page = state.read(List(start=b"", end=b"\xff", limit=10), NOBODY)
        past = state.read(Get(key=b"k", revision=99), NOBODY)

    assert isinstance(page, KeyPage)
    assert not isinstance(past, KeyRecord)


def test_every_view_shows_what_was_committed_before_it(state: AppliedState, writer: Writer) -> None:
    chance, holds, revision = random.Random(7), {"k": b"v"}, 1
    for _ in range(300):
        key = f"k{chance.randrange(4)}"
        if chance.random() < 0.3:
            holds[key] = chance.randbytes(chance.choice([0, 3]))
            revision = writer.write(key, holds[key])
        found = look(state, key.encode())
        assert (found.value if isinstance(found, KeyRecord) else b"") == holds.get(key, b"")
        assert state.revision == revision
