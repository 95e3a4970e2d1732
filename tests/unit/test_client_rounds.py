"""Which server is asked next and when, and what an answer means: pure arithmetic."""

import msgspec
import pytest

from raftkv.client.errors import PreconditionFailed, judge
from raftkv.client.servers import DEFAULT_SERVERS, ServerRounds, attempt_s, parse_servers
from raftkv.core.errors import DefiniteError, IndefiniteError
from tests.unit.fake_server import heard


def test_servers_come_from_a_list_a_string_the_environment_or_the_embedded_cluster(monkeypatch):
    monkeypatch.delenv("RAFTKV_SERVERS", raising=False)
    assert parse_servers(None) == DEFAULT_SERVERS
    monkeypatch.setenv("RAFTKV_SERVERS", "http://a:1, b:2")

    assert parse_servers(None) == ("http://a:1", "http://b:2")
    assert parse_servers(["a:1,b:2", "[::1]:8001"]) == ("http://a:1", "http://b:2", "http://[::1]:8001")


def test_a_port_is_8001_unless_named_and_a_trailing_slash_is_fine():
    assert parse_servers("https://a/, https://a, HTTPS://A:8001/") == ("https://a:8001",)
    assert parse_servers("a, 10.0.0.1, [::1], http://b:80") == (
        "http://a:8001",
        "http://10.0.0.1:8001",
        "http://[::1]:8001",
        "http://b:80",
    )


@pytest.mark.parametrize(
    "text",
    ["", " , ", "ftp://a", "http://", "http://a:0", "http://a:99999", "a b:1", "http:/a:1", "http://a:1?", "a\n:1"],
)
def test_an_address_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match="server"):
        parse_servers(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("http://h:8001/kv", "a path .'kv'."),
        ("h:8001/kv/", "a path"),
        ("http://h:8001/?x=1", "a query"),
        ("http://h:8001#f", "a fragment"),
        ("8001", "a port and no host"),
    ],
)
def test_a_base_url_that_says_more_than_where_a_server_is_is_refused_with_what_is_too_much(text, what):
    with pytest.raises(ValueError, match=what):
        parse_servers(text)


def test_a_password_in_an_address_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="before @") as refused:
        parse_servers("http://me:hunter2@h:8001")
    assert "hunter2" not in str(refused.value)


def test_every_server_is_tried_before_anyone_waits_and_waits_grow_to_a_bound():
    rounds = ServerRounds(3)
    waits = [rounds.failed(None, 1.0) for _ in range(60)]

    assert [wait for number, wait in enumerate(waits) if (number + 1) % 3] == [0.0] * 40
    assert waits[2:15:3] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 1.0


def test_nobody_is_there_when_every_server_refused_in_every_round_of_about_a_second():
    rounds = ServerRounds(3)
    waits = [rounds.failed(None, 1.0, is_refused=True) for _ in range(17)]

    assert not rounds.is_nobody_there
    assert 1.0 < sum(waits) < 2.0
    rounds.failed(None, 1.0, is_refused=True)
    assert rounds.is_nobody_there


def test_one_server_that_does_not_refuse_may_still_answer():
    rounds = ServerRounds(3)
    for number in range(60):
        rounds.failed(None, 1.0, is_refused=number % 3 != 0)
    assert not rounds.is_nobody_there


def test_retry_after_of_a_round_is_honoured_in_full_and_forgotten_afterwards():
    rounds = ServerRounds(2)

    assert rounds.failed(3.0, 0.0) == 0.0
    assert rounds.failed(1.0, 0.0) == 3.0
    assert rounds.failed(None, 0.0) == 0.0
    assert rounds.failed(None, 0.0) < 0.2


def test_an_attempt_leaves_time_for_another_server_unless_it_must_not_be_repeated():
    assert attempt_s(5.0, servers=3, repeatable=True) == 2.5
    assert attempt_s(0.1, servers=3, repeatable=True) == 0.1
    assert attempt_s(5.0, servers=1, repeatable=True) == 5.0
    assert attempt_s(5.0, servers=3, repeatable=False) == 5.0


def reply(status, **problem):
    if not problem:
        return heard(status, b"<html>")
    return heard(status, msgspec.json.encode(problem), content_type="application/problem+json")


@pytest.mark.parametrize("answer", [reply(200), reply(201), reply(202), reply(404, code="not_found", applied="no")])
def test_fine_answers_are_no_setback(answer):
    assert judge(answer, is_read=False) is None


@pytest.mark.parametrize("is_read", [True, False])
def test_a_web_server_that_knows_no_such_path_does_not_say_that_a_key_is_missing(is_read):
    setback = judge(reply(404), is_read=is_read)

    assert isinstance(setback.error, DefiniteError)
    assert setback.retriable
    assert "is it a raftkv server?" in setback.error.detail


@pytest.mark.parametrize("is_read", [True, False])
def test_an_unknown_route_is_not_a_missing_key(is_read):
    setback = judge(reply(404, code="unknown_route", applied="no", detail="no such resource"), is_read=is_read)

    assert isinstance(setback.error, DefiniteError)
    assert setback.error.code == "unknown_route"
    assert not setback.retriable


def test_an_answer_to_head_says_by_its_headers_that_there_is_no_such_key():
    of_raftkv = heard(404, raftkv_node="n1")

    assert judge(of_raftkv, is_read=True) is None
    assert judge(heard(404), is_read=True) is not None


@pytest.mark.parametrize(
    ("answer", "kind", "retriable"),
    [
        (reply(400, code="bad_request", applied="no"), DefiniteError, False),
        (reply(413, code="value_too_large", applied="no"), DefiniteError, False),
        (reply(429, code="overloaded", applied="no"), DefiniteError, True),
        (reply(503, code="no_leader", applied="no"), DefiniteError, True),
        (reply(503), IndefiniteError, True),  # some proxy's: who knows whether it passed the request on
        (reply(408), IndefiniteError, True),
        (reply(500, code="internal_error", applied="unknown"), IndefiniteError, True),
        (reply(504, code="outcome_unknown", applied="unknown"), IndefiniteError, True),
        (reply(301), IndefiniteError, True),
    ],
)
def test_a_write_is_definitely_not_applied_only_if_someone_says_so(answer, kind, retriable):
    setback = judge(answer, is_read=False)

    assert type(setback.error) is kind
    assert setback.retriable is retriable


@pytest.mark.parametrize("status", [500, 503, 504])
def test_a_read_that_fails_is_definite_whatever_the_status(status):
    setback = judge(reply(status, code="outcome_unknown", applied="unknown"), is_read=True)

    assert type(setback.error) is DefiniteError
    assert setback.retriable


def test_a_failed_precondition_names_the_revision_and_settles_the_matter():
    setback = judge(reply(412, code="precondition_failed", applied="no", revision=7), is_read=False)

    assert isinstance(setback.error, PreconditionFailed)
    assert setback.error.revision == 7
    assert setback.settled
