"""A watch over servers that break off, fall silent, repeat themselves and end: told once, in order, without a gap."""

import threading
import time

import pytest

from raftkv import DefiniteError, RevisionCompacted
from raftkv.client import resuming
from raftkv.core.errors import UsageError
from tests.unit.fake_server import CUT, HANG, Dripping, json, problem, unused_url

HEADERS = {"Content-Type": "text/event-stream", "Raftkv-Node": "n1", "Raftkv-Revision": "4"}


def changes(revision, *keys, kind="put"):
    shown = ",".join(
        f'{{"type":"{kind}","key":"{key}","revision":{revision}'
        + (f',"value":"{key}{revision}","version":1,"create_revision":{revision}}}' if kind == "put" else "}")
        for key in keys
    )
    return f'id: {revision}\nevent: changes\ndata: {{"revision":{revision},"changes":[{shown}]}}\n\n'.encode()


def progress(revision):
    return f'id: {revision}\nevent: progress\ndata: {{"revision":{revision}}}\n\n'.encode()


def stream(*pieces):
    return Dripping(pieces, headers=HEADERS)


def take(watch, count):
    found = [next(watch) for _ in range(count)]
    watch.close()
    return found


def last_ids(server):
    return [asked.headers.get("last-event-id") for asked in server.asked]


def test_changes_come_one_by_one_and_go_on_after_the_last_when_the_stream_breaks_off(client, serve):
    server = serve(stream(changes(5, "a", "b"), CUT), stream(progress(8), CUT), stream(changes(9, "a", kind="delete")))
    found = take(client(server).watch(prefix="p/", previous=True, only="put"), 3)

    assert [(one.type, one.key, one.value, one.revision) for one in found] == [
        ("put", "a", b"a5", 5),
        ("put", "b", b"b5", 5),
        ("delete", "a", None, 9),
    ]
    assert last_ids(server) == [None, "5", "8"]
    assert all("prefix=p%2F&previous=1&only=put" in asked.target for asked in server.asked)


def test_a_stream_that_breaks_off_before_it_told_anything_leaves_no_gap(client, serve):
    server = serve(stream(CUT), stream(changes(5, "a")))
    take(client(server).watch(key="a"), 1)

    assert last_ids(server) == [None, "4"]


def test_what_was_told_is_not_told_again(client, serve):
    server = serve(stream(changes(5, "a"), changes(5, "a"), progress(5), changes(6, "b")))

    assert [one.revision for one in take(client(server).watch(key="a", from_revision=5), 2)] == [5, 6]
    assert "from_revision=5" in server.asked[0].target


def test_revisions_are_never_split(client, serve):
    server = serve(stream(changes(5, "a", "b")[:40], changes(5, "a", "b")[40:], progress(6), changes(7, "c")))
    found = take(client(server).watch(prefix="").revisions(), 2)

    assert [(one.revision, len(one.changes)) for one in found] == [(5, 2), (7, 1)]


def test_a_silent_server_is_left_for_another(client, serve, monkeypatch):
    monkeypatch.setattr(resuming, "SILENCE_S", 0.3)
    silent, other = serve(stream(changes(5, "a"), HANG)), serve(stream(changes(6, "b")))
    silent.answers.append(HANG)
    found = take(client(silent, other, timeout_s=4.0).watch(prefix=""), 2)

    assert [one.key for one in found] == ["a", "b"]
    assert last_ids(other) == ["5"]


def test_once_begun_it_outlasts_a_cluster_that_is_away_for_longer_than_a_call_may_take(client, serve):
    away = problem(503, "no_leader", "no")
    server = serve(stream(changes(5, "a"), CUT), *[away] * 6, stream(changes(6, "b")))
    found = take(client(server, timeout_s=0.2).watch(prefix=""), 2)

    assert [one.revision for one in found] == [5, 6]


def test_it_does_not_begin_where_nobody_listens(client):
    with pytest.raises(DefiniteError):
        next(client(unused_url(), retry=False).watch(key="k"))


@pytest.mark.parametrize("where", ["at its begin", "later"])
def test_history_that_is_forgotten_ends_it(client, serve, where):
    gone = problem(410, "compacted", "no", compacted_revision=7)
    end = b"event: end\ndata: " + gone.body + b"\n\n"
    server = serve(gone) if where == "at its begin" else serve(stream(changes(5, "a"), end))
    watch = client(server).watch(key="a", from_revision=5)
    if where == "later":
        next(watch)

    with pytest.raises(RevisionCompacted) as failed:
        next(watch)
    assert failed.value.oldest == 7
    watch.close()


def test_closing_it_from_elsewhere_ends_it_at_once(client, serve):
    server = serve(stream(changes(5, "a"), HANG))
    watch = client(server).watch(key="a")
    next(watch)
    rest = []
    waiting = threading.Thread(target=lambda: rest.extend(watch))
    waiting.start()
    time.sleep(0.2)  # for it to wait
    watch.close()
    waiting.join(5)

    assert not waiting.is_alive()
    assert rest == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("wrong", [{}, {"key": "k", "prefix": ""}, {"key": "k", "start": "a"}])
def test_what_is_watched_is_one_key_prefix_or_range(client, serve, wrong):
    with pytest.raises(UsageError):
        client(serve(stream())).watch(**wrong)


def test_a_page_of_something_else_is_no_stream(client, serve):
    with pytest.raises(DefiniteError) as failed:
        next(client(serve(json({}))).watch(key="k"))
    assert failed.value.code == "bad_answer"


def item(key, value):
    return {"key": key, "value": value, "version": 1, "revision": 3, "create_revision": 3}


def test_a_mirror_shows_the_state_and_then_each_that_follows_without_a_gap(client, serve):
    first = json({"items": [item("c/a", "1")], "next": "c/b", "revision": 4})
    second = json({"items": [item("c/b", "2")], "next": None, "revision": 4})
    server = serve(first, second, stream(changes(5, "c/a")), stream(changes(6, "c/b", kind="delete")))
    found = take(client(server).mirror("c/"), 3)

    assert found == [
        {"c/a": b"1", "c/b": b"2"},
        {"c/a": b"c/a5", "c/b": b"2"},
        {"c/a": b"c/a5"},
    ]
    assert "revision=4" in server.asked[1].target
    assert "from_revision=5" in server.asked[2].target


def test_a_mirror_that_history_has_overtaken_begins_anew(client, serve):
    page = {"items": [item("c/a", "1")], "next": None, "revision": 4}
    newer = {"items": [item("c/a", "9")], "next": None, "revision": 40}
    gone = problem(410, "compacted", "no", compacted_revision=30)
    server = serve(json(page), gone, json(newer))

    assert take(client(server).mirror("c/"), 2) == [{"c/a": b"1"}, {"c/a": b"9"}]
