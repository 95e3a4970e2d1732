"""What the comparison of programs counts and checks: their lines, their calls, and every way to be wrong."""

import io
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from bench import programs
from bench.programs import SCENARIOS, Changes, Inside, ProgramComparison, Taken, miscounted, repeat, run, table
from bench.surroundings import observe
from bench.user_programs import PARTS, EtcdPrograms, RaftkvPrograms, line_count


class Written:
    """Programs whose lines are known."""

    def alone(self):
        """Not a line."""
        # nor this
        return sum(
            (1,
             2)
        )  # fmt: skip

    def helped(self):
        with self._held() as one:
            return [self._twice(each) for each in (one, one)]

    @contextmanager
    def _held(self):
        """Needed, and needing."""
        yield self._twice(1)

    @staticmethod
    def _twice(number):
        return 2 * number

    def unused(self):
        return self.alone()


def test_lines_are_statements_of_a_program_and_of_all_that_it_needs_once():
    assert line_count(Written, ("alone",)) == 1
    # its own two, the manager's three with its decorator, and the helper's three, though it is called twice
    assert line_count(Written, ("helped",)) == 2 + 3 + 3
    assert line_count(Written, ("alone", "helped")) == 1 + 8


def test_raftkv_s_programs_are_as_short_as_is_said():
    assert {name: line_count(RaftkvPrograms, parts) for name, parts in PARTS.items()} == {
        "lock": 2,
        "election": 2,
        "reload": 1,
        "counter": 1,
        "registry": 4,
    }


def test_etcd_s_programs_need_what_connects_them():
    asking = line_count(EtcdPrograms, ("_ask",))

    assert all(line_count(EtcdPrograms, parts) > asking for parts in PARTS.values())


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [([], 0), ([3, 1, 2], 0), ([1, 2, 2], 1), ([1, 3], 1), ([1, 1, 4], 3)],
    ids=["nothing", "any order", "twice", "lost", "both"],
)
def test_numbers_that_are_lost_or_told_twice_are_counted(numbers, wrong):
    assert miscounted(numbers) == wrong


def test_a_change_is_heard_of_when_it_or_a_later_one_is_shown():
    changes = Changes()
    changes.acknowledged_s = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    changes.shown = [(-1, 0.5), (0, 1.5), (2, 3.5)]

    assert changes.late_ms(0.0) == [500.0, 1500.0, 500.0]
    assert changes.late_ms(2.0) == [1500.0, 500.0]
    assert changes.faults == 1  # the last one never was
    changes.shown += [(3, 4.1), (2, 4.2), (3, 4.3)]
    assert changes.faults == 1  # one that went back


def test_two_at_once_where_one_may_be_is_a_fault():
    inside = Inside()
    inside.visit()
    assert inside.faults == 0
    inside._held.acquire()
    inside.visit()

    assert inside.faults == 1


class Scripted:
    """A user whose calls do what they are told."""

    def __init__(self, *, admits_all=False, finds=(b"10.0.0.7:80",)):
        self.admits_all = admits_all
        self.finds = list(finds)
        self.served = 0
        self.number = 0

    def lock(self, _name, work):
        if self.admits_all:
            work.__self__._held.acquire(blocking=False)  # as though another were in
        work()

    def elect(self, name, _value, work):
        self.lock(name, work)

    def count(self, _name):
        self.number += 1
        if self.number == 2:
            raise OSError("no answer, whatever was done")
        return self.number

    def serve(self, _name, _address, work):
        work()
        self.served += 1

    def find(self, _name):
        return self.finds


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(programs, "WARM_UP_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_calls_that_fail_are_faults_and_no_calls():
    user = Scripted()
    taken = run("counter", [user], 0.05, lambda: 0.0)

    assert taken.faults == 1 + 1  # it failed, and a number is missing
    assert 0 < len(taken.calls_ms) < user.number


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("program", ["lock", "election"])
def test_who_is_let_in_beside_another_is_a_fault(program):
    assert run(program, [Scripted()], 0.01, lambda: 0.0).faults == 0
    assert run(program, [Scripted(admits_all=True)], 0.01, lambda: 0.0).faults > 0


@pytest.mark.usefixtures("at_once")
def test_a_service_that_is_not_found_or_found_when_it_is_gone_is_a_fault():
    server = Scripted()
    never = run("registry", [server, Scripted(finds=())], 0.01, lambda: 0.0)
    assert never.faults == server.served
    always = run("registry", [server, Scripted()], 0.01, lambda: 0.0)

    assert always.faults == 1


@pytest.mark.usefixtures("at_once")
def test_a_defect_ends_the_run():
    def call():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        repeat([call], 0.01, lambda: 0.0)


def test_a_turn_says_what_one_call_took():
    found = Taken([3.0, 1.0, 2.0], 0.3, 2.0, 1).turn("raft", "lock", 1)

    assert (found.p50_ms, found.p95_ms, found.calls_per_s, found.faults) == (2.0, 3.0, 1.5, 1)
    assert found.cluster_ms_per_call == pytest.approx(100.0)


def test_the_table_has_a_row_for_each_program_and_system_and_fits_a_hundred_columns(tmp_path: Path):
    taken = Taken([12345.678] * 9, 1.0, 1.0, 0)
    turns = tuple(taken.turn(system, *scenario) for scenario in SCENARIOS for system in ("etcd", "raft"))
    lines = {system: dict.fromkeys(PARTS, 999) for system in ("etcd", "raft")}
    found = ProgramComparison(surroundings=observe(tmp_path), seconds=1.0, lines=lines, turns=turns)
    console = Console(file=io.StringIO(), width=100)
    console.print(table(found))
    rows = console.file.getvalue().splitlines()

    assert sum("12345.68" in row for row in rows) == 2 * len(SCENARIOS)
    assert max(map(len, rows)) <= 100
    assert not any("…" in row for row in rows)
