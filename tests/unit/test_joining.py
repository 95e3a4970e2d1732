"""A node that asks to be let in: it asks again while that may help, and ends at once where it cannot."""

import secrets

import pytest

from raftkv import joining
from raftkv.core.config import ClusterSection, HttpSection, NodeSection
from raftkv.core.errors import StartupError
from tests.unit.fake_server import FakeServer, json, problem

NODE = NodeSection(id="n4", http="127.0.0.1:1", peer="127.0.0.1:2")
MEMBER = {"id": "n1", "http": "127.0.0.1:8001", "peer": "127.0.0.1:9001", "reachable": True, "state": "voter"}
LET_IN = json({"members": [MEMBER], "leader": "n1"})


@pytest.fixture
def asking(tmp_path, monkeypatch):
    """What comes of asking a node that answers so, and how often it was asked."""
    (tmp_path / "secret").write_text(secrets.token_hex(32))
    cluster = ClusterSection(name="demo", secret_file=str(tmp_path / "secret"))
    monkeypatch.setattr(joining, "PAUSE_S", 0.01)

    def asking(*answers):
        with FakeServer(*answers) as server:
            try:
                return joining.join(NODE, [server.url.removeprefix("http://")], HttpSection(), cluster), len(
                    server.asked
                )
            except StartupError as error:
                return str(error), len(server.asked)

    return asking


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "bad_request"), (403, "forbidden"), (401, "unauthenticated")],
)
def test_what_stays_refused_ends_it_at_once_with_the_reason(asking, status, code):
    said, count = asking(problem(status, code, "no", detail="127.0.0.1:2 is the address of n3"), LET_IN)

    assert said.endswith("lets this node in: 127.0.0.1:2 is the address of n3")
    assert count == 1


@pytest.mark.parametrize(
    ("status", "code"), [(503, "overloaded"), (503, "no_leader"), (503, "quorum_unreachable"), (501, "not_supported")]
)
def test_what_may_pass_is_asked_again(asking, status, code):
    members, count = asking(problem(status, code, "no", detail="another change is under way"), LET_IN)

    assert [member.id for member in members] == ["n1"]
    assert count > 1
