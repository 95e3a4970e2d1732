"""The machine against a plain dictionary model, and the promises its module makes."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.core import pages
from raftkv.core.keys import prefix_end
from raftkv.core.requests import ABSENT, ANY, MATCHES_MAX, Configure, Delete, Get, List, Put, Write
from raftkv.core.results import DeleteDone, KeyPage, KeyRecord, Mismatch, Missing, PutDone, Withheld
from raftkv.formats import commands, commands_1, entries, layout
from raftkv.formats.commands import DeleteKey, GetKey, PutKey, WriteCommand
from raftkv.machine import reading
from raftkv.machine.conversion import command_of
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import REUSED_KEY, RepeatLimits
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.state import sums
from raftkv.storage.state.tables import StateTables

KEYS = st.sampled_from([b"a", b"b", b"a/b", "ключ".encode(), b"z" * 600])
MATCH = st.one_of(
    st.none(), st.just(ABSENT), st.just(ANY), st.integers(1, 12), st.lists(st.integers(0, 12), max_size=5).map(tuple)
)
OPERATIONS = st.one_of(
    st.builds(Put, key=KEYS, value=st.binary(max_size=8), match=MATCH),
    st.builds(Delete, key=KEYS, match=MATCH),
    st.builds(Get, key=KEYS),
)


class Driver:
    """Applies writes as a log would, one command each."""

    def __init__(self, **limits):
        self.tables = StateTables(MemoryEngine(layout.TABLES), layout.TABLES, Path("state"))
        self.machine = Machine(self.tables, RepeatLimits(**limits))
        self.now_ms = 1_000_000

    def apply(self, *changes, now_ms=None):
        self.now_ms = self.now_ms if now_ms is None else now_ms
        index = self.machine.applied_index + 1
        entry = entries.encode(self.now_ms, 7, index, *map(command_of, changes))
        return self.machine.apply(index, 1, entry).outcomes

    def do(self, operation, **options):
        (outcome,) = self.apply(Write(operations=(operation,), **options))
        return outcome.results[0]

    def get(self, key):
        return reading.answer(self.tables, Get(key=key))

    def rows(self):
        return [(t, k, v) for t in layout.TABLES for k, v in self.tables.scan(t, b"", None)]


class Model:
    """What the machine should do, in the plainest words."""

    def __init__(self):
        self.revision = 0
        self.records = {}

    def do(self, op):
        found = self.records.get(op.key)
        if isinstance(op, Get):
            return Missing(key=op.key) if found is None else found
        current = 0 if found is None else found.mod_revision
        several = isinstance(op.match, tuple) and current in op.match
        allowed = {None: True, ABSENT: current == 0, ANY: current != 0}.get(op.match, several or op.match == current)
        if not allowed:
            return Mismatch(revision=current)
        if isinstance(op, Delete):
            if found is None:
                return Missing(key=op.key)
            self.revision += 1
            del self.records[op.key]
            return DeleteDone(revision=self.revision)
        self.revision += 1
        self.records[op.key] = KeyRecord(
            key=op.key,
            value=op.value,
            version=1 if found is None else found.version + 1,
            create_revision=self.revision if found is None else found.create_revision,
            mod_revision=self.revision,
        )
        return PutDone(version=self.records[op.key].version, revision=self.revision)


@given(st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), max_size=12))
@settings(max_examples=300, deadline=None)
def test_it_does_what_the_model_does(groups):
    driver, model = Driver(), Model()

    for group in groups:
        (outcome,) = driver.apply(Write(operations=tuple(group)))

        assert list(outcome.results) == [model.do(operation) for operation in group]
        assert outcome.revision == model.revision
        assert sums.stored_sum(driver.tables) == sums.sum_of(driver.tables, layout.TABLES)
    page = reading.answer(driver.tables, List(start=b"", end=None, limit=100))
    assert list(page.records) == [model.records[key] for key in sorted(model.records)]


@given(st.lists(st.lists(OPERATIONS, min_size=1, max_size=3), max_size=8), st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_a_restart_in_between_changes_nothing(groups, restart_at):
    through, interrupted = Driver(), Driver()

    for number, group in enumerate(groups):
        if number == restart_at:
            interrupted.machine = Machine(interrupted.tables, RepeatLimits())
        write = Write(operations=tuple(group), idempotency_key=f"k{number % 3}")

        assert through.apply(write, now_ms=number) == interrupted.apply(write, now_ms=number)
    assert through.rows() == interrupted.rows()


@given(st.binary(max_size=200))
def test_a_malformed_command_is_skipped_alike_everywhere_15(body):
    driver = Driver()
    driver.machine.apply(1, 1, entries.stamp(1 + len(body) % 2, 5) + body)

    assert driver.machine.applied_index == 1
    assert driver.machine.revision == 0


def body_of(*operations, idempotency_key=None):
    return entries.encode(5, 1, 2, WriteCommand(operations, idempotency_key))[9:]


def body_1_of(*operations, **fields):
    write = commands_1.Write1(operations=operations, **fields)
    return msgspec.msgpack.encode(commands_1.Batch1(1, 2, (write,)))


BODY = body_of(PutKey(b"k", b"v", None, 0), idempotency_key="KEY")
PUT_1 = commands_1.Put1(b"k", b"v")


@pytest.mark.parametrize(
    ("command_format", "now_ms", "body"),
    [
        (2, 2**64 - 1, BODY),
        (2, 5, BODY.replace(b"KEY", b"\xff\xff\xff")),
        (2, 5, b"\x94\x01\x02\x90" + b"\x91" * 100_000),
        (2, 5, body_of(idempotency_key="")),
        (2, 5, body_of(PutKey(b"", b"v", None, 0))),
        (2, 5, body_of(PutKey(b"k", b"v", None, 2**63))),
        (2, 5, body_of(PutKey(b"k", b"v", -2, 0))),
        (2, 5, body_of(GetKey(b""))),
        (2, 5, body_1_of(PUT_1)),
        (1, 2**64 - 1, body_1_of(PUT_1)),
        (1, 5, BODY),
        (1, 5, b"\x94\x01\x02\x90" + b"\x91" * 100_000),
        (1, 5, body_1_of(PUT_1, idempotency_key="")),
        (1, 5, body_1_of(PUT_1, sizes=(1, 2))),
        (1, 5, body_1_of(commands_1.Put1(b"k", b"v", -2))),
        (1, 5, body_1_of(commands_1.Get1(b""))),
    ],
)
def test_what_the_machine_could_not_carry_out_is_malformed(command_format, now_ms, body):
    driver = Driver()

    assert driver.machine.apply(1, 1, entries.stamp(command_format, now_ms) + body) is None
    assert driver.machine.applied_index == 1
    assert driver.apply(Write(operations=(Put(key=b"k", value=b"v"),)))[0].revision == 1


def test_a_command_from_the_future_stops_the_node():
    with pytest.raises(entries.UnsupportedCommandError):
        Driver().machine.apply(1, 1, bytes([entries.NEWEST + 1]) + bytes(16))


def test_a_command_beyond_what_this_node_reads_stops_it_as_one_from_the_future_would():
    machine = Machine(Driver().tables, RepeatLimits(), newest_format=1)

    with pytest.raises(entries.UnsupportedCommandError):
        machine.apply(1, 1, entries.encode(5, 1, 2, command_of(Configure(r=1, w=2))))


@pytest.mark.parametrize(
    "earlier",
    [
        body_1_of(PUT_1, commands_1.Get1(b"k"), commands_1.Delete1(b"x", (1, 2))),
        body_1_of(commands_1.Put1(b"k", b"v", 0, 700), commands_1.Delete1(b"k", 5), idempotency_key="i"),
        body_1_of(sizes=(2, 3)),
    ],
)
def test_replicas_that_applied_old_commands_and_the_same_in_a_new_format_are_equal(earlier):
    """A cluster is upgraded node by node, each at an index of its own; its states are compared all the same."""
    old, new = Driver(), Driver()
    old.machine.apply(1, 1, entries.stamp(1, 1_000) + earlier)
    batch = entries.decode(entries.stamp(1, 1_000) + earlier)[1]
    new.machine.apply(1, 1, entries.encode(1_000, batch.origin, batch.sequence, *batch.commands))

    assert old.rows() == new.rows()
    assert old.machine.state_hash == new.machine.state_hash


def test_a_retry_across_the_upgrade_is_known_again():
    driver = Driver()
    first = driver.machine.apply(1, 1, entries.stamp(1, 1_000) + body_1_of(PUT_1, idempotency_key="i")).outcomes
    again = driver.apply(Write(operations=(Put(key=b"k", value=b"v"),), idempotency_key="i"))

    assert again == first
    assert driver.machine.revision == 1


def test_an_index_is_never_applied_twice():
    driver = Driver()
    driver.do(Put(key=b"a", value=b"1"))
    command = entries.encode(1, 1, 1, command_of(Write(operations=(Put(key=b"a", value=b"2"),))))

    with pytest.raises(AssertionError):
        driver.machine.apply(1, 1, command)


def test_a_retry_returns_the_first_outcome_and_applies_nothing():
    driver = Driver()
    write = Write(operations=(Put(key=b"a", value=b"1"),), idempotency_key="once")
    first = driver.apply(write)
    driver.do(Put(key=b"a", value=b"2"))

    again = driver.apply(write)

    assert again == first
    assert driver.get(b"a").value == b"2"


def test_a_retry_of_a_failed_precondition_fails_again_even_when_it_would_succeed_now():
    driver = Driver()
    write = Write(operations=(Put(key=b"a", value=b"1", match=ANY),), idempotency_key="once")
    driver.apply(write)
    driver.do(Put(key=b"a", value=b"2"))

    (again,) = driver.apply(write)

    assert again.results == (Mismatch(revision=0),)


def test_a_retry_reads_anew():
    driver = Driver()
    write = Write(operations=(Get(key=b"a"), Put(key=b"b", value=b"1")), idempotency_key="once")
    driver.apply(write)
    driver.do(Put(key=b"a", value=b"2"))

    (again,) = driver.apply(write)

    assert again.results[0].value == b"2"
    assert again.results[1] == PutDone(version=1, revision=1)


def test_an_idempotency_key_used_for_another_request_is_refused():
    driver = Driver()
    driver.apply(Write(operations=(Put(key=b"a", value=b"1"),), idempotency_key="once"))

    (other,) = driver.apply(Write(operations=(Put(key=b"a", value=b"2"),), idempotency_key="once"))

    assert other.refused == REUSED_KEY
    assert driver.get(b"a").value == b"1"


@pytest.mark.parametrize("by", ["count", "age"])
def test_outcomes_are_forgotten_beyond_their_limits(by):
    driver = Driver(idempotency_keys=3 if by == "count" else 1000, idempotency_window_ms=50)

    for number in range(10):
        write = Write(operations=(Put(key=b"a", value=b"1"),), idempotency_key=f"k{number}")
        driver.apply(write, now_ms=1000 + (number * 20 if by == "age" else 0))

    kept = [key for key, _ in driver.tables.scan(layout.OUTCOMES, b"", None)]
    assert kept == [b"k7", b"k8", b"k9"]


def test_a_key_with_a_ttl_is_gone_once_the_log_passed_its_time():
    driver = Driver()
    driver.do(Put(key=b"a", value=b"1", ttl_ms=100))
    driver.apply(now_ms=driver.now_ms + 99)
    there = driver.get(b"a")
    driver.apply(now_ms=driver.now_ms + 1)

    assert there.value == b"1"
    assert driver.get(b"a") == Missing(key=b"a")
    assert driver.machine.revision == 2
    assert driver.machine.next_expiry_ms() is None


def test_writing_a_key_again_replaces_its_ttl():
    driver = Driver()
    driver.do(Put(key=b"a", value=b"1", ttl_ms=100))
    driver.do(Put(key=b"a", value=b"2"))
    driver.apply(now_ms=driver.now_ms + 1000)

    assert driver.get(b"a").value == b"2"


def test_the_clock_never_goes_back():
    driver = Driver()
    driver.do(Put(key=b"a", value=b"1", ttl_ms=100))
    driver.apply(now_ms=0)
    driver.do(Put(key=b"b", value=b"1", ttl_ms=100))

    assert driver.get(b"b").expires_at_ms == driver.get(b"a").expires_at_ms


def test_a_key_that_expired_in_a_backlog_is_not_there_for_operations(monkeypatch):
    monkeypatch.setattr("raftkv.machine.machine.EXPIRIES_PER_COMMAND", 1)
    driver = Driver()
    driver.do(Put(key=b"a", value=b"1", ttl_ms=1))
    driver.do(Put(key=b"b", value=b"1", ttl_ms=1))
    driver.now_ms += 10

    assert driver.do(Put(key=b"b", value=b"2", match=ANY)) == Mismatch(revision=0)


@given(st.lists(st.binary(min_size=1, max_size=3), max_size=30), st.integers(1, 5), st.binary(max_size=2))
def test_pages_join_to_the_whole_list(keys, limit, prefix):
    driver = Driver()
    for key in keys:
        driver.do(Put(key=key, value=b"v"))
    found, start, end = [], prefix, prefix_end(prefix)

    while start is not None:
        page = reading.answer(driver.tables, List(start=start, end=end, limit=limit))
        assert isinstance(page, KeyPage)
        assert len(page.records) <= limit
        found += [record.key for record in page.records]
        start = page.next_start

    assert found == sorted({key for key in keys if key.startswith(prefix)})


def test_a_page_ends_early_when_its_values_are_large(monkeypatch):
    monkeypatch.setattr(pages, "ANSWER_BYTES", 80)
    driver = Driver()
    for key in (b"a", b"b", b"c"):
        driver.do(Put(key=key, value=b"v" * 80))

    page = reading.answer(driver.tables, List(start=b"", end=None, limit=10))

    assert [record.key for record in page.records] == [b"a"]
    assert page.next_start == b"b"


def test_commands_survive_the_journey():
    write = Write(operations=(Put(key=b"k", value=b"\x00\xff", match=3, ttl_ms=5),), acks=2, idempotency_key="i")
    now_ms, batch = entries.decode(entries.encode(123, 2**63, 9, command_of(write), command_of(Configure(r=1, w=3))))

    assert (now_ms, batch.origin, batch.sequence) == (123, 2**63, 9)
    assert batch.commands == (
        WriteCommand((PutKey(b"k", b"\x00\xff", 3, 5),), "i"),
        commands.ConfigureCommand(1, 3),
    )


@pytest.mark.parametrize(
    ("match", "encoded"),
    [(None, b"\xc0"), (ABSENT, b"\x00"), (ANY, b"\xff"), (300, b"\xcd\x01\x2c"), ((3, 7), b"\x92\x03\x07")],
)
@pytest.mark.parametrize(("kind", "head"), [(DeleteKey, b"\x93\x01"), (commands_1.Delete1, b"\x93\xa6delete")])
def test_preconditions_have_the_bytes_that_logs_have(kind, head, match, encoded):
    found = msgspec.msgpack.encode(kind(b"k", match))

    assert found == head + b"\xc4\x01k" + encoded
    assert msgspec.msgpack.decode(found, type=kind) == kind(b"k", match)


@pytest.mark.parametrize("match", [-2, (-1,), tuple(range(MATCHES_MAX + 1)), 1 << 63])
def test_a_precondition_beyond_its_bounds_is_not_read(match):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(DeleteKey(b"k", match)), type=DeleteKey)


def test_no_command_builds_more_than_it_may_answer_and_what_it_does_is_the_same():
    """Four commands: for everybody, with little room, of another node; each by any means a command may read."""
    value = b"v" * (1 << 20)
    gets = tuple([Get(key=b"k") for _ in range(100)])
    reading_much = (
        Write(operations=gets),
        Write(operations=(*gets, Put(key=b"other", value=b"v"))),
        Write(operations=(*gets, Put(key=b"once", value=b"v")), idempotency_key="once"),
        Write(operations=(*gets, Put(key=b"once", value=b"v")), idempotency_key="once"),
    )
    rows = []
    for options, most_bytes in (({}, 9 << 20), ({"room_bytes": 1}, 2 << 20), ({"told": 8}, 0)):
        driver = Driver()
        driver.do(Put(key=b"k", value=value))
        applied = driver.machine.apply(2, 1, entries.encode(1_000_000, 7, 2, *map(command_of, reading_much)), **options)
        results = [result for outcome in applied.outcomes for result in outcome.results]
        told = [result for result in results if isinstance(result, KeyRecord)]
        rows.append(driver.rows())

        assert sum(len(record.value) for record in told) <= most_bytes
        assert len(told) + sum(isinstance(result, Withheld) for result in results) == 400
        assert [type(outcome.results[-1]) for outcome in applied.outcomes[1:]] == [PutDone] * 3
    assert rows[0] == rows[1] == rows[2]


def exercise(driver):
    """Everything that changes rows: lifetimes, their end, retries, outcomes that are forgotten, sizes."""
    driver.do(Put(key=b"k", value=b"v", ttl_ms=500))
    driver.do(Put(key=b"k", value=b"w"))
    for number in range(5):
        driver.do(Put(key=b"k%d" % number, value=b"x", ttl_ms=100 * number + 100), idempotency_key=f"i{number}")
    driver.do(Put(key=b"k1", value=b"x", ttl_ms=200), idempotency_key="i1")
    driver.do(Delete(key=b"k4"))
    driver.apply(Configure(r=2, w=3), now_ms=driver.now_ms + 250)
    driver.do(Get(key=b"k2"))
    driver.do(Put(key=b"z" * 600, value=b"long", ttl_ms=50))
    driver.apply(now_ms=driver.now_ms + 1000)


def test_the_running_sum_is_that_of_the_rows_whatever_changed_them_and_outlives_the_machine():
    driver = Driver(idempotency_keys=3)
    exercise(driver)

    assert len(driver.rows()) > 8
    assert sums.stored_sum(driver.tables) == sums.sum_of(driver.tables, layout.TABLES) != 0
    again = Machine(driver.tables, RepeatLimits(idempotency_keys=3))
    assert again.state_hash == driver.machine.state_hash


def test_a_state_without_a_sum_is_given_one():
    driver = Driver()
    exercise(driver)
    driver.tables.delete(layout.META, layout.SUM)

    assert Machine(driver.tables, RepeatLimits()).state_hash == driver.machine.state_hash


def test_replicas_that_keep_another_number_of_outcomes_have_another_hash():
    one, same, other = Driver(), Driver(), Driver(idempotency_keys=1)
    for driver in (one, same, other):
        driver.do(Put(key=b"k", value=b"v"), idempotency_key="a")
    assert one.machine.state_hash == same.machine.state_hash == other.machine.state_hash
    for driver in (one, same, other):
        driver.do(Put(key=b"k", value=b"v"), idempotency_key="b")

    assert one.machine.state_hash == same.machine.state_hash != other.machine.state_hash


@pytest.mark.parametrize(
    "name", [layout.REVISION, layout.CLOCK_MS, layout.OUTCOME_FIRST, layout.OUTCOME_NEXT, layout.READ_SIZE]
)
def test_the_hash_covers_the_numbers_that_later_commands_rest_on(name):
    driver = Driver()
    driver.do(Put(key=b"k", value=b"v"))
    before = driver.machine.state_hash
    driver.tables.put(layout.META, name, layout.pack_number(9))

    assert Machine(driver.tables, RepeatLimits()).state_hash != before
