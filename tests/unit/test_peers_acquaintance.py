"""Old copies of a disk, emptied disks and strange rules are found out by what nodes say when they greet."""

from itertools import count

import msgspec
import pytest

from raftkv.formats.greetings import PROTOCOLS, PROTOCOLS_BEFORE, Greeting
from raftkv.formats.identity import Identity
from raftkv.peers.acquaintance import DISKS_MAX, greeting_of, is_replaced, misfit, own_fault, with_met
from raftkv.storage.identity import STARTS_MAX, started

RULES = {"rule": 1}
nonces = count()


def begin(identity):
    return started(identity, f"{next(nonces):x}")


def disk(node, number):
    return Identity(node=node, disk=f"{node}-{number}", starts=(), rules={})


def greets(identity) -> Greeting:
    return greeting_of(identity, RULES, is_blank=False)


def meet(one, other):
    """Both greet; why they part, by either, or both as they are afterwards."""
    said, answered = greets(one), greets(other)
    reasons = [
        misfit(one, RULES, answered),
        own_fault(one, answered),
        misfit(other, RULES, said),
        own_fault(other, said),
    ]
    return [reason for reason in reasons if reason] or (with_met(one, answered), with_met(other, said))


@pytest.fixture
def n1():
    return begin(disk("n1", 1))


def test_a_node_that_restarts_and_reconnects_is_welcome(n1):
    n2 = disk("n2", 1)
    for _ in range(3):
        n2 = begin(n2)
        n1, n2 = meet(n1, n2)
        assert meet(n1, n2) == (n1, n2)  # nothing new is learnt on a second connection


@pytest.mark.parametrize("restarts", range(1, 5))
def test_an_old_copy_is_found_out_however_often_it_has_started_since(n1, restarts):
    copy = n2 = begin(disk("n2", 1))
    for _ in range(2):
        n2 = begin(n2)
        n1, n2 = meet(n1, n2)
    for _ in range(restarts):
        copy = begin(copy)

    reasons = meet(n1, copy)
    assert isinstance(reasons, list)
    assert "its data is a copy from before its start 3" in " ".join(reasons) or restarts == 2
    assert "its data is a copy" in " ".join(reasons)


def test_two_processes_with_copies_of_one_disk_are_told_apart(n1):
    disk_of_n2 = begin(disk("n2", 1))
    n1, _ = meet(n1, begin(disk_of_n2))

    assert any("another process has made start 2" in reason for reason in meet(n1, begin(disk_of_n2)))


def test_who_was_away_learns_from_the_others_what_starts_there_were(n1):
    n3, n2, copy = begin(disk("n3", 1)), begin(disk("n2", 1)), disk("n2", 1)
    n1, n2 = meet(n1, n2)
    n3, n1 = meet(n3, n1)

    assert isinstance(meet(n3, begin(copy)), list)


def test_an_emptied_disk_is_known_and_the_one_before_it_is_never_taken_back(n1):
    old, new = begin(disk("n2", 1)), begin(disk("n2", 2))
    n1, old = meet(n1, old)
    assert not is_replaced(old, greets(n1))
    assert is_replaced(new, greets(n1))

    n1, new = meet(n1, new)
    assert not is_replaced(new, greets(n1))
    assert any("was replaced since" in reason for reason in meet(n1, begin(old)))


def test_in_whatever_order_disks_are_heard_of_the_newest_stays_welcome(n1):
    n3, old, new = begin(disk("n3", 1)), begin(disk("n2", 1)), begin(disk("n2", 2))
    n1, _ = meet(n1, old)
    n3, new = meet(n3, new)
    n1, n3 = meet(n1, n3)

    assert isinstance(meet(n3, new), tuple)
    assert isinstance(meet(n1, new), tuple)


def test_other_rules_are_told_on_both_sides(n1):
    n2 = begin(disk("n2", 1))

    assert misfit(n1, {"rule": 2}, greets(n2)) == "n2 has other rules: rule 1 (here 2)"
    assert misfit(n2, RULES, greeting_of(n1, {"rule": 2}, is_blank=False)) == "n1 has other rules: rule 2 (here 1)"


def test_what_is_remembered_is_bounded(n1):
    for number in range(3 * DISKS_MAX):
        n1, _ = meet(n1, begin(disk("n2", number)))
    for _ in range(STARTS_MAX + 5):
        n1 = begin(n1)

    assert len(n1.others["n2"]) == DISKS_MAX
    assert n1.others["n2"][f"n2-{3 * DISKS_MAX - 1}"].is_replaced is False
    assert len(n1.starts) == STARTS_MAX
    assert n1.life.start == STARTS_MAX + 6


@pytest.mark.parametrize(
    ("protocols", "which"), [(PROTOCOLS_BEFORE, "an older"), ((1, 2), "an older"), ((PROTOCOLS[1] + 1, 9), "a newer")]
)
def test_who_is_too_old_or_too_new_to_be_spoken_to_is_told_so_before_any_rule(protocols, which):
    n1, n2 = begin(disk("n1", 1)), begin(disk("n2", 1))
    greeting = msgspec.structs.replace(greeting_of(n1, {"rule": 2}, is_blank=False), protocols=protocols)

    said = misfit(n2, RULES, greeting)

    assert said.startswith(f"n1 runs {which} version of raftkv: it speaks protocols {protocols[0]} to {protocols[1]}")


@pytest.mark.parametrize("protocols", [PROTOCOLS, (1, PROTOCOLS[1]), (PROTOCOLS[0], 99)])
def test_versions_whose_protocols_overlap_fit(protocols):
    greeting = msgspec.structs.replace(greeting_of(begin(disk("n1", 1)), RULES, is_blank=False), protocols=protocols)

    assert misfit(begin(disk("n2", 1)), RULES, greeting) == ""


def test_a_greeting_without_versions_is_of_a_version_before_and_one_with_more_fields_is_read():
    greeting = greets(begin(disk("n1", 1)))
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(greeting))

    before = msgspec.msgpack.decode(msgspec.msgpack.encode(fields[:-4]), type=Greeting)
    later = msgspec.msgpack.decode(msgspec.msgpack.encode([*fields, "more"]), type=Greeting)

    assert (before.protocols, before.reads) == (PROTOCOLS_BEFORE, 1)
    assert later == greeting
