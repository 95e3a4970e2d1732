"""The judge of rights in simulated leaderless clusters: by what a node may have judged, over the lives of its disk."""

import pytest

from raftkv.core.rights import Caller, User
from raftkv.formats.rights import ENABLED, StampedRow, encode_user, user_key
from raftkv.instruments.sim.notes import FAILED, OK, Asked
from raftkv.instruments.sim.rights_history import RightsHistory

ON = StampedRow(ENABLED, b"", 1, "n1")
MAY_NOTHING = StampedRow(user_key("u"), encode_user(User(roles=(), generation=1)), 2, "n1")
OFF = StampedRow(user_key("v"), encode_user(User(roles=(), generation=1)), 1, "n2")


def history():
    """Authentication was turned on at once, as a majority was told, and n1 judges by that from then on."""
    found = RightsHistory()
    found.validity_s = 0.1
    found.began("n1", (), 0.0)
    found.taken("n1", (ON, MAY_NOTHING), 1.0)
    found.acknowledged(2, 3, 1.0)
    return found


def put(at_s, outcome=OK, note="", kind="put"):
    return Asked(
        client=0, key=b"k", kind=kind, value=b"v", invoked_s=at_s, returned_s=at_s + 0.01, outcome=outcome, node="n1",
        note=note, n=1, r=1, w=1, caller=Caller("u", 1),
    )  # fmt: skip


def test_who_has_no_right_may_do_nothing_once_the_change_counts():
    history().check([put(1.05)], set(), 0)
    with pytest.raises(AssertionError, match="done without the right"):
        history().check([put(2.0)], set(), 0)


@pytest.mark.parametrize("disk", [(), (OFF,)])
def test_a_node_whose_disk_knows_authentication_to_be_off_lets_everybody_in_until_it_hears_otherwise(disk):
    judge = history()
    judge.taken("n2", (OFF,), 0.5)
    judge.began("n1", disk, 3.0)  # emptied, or an old copy
    judge.check([put(3.5)], set(), 0)
    judge.taken("n1", (ON, MAY_NOTHING), 4.0)

    with pytest.raises(AssertionError, match="done without the right"):
        judge.check([put(4.5)], set(), 0)


def test_a_node_that_starts_with_what_it_had_lets_nobody_in_for_that():
    judge = history()
    judge.began("n1", (ON, MAY_NOTHING), 3.0)

    with pytest.raises(AssertionError, match="done without the right"):
        judge.check([put(3.5)], set(), 0)


def test_who_has_a_right_is_not_refused_for_want_of_it():
    judge = RightsHistory()
    judge.began("n1", (), 0.0)
    refused = put(2.0, outcome=FAILED, note="Refused(code=<Code.FORBIDDEN: 'forbidden'>", kind="get")

    with pytest.raises(AssertionError, match="in spite of the right"):
        judge.check([refused], set(), 0)
