"""The write coordinator: what counts, when a write is stamped again, and when its failure is definite."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.quorum.targets import Target, Targets
from raftkv.quorum.versions import HybridClock, Stamp
from raftkv.quorum.writes import Step, WriteCoordinator

DECLINED = Refused(code=Code.DISK_FULL, detail="full")


def coordinator(needed=2, *, primaries=("n1", "n2", "n3"), fallbacks=(), down=()):
    targets = Targets(primaries, fallbacks, usable=lambda node: node not in down, sloppy=bool(fallbacks))
    return WriteCoordinator(targets, needed=needed)


def begun(**options):
    made = coordinator(**options)
    made.begin(Stamp(10, "n1"))
    return made


def test_a_write_is_done_with_the_answer_that_makes_w_and_not_again_after():
    write = begun()

    assert write.add("n1", Stamp(10, "n1"), replaced=False) is Step.WAIT
    assert write.add("n2", Stamp(10, "n1"), replaced=True) is Step.DONE
    assert write.add("n3", Stamp(10, "n1"), replaced=False) is Step.WAIT
    assert write.replaced


def test_one_replica_that_answers_twice_counts_once():
    write = begun()

    assert write.add("n1", Stamp(10, "n1"), replaced=False) is Step.WAIT
    assert write.add("n1", Stamp(10, "n1"), replaced=False) is Step.WAIT
    assert write.add("stranger", Stamp(10, "n1"), replaced=False) is Step.WAIT


def test_a_write_that_would_lose_is_stamped_again_once():
    write = begun()
    write.add("n1", Stamp(10, "n1"), replaced=False)

    assert write.add("n2", Stamp(50, "n3"), replaced=True) is Step.STAMP_AGAIN
    assert set(write.again(Stamp(51, "n1"))) == {Target("n1"), Target("n2"), Target("n3")}
    assert write.add("n1", Stamp(51, "n1"), replaced=True) is Step.WAIT
    assert write.add("n3", Stamp(99, "n2"), replaced=True) is Step.DONE


def test_a_late_answer_to_the_first_attempt_does_not_count_for_the_second():
    write = begun()
    write.add("n1", Stamp(10, "n1"), replaced=False)
    write.add("n2", Stamp(50, "n3"), replaced=True)
    write.again(Stamp(51, "n1"))
    write.add("n1", Stamp(51, "n1"), replaced=True)

    assert write.add("n3", Stamp(10, "n1"), replaced=False) is Step.WAIT
    assert write.add("n3", Stamp(51, "n1"), replaced=False) is Step.DONE


def test_who_is_gone_is_not_asked_again():
    write = begun()
    write.lost("n3")
    write.add("n1", Stamp(10, "n1"), replaced=False)
    write.add("n2", Stamp(50, "n3"), replaced=True)

    assert set(write.again(Stamp(51, "n1"))) == {Target("n1"), Target("n2")}


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
    taken.add("n3", Stamp(10, "n1"), replaced=False)

    assert all(isinstance(write.failure("so it is"), Unknown) for write in (lost, silent, taken))


def test_a_write_that_was_made_once_is_never_definitely_refused():
    write = begun(needed=1)
    write.add("n1", Stamp(50, "n3"), replaced=True)
    write.again(Stamp(51, "n1"))
    for node in ("n1", "n2", "n3"):
        write.declined(node, DECLINED)

    assert isinstance(write.failure("declined"), Unknown)


def test_a_silent_replica_still_counts_when_it_answers_after_all():
    write = begun(needed=3, fallbacks=("n4",))

    assert write.silent("n3") == Target("n4", "n3")

    write.add("n1", Stamp(10, "n1"), replaced=False)
    write.add("n2", Stamp(10, "n1"), replaced=False)

    assert write.add("n3", Stamp(10, "n1"), replaced=False) is Step.DONE


class Replica:
    """One register under last-writer-wins, and what its clock has seen."""

    def __init__(self, offset_us):
        self.standing = Stamp(0, "")
        self.clock = HybridClock(0, lambda: 1_000_000 + offset_us, ahead_us=1 << 40)

    def store(self, stamp):
        self.clock.observe(stamp.counter)
        self.standing = max(self.standing, stamp)
        return self.standing


def write_through(node, replicas, w, order):
    """A write that asks all replicas and hears them in ``order``, until it is done."""
    write = coordinator(needed=w, primaries=tuple(replicas))
    clock = replicas[node].clock
    stamp = Stamp(clock.next(), node)
    write.begin(stamp)
    while True:
        step = Step.WAIT
        for name in order:
            step = write.add(name, replicas[name].store(stamp), replaced=False)
            if step is not Step.WAIT:
                break
        if step is Step.DONE:
            return write.stamp
        assert step is Step.STAMP_AGAIN
        clock.observe(write.newest.counter)
        stamp = Stamp(clock.next(), node)
        write.again(stamp)


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
