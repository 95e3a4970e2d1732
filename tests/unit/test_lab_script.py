"""Scripts of clients: every value is written once, compare-and-set uses what was seen, keys are renewed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from raftkv.instruments.lab.dialect import Meaning
from raftkv.instruments.lab.history import ANY, CompareAndSet, DeleteAction, GetAction, Outcome, PutAction
from raftkv.instruments.lab.script import Script, ScriptKeys, Workload

OK = Meaning(outcome=Outcome.OK, revision=5)


def steps(count, workload=None, client=0, found=OK):
    workload = workload or Workload()
    script = Script(workload, client, ScriptKeys(workload))
    taken = []
    for _ in range(count):
        step = script.next_step()
        script.learn(step, Meaning(outcome=found.outcome, result=None, revision=found.revision))
        taken.append(step)
    return taken


def written(step):
    return getattr(step.action, "value", None)


@given(seed=st.integers(0, 10_000))
def test_the_same_seed_gives_the_same_script_and_another_client_another_one(seed):
    workload = Workload(seed=seed)

    assert steps(50, workload) == steps(50, workload)
    assert steps(50, workload) != steps(50, workload, client=1)


def test_no_value_and_no_retry_key_is_used_twice():
    workload = Workload(value_bytes=6)
    taken = [step for client in range(5) for step in steps(2000, workload, client)]
    values = [written(step) for step in taken if written(step) is not None]
    retry_keys = [step.retry_key for step in taken if step.retry_key]

    assert len(values) == len(set(values)) > 1000
    assert len(retry_keys) == len(set(retry_keys)) > 500


def test_every_kind_of_step_occurs_in_its_share():
    kinds = Counter(type(step.action) for step in steps(5000))

    assert 0.4 < kinds[GetAction] / 5000 < 0.65
    assert kinds[PutAction] > kinds[CompareAndSet] > kinds[DeleteAction] > 0


def test_a_key_that_is_written_once_belongs_to_one_step():
    once = [step for step in steps(3000) if step.key.startswith(b"once/")]

    assert len(once) == len({step.key for step in once}) > 100
    assert all(isinstance(step.action, PutAction) for step in once)


def test_compare_and_set_expects_what_this_client_saw_last_and_knows_its_revision():
    workload = Workload(keys=1, operations_per_key=10**9)
    script = Script(workload, 0, ScriptKeys(workload))
    seen, tried = None, Counter()
    for revision in range(1, 3000):
        step = script.next_step()
        if step.key.startswith(b"once/"):
            script.learn(step, Meaning(outcome=Outcome.OK, revision=revision))
            continue
        if isinstance(step.action, CompareAndSet):
            assert seen is not None
            assert step.action.expected in (seen[0], ANY)
            assert step.revision == seen[1]
            tried[step.action.expected is ANY, step.action.value is None] += 1
        if isinstance(step.action, GetAction):
            result = b"seen-%d" % revision if revision % 3 else None
            seen = (result, revision if result else 0)
            script.learn(step, Meaning(outcome=Outcome.OK, result=result, revision=seen[1]))
        elif revision % 4 == 0:
            script.learn(step, Meaning(outcome=Outcome.FAILED))
        elif isinstance(step.action, DeleteAction) or written(step) is None:
            seen = None
            script.learn(step, Meaning(outcome=Outcome.OK, result=True))
        else:
            seen = (written(step), revision)
            script.learn(step, Meaning(outcome=Outcome.OK, result=True, revision=revision))

    assert tried[False, False] > 50
    assert tried[True, False] > 5
    assert tried[False, True] > 5


def test_contended_keys_are_renewed_when_they_have_had_their_operations():
    workload = Workload(keys=2, operations_per_key=10, mix={"get": 1})
    keys = Counter(step.key for step in steps(200, workload))

    assert max(keys.values()) == 10
    assert len(keys) >= 20


def test_values_are_as_long_as_asked():
    workload = Workload(value_bytes=100, mix={"put": 1})

    assert {len(written(step)) for step in steps(20, workload)} == {100}
