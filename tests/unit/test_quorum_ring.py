"""The ring: the same everywhere, evenly spread, and hardly changed by a node that comes or goes."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.quorum.membership.ring import FALLBACKS_COUNT, POSITIONS, TABLES_LIMIT, Range, Ring, pieces_of, position

VNODES = 100

positions = st.integers(0, POSITIONS - 1)
clusters = st.dictionaries(
    st.sampled_from([f"n{i}" for i in range(12)]), st.sampled_from(["", "a", "b", "c"]), min_size=1
)


def unzoned(count):
    return dict.fromkeys((f"n{i}" for i in range(1, count + 1)), "")


def length(piece):
    return piece.last - piece.start + 1


def walked(nodes, vnodes, where):
    """All nodes as they are met clockwise from ``where``: an oracle that sorts every node by its nearest token."""
    nearest = {
        node: min((position(f"{node}\0{number}".encode()) - where) % POSITIONS for number in range(vnodes))
        for node in nodes
    }
    return sorted(nodes, key=nearest.__getitem__)


def spread_of(nodes, n):
    """How many zones the best choice of ``n`` nodes can have."""
    return min(n, len(set(nodes.values())))


def moved(old, new, n):
    """Parts of the circle, in replicas of a key: by node, what it gained and what it lost."""
    gained = dict.fromkeys({**old.nodes, **new.nodes}, Fraction(0))
    lost = dict(gained)
    for piece in pieces_of([old, new]):
        before, after = set(old.owners(piece, n)), set(new.owners(piece, n))
        for node in after - before:
            gained[node] += Fraction(length(piece), POSITIONS)
        for node in before - after:
            lost[node] += Fraction(length(piece), POSITIONS)
    return gained, lost


@pytest.mark.parametrize(
    ("key", "where"),
    [
        (b"", 16476032584258269876),
        (b"a", 4681665781835383343),
        ("grüße".encode(), 16716867574333594265),
        (b"\xff" * 1024, 2577796022415304361),
    ],
)
def test_a_key_lies_at_the_same_position_on_every_machine(key, where):
    assert position(key) == where


def test_a_ring_is_the_same_on_every_machine_whatever_the_order_of_its_nodes():
    ring = Ring({"n3": "b", "n1": "a", "n4": "c", "n2": "a"}, VNODES)

    assert ring.digest == "5ace3153"
    assert ring.preference(position(b"mykey"), 3) == ("n1", "n4", "n3", "n2")
    assert ring.preference(position(b"a"), 3) == ("n4", "n2", "n3", "n1")


def test_a_digest_tells_nodes_zones_and_virtual_nodes_apart():
    digests = {
        Ring(nodes, vnodes).digest
        for nodes in (unzoned(3), unzoned(4), {**unzoned(3), "n3": "a"}, {"n1": "", "n2": "", "n4": ""})
        for vnodes in (1, 100)
    }

    assert len(digests) == 8


def test_a_ring_without_nodes_is_refused():
    with pytest.raises(ValueError, match="at least one node"):
        Ring({}, VNODES)


@given(clusters, st.integers(1, 5), positions, st.integers(1, 15))
def test_a_preference_list_names_primaries_and_fallbacks_once_each(nodes, vnodes, where, n):
    order = Ring(nodes, vnodes).preference(where, n)

    assert len(set(order)) == len(order)
    assert set(order) <= set(nodes)
    assert len(order) == min(len(nodes), n + FALLBACKS_COUNT)


@given(st.integers(1, 12), st.integers(1, 5), positions, st.integers(1, 15))
def test_without_zones_nodes_are_asked_in_the_order_they_are_met_clockwise(count, vnodes, where, n):
    nodes = unzoned(count)

    assert list(Ring(nodes, vnodes).preference(where, n)) == walked(nodes, vnodes, where)[: n + FALLBACKS_COUNT]


@given(clusters, st.integers(1, 5), positions, st.integers(1, 6))
def test_primaries_lie_in_as_many_zones_as_there_are(nodes, vnodes, where, n):
    ring = Ring(nodes, vnodes)

    primaries = ring.preference(where, n)[:n]

    assert len({nodes[node] for node in primaries}) == spread_of(nodes, n)
    assert primaries[0] == walked(nodes, vnodes, where)[0]


def test_a_key_at_a_token_belongs_to_its_node_and_the_next_position_to_the_next():
    ring = Ring(unzoned(5), 4)
    tokens = sorted((position(f"{node}\0{number}".encode()), node) for node in ring.nodes for number in range(4))
    owners = [node for _, node in tokens]

    assert [ring.preference(token, 1)[0] for token, _ in tokens] == owners
    assert [ring.preference(token + 1, 1)[0] for token, _ in tokens] == [*owners[1:], owners[0]]


@given(clusters, st.integers(1, 5))
def test_ranges_cover_the_circle_once_and_none_wraps(nodes, vnodes):
    ranges = Ring(nodes, vnodes).ranges()

    assert ranges[0].start == 0
    assert ranges[-1].last == POSITIONS - 1
    assert all(before.last + 1 == after.start for before, after in itertools.pairwise(ranges))
    assert all(piece.start <= piece.last for piece in ranges)


@given(clusters, st.integers(1, 5), st.integers(1, 4), st.data())
def test_all_keys_of_a_range_have_the_same_preference_list(nodes, vnodes, n, data):
    ring = Ring(nodes, vnodes)
    piece = data.draw(st.sampled_from(ring.ranges()))
    inside = data.draw(st.integers(piece.start, piece.last))

    assert ring.preference(inside, n) == ring.preference(piece.start, n)
    assert ring.owners(piece, n) == ring.preference(inside, n)[:n]


@given(clusters, clusters, st.integers(1, 4))
def test_pieces_of_several_rings_lie_within_one_range_of_each(one, other, vnodes):
    rings = [Ring(one, vnodes), Ring(other, vnodes)]

    pieces = pieces_of(rings)

    assert sum(length(piece) for piece in pieces) == POSITIONS
    for ring in rings:
        starts = {piece.start for piece in ring.ranges()}
        assert starts <= {piece.start for piece in pieces}


def test_pieces_of_one_ring_are_its_ranges():
    ring = Ring(unzoned(3), 2)

    assert pieces_of([ring]) == ring.ranges()
    assert all(isinstance(piece, Range) for piece in pieces_of([ring]))


def test_a_hundred_virtual_nodes_spread_keys_evenly():
    """One standard deviation of a share is a tenth of it, as 1 / sqrt(vnodes) says."""
    relative = []
    for cluster in range(20):
        shares = Ring({f"c{cluster}-{node}": "" for node in range(10)}, VNODES).shares
        assert sum(shares.values()) == pytest.approx(1)
        relative += [share * 10 for share in shares.values()]
    deviation = (sum((share - 1) ** 2 for share in relative) / len(relative)) ** 0.5

    assert 0.08 < deviation < 0.12
    assert min(relative) > 0.65
    assert max(relative) < 1.35


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_node_that_joins_takes_its_part_of_the_replicas_and_nothing_else_moves(count):
    n = 3
    old, new = Ring(unzoned(count), VNODES), Ring(unzoned(count + 1), VNODES)
    joined = f"n{count + 1}"

    gained, lost = moved(old, new, n)

    replicas = min(n, count + 1)
    assert {node for node, part in gained.items() if part} == {joined}
    assert sum(lost.values()) == (gained[joined] if count >= n else 0)
    assert float(gained[joined]) == pytest.approx(replicas / (count + 1), rel=0.25)


def test_a_node_that_leaves_gives_its_part_to_the_others_and_nothing_else_moves():
    old, new = Ring(unzoned(10), VNODES), Ring(unzoned(9), VNODES)

    gained, lost = moved(old, new, 3)

    assert {node for node, part in lost.items() if part} == {"n10"}
    assert sum(gained.values()) == lost["n10"]
    assert float(lost["n10"]) == pytest.approx(3 / 10, rel=0.25)
    assert all(gained[node] for node in new.nodes)


@given(
    clusters.filter(lambda nodes: "n0" not in nodes),
    st.sampled_from(["", "a", "d"]),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_with_zones_too_nothing_moves_but_to_the_node_that_joins(nodes, zone, vnodes, n):
    gained, _ = moved(Ring(nodes, vnodes), Ring({**nodes, "n0": zone}, vnodes), n)

    assert all(part == 0 for node, part in gained.items() if node != "n0")


def test_requests_of_any_n_keep_a_bounded_number_of_tables():
    nodes = unzoned(3 * TABLES_LIMIT)
    ring = Ring(nodes, 2)
    for n in range(1, 4 * TABLES_LIMIT):
        assert ring.preference(0, n)[:n] == tuple(walked(nodes, 2, 0)[:n])

    assert len(ring._preferences) <= TABLES_LIMIT
