"""Clients that add to lists: what they write back, when they begin anew, and how a history tells what was added."""

import pytest

from raftkv.instruments.lab.additions import ATTEMPTS_MAX, Additions, added, merged
from raftkv.instruments.lab.dialect import Meaning, request_of
from raftkv.instruments.lab.history import CompareAndSet, DeleteAction, GetAction, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.script import Script, ScriptKeys, Workload

FOUND = Meaning(outcome=Outcome.OK, result=b"c,d", siblings=(b"a,b", b"a,c"), revision=None, context="seen")
WRITTEN = Meaning(outcome=Outcome.OK)


def begun(update):
    additions = Additions(update)
    additions.begin(b"list/k", b"new")
    return additions


def test_an_addition_reads_and_then_writes_what_it_read_with_its_element_last():
    additions = begun("put")
    read = additions.next_step()
    additions.learn(FOUND)
    write = additions.next_step()
    additions.learn(WRITTEN)

    assert (read.key, read.action) == (b"list/k", GetAction())
    assert write.action == PutAction(b"a,b,c,d,new")
    assert not additions.is_under_way


@pytest.mark.parametrize(("update", "context"), [("put", ""), ("context", "seen")])
def test_only_a_writer_who_says_what_it_replaces_sends_the_context(update, context):
    additions = begun(update)
    additions.learn(FOUND)
    request = request_of(additions.next_step(), timeout_s=1, query="r=1", write_query="w=1")

    assert request.headers.get("Raftkv-Context", "") == context
    assert request.target == "/kv/list%2Fk?timeout=1&w=1"


def test_a_conditional_addition_begins_anew_when_the_list_had_changed():
    additions = begun("compare_and_set")
    additions.learn(Meaning(outcome=Outcome.OK, result=b"a", revision=4))
    first = additions.next_step()
    additions.learn(Meaning(outcome=Outcome.OK, result=False))
    again = additions.next_step()
    additions.learn(Meaning(outcome=Outcome.OK, result=None, revision=0))
    second = additions.next_step()

    assert (first.action, first.revision) == (CompareAndSet(expected=b"a", value=b"a,new"), 4)
    assert again.action == GetAction()
    assert (second.action, second.revision) == (CompareAndSet(expected=None, value=b"new"), 0)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
def test_an_addition_is_over_when_a_step_fails(outcome):
    reading, writing = begun("put"), begun("put")
    reading.learn(Meaning(outcome=outcome))
    writing.learn(FOUND)
    writing.learn(Meaning(outcome=outcome))

    assert not reading.is_under_way
    assert not writing.is_under_way


def test_an_addition_is_given_up_in_the_end():
    additions = begun("compare_and_set")
    for _ in range(ATTEMPTS_MAX):
        assert additions.is_under_way
        additions.learn(Meaning(outcome=Outcome.OK, result=b"a", revision=1))
        additions.learn(Meaning(outcome=Outcome.OK, result=False))

    assert not additions.is_under_way


def test_merging_keeps_everything_once_in_the_order_in_which_it_is_met():
    assert merged([b"a,b", b"", b"c,a", b"d"]) == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize(
    ("key", "action", "expected"),
    [
        (b"list/k", PutAction(b"a,b"), b"b"),
        (b"list/k", CompareAndSet(expected=None, value=b"a"), b"a"),
        (b"list/k", CompareAndSet(expected=b"a", value=None), None),
        (b"list/k", GetAction(), None),
        (b"list/k", DeleteAction(), None),
        (b"shared/k", PutAction(b"a,b"), None),
    ],
)
def test_a_write_tells_what_it_adds(key, action, expected):
    write = ObservedOperation(client=1, key=key, action=action, invoked_ns=0, returned_ns=None, outcome=Outcome.UNKNOWN)

    assert added(write) == expected


def test_in_a_script_of_additions_every_read_and_write_is_of_lists_and_no_element_comes_twice():
    workload = Workload(mix={"add": 1, "get": 1, "once": 1}, update="put")
    script = Script(workload, 0, ScriptKeys(workload))
    steps = []
    for _ in range(2000):
        steps.append(script.next_step())
        script.learn(steps[-1], Meaning(outcome=Outcome.OK, result=None))
    elements = [
        step.action.value for step in steps if isinstance(step.action, PutAction) and step.key.startswith(b"list/")
    ]

    assert {step.key.split(b"/")[0] for step in steps} == {b"list", b"once"}
    assert len(elements) == len(set(elements)) > 300


def test_lists_are_written_by_additions_only():
    with pytest.raises(ValueError, match="mix"):
        Workload(mix={"add": 1, "put": 1})


def test_a_client_deletes_each_of_its_keys_once_and_reads_them_deleted_or_not():
    workload = Workload(mix={"once": 1, "forget": 1, "recall": 1})
    script = Script(workload, 3, ScriptKeys(workload))
    steps = []
    for _ in range(1000):
        steps.append(script.next_step())
        script.learn(steps[-1], Meaning(outcome=Outcome.OK))
    written, deleted, read = (
        [s.key for s in steps if isinstance(s.action, kind)] for kind in (PutAction, DeleteAction, GetAction)
    )

    assert len(set(written)) == len(written) > 200
    assert len(set(deleted)) == len(deleted) > 200
    assert set(deleted) < set(written)
    assert set(read) & set(deleted)
    assert all(key.startswith(b"once/3/") for key in written + deleted + read)


def test_a_key_whose_write_failed_is_neither_deleted_nor_read():
    workload = Workload(mix={"once": 1, "forget": 1, "recall": 1})
    script = Script(workload, 0, ScriptKeys(workload))
    for _ in range(50):
        step = script.next_step()
        script.learn(step, Meaning(outcome=Outcome.FAILED))

        assert isinstance(step.action, PutAction)


def test_a_sticky_client_asks_one_node_and_different_clients_ask_different_ones():
    nodes = ["n1", "n2", "n3"]
    workload = Workload(sticky=True)
    asked = {
        client: {Script(workload, client, ScriptKeys(workload)).pick_node(nodes) for _ in range(9)} for client in (0, 1)
    }

    assert asked == {0: {"n1"}, 1: {"n2"}}
