"""One replica's store: what a turn stages, what a commit makes durable, hints, actors, purging and marks of time."""

import pytest

from raftkv.core.errors import Refused, StartupError
from raftkv.formats.rows import DATA, TABLES, order_key
from raftkv.formats.versions import KeyState, Version, encode_state
from raftkv.quorum.data import staged
from raftkv.quorum.data.store import CLOCK_AHEAD_US, Store
from raftkv.quorum.data.versions import CONFLICTS, visible
from raftkv.quorum.membership.ring import POSITIONS, Range, position
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.engines.rocks import RocksEngine
from tests.unit.opened_store import SIBLINGS, WHOLE, event, marks, opened, state, values


@pytest.fixture
def engine():
    return MemoryEngine(TABLES)


@pytest.fixture
def store(engine):
    return opened(engine)


@pytest.fixture
def siblings(engine):
    return opened(engine, SIBLINGS, max_siblings=3)


# -- staging and committing


def test_a_read_sees_what_was_staged_only_after_the_commit(store):
    store.stage(b"k", state(1))
    store.stage_hint("n2", b"k", state(2))

    assert store.read(b"k") is None
    assert store.read_hinted(b"k") is None
    assert list(store.scan(b"", None)) == []
    assert marks(store) == []

    store.commit()

    assert store.read(b"k") == state(1)
    assert store.read_hinted(b"k") == state(2)
    assert list(store.scan(b"", None)) == [(b"k", state(1))]
    assert [where for where, _ in marks(store)] == [order_key(b"k")]


def test_joins_of_one_turn_see_each_other_and_tell_what_stood_before(store):
    assert store.stage(b"k", state(1)) == (None, state(1))
    assert store.stage(b"k", state(3)) == (state(1), state(3))
    assert store.stage(b"k", state(2)) == (state(3), state(3))

    store.commit()

    assert store.read(b"k") == state(3)
    assert store.stage(b"k", state(2)) == (state(3), state(3))


def test_a_commit_is_one_batch_and_free_when_nothing_changed(engine, store):
    store.stage(b"k", state(1))
    store.commit()
    commits = []
    engine.before_commit = lambda: commits.append(1)

    store.commit()
    store.stage(b"k", state(1))

    assert store.has_staged

    store.commit()

    assert commits == []
    assert not store.has_staged

    store.stage(b"a", state(5))
    store.stage_hint("n2", b"b", state(6))
    store.keep_alive(7)
    store.commit()

    assert commits == [1]


def test_a_commit_that_fails_leaves_nothing_staged_and_the_store_as_it_was(engine, store):
    store.stage(b"k", state(1))
    store.stage_hint("n2", b"k", state(1))
    store.keep_clock_mark(10 * CLOCK_AHEAD_US)
    mark = store.clock_mark

    def fail():
        raise DiskError("no space left on the device", full=True)

    engine.before_commit = fail
    with pytest.raises(DiskError, match="no space left"):
        store.commit()
    engine.before_commit = None

    assert not store.has_staged
    assert store.read(b"k") is None
    assert store.hints_pending == 0
    assert store.clock_mark == mark
    assert store.stage(b"k", state(2)) == (None, state(2))

    store.commit()

    assert store.read(b"k") == state(2)


def test_everything_committed_is_there_after_a_restart(engine, store):
    store.stage(b"k", state(1))
    store.stage_hint("n2", b"a", state(2))
    store.stage_hint("n3", b"b", state(3))
    store.keep_members(b"members")
    store.keep_alive(44)
    store.commit()
    store.stage(b"lost", state(9))

    again = opened(engine)

    assert again.read(b"k") == state(1)
    assert again.read(b"lost") is None
    assert again.hints("n2", 10) == [(b"a", state(2))]
    assert again.hinted_nodes() == ("n2", "n3")
    assert again.members == b"members"
    assert again.alive_ms == 44


def test_a_new_directory_has_no_marks(store):
    assert store.alive_ms is None
    assert store.members is None
    assert store.clock_mark == 0
    assert marks(store) == []


def test_data_of_the_other_way_to_settle_conflicts_is_refused(engine, store):
    with pytest.raises(StartupError, match=r"written with 'lww', and cannot be read with 'siblings'"):
        Store(engine, SIBLINGS)


def test_a_row_that_does_not_decode_is_a_failure_of_the_disk(engine, store):
    engine.commit([(DATA, b"k", b"\xc1")])

    with pytest.raises(DiskError, match="does not decode"):
        store.read(b"k")
    with pytest.raises(DiskError, match="does not decode"):
        store.stage(b"k", state(1))


def test_the_directory_is_named_once(engine, store):
    assert store.actor("n1", lambda: "abc") == "n1~abc"
    assert store.actor("n1", lambda: "def") == "n1~abc"
    assert opened(engine).actor("n1", lambda: "ghi") == "n1~abc"


# -- scans


def test_keys_are_scanned_in_order_between_bounds(store):
    for number, key in enumerate((b"c", b"a", b"b\0", b"b")):
        store.stage(key, state(number + 1))
    store.commit()

    assert [key for key, _ in store.scan(b"", None)] == [b"a", b"b", b"b\0", b"c"]
    assert [key for key, _ in store.scan(b"b", b"c")] == [b"b", b"b\0"]


def test_the_order_of_the_ring_is_scanned_by_range_and_from_a_key_on(store):
    keys = [b"key-%d" % number for number in range(50)]
    for key in keys:
        store.stage(key, state(1))
    store.commit()
    ordered = sorted(map(order_key, keys))
    middle = position(b"key-7")

    assert [where for where, _ in marks(store)] == ordered

    lower, upper = marks(store, Range(0, middle)), marks(store, Range(middle + 1, POSITIONS - 1))

    assert [where for where, _ in lower + upper] == ordered
    assert lower[-1][0] == order_key(b"key-7")
    assert [where for where, _ in marks(store, WHOLE, ordered[10])] == ordered[11:]
    assert marks(store, Range(0, middle), order_key(b"key-7")) == []


def test_a_change_is_told_with_the_marks_before_and_now(store):
    told = []
    store.on_change = lambda *change: told.append(change)
    store.stage(b"k", state(1))
    store.commit()
    store.stage(b"k", state(2))
    store.stage_hint("n2", b"k", state(2))

    assert len(told) == 1

    store.commit()
    [(_, now)] = marks(store)

    assert told[0][0] == told[1][0] == order_key(b"k")
    assert told[0][1] is None
    assert told[1][1:] == (told[0][2], now)
    assert told[0][2] != now


# -- hints


def test_hints_are_counted_by_target_and_given_back_in_order_of_their_keys(store):
    for key in (b"b", b"a", b"c"):
        store.stage_hint("n2", key, state(1))
    store.stage_hint("n20", b"x", state(1))
    store.commit()

    assert store.hints_pending == 4
    assert store.hint_count("n2") == 3
    assert store.hint_count("n9") == 0
    assert store.hints("n2", 2) == [(b"a", state(1)), (b"b", state(1))]
    assert store.hints("n20", 9) == [(b"x", state(1))]


def test_a_hint_is_dropped_only_if_it_has_not_grown(store):
    store.stage_hint("n2", b"k", state(1))
    store.commit()
    store.stage_hint("n2", b"k", state(2))
    store.drop_hint("n2", b"k", encode_state(state(1)))
    store.commit()

    assert store.hints("n2", 9) == [(b"k", state(2))]

    store.drop_hint("n2", b"k", encode_state(state(2)))

    assert store.hints("n2", 9) == []

    store.commit()

    assert store.hints_pending == 0
    assert store.hinted_nodes() == ()
    assert store.read_hinted(b"k") is None


def test_a_hint_that_comes_and_goes_in_one_turn_leaves_no_trace(store):
    store.stage_hint("n2", b"k", state(1))
    store.drop_hint("n2", b"k", encode_state(state(1)))
    store.commit()

    assert store.hints_pending == 0
    assert store.hints("n2", 9) == []

    store.drop_hint("n2", b"never", encode_state(state(1)))
    store.commit()

    assert store.hints_pending == 0


def test_what_is_kept_for_several_nodes_is_read_as_one(store):
    store.stage_hint("n2", b"k", state(1))
    store.stage_hint("n3", b"k", state(2))
    store.commit()

    assert store.read_hinted(b"k") == state(2)
    assert store.read(b"k") is None


# -- marks of time


def test_the_clock_mark_is_moved_ahead_of_use_and_seldom(store):
    store.keep_clock_mark(1_000_000)

    assert store.clock_mark == 0

    store.commit()

    assert store.clock_mark == 1_000_000 + CLOCK_AHEAD_US

    store.keep_clock_mark(1_000_001)

    assert not store.has_staged

    store.keep_clock_mark(1_000_000 + CLOCK_AHEAD_US)

    assert store.has_staged


def test_no_counter_that_is_held_here_is_above_the_mark_after_a_restart(engine, store):
    store.keep_clock_mark(1_000_000)
    store.stage(b"k", state(50_000_000))
    store.stage_hint("n2", b"k", state(60_000_000))
    store.commit()

    assert store.clock_mark >= 60_000_000
    assert opened(engine).clock_mark == store.clock_mark


# -- purging


def purge_all(store, before_us, now_ms, limit=2):
    after, rounds = store.purge(before_us, now_ms, b"", limit), 1
    while after:
        after, rounds = store.purge(before_us, now_ms, after, limit), rounds + 1
    return rounds


def test_old_tombstones_and_what_expired_long_ago_are_dropped_in_slices(store):
    store.stage(b"old tombstone", state(10, None))
    store.stage(b"young tombstone", state(20, None))
    store.stage(b"old and expired", state(10, expires_at_ms=5))
    store.stage(b"old and to expire", state(10, expires_at_ms=500))
    store.stage(b"old value", state(10))
    store.commit()
    told = []
    store.on_change = lambda *change: told.append(change)

    assert purge_all(store, 15, 100) == 3
    assert [key for key, _ in store.scan(b"", None)] == [b"old and to expire", b"old value", b"young tombstone"]
    assert len(marks(store)) == 3
    assert sorted(where for where, before, now in told if before and now is None) == sorted(
        map(order_key, (b"old tombstone", b"old and expired"))
    )


def test_a_key_with_one_living_sibling_is_not_purged(siblings):
    event(siblings, 1, None)
    event(siblings, 2, b"alive")
    siblings.commit()
    purge_all(siblings, 100, 100)

    assert values(siblings.read(b"k")) == [None, b"alive"]


def test_a_tombstone_stays_while_a_hint_of_its_key_is_kept(store):
    store.stage(b"k", state(10, None))
    store.stage_hint("n2", b"k", state(10, None))
    store.commit()
    purge_all(store, 15, 100)

    assert store.read(b"k") is not None

    store.drop_hint("n2", b"k", encode_state(state(10, None)))
    store.commit()
    purge_all(store, 15, 100)

    assert store.read(b"k") is None


def test_a_purge_leaves_alone_what_the_turn_has_staged(store):
    store.stage(b"k", state(10, None))
    store.commit()
    store.stage(b"k", state(30))
    purge_all(store, 15, 100)
    store.commit()

    assert store.read(b"k") == state(30)
    assert len(marks(store)) == 1


def test_a_key_that_was_purged_in_the_middle_of_a_turn_is_new_afterwards(store):
    store.stage(b"k", state(10, None))
    store.commit()
    told = []
    store.on_change = lambda *change: told.append(change[1:])
    store.stage(b"k", state(10, None))
    purge_all(store, 15, 100)

    assert store.stage(b"k", state(30)) == (None, state(30))

    store.commit()
    [(_, mark)] = marks(store)

    assert [now for _, now in told] == [None, mark]
    assert told[1][0] is None


def test_a_purged_tombstone_is_not_taken_back_from_a_replica_that_still_has_it(store):
    store.stage(b"k", state(10, None))
    store.commit()
    purge_all(store, 15, 100)
    answer = store.stage(b"k", state(10, None))
    store.commit()

    assert answer == (None, state(10, None))
    assert store.read(b"k") is None

    # A value that is as old, or a tombstone for a value that is held, is another matter.
    store.stage(b"value", state(10))
    store.stage(b"value", state(11, None))
    store.commit()

    assert visible(store.read(b"value"), 0) == ()


def test_hints_older_than_the_grace_are_forgotten_in_slices(store):
    for number in range(5):
        store.stage_hint("n2", b"young-%d" % number, state(20))
        store.stage_hint("n3", b"old-%d" % number, state(10))
    store.commit()
    after, rounds = store.purge_hints(15, b"", 3), 1
    while after:
        after, rounds = store.purge_hints(15, after, 3), rounds + 1
    store.commit()

    assert rounds == 4
    assert store.hint_count("n2") == 5
    assert store.hint_count("n3") == 0


def test_an_old_hint_that_grows_in_the_same_turn_is_kept(store):
    store.stage_hint("n2", b"k", state(10))
    store.commit()
    store.stage_hint("n2", b"k", state(30))
    store.purge_hints(15, b"", 9)
    store.commit()

    assert store.hints("n2", 9) == [(b"k", state(30))]


def test_a_dropped_range_takes_its_keys_and_no_others(store, monkeypatch):
    monkeypatch.setattr("raftkv.quorum.data.store.DROPPED_PER_BATCH", 3)
    keys = [b"key-%d" % number for number in range(40)]
    for key in keys:
        store.stage(key, state(1))
    store.commit()
    half = Range(0, POSITIONS // 2)
    store.drop_range(half)

    left = {key for key in keys if position(key) > half.last}

    assert 0 < len(left) < len(keys)
    assert {key for key, _ in store.scan(b"", None)} == left
    assert len(marks(store)) == len(left)


# -- the same on a disk


def test_a_store_on_rocksdb_holds_its_rows_marks_and_actors_through_a_restart(tmp_path):
    store = opened(RocksEngine(tmp_path / "data", TABLES), SIBLINGS)
    event(store, 1, b"a")
    event(store, 2, b"b", stands_for="n2")
    store.keep_alive(7)
    store.commit()
    before = store.read(b"k"), store.read_hinted(b"k"), marks(store)
    store.close()

    again = opened(RocksEngine(tmp_path / "data", TABLES), SIBLINGS)
    after = again.read(b"k"), again.read_hinted(b"k"), marks(again)
    _, now = event(again, 3, b"c")

    assert after == before
    assert again.hint_count("n2") == 1
    assert again.alive_ms == 7
    assert now.seen == (("n1~dir~1", 3),)

    again.close()


def test_a_row_does_not_grow_beyond_what_it_may_hold(monkeypatch):
    monkeypatch.setattr(staged, "MAX_VERSIONS", 3)
    store = Store(MemoryEngine(TABLES), CONFLICTS["siblings"])
    taken = [
        (store.stage(b"k", one), store.stage_hint("n2", b"k", one))
        for one in (
            KeyState((Version(number, f"n{number}", b"v"),), ((f"n{number}", number),)) for number in range(1, 5)
        )
    ]
    store.commit()

    assert all(isinstance(one, Refused) for one in taken[-1])
    assert not any(isinstance(one, Refused) for pair in taken[:-1] for one in pair)
    assert len(store.read(b"k").versions) == len(store.read_hinted(b"k").versions) == 3


def test_the_bytes_of_a_row_are_bounded_too():
    store = Store(MemoryEngine(TABLES), CONFLICTS["siblings"], max_row_bytes=10)
    one, other = (KeyState((Version(number, f"n{number}", bytes(6)),), ((f"n{number}", number),)) for number in (1, 2))

    assert not isinstance(store.stage(b"k", one), Refused)
    assert isinstance(store.stage(b"k", other), Refused)
