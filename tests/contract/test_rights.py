"""Who may do what, as every replicator judges it: the same words for the same lack, and gone when it is taken away."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.keys import prefix_end
from raftkv.core.requests import (
    ComparedField,
    Consistency,
    Delete,
    Get,
    KeyComparison,
    List,
    Operator,
    Put,
    Read,
    Transaction,
    Write,
)
from raftkv.core.results import Answer, KeyPage, KeyRecord, Transacted, Written
from raftkv.core.rights import CLUSTER, NOBODY, Access, Caller, Permission, Role, User
from raftkv.formats.rights import AUTH, AUTH_END, ENABLED, encode_role, encode_user, rights_of, role_key, user_key
from tests.contract.conftest import Harness

ANN = Caller("ann", 1)
OWN = Permission(access=Access.BOTH, start=b"a/", end=prefix_end(b"a/"))
ROLE = Put(key=role_key("team"), value=encode_role(Role(permissions=(OWN,))))


def user(*roles: str, generation: int = 1) -> Put:
    return Put(key=user_key("ann"), value=encode_user(User(roles=roles, generation=generation)))


def change(harness: Harness, *operations: Put | Delete, caller: Caller | None = CLUSTER) -> object:
    return harness.ask(Write(operations=operations, caller=caller))


def turned_on(harness: Harness) -> None:
    assert isinstance(change(harness, ROLE, user("team"), Put(key=ENABLED, value=b"")), Written)


def write(harness: Harness, caller: Caller | None, key: bytes = b"a/1") -> object:
    return harness.ask(Write(operations=(Put(key=key, value=b"v"),), caller=caller))


def refusal(outcome: object) -> str:
    assert isinstance(outcome, Refused), outcome
    assert outcome.code is Code.FORBIDDEN
    return outcome.detail


def roster(harness: Harness) -> Answer:
    answer = harness.ask(Read(query=List(start=AUTH, end=AUTH_END, limit=100), caller=CLUSTER))
    assert isinstance(answer, Answer)
    return answer


def test_before_it_is_turned_on_everybody_may_do_everything(harness: Harness) -> None:
    assert isinstance(change(harness, ROLE, user("team")), Written)

    for caller in (None, NOBODY, ANN, Caller("eve", 5)):
        assert isinstance(write(harness, caller, b"b"), Written)


def test_a_user_may_do_what_its_roles_allow_and_the_others_are_told_why_not(harness: Harness) -> None:
    turned_on(harness)

    assert isinstance(write(harness, ANN), Written)
    assert isinstance(write(harness, CLUSTER, b"b"), Written)
    assert refusal(write(harness, ANN, b"b")) == "ann may not write the key 'b'"
    for nobody in (None, NOBODY):
        assert refusal(write(harness, nobody)) == "authentication is on, and the request does not say who asks"
    for other in (Caller("ann", 2), Caller("eve", 1)):
        assert "is no user any more, or has another password" in refusal(write(harness, other))


@pytest.mark.parametrize("level", Consistency)
def test_a_read_is_judged_at_every_level(harness: Harness, level: Consistency) -> None:
    if level not in harness.replicator.status().offers:
        pytest.skip("not offered")
    turned_on(harness)
    assert isinstance(write(harness, ANN), Written)

    def read(key: bytes, caller: Caller) -> object:
        return harness.ask(Read(query=Get(key=key), consistency=level, caller=caller))

    harness.until(lambda: isinstance(getattr(read(b"a/1", ANN), "content", None), KeyRecord))
    assert "may not read the key" in refusal(read(b"b", ANN))
    for nobody in (NOBODY, Caller("ann", 2)):
        refusal(read(b"a/1", nobody))


def test_a_list_needs_the_right_to_all_of_its_span(harness: Harness) -> None:
    turned_on(harness)
    whole = Read(query=List(start=b"", end=b"z", limit=5), consistency=harness.usual, caller=ANN)
    own = Read(query=List(start=b"a/", end=b"a0", limit=5), consistency=harness.usual, caller=ANN)

    assert refusal(harness.ask(whole)) == "ann may not read all keys from '' to 'z'"
    assert isinstance(harness.ask(own), Answer)


def test_a_right_that_was_taken_away_is_gone(harness: Harness) -> None:
    turned_on(harness)
    assert isinstance(write(harness, ANN), Written)
    assert isinstance(change(harness, user()), Written)

    assert refusal(write(harness, ANN)) == "ann may not write the key 'a/1'"
    assert isinstance(change(harness, user("team", generation=2)), Written)
    refusal(write(harness, ANN))
    assert isinstance(write(harness, Caller("ann", 2)), Written)
    assert isinstance(change(harness, Delete(key=user_key("ann"))), Written)
    refusal(write(harness, Caller("ann", 2)))


def test_only_root_changes_and_reads_users(harness: Harness) -> None:
    turned_on(harness)

    for caller in (None, NOBODY, ANN):
        refusal(change(harness, user("root"), caller=caller))
        if caller is not None:
            refusal(harness.ask(Read(query=Get(key=user_key("ann")), caller=caller)))
    assert isinstance(change(harness, user("root")), Written)
    assert isinstance(change(harness, user("team", "root"), caller=ANN), Written)
    found = roster(harness)
    assert isinstance(found.content, KeyPage)
    rights = rights_of((record.key, record.value) for record in found.content.records)
    assert (rights.enabled, rights.users["ann"].roles, list(rights.roles)) == (True, ("team", "root"), ["team"])


def test_a_change_of_users_is_compared_with_what_it_was_decided_by(harness: Harness) -> None:
    turned_on(harness)
    untouched = KeyComparison(
        start=AUTH,
        end=AUTH_END,
        several=True,
        target=ComparedField.REVISION,
        operator=Operator.LESS,
        operand=roster(harness).revision + 1,
    )
    new = Write(operations=(Transaction(comparisons=(untouched,), success=(user("team", "root"),)),), caller=CLUSTER)
    succeeded = []
    for _ in range(2):
        outcome = harness.ask(new)
        assert isinstance(outcome, Written)
        (result,) = outcome.results
        assert isinstance(result, Transacted)
        succeeded.append(result.succeeded)

    assert succeeded == [True, False]
