"""Who is wrong, by what the others tell: arithmetic over indexes and hashes."""

from raftkv.core.voters import Voters
from raftkv.raft.electorate import Electorate
from raftkv.raft.standing.divergence import KEPT, PATIENCE_HEARTBEATS, Divergence, StateJudgement


def at(index, *, peers=("b", "c"), state_hash=1):
    divergence = Divergence(Electorate("a", Voters.of(("a", *peers))), heartbeat_s=1.0)
    for reached in range(max(1, index - 10), index + 1):
        divergence.applied(reached, state_hash)
    return divergence


def test_one_against_two_is_wrong_and_one_of_the_two_is_not():
    wrong = at(20)
    wrong.told("b", 20, 2)
    assert wrong.judge(0.0) is None, "nobody is judged before all were heard"
    wrong.told("c", 20, 2)
    judgement = wrong.judge(0.0)
    assert "b and c" in judgement.reason
    assert not judgement.is_tie

    right = at(20)
    right.told("b", 20, 2)
    right.told("c", 20, 1)
    assert right.judge(0.0) == StateJudgement()


def test_whoever_cannot_be_heard_is_waited_for_and_then_it_is_a_tie():
    divergence = at(20)
    divergence.told("b", 20, 2)

    assert divergence.judge(5.0) is None
    assert divergence.judge(5.0 + PATIENCE_HEARTBEATS).is_tie
    divergence.told("c", 20, 1)
    assert divergence.judge(100.0) == StateJudgement()


def test_what_a_peer_tells_of_an_index_to_come_is_compared_there():
    divergence = at(20)
    divergence.told("b", 22, 7)
    divergence.told("b", 25, 8)
    divergence.applied(21, 1)
    assert divergence.judge(0.0) is None
    divergence.applied(22, 1)
    divergence.told("c", 22, 7)

    assert "entry 22" in divergence.judge(0.0).reason


def test_agreement_from_before_the_difference_says_nothing():
    divergence = at(20)
    divergence.told("c", 15, 1)
    divergence.told("b", 18, 2)
    divergence.told("b", 20, 2)

    assert divergence.judge(0.0) is None
    divergence.told("c", 18, 1)
    assert divergence.judge(0.0) == StateJudgement()


def test_an_index_that_is_forgotten_or_was_jumped_over_says_nothing():
    divergence = at(2 * KEPT)
    divergence.told("b", 2 * KEPT - 10 - KEPT, 7)
    divergence.told("c", 2 * KEPT + 1, 7)
    divergence.applied(3 * KEPT, 1)

    assert divergence.judge(0.0) is None


def test_a_peer_whose_state_is_being_fetched_has_no_say_any_more():
    divergence = at(20, peers=("b",))
    divergence.told("b", 20, 2)
    assert divergence.judge(0.0).is_tie
    divergence.told("b", 0, 0)

    assert divergence.judge(0.0) == StateJudgement()


def test_a_peer_that_has_applied_nothing_yet_has_all_of_its_own():
    divergence = at(20)
    told_nothing = divergence.without_say()
    divergence.told("b", 0, 77)
    divergence.told("c", 0, 0)
    is_fetching = divergence.without_say()
    divergence.told("c", 0, 77)

    assert (told_nothing, is_fetching, divergence.without_say()) == (["b", "c"], ["c"], [])


def test_a_conflicting_entry_is_one_word_against_another():
    divergence = at(20)
    divergence.contradicted("b", 19)
    divergence.told("c", 20, 1)

    assert divergence.judge(0.0) == StateJudgement()


def test_each_peer_is_told_once_what_is_new_and_again_after_its_connection_broke():
    divergence = at(20)

    assert divergence.news_for("b", has_say=True) == (20, 1)
    assert divergence.news_for("b", has_say=True) is None
    divergence.lost("b")
    assert divergence.news_for("b", has_say=True) == (20, 1)
    assert divergence.news_for("b", has_say=False) == (0, 0)
