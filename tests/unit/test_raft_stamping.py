"""A leader says in the log how far lease time has come where its stamps leap, if members are known to read that."""

from types import SimpleNamespace

import pytest

from raftkv.formats import entries
from raftkv.formats.commands import LeaseTimeCommand
from raftkv.raft.leadership.lease_time import LeaseTime
from raftkv.raft.writing.stamping import Stamping

BEFORE_MS, LEAPT_MS = 1_000_000, 9_000_000


class Log:
    term, is_leader = 1, True

    def __init__(self, *, leads_committed_term):
        self.leads_committed_term = leads_committed_term
        self.appended = []

    def append(self, command):
        self.appended.append(entries.decode(command)[1].commands)
        return 10, 1


def a_stamp(*, is_adopted, all_read, leads_committed_term):
    """A leader's that goes by 1,000 s, with a clock that leapt to 9,000 s; and what it appended."""
    log = Log(leads_committed_term=leads_committed_term)
    adopted = SimpleNamespace(events=1000 if is_adopted else 0)
    machine = SimpleNamespace(adopted=adopted, clock_ms=BEFORE_MS, leapt_ms=0, applied_index=5)
    stamping = Stamping(
        core=log,
        agreed_time=SimpleNamespace(read=lambda **_: LEAPT_MS),
        lease_time=LeaseTime(BEFORE_MS, 50.0),
        machine=lambda: machine,
        clock=lambda: 50.5,
        wall_ms=lambda: LEAPT_MS,
        all_read=lambda: all_read,
    )
    return stamping.stamp_ms(), log.appended


@pytest.mark.parametrize(("is_adopted", "all_read"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("leads_committed_term", [True, False])
def test_a_leap_is_told_where_members_are_known_to_read_it(is_adopted, all_read, leads_committed_term):
    stamp_ms, appended = a_stamp(is_adopted=is_adopted, all_read=all_read, leads_committed_term=leads_committed_term)

    assert stamp_ms == LEAPT_MS
    assert appended == [(LeaseTimeCommand(BEFORE_MS + 500),)]


def test_it_waits_as_long_as_the_state_may_tell_yet_that_they_do():
    assert a_stamp(is_adopted=False, all_read=False, leads_committed_term=False) == (BEFORE_MS + 500, [])


def test_it_is_not_told_to_members_that_do_not_read_it():
    assert a_stamp(is_adopted=False, all_read=False, leads_committed_term=True) == (LEAPT_MS, [])
