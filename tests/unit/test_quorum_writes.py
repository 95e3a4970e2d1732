"""The write coordinator: what counts, when a write is overtaken, and when its failure is definite."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.formats.versions import Stamp
from raftkv.quorum.coordination.targets import Target, Targets
from raftkv.quorum.coordination.writes import WriteCoordinator
from raftkv.quorum.data.versions import HybridClock

DECLINED = Refused(code=Code.DISK_FULL, detail="full")
NEW, OLD = (False,), (True,)


def coordinator(needed=2, *, primaries=("n1", "n2", "n3"), fallbacks=(), down=(), is_first=True):
    targets = Targets(primaries, fallbacks, usable=lambda node: node not in down, sloppy=bool(fallbacks))
    return WriteCoordinator(targets, needed=needed, is_first=is_first)


def begun(**options):
    made = coordinator(**options)
    made.begin()
    return made


def test_a_write_is_done_with_the_answer_that_makes_w_and_not_again_after():
    write = begun()

    assert not write.add("n1", NEW)
    assert write.add("n2", OLD)
    assert not write.add("n3", NEW)
    assert write.replaced == (True,)


def test_one_replica_that_answers_twice_counts_once():
    write = begun()

    assert not write.add("n1", NEW)
    assert not write.add("n1", NEW)
    assert not write.add("stranger", NEW)


def test_of_each_write_it_is_known_whether_any_replica_that_counts_had_a_value():
    write = begun()
    write.add("n1", (False, True, False))
    write.add("n2", (False, False, True))
    write.add("n3", (True, True, True))

    assert tuple(write.replaced) == (False, True, True)


def test_a_write_is_overtaken_by_the_highest_stamp_of_those_that_count():
    write = begun()
    write.add("n1", (False, True), [(1, Stamp(50, "n3"))])
    write.add("n2", (False, True), [(1, Stamp(60, "n3"))])
    write.add("n3", (False, True), [(0, Stamp(70, "n3")), (1, Stamp(70, "n3"))])

    assert write.overtaken == {1: Stamp(60, "n3")}


def test_a_failure_is_definite_when_nobody_was_asked():
    write = coordinator(needed=2, down={"n2", "n3"})

    assert write.is_hopeless
    assert write.failure("too few").code is Code.QUORUM_UNREACHABLE


def test_a_failure_is_definite_when_everybody_declined():
    write = begun()
    for node in ("n1", "n2", "n3"):
        write.declined(node, DECLINED)

    assert write.failure("declined") == DECLINED


def test_a_failure_is_unknown_when_somebody_was_lost_or_is_silent_or_has_it():
    lost, silent, taken = begun(), begun(), begun()
    for write in (lost, silent, taken):
        write.declined("n1", DECLINED)
        write.declined("n2", DECLINED)
    lost.lost("n3")
    taken.add("n3", NEW)

    assert all(isinstance(write.failure("so it is"), Unknown) for write in (lost, silent, taken))


def test_while_all_who_answered_declined_the_rest_is_heard_before_a_write_has_failed():
    write = begun()
    write.declined("n1", DECLINED)
    write.declined("n2", DECLINED)

    assert write.is_hopeless
    assert not write.has_failed

    write.declined("n3", DECLINED)

    assert write.has_failed


def test_a_hopeless_write_has_failed_once_it_is_certain_that_nothing_definite_can_be_said():
    lost, silent, taken, again = begun(), begun(), begun(), begun(is_first=False)
    for write in (lost, silent, taken, again):
        write.declined("n1", DECLINED)
        write.declined("n2", DECLINED)
    lost.lost("n3")
    silent.silent("n3")
    taken.add("n3", NEW)

    assert all(write.has_failed for write in (lost, silent, taken, again))


def test_a_write_that_was_made_once_is_never_definitely_refused():
    unreachable, declined = coordinator(down={"n2", "n3"}, is_first=False), begun(is_first=False)
    for node in ("n1", "n2", "n3"):
        declined.declined(node, DECLINED)

    assert unreachable.is_hopeless
    assert isinstance(unreachable.failure("too few"), Unknown)
    assert isinstance(declined.failure("declined"), Unknown)


def test_a_silent_replica_still_counts_when_it_answers_after_all():
    write = begun(needed=3, fallbacks=("n4",))

    assert write.silent("n3") == Target("n4", "n3")

    write.add("n1", NEW)
    write.add("n2", NEW)

    assert write.add("n3", NEW)


class Replica:
    """One register under last-writer-wins, and what its clock has seen."""

    def __init__(self, offset_us):
        self.standing = Stamp(0, "")
        self.clock = HybridClock(0, lambda: 1_000_000 + offset_us, limit_us=lambda: 1 << 50)

    def store(self, stamp):
        self.clock.observe(stamp.counter)
        self.standing = max(self.standing, stamp)
        return self.standing


def write_through(node, replicas, w, order):
    """A write that asks all replicas and hears them in ``order``, until it is done."""
    clock = replicas[node].clock
    for is_first in (True, False):
        write = begun(needed=w, primaries=tuple(replicas), is_first=is_first)
        stamp = Stamp(clock.next(), node)
        for name in order:
            standing = replicas[name].store(stamp)
            if write.add(name, NEW, [(0, standing)] if standing > stamp else ()):
                break
        if not write.overtaken:
            break
        clock.observe(write.overtaken[0].counter)
    return stamp


@given(st.data())
def test_a_write_that_begins_after_another_was_acknowledged_wins_whatever_the_clocks_if_w_and_w_exceed_n(data):
    n = data.draw(st.integers(1, 5))
    w = data.draw(st.integers(n // 2 + 1, n))
    names = [f"n{number}" for number in range(n)]
    replicas = {name: Replica(data.draw(st.integers(-(10**6), 10**6))) for name in names}
    acknowledged = [
        write_through(data.draw(st.sampled_from(names)), replicas, w, data.draw(st.permutations(names)))
        for _ in range(data.draw(st.integers(2, 4)))
    ]

    assert acknowledged == sorted(set(acknowledged))
    assert max(replica.standing for replica in replicas.values()) == acknowledged[-1]
