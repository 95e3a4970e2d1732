"""The log against a plain list, over a disk that crashes and tears, whatever is done to it in whatever order."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.instruments.sim.disk import Crashed, VirtualDisk
from tests.unit.opened_log import open_log


class Model:
    """What the log should say, and what it may say after a crash."""

    def __init__(self):
        self.entries, self.term, self.voted_for, self.commit = [], 0, None, 0
        self.forgotten = {}  # index -> entry: may come back with its segment
        self.flushed = self.state()

    def state(self):
        return (tuple(self.entries), self.term, self.voted_for, dict(self.forgotten))

    def after_crash(self):
        """The last flush, all that followed, or a new segment's header only: it brings the vote before the entries."""
        now = self.state()
        return self.flushed, now, (self.flushed[0], now[1], now[2], self.flushed[3])

    def adopt(self, log):
        self.entries, self.term, self.voted_for = list(log.entries), log.term, log.voted_for
        self.commit = log.commit_index
        self.forgotten = {}
        self.flushed = self.state()


def matches(log, state):
    """Does the log say this, but for forgotten entries in front?"""
    entries, term, voted_for, forgotten = state
    found = list(log.entries)
    extra = found[: len(found) - len(entries)]
    return (
        (log.term, log.voted_for) == (term, voted_for)
        and tuple(found[len(extra) :]) == entries
        and all(forgotten.get(entry[1]) == entry for entry in extra)
        and log.size_bytes == sum(len(entry[0]) for entry in found)
        and log.commit_index <= log.last_index
        and [entry[1] for entry in found] == list(range(log.first_index, log.last_index + 1))[: len(found)]
    )


def do_append(log, model, number):
    for _ in range(1 + number % 4):
        index = model.entries[-1][1] + 1 if model.entries else 1 + number % 50
        if not model.entries:
            model.forgotten = {}
        entry = (random.Random(number + index).randbytes(number % 900), index, model.term)
        model.entries.append(entry)
        log.append(*entry)


def do_truncate(log, model, number):
    if model.entries:
        index = model.entries[-(1 + number % len(model.entries))][1]
        del model.entries[index - model.entries[0][1] :]
        log.truncate_from(index)


def do_vote(log, model, number):
    model.term, model.voted_for = model.term + 1, (None, "n1", "n2")[number % 3]
    log.set_vote(model.term, model.voted_for)


def do_commit(log, model, number):
    model.commit = number % (model.entries[-1][1] + 1) if model.entries else 0
    log.set_commit(model.commit)


def do_flush(log, model, _number):
    log.flush()
    model.flushed = model.state()


def do_rotate(log, model, _number):
    log.rotate()
    model.flushed = model.state()


def do_drop(log, model, number):
    if model.entries:
        index = model.entries[number % len(model.entries)][1]
        count = index - model.entries[0][1]
        gone = {entry[1]: entry for entry in model.entries[:count]}
        model.forgotten |= gone
        entries, term, voted_for, forgotten = model.flushed
        model.flushed = (tuple(entry for entry in entries if entry[1] >= index), term, voted_for, forgotten | gone)
        del model.entries[:count]
        log.drop_before(index)


def do_reset(log, model, number):
    base = (model.entries[-1][1] if model.entries else 0) + 1 + number % 30
    model.entries = [(b"previous", base, model.term), (b"last" * 40, base + 1, model.term)]
    model.commit, model.forgotten = base + 1, {}
    log.reset(*model.entries)
    model.flushed = model.state()


ACTIONS = {
    "append": do_append,
    "truncate": do_truncate,
    "vote": do_vote,
    "commit": do_commit,
    "flush": do_flush,
    "rotate": do_rotate,
    "drop": do_drop,
    "reset": do_reset,
}


def perform(log, model, operation):
    """Do one operation to both; the model first, so that it knows what was attempted when the disk crashes."""
    kind, number = operation
    ACTIONS[kind](log, model, number)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "append", "append", "flush", "flush", "truncate", "vote", "commit", "rotate", "drop", "reset"]
        ),
        st.integers(0, 10_000),
    ),
    max_size=40,
)


def keep_flushed_entries_only(operations):
    """Raft drops only what a durable snapshot covers, and flushes before it takes one."""
    result = []
    for operation in operations:
        if operation[0] == "drop":
            result.append(("flush", 0))
        result.append(operation)
    return result


@given(operations=OPERATIONS, reopen_at=st.sets(st.integers(0, 40)))
@settings(max_examples=150, deadline=None)
def test_the_log_says_what_a_list_would_say_also_after_reopening(operations, reopen_at):
    disk, model = VirtualDisk(), Model()
    log = open_log(disk)
    for position, operation in enumerate(operations):
        perform(log, model, operation)

        assert list(log.entries) == model.entries
        assert log.size_bytes == sum(len(entry[0]) for entry in model.entries)
        assert (log.term, log.voted_for, log.commit_index) == (model.term, model.voted_for, model.commit)
        if position in reopen_at:
            log.close()
            log = open_log(disk)

            assert matches(log, model.state())
            assert log.commit_index == min(model.commit, log.last_index)
            model.adopt(log)


@given(
    operations=OPERATIONS,
    crashes=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 1 << 30)), min_size=1, max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_after_a_crash_all_that_was_flushed_is_there_and_nothing_is_altered(operations, crashes):
    disk, model = VirtualDisk(), Model()
    operations = keep_flushed_entries_only(operations)
    log = None
    for crash_at, seed in crashes:
        disk.steps, disk.crash_at = 0, crash_at
        try:
            if log is None:
                log = open_log(disk)
            while operations:
                perform(log, model, operations.pop(0))
        except Crashed:
            pass
        disk = disk.after_crash(seed)
        log = open_log(disk)

        assert any(matches(log, state) for state in model.after_crash())
        model.adopt(log)
        # What the open said must hold through another crash right away: it was made durable.
        disk = disk.after_crash(seed + 1)
        log = open_log(disk)
        assert matches(log, model.flushed)
        model.adopt(log)


SCENARIO = [
    ("append", 700),
    ("flush", 0),
    ("vote", 1),
    ("append", 803),
    ("flush", 0),
    ("rotate", 0),
    ("append", 402),
    ("flush", 0),
    ("append", 600),
    ("rotate", 0),
    ("drop", 9),
    ("append", 10),
    ("flush", 0),
    ("reset", 5),
    ("append", 899),
    ("flush", 0),
    ("rotate", 0),
    ("append", 3),
    ("rotate", 0),
    ("drop", 4),
    ("reset", 1),
]


def play(disk, model):
    log = open_log(disk)
    for operation in SCENARIO:
        perform(log, model, operation)


def test_a_crash_before_or_after_any_step_of_compaction_is_survived():
    rehearsal = VirtualDisk()
    play(rehearsal, Model())
    for kind in ("create", "rename", "remove", "sync directory", "write", "sync 0"):
        assert any(name.startswith(kind) for name in rehearsal.journal)

    for crash_at in range(1, rehearsal.steps + 1):
        for seed in range(12):
            disk, model = VirtualDisk(crash_at=crash_at), Model()
            with pytest.raises(Crashed):
                play(disk, model)
            again = open_log(disk.after_crash(seed))

            assert any(matches(again, state) for state in model.after_crash())
