"""What of a running cluster is worth a line."""

import io

import pytest

from raftkv.launch.display import COLUMNS, RING_COLUMNS, table
from raftkv.launch.views import Chronicle, NodeView


def view(node, role=None, term=1, exit_status=None, *, ready=True, reason=None):
    status = None if role is None else {"role": role, "term": term, "ready": ready, "reason": reason, "commit_index": 5}
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
    member = {"id": "n1", "state": "joining", "share": 0.25}
    transfer = {"ranges_done": 3, "ranges": 40, "keys": 9, "bytes": 1000}
    status = {"role": "replica", "ready": True, "members": [member], "transfer": transfer, "hints_pending": 4}
    alive = NodeView(id="n1", url="http://n1", pid=7, status=status)
    still = NodeView(id="n1", url="http://n1", pid=7, status={**status, "transfer": None})
    dead = NodeView(id="n1", url="http://n1", pid=7, exit_status=-9)

    assert (alive.membership, alive.moving) == (member, "3 of 40 ranges")
    assert still.moving == "-"
    assert (dead.membership, dead.moving) == (None, "-")
    assert (view("n1").membership, view("n1", "leader").membership) == (None, None)


def rows_of(drawn):
    return [[str(cell) for cell in column.cells] for column in drawn.columns]


def test_the_table_has_the_columns_of_what_runs():
    status = {"role": "replica", "ready": True, "members": [{"id": "n1", "state": "up", "share": 0.5}]}
    ring = NodeView(id="n1", url="http://n1", pid=7, status={**status, "hints_pending": 4})
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

    assert (dead.role, dead.number("commit_index"), dead.is_ready) == ("killed", "-", False)
    assert (view("n1").role, view("n1").number("term")) == ("no answer", "-")
    assert view("n1", "leader").number("commit_index") == "5"


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
    assert (revived.role, revived.number("commit_index")) == ("follower", "5")


@pytest.mark.parametrize("has_ring", [True, False])
def test_the_table_fits_eighty_columns_whatever_happened_to_a_node(has_ring):
    from rich.console import Console

    numbers = {"term": 12, "commit_index": 1234567, "applied_index": 1234567, "role": "follower", "ready": True}
    url = "http://127.0.0.1:8001"
    views = (
        NodeView(id="n1", url=url, pid=1234567, status=numbers),
        NodeView(id="n2", url=url, pid=1234567, exit_status=-9),
        NodeView(id="n3", url=url, pid=1234567),
    )
    console = Console(width=80, file=io.StringIO())
    console.print(table("raftkv: demo", views, has_ring=has_ring))
    shown = console.file.getvalue()

    assert "..." not in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert all(word in shown for word in ("killed", "no answer", url, "1234567"))
