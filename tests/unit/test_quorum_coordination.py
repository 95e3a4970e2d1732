"""Writes that are coordinated together: what travels together; each has its own stamp, deadline and outcome."""

import pytest

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Delete, Get, Put, Write
from raftkv.core.results import KeyRecord, Missing, StampedDelete, StampedPut, Withheld, Written
from raftkv.formats import quorum_messages
from raftkv.formats.peers import MalformedMessageError, refusal_of
from raftkv.formats.quorum_messages import Fetch, Fetched, QuestionDeclined, StoreDone, StoreRows
from raftkv.formats.versions import KeyState, Version, decode_state, encode_state
from raftkv.instruments.sim.quorum import entry_of, quorum_settings
from raftkv.quorum.coordination.coordination import READS_AT_ONCE, Coordination
from raftkv.quorum.coordination.operations import Dispatch
from raftkv.quorum.coordination.speculation import Speculation
from raftkv.quorum.data.versions import CONFLICTS, HybridClock
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.sampling import Sampling
from raftkv.quorum.settings import DISK_FULL
from raftkv.quorum.timers import Timers

NODES = ("n1", "n2", "n3")
AHEAD_US = 60_000_000


class Outbox:
    """Keeps what is posted."""

    def __init__(self):
        self.sent = []

    def post(self, node, message):
        self.sent.append((node, message))

    def take(self):
        sent, self.sent = self.sent, []
        return sent


class Node:
    """The coordinator of node n1, whose replicas are played by the test."""

    def __init__(self, nodes=NODES, down=(), **settings):
        self.now_s = 0.0
        self.outbox = Outbox()
        self.timers = Timers()
        self.clock = HybridClock(0, lambda: 1_000_000, limit_us=lambda: 1_000_000 + AHEAD_US)
        placement = Placement(16, is_usable=lambda node: node not in down)
        placement.update([entry_of(node) for node in nodes])
        settings = quorum_settings(node_id="n1", **settings)
        self.coordination = Coordination(
            Dispatch(
                settings=settings,
                placement=placement,
                outbox=self.outbox,
                timers=self.timers,
                clock=self.clock,
                conflicts=CONFLICTS[settings.conflicts],
                now_s=lambda: self.now_s,
                now_ms=lambda: 1_000,
                last_id=100,
                unanswered=lambda _node: None,
                fetch_own=lambda _key, _hinted: None,
                can_fetch_own=lambda: True,
                speculation=Speculation(settings.silence_s),
                judges=lambda _node: True,
                sampling=Sampling(clock=lambda: self.now_s, wall_us=lambda: 1_000_000),
            )
        )

    def write(self, *operations, deadline_s=10.0, n=3, r=2, w=2):
        pending = Pending()
        self.coordination.write(Write(operations=operations), deadline_s, pending, n=n, r=r, w=w)
        return pending

    def turn(self, now_s=0.0):
        """What leaves in a turn."""
        self.now_s = now_s
        self.timers.run(now_s)
        self.coordination.begin()
        return self.outbox.take()

    def stores(self):
        """What leaves in a turn, each message once, by its id."""
        return {message.id: message for _, message in self.turn() if isinstance(message, StoreRows)}

    def store(self):
        """The only one."""
        stores = self.stores()

        assert len(stores) == 1
        return next(iter(stores.values()))

    def answer(self, question, *nodes, newer=()):
        for node in nodes:
            done = StoreDone(question.id, (False,) * len(question.rows), newer)
            self.coordination.answered(node, done)


def put(key, value=b"value"):
    return Put(key=key, value=value)


def keys_of(question):
    return [key for key, _ in question.rows]


def counters_of(question):
    return [decode_state(state).newest.counter for _, state in question.rows]


def test_the_writes_of_one_turn_travel_together_whichever_requests_they_are_of():
    node = Node()
    one, other = node.write(put(b"a"), put(b"b")), node.write(put(b"c"))
    sent = node.turn()

    assert sorted(name for name, _ in sent) == ["n1", "n2", "n3"]
    assert all(keys_of(question) == [b"a", b"b", b"c"] for _, question in sent)
    assert len(set(counters_of(sent[0][1]))) == 3

    node.answer(sent[0][1], "n2", "n3")

    assert [len(pending.outcome.results) for pending in (one, other)] == [2, 1]
    assert one.outcome.replicas == other.outcome.replicas == ("n2", "n3")


def test_writes_with_other_replicas_travel_apart():
    node = Node(nodes=("n1", "n2", "n3", "n4", "n5"))
    node.write(*[put(b"%d" % number) for number in range(200)])
    asked = {}
    for name, question in node.turn():
        asked.setdefault(question.id, (keys_of(question), set()))[1].add(name)
    placement = node.coordination._dispatch.placement

    assert 1 < len(asked) <= 20  # ten sets of three nodes of five, two orders of the others
    assert sum(len(keys) for keys, _ in asked.values()) == 200
    for keys, names in asked.values():
        assert all(set(placement.targets(key, 3, sloppy=True).asked) == names for key in keys)


def test_no_message_grows_without_bound():
    node = Node()
    node.write(*[put(b"%d" % number, bytes(400_000)) for number in range(6)])
    node.write(*[put(b"small %d" % number) for number in range(1_000)])
    node.write(*[put(b"more %d" % number) for number in range(1_000)])
    sizes = [len(question.rows) for question in node.stores().values()]

    assert sizes[:2] == [2, 2]
    assert max(sizes) == quorum_messages.ROWS_PER_STORE
    assert sum(sizes) == 2_006


def test_operations_of_one_key_follow_each_other():
    node = Node()
    pending = node.write(put(b"k", b"1"), put(b"other"), Get(key=b"k"), Delete(key=b"k"))
    first = node.store()

    assert keys_of(first) == [b"k", b"other"]
    assert node.turn() == []

    node.answer(first, "n1", "n2")
    (read, *_) = [message for _, message in node.turn()]
    for name in NODES:
        node.coordination.answered(name, Fetched(read.id, None))
    last = node.store()
    node.answer(last, "n1", "n2")

    assert [type(result) for result in pending.outcome.results] == [StampedPut, StampedPut, Missing, Missing]
    assert counters_of(last) > counters_of(first)


def test_a_write_that_would_lose_is_stamped_again_once_and_alone():
    node = Node()
    pending = node.write(put(b"a"), put(b"b"), put(b"c"))
    first = node.store()
    for name in NODES:
        assert node.stores() == {}
        node.answer(first, name, newer=((1, 1_000_500, "n3"),))
    second = node.store()

    assert pending.outcome is None
    assert keys_of(second) == [b"b"]
    assert counters_of(second) == [1_000_501]

    node.answer(second, "n1")
    node.answer(second, "n3", newer=((0, 1_000_900, "n2"),))

    assert node.stores() == {}
    assert [result.revision for result in pending.outcome.results] == [
        counters_of(first)[0],
        1_000_501,
        counters_of(first)[2],
    ]


@pytest.mark.parametrize("way", ["shown by one", "shown and declined", "silent", "lost", "late"])
def test_a_write_that_would_lose_and_may_have_been_seen_is_not_made_twice(way):
    node = Node()
    pending = node.write(put(b"k"))
    first = node.store()
    newer = ((0, 1_000_500, "n3"),)
    node.answer(first, "n1", newer=() if way.startswith("shown") else newer)
    node.answer(first, "n2", newer=newer)
    if way == "shown by one":
        node.answer(first, "n3", newer=newer)
    elif way == "shown and declined":
        node.coordination.answered("n3", QuestionDeclined(first.id, refusal_of(DISK_FULL)))
    elif way == "lost":
        node.coordination.lost("n3")
    else:
        assert pending.outcome is None
        node.turn(10.0)

    assert not any(node.stores()), "what is not asked for an answer is a hint"
    assert isinstance(pending.outcome, Unknown)
    assert "may have been seen" in pending.outcome.detail


@pytest.mark.parametrize("who_has_a_newer_one", NODES)
def test_a_write_that_w_replicas_came_to_show_is_done_in_whichever_order_they_say_so(who_has_a_newer_one):
    node = Node()
    pending = node.write(put(b"k"))
    first = node.store()
    for name in NODES:
        node.answer(first, name, newer=((0, 1_000_500, "n9"),) if name == who_has_a_newer_one else ())

    assert not any(node.stores())
    assert [result.revision for result in pending.outcome.results] == counters_of(first)


def test_a_write_that_would_lose_is_stamped_again_although_the_last_replica_declined_it():
    node = Node()
    pending = node.write(put(b"k"))
    first = node.store()
    for name in ("n1", "n2"):
        node.answer(first, name, newer=((0, 1_000_500, "n3"),))
    node.coordination.answered("n3", QuestionDeclined(first.id, refusal_of(DISK_FULL)))
    (second,) = [question for question in node.stores().values() if not question.stands_for]  # else a hint

    assert counters_of(second) == [1_000_501]

    node.answer(second, "n1", "n2")

    assert [result.revision for result in pending.outcome.results] == [1_000_501]


def test_a_late_answer_to_the_first_attempt_does_not_count_for_the_second():
    node = Node()
    pending = node.write(put(b"k"))
    first = node.store()
    for name in NODES:
        node.answer(first, name, newer=((0, 1_000_500, "n3"),))
    second = node.store()
    node.answer(second, "n1")
    node.answer(first, "n3")

    assert pending.outcome is None

    node.answer(second, "n3")

    assert isinstance(pending.outcome, Written)


def test_a_replica_with_the_version_of_a_wild_clock_does_not_count_for_that_key_and_for_no_other():
    node = Node()
    wild = 1_000_000 + AHEAD_US + 1
    kept, poisoned = node.write(put(b"a")), node.write(put(b"k"))
    first = node.store()
    node.answer(first, "n3", newer=((1, wild, "n3"),))
    node.answer(first, "n1")
    sent = node.turn()

    assert kept.outcome.replicas == ("n3", "n1")
    assert poisoned.outcome is None
    assert sorted((name, keys_of(question)) for name, question in sent) == [("n1", [b"k"]), ("n2", [b"k"])]
    assert node.clock.last < wild
    assert counters_of(sent[0][1]) == [counters_of(first)[1]]

    node.answer(sent[0][1], "n1", "n2")

    assert poisoned.outcome.replicas == ("n1", "n2")


def test_a_write_that_too_few_replicas_can_show_is_unknown():
    node = Node()
    wild = 1_000_000 + AHEAD_US + 1
    pending = node.write(put(b"k"))
    first = node.store()
    node.answer(first, "n3", newer=((0, wild, "n3"),))
    second = node.store()
    node.answer(second, "n2", newer=((0, wild, "n3"),))
    node.turn()

    assert isinstance(pending.outcome, Unknown)


def test_each_write_has_the_deadline_of_its_request():
    node = Node()
    hasty, patient = node.write(put(b"a"), deadline_s=0.1), node.write(put(b"b"), deadline_s=5.0)
    question = node.store()
    node.turn(0.1)

    assert isinstance(hasty.outcome, Unknown)
    assert patient.outcome is None

    node.answer(question, "n1", "n2")

    assert isinstance(patient.outcome, Written)
    assert node.coordination.size == 1

    node.turn(4.9)  # n3 was silent for too long

    assert node.coordination.size == 0


def test_a_fallback_is_asked_for_all_writes_of_a_silent_replica_and_keeps_them_as_hints():
    node = Node(nodes=("n1", "n2", "n3", "n4"), replica_timeout_s=0.2)
    node.write(*[put(b"%d" % number) for number in range(50)], w=3)
    asked = {message.id: set() for _, message in node.turn()}
    sent = node.turn(0.2)

    assert sent
    for _, message in sent:
        asked[message.id].add(message.stands_for)
    assert all(asked.values())


def test_declined_by_all_is_definite_for_every_write_of_the_message():
    node = Node()
    one, other = node.write(put(b"a")), node.write(put(b"b"))
    question = node.store()
    for name in NODES:
        node.coordination.answered(name, QuestionDeclined(question.id, refusal_of(DISK_FULL)))

    assert one.outcome == other.outcome == DISK_FULL


def declined_by_most(node):
    pending = node.write(put(b"a"))
    question = node.store()
    for name in ("n1", "n2"):
        node.coordination.answered(name, QuestionDeclined(question.id, refusal_of(DISK_FULL)))

    assert pending.outcome is None

    return pending, question


def test_declined_by_most_is_unknown_once_the_last_has_it():
    node = Node()
    pending, question = declined_by_most(node)
    node.answer(question, "n3")

    assert isinstance(pending.outcome, Unknown)


def test_declined_by_most_is_unknown_once_the_last_is_silent():
    node = Node(replica_timeout_s=0.2)
    pending, _ = declined_by_most(node)
    node.turn(0.2)

    assert isinstance(pending.outcome, Unknown)


def test_a_deletion_says_of_each_key_whether_there_was_one():
    node = Node()
    pending = node.write(Delete(key=b"a"), Delete(key=b"b"))
    question = node.store()
    node.coordination.answered("n1", StoreDone(question.id, (False, False)))
    node.coordination.answered("n2", StoreDone(question.id, (True, False)))

    assert [type(result) for result in pending.outcome.results] == [StampedDelete, Missing]


@pytest.mark.parametrize(
    "answer",
    [
        lambda question: StoreDone(question.id, (False,)),
        lambda question: StoreDone(question.id, (False, False), ((2, 1_000_500, "n3"),)),
    ],
)
def test_an_answer_that_does_not_fit_its_question_is_malformed(answer):
    node = Node()
    node.write(put(b"a"), put(b"b"))
    question = node.store()

    with pytest.raises(MalformedMessageError):
        node.coordination.answered("n2", answer(question))


def test_very_many_operations_on_one_key_are_refused_one_after_the_other():
    node = Node(down=("n2", "n3"))
    pending = node.write(*[put(b"k") for _ in range(5_000)])

    assert node.turn() == []
    assert isinstance(pending.outcome, Refused)
    assert pending.outcome.code is Code.QUORUM_UNREACHABLE


def test_everything_has_an_outcome_when_the_node_closes():
    node = Node()
    begun = node.write(put(b"a"), put(b"a"))
    node.turn()
    waiting = node.write(put(b"b"), Get(key=b"b"), deadline_s=5.0)
    node.coordination.close()

    assert isinstance(begun.outcome, Unknown)
    assert isinstance(waiting.outcome, Unknown)


def test_a_request_for_many_large_values_asks_for_a_few_at_a_time_and_withholds_what_is_too_much():
    node = Node()
    pending = node.write(*[Get(key=b"k%d" % number) for number in range(200)])
    state = encode_state(KeyState((Version(7, "n1", b"v" * (1 << 20)),)))
    most_at_once, keys = 0, set()
    while pending.outcome is None:
        asked = [(peer, fetch) for peer, fetch in node.turn() if isinstance(fetch, Fetch)]
        keys |= {fetch.key for _, fetch in asked}
        most_at_once = max(most_at_once, len({fetch.key for _, fetch in asked}))
        for peer, fetch in asked:
            node.coordination.answered(peer, Fetched(fetch.id, state))

    results = pending.outcome.results
    assert most_at_once == READS_AT_ONCE
    assert len(keys) < READS_AT_ONCE + 16  # and for no more once the answer is full
    assert sum(isinstance(result, KeyRecord) for result in results) == 8
    assert sum(isinstance(result, Withheld) for result in results) == 192
