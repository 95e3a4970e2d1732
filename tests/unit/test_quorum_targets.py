"""Who is asked for one key: distinct nodes, fallbacks in order, and nobody twice."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv.quorum.coordination.targets import Target, Targets

NODES = ("n1", "n2", "n3", "n4", "n5", "n6")


def targets(primaries=("n1", "n2", "n3"), fallbacks=("n4", "n5"), *, besides=(), down=(), sloppy=True):
    return Targets(primaries, fallbacks, besides=besides, usable=lambda node: node not in down, sloppy=sloppy)


def test_the_primaries_are_asked():
    made = targets()

    assert made.asked == {node: Target(node) for node in ("n1", "n2", "n3")}
    assert made.unasked == []


def test_a_fallback_takes_the_place_of_an_unreachable_primary_and_knows_whose():
    made = targets(down={"n2"})

    assert made.asked == {"n1": Target("n1"), "n3": Target("n3"), "n4": Target("n4", "n2")}


def test_fallbacks_are_asked_in_their_order_and_unreachable_ones_left_out():
    made = targets(down={"n1", "n4"})

    assert made.asked["n5"] == Target("n5", "n1")
    assert made.replace("n2") is None


def test_a_strict_quorum_has_no_fallbacks():
    made = targets(down={"n2"}, sloppy=False)

    assert set(made.asked) == {"n1", "n3"}
    assert made.unasked == ["n2"]
    assert made.replace("n1") is None


def test_who_stands_in_for_a_fallback_stands_in_for_the_primary():
    made = targets(down={"n2"})

    assert made.replace("n4") == Target("n5", "n2")
    assert made.place_of("n5") == "n2"


def test_nodes_that_a_key_is_moving_to_are_asked_besides_and_never_replaced():
    made = targets(fallbacks=("n4", "n5"), besides=("n4", "n6"), down={"n6"})

    assert set(made.asked) == {"n1", "n2", "n3", "n4"}
    assert made.besides_count == 2
    assert made.replace("n4") is None
    assert made.replace("n1") == Target("n5", "n1")


@given(
    st.permutations(NODES),
    st.integers(1, 6),
    st.sets(st.sampled_from(NODES)),
    st.booleans(),
    st.lists(st.integers(0, 5)),
)
def test_no_node_is_ever_asked_twice_whatever_fails(order, n, down, sloppy, failures):
    made = targets(order[:n], order[n:], down=down, sloppy=sloppy)
    asked = list(made.asked)
    for number in failures:
        substitute = made.replace(asked[number % len(asked)]) if asked else None
        if substitute is not None:
            asked.append(substitute.node)

    assert len(asked) == len(set(asked))
    assert not down & set(asked)
    assert list(made.asked) == asked
    assert all(target.stands_for in ("", *order[:n]) for target in made.asked.values())
