"""Lists: the pages of many replicas merge into exactly the page that one store with everything would give."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.errors import Code
from raftkv.formats.versions import KeyState, Version
from raftkv.quorum.coordination.pages import PageCoordinator
from raftkv.quorum.data.versions import CONFLICTS

JOIN = CONFLICTS["lww"].join
KEYS = [b"a", b"b", b"c", b"d", b"e"]
NODES = ["n1", "n2", "n3", "n4"]


def state(counter, value=b"v"):
    return KeyState((Version(counter, "n1", value),))


@given(st.data())
def test_a_page_is_exact_up_to_its_horizon_whoever_is_missing_and_wherever_pages_end(data):
    n = data.draw(st.integers(1, 4))
    r = data.draw(st.integers(1, n))
    w = n - r + 1
    held = {node: {} for node in NODES}
    newest = {}
    for key in KEYS:
        owners = data.draw(st.permutations(NODES))[:n]
        for counter in range(1, data.draw(st.integers(0, 3)) + 1):
            newest[key] = state(counter, data.draw(st.sampled_from([b"v", None])))
            for node in data.draw(st.permutations(owners))[:w]:
                held[node][key] = newest[key]
    page = PageCoordinator(NODES, allowed=n - r, join=JOIN)
    done = False
    for node in data.draw(st.permutations(NODES))[: len(NODES) - (n - r)]:
        limit = data.draw(st.integers(1, 5))
        rows = sorted(held[node].items())
        done = page.add(node, rows[:limit], complete=len(rows) <= limit)

    assert done
    assert dict(page.rows()) == {
        key: value for key, value in newest.items() if page.horizon is None or key <= page.horizon
    }


def test_a_node_that_answers_twice_counts_once_and_a_stranger_never():
    page = PageCoordinator(NODES[:2], allowed=0, join=JOIN)

    assert not page.add("n1", [], complete=True)
    assert not page.add("n1", [], complete=True)
    assert not page.add("stranger", [], complete=True)
    assert page.add("n2", [], complete=True)


def test_more_missing_nodes_than_n_minus_r_leave_no_page():
    page = PageCoordinator(NODES, allowed=1, join=JOIN)
    page.lost("n1")

    assert not page.is_hopeless

    page.lost("n2")

    assert page.is_hopeless
    assert page.failure("lost").code is Code.QUORUM_UNREACHABLE
    assert page.failure("lost").detail == "3 of 4 nodes must answer a list, but only 2 can be reached"


def test_a_node_that_is_lost_after_it_answered_is_not_missed():
    page = PageCoordinator(NODES, allowed=0, join=JOIN)
    page.add("n1", [], complete=True)
    page.lost("n1")

    assert not page.is_hopeless
