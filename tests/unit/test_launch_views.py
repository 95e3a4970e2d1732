"""What of a running cluster is worth a line."""

import io

import msgspec
import pytest

from raftkv.api.cluster_answers import Member
from raftkv.launch.display import COLUMNS, RING_COLUMNS, table
from raftkv.launch.views import Chronicle, NodeView
from tests.unit.statuses import node_status


def view(node, role=None, term=1, exit_status=None, *, ready=True, reason=None):
    changes = {"node": node, "role": role, "term": term, "ready": ready, "reason": reason, "commit_index": 5}
    status = None if role is None else node_status(**changes)
    return NodeView(id=node, url=f"http://{node}", pid=7, status=status, exit_status=exit_status)


def test_a_start_a_leader_and_readiness_are_told_once():
    chronicle = Chronicle()

    assert chronicle.observe((view("n1"), view("n2"))) == ()
    assert chronicle.observe((view("n1", "follower", ready=False), view("n2"))) == ()
    assert chronicle.observe((view("n1", "follower"), view("n2", "leader", 3))) == (
        "n2 is leader in term 3",
        "ready: http://n1 http://n2",
    )
    assert chronicle.observe((view("n1", "follower"), view("n2", "leader", 3))) == ()


def test_a_deposed_leader_that_does_not_know_it_yet_is_not_told():
    chronicle = Chronicle()
    chronicle.observe((view("n1", "leader", 4), view("n2", "follower")))

    assert chronicle.observe((view("n1"), view("n2", "leader", 3))) == ("n1 does not answer",)
    assert chronicle.observe((view("n1", "leader", 4), view("n2", "leader", 5)))[-1] == "n2 is leader in term 5"


def test_deaths_are_told_once_with_how():
    chronicle = Chronicle()

    assert chronicle.observe((view("n1", exit_status=1),)) == ("n1 (pid 7) ended with exit status 1",)
    assert chronicle.observe((view("n1", exit_status=1), view("n2", exit_status=-9))) == (
        "n2 (pid 7) was killed by SIGKILL",
    )


def test_silence_and_loss_of_readiness_are_told_and_so_is_their_end():
    chronicle = Chronicle()
    chronicle.observe((view("n1", "leader"), view("n2", "follower")))
    lost = (view("n1", "follower", ready=False, reason="no quorum: 1 of 2"), view("n2"))

    assert chronicle.observe(lost) == ("n2 does not answer", "not ready: no quorum: 1 of 2")
    assert chronicle.observe(lost) == ()
    assert chronicle.observe((view("n1", "leader", 2), view("n2", "follower"))) == (
        "n2 answers again",
        "n1 is leader in term 2",
        "ready: http://n1 http://n2",
    )


def test_a_node_of_a_ring_shows_what_it_is_as_a_member_and_what_moves_to_it():
    member = Member("n1", "h:1", "h:2", reachable=True, state="joining", share=0.25)
    transfer = {"ranges_done": 3, "ranges": 40, "keys": 9, "bytes": 1000}
    status = node_status(role="replica", members=[msgspec.to_builtins(member)], transfer=transfer, hints_pending=4)
    alive = NodeView(id="n1", url="http://n1", pid=7, status=status)
    still = NodeView(id="n1", url="http://n1", pid=7, status=msgspec.structs.replace(status, transfer=None))
    dead = NodeView(id="n1", url="http://n1", pid=7, exit_status=-9)

    assert (alive.membership, alive.moving) == (member, "3 of 40 ranges")
    assert still.moving == "-"
    assert (dead.membership, dead.moving) == (None, "-")
    assert (view("n1").membership, view("n1", "leader").membership) == (None, None)


def rows_of(drawn):
    return [[str(cell) for cell in column.cells] for column in drawn.columns]


def test_the_table_has_the_columns_of_what_runs():
    member = {"id": "n1", "http": "h:1", "peer": "h:2", "reachable": True, "state": "up", "share": 0.5}
    status = node_status(role="replica", members=[member], hints_pending=4)
    ring = NodeView(id="n1", url="http://n1", pid=7, status=status)
    silent = NodeView(id="n2", url="http://n2", pid=8)
    new = NodeView(id="n3", url="http://n3", pid=9, is_new=True)
    drawn = table("t", (ring, silent, new), has_ring=True)

    assert [column.header for column in drawn.columns] == list(RING_COLUMNS)
    assert rows_of(drawn)[:3] == [["n1", "n2", "n3"], ["up", "no answer", "starting"], ["50.0%", "-", "-"]]
    assert rows_of(drawn)[3:5] == [["4", "-", "-"], ["-", "-", "-"]]
    assert [column.header for column in table("t", (new,), has_ring=True).columns] == list(RING_COLUMNS)
    assert [column.header for column in table("t", (new,), has_ring=False).columns] == list(COLUMNS)


def test_the_table_never_shows_numbers_of_the_dead():
    dead = NodeView(id="n1", url="http://n1", pid=7, exit_status=-9)
    drawn = table("t", (dead, view("n1"), view("n1", "leader")), has_ring=False)

    assert rows_of(drawn)[1:4] == [["killed", "no answer", "leader"], ["-", "-", "1"], ["-", "-", "5"]]
    assert not dead.is_ready


def test_a_node_that_somebody_else_started_again_is_followed():
    chronicle = Chronicle()
    alive = view("n1", "leader")
    dead = NodeView(id="n1", url="http://n1", pid=7, exit_status=-9)
    revived = view("n1", "follower", exit_status=-9)
    told = [chronicle.observe((one,)) for one in (alive, dead, dead, revived, revived, dead)]

    assert any("was killed by SIGKILL" in sentence for sentence in told[1])
    assert "n1 answers again, started by somebody else" in told[3]
    assert not any("started by somebody else" in sentence for sentence in told[4])
    assert "n1 is gone again" in told[5]
    assert rows_of(table("t", (revived,), has_ring=False))[1:4] == [["follower"], ["1"], ["5"]]


@pytest.mark.parametrize("has_ring", [True, False])
def test_the_table_fits_eighty_columns_whatever_happened_to_a_node(has_ring):
    from rich.console import Console

    status = node_status(term=12, commit_index=1234567, applied_index=1234567, role="follower")
    url = "http://127.0.0.1:8001"
    views = (
        NodeView(id="n1", url=url, pid=1234567, status=status),
        NodeView(id="n2", url=url, pid=1234567, exit_status=-9),
        NodeView(id="n3", url=url, pid=1234567),
    )
    console = Console(width=80, file=io.StringIO())
    console.print(table("raftkv: demo", views, has_ring=has_ring))
    shown = console.file.getvalue()

    assert "..." not in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert all(word in shown for word in ("killed", "no answer", url, "1234567"))
