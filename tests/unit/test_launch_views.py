"""What of a running cluster is worth a line."""

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


def test_the_table_never_shows_numbers_of_the_dead():
    dead = view("n1", "leader", exit_status=-9)

    assert (dead.role, dead.number("commit_index"), dead.is_ready) == ("killed by SIGKILL", "-", False)
    assert (view("n1").role, view("n1").number("term")) == ("no answer", "-")
    assert view("n1", "leader").number("commit_index") == "5"
