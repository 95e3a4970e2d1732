"""Who leads, over servers that break off, fall silent and forget: each leader once, in order."""

import pytest

from raftkv import DefiniteError
from raftkv.client import resuming
from raftkv.core.errors import UsageError
from tests.unit.fake_server import CUT, HANG, Dripping, json, problem


def leader(revision, token=None, value="v"):
    shown = f'{{"name":"job","value":"{value}","lease":7,"token":{token},"revision":{revision}}}' if token else "null"
    return f'id: {revision}\nevent: leader\ndata: {{"revision":{revision},"leader":{shown}}}\n\n'.encode()


def progress(revision):
    return f'id: {revision}\nevent: progress\ndata: {{"revision":{revision}}}\n\n'.encode()


def stream(*pieces):
    return Dripping(pieces, headers={"Content-Type": "text/event-stream", "Raftkv-Node": "n1"})


def take(observed, count):
    found = [next(observed) for _ in range(count)]
    observed.close()
    return [None if one is None else (one.value, one.token) for one in found]


def last_ids(server):
    return [asked.headers.get("last-event-id") for asked in server.asked]


def test_each_leader_comes_once_in_order_with_its_value_and_token_and_none_while_nobody_leads(client, serve):
    server = serve(stream(leader(9), leader(10, 10, "a"), leader(11, 10, "b"), leader(12), leader(14, 13, "c")))
    observed = client(server).election("job").observe()

    assert take(observed, 5) == [None, (b"a", 10), (b"b", 10), None, (b"c", 13)]
    assert server.asked[0].target.startswith("/elections/job/observe")


def test_it_goes_on_at_another_node_after_the_last_that_was_told(client, serve, monkeypatch):
    monkeypatch.setattr(resuming, "SILENCE_S", 0.3)
    silent = serve(stream(leader(9, 9), progress(12), HANG), HANG)
    other = serve(stream(leader(9, 9), progress(13), CUT), stream(leader(14)))
    observed = client(silent, other, timeout_s=4.0).election("job").observe()

    assert take(observed, 2) == [(b"v", 9), None]
    assert last_ids(other) == ["12", "13"]


def test_a_stream_that_breaks_off_before_it_told_anything_begins_with_who_leads(client, serve):
    server = serve(stream(CUT), stream(leader(9, 9)))

    assert take(client(server).election("job").observe(), 1) == [(b"v", 9)]
    assert last_ids(server) == [None, None]


def test_where_history_is_forgotten_it_goes_on_with_who_leads_then_and_says_nothing_that_it_has_said(client, serve):
    gone = problem(410, "compacted", "no", compacted_revision=30)
    server = serve(stream(leader(9, 9), CUT), gone, stream(leader(31, 9), CUT), gone, stream(leader(40, 33)))
    server.answers[2] = stream(leader(31, 9).replace(b'"revision":31}}', b'"revision":9}}'), CUT)

    assert take(client(server).election("job").observe(), 2) == [(b"v", 9), (b"v", 33)]
    assert last_ids(server) == [None, "9", None, "31", None]


def test_what_is_no_leader_is_no_answer_of_raftkv(client, serve):
    wrong = b'id: 9\nevent: leader\ndata: {"revision":9,"leader":{"name":"job"}}\n\n'
    for answer in (stream(wrong), json({})):
        with pytest.raises(DefiniteError) as failed:
            next(client(serve(answer)).election("job").observe())
        assert failed.value.code == "bad_answer"


def test_an_election_has_a_name(client, serve):
    with pytest.raises(UsageError):
        client(serve(stream())).election("").observe()
