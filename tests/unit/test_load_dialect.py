"""Requests are what servers read, answers mean what they say; in doubt a write is unknown and a read is not."""

import base64
import json

import pytest

from raftkv.instruments.load.dialect import EtcdDialect, RaftkvDialect
from raftkv.instruments.load.engine import Failure
from raftkv.instruments.load.plan import LoadPlan


def parsed(request):
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return lines[0], dict(line.split(": ") for line in lines[1:]), body


def test_a_put_carries_the_value_and_how_many_replicas_it_is_for():
    line, headers, body = parsed(RaftkvDialect(LoadPlan(w="all")).put(7, b"v\r\n\r\nv"))

    assert line == "PUT /kv/bench-7?w=all HTTP/1.1"
    assert headers["Content-Length"] == "6"
    assert body == b"v\r\n\r\nv"


def test_a_get_names_level_r_and_a_deadline_that_is_not_the_usual_one():
    assert parsed(RaftkvDialect(LoadPlan()).get(7))[0] == "GET /kv/bench-7 HTTP/1.1"
    assert parsed(RaftkvDialect(LoadPlan(consistency="eventual", r="3", timeout_s=1.5)).get(7))[0] == (
        "GET /kv/bench-7?timeout=1.5&consistency=eventual&r=3 HTTP/1.1"
    )


def problem(code, applied):
    return json.dumps({"status": 503, "title": "t", "detail": "d", "code": code, "applied": applied}).encode()


def test_a_key_is_deleted_or_was_not_there():
    dialect = RaftkvDialect(LoadPlan(w="leader", timeout_s=1.5))

    assert parsed(dialect.delete(7))[0] == "DELETE /kv/bench-7?timeout=1.5 HTTP/1.1"
    assert dialect.deleted(200, b"{}") is None
    assert dialect.deleted(404, problem("not_found", "no")) is None
    assert dialect.deleted(503, problem("no_leader", "no")) == Failure("no", "no_leader", "d")
    assert parsed(EtcdDialect(LoadPlan()).delete(7))[0] == "POST /v3/kv/deleterange HTTP/1.1"


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_write_is_done_by_any_success(status):
    assert RaftkvDialect(LoadPlan()).written(status, b"{}") is None


@pytest.mark.parametrize(("applied", "means"), [("no", "no"), ("unknown", "unknown"), ("perhaps", "unknown")])
def test_a_refused_write_says_whether_it_was_applied(applied, means):
    assert RaftkvDialect(LoadPlan()).written(503, problem("no_leader", applied)) == Failure(means, "no_leader", "d")


def test_an_answer_that_is_no_problem_document_leaves_a_write_unknown_and_a_read_not():
    dialect = RaftkvDialect(LoadPlan())

    assert dialect.written(502, b"<html>") == Failure("unknown", "status_502", "b'<html>'")
    assert dialect.found(502, b"<html>") == Failure("no", "status_502", "b'<html>'")


def sibling(value):
    return {"value": value, "version": 1, "revision": 1, "node": "n1"}


def test_a_read_finds_one_value_or_none_or_siblings():
    dialect = RaftkvDialect(LoadPlan())
    other = base64.b64encode(b"\xff").decode()
    siblings = json.dumps({"key": "k", "siblings": [sibling("a"), sibling({"base64": other})]}).encode()

    assert dialect.found(200, b"v") == (b"v",)
    assert dialect.found(404, problem("not_found", "no")) == ()
    assert dialect.found(300, siblings) == (b"a", b"\xff")
    assert (
        dialect.found(300, json.dumps({"key": "k", "siblings": [sibling({"base64": "!"})]}).encode()).code
        == "unreadable"
    )


def test_etcd_speaks_base64():
    dialect = EtcdDialect(LoadPlan())
    line, _, body = parsed(dialect.put(7, b"\xff"))

    assert line == "POST /v3/kv/put HTTP/1.1"
    assert json.loads(body) == {"key": base64.b64encode(b"bench-7").decode(), "value": "/w=="}
    assert dialect.written(200, b"{}") is None
    assert dialect.found(200, b'{"header": {}, "kvs": [{"key": "aw==", "value": "/w=="}], "count": "1"}') == (b"\xff",)
    assert dialect.found(200, b'{"header": {}}') == ()


def test_etcds_failures_say_nothing_about_whether_a_write_was_applied():
    dialect = EtcdDialect(LoadPlan())
    body = b'{"error": "e", "code": 14, "message": "no leader"}'

    assert dialect.written(503, body) == Failure("unknown", "grpc_14", "no leader")
    assert dialect.found(503, body) == Failure("no", "grpc_14", "no leader")


def test_etcd_reads_locally_when_asked_to_and_refuses_what_it_does_not_have():
    request = EtcdDialect(LoadPlan(consistency="local")).get(7)

    assert json.loads(parsed(request)[2])["serializable"] is True

    for plan in (LoadPlan(r="1"), LoadPlan(w="1"), LoadPlan(consistency="lease")):
        with pytest.raises(ValueError, match="etcd has"):
            EtcdDialect(plan)
