"""Whom ``raftkv status`` asks, how long it waits for whom, and what it calls those who say nothing."""

import pytest

from raftkv.cli import main
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.survey import MISSED_S, survey
from tests.unit.fake_server import HANG, json, problem, unused_url
from tests.unit.statuses import STATUS

SECRET = "c2VjcmV0IG9mIDMyIGJ5dGVzLCBmb3IgdGVzdHMgb24="


def address(url):
    return url.removeprefix("http://")


def status_of(node, *peers):
    """What ``node`` says, whose peers are (id, url, is it reached)."""
    told = [{"id": peer, "http": address(url), "reachable": reached} for peer, url, reached in peers]
    return json({**STATUS, "node": node, "peers": told})


@pytest.fixture
def config(tmp_path):
    """A configuration with a secret, of nodes at these addresses."""

    def written(**urls):
        (tmp_path / "secret").write_text(SECRET)
        (tmp_path / "secret").chmod(0o600)
        nodes = [
            f'[[node]]\nid = "{node}"\nhttp = "{address(url)}"\npeer = "127.0.0.1:{number}"\n'
            for number, (node, url) in enumerate(urls.items(), 1)
        ]
        path = tmp_path / "cluster.toml"
        path.write_text('[cluster]\nname = "test"\nsecret_file = "secret"\n' + "".join(nodes))
        return path

    return written


def test_whom_nobody_reaches_is_not_waited_for_as_long_as_whom_somebody_does(serve):
    silent = serve(HANG)
    one, other = serve(status_of("n1", ("n3", silent.url, False))), serve(status_of("n2", ("n3", silent.url, False)))
    missed = survey(ConnectionOptions(server=(one.url, other.url, silent.url)))[-1]
    other.answers[0] = status_of("n2", ("n3", silent.url, True))
    hung = survey(ConnectionOptions(server=(one.url, other.url, silent.url)))[-1]
    awaited = survey(ConnectionOptions(server=(one.url, silent.url), timeout_s=0.4))[-1]

    assert (missed.node, missed.status) == ("n3", None)
    assert f"within {MISSED_S:g} s, and no other node reaches it" in missed.error
    assert "within 0.5 s" in hung.error
    assert "within 0.4 s" in awaited.error


def test_a_node_that_is_silent_is_called_what_the_file_calls_it(serve, config, capfd):
    path = config(n1=serve(status_of("n1")).url, n7=unused_url())

    assert main.run(["status", "--config", str(path)]) == 0
    assert [line.split()[:2] for line in capfd.readouterr().out.splitlines()[1:3]] == [["n1", "leader"], ["n7", "no"]]


def test_a_node_of_the_file_that_was_removed_is_told_as_no_member(serve, config, capfd):
    members = [{"id": "n1", "http": "h:1", "peer": "h:2", "reachable": True, "state": "voter"}]
    path = config(n1=serve(json({**STATUS, "peers": [], "members": members, "cluster_size": 1})).url, n7=unused_url())

    assert main.run(["status", "--config", str(path)]) == 0
    told = capfd.readouterr()
    assert "n7    no member" in told.out
    assert told.out.endswith("healthy: no failure can be borne\n")


def test_a_node_that_answers_and_tells_nothing_is_not_called_silent(serve, capfd):
    server = serve(problem(401, "unauthenticated", "no"))

    assert main.run(["status", "--server", server.url]) == 3
    told = capfd.readouterr()
    assert "?     refuses" in told.out
    assert told.err == f"raftkv: no node tells how it is: {server.url} it is unauthenticated\n"


@pytest.mark.parametrize(
    "command", [["members", "list"], ["status"], ["status", "--follow"], ["backup", "b"], ["compact", "9"]]
)
def test_who_has_the_secret_looks_with_it(serve, config, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = serve(json({**STATUS, "peers": [], "members": [], "leader": None}))
    main.run([*command, "--config", str(config(n1=server.url))])

    assert server.asked[0].headers["authorization"].startswith("Raftkv ")


def test_a_row_of_an_ordinary_cluster_fits_into_eighty_columns(serve, capfd):
    silent, peers = unused_url(), [{"id": "n2", "http": "10.0.0.112:8001", "reachable": True}]
    numbers = {"term": 12, "applied_index": 1_234_567, "commit_index": 1_234_567, "revision": 12_345_678}
    follower = json({**STATUS, **numbers, "peers": peers, "role": "follower", "staleness_ms": 132})
    main.run(["status", "--server", f"{serve(follower).url},{silent}"])

    assert max(map(len, capfd.readouterr().out.splitlines())) <= 80
