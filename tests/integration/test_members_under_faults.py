"""Members of a real raft cluster change under load and ``kill -9``, and what clients saw is linearizable.

The long one belongs to ``tox -e faults``; how long and with which choices, say the variables of ``test_soak``.
"""

import pytest

from tests.integration.members_trial import run_members_trial
from tests.integration.trial import SOAK_S

pytestmark = pytest.mark.integration


def short(changes, progress):
    """Every kind of change once, each with a death in it."""
    cluster = changes._cluster
    changes.join("n4")
    changes.kill(cluster.leader(), for_s=0.3)
    changes.until(lambda: "n4" in cluster.voters(), "n4 to vote")
    changes.transfer("n4")
    changes.stop("n1", for_s=0.5)
    changes.until(lambda: not changes.is_typing, "the transfer")
    changes.replace("n2", "n5")
    changes.kill("n2", for_s=1.0)
    progress(20)
    changes.until(lambda: not changes.is_typing and "n2" not in cluster.members(), "the replacement")
    changes.move("n3")
    changes.until(lambda: changes.counts["moved"] and "n3" in cluster.processes, "n3 to be back")
    progress(20)
    changes.remove(cluster.leader())
    changes.kill("n3", for_s=0.3)
    changes.until(lambda: not changes.is_typing, "the removal")
    changes.kill(*cluster.processes, for_s=0.0)
    progress(20)


def test_members_change_while_clients_ask_and_nodes_are_killed(tmp_path):
    happened = run_members_trial(tmp_path, "members, short", short)

    assert happened["join"] == 2
    assert happened["members replace: done"] == 1
    assert happened["kill -9"] > 5


@pytest.mark.soak
@pytest.mark.timeout(int(2 * SOAK_S) + 600)
def test_members_change_at_random_while_clients_ask_and_nodes_are_killed(tmp_path):
    run_members_trial(tmp_path, "members", lambda changes, progress: changes.storm(SOAK_S, progress))
