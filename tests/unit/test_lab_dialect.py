"""How actions are asked over HTTP and what answers mean for a history: in doubt, unknown."""

import msgspec
import pytest

from raftkv.api.problems import TABLE
from raftkv.core.errors import Code
from raftkv.instruments.lab.dialect import ClientStep, Meaning, finding, request_of
from raftkv.instruments.lab.history import ANY, CompareAndSet, DeleteAction, GetAction, Outcome, PutAction
from tests.unit.fake_server import heard

WRITES = [
    PutAction(b"v"),
    DeleteAction(),
    CompareAndSet(expected=b"u", value=b"v"),
    CompareAndSet(expected=b"u", value=None),
]


SIBLINGS = msgspec.json.encode(
    {
        "key": "k",
        "siblings": [
            {"value": value, "version": number, "revision": number, "node": "n1"}
            for number, value in enumerate(["a", {"base64": "/w=="}, "b"])
        ],
    }
)
ABSENT = b'{"code":"not_found","applied":"no"}'


@pytest.mark.parametrize(
    ("action", "revision", "method", "body", "headers"),
    [
        (GetAction(), 0, "GET", b"", {}),
        (PutAction(b"v"), 0, "PUT", b"v", {}),
        (DeleteAction(), 0, "DELETE", b"", {}),
        (CompareAndSet(expected=b"u", value=b"v"), 7, "PUT", b"v", {"If-Match": '"7"'}),
        (CompareAndSet(expected=None, value=b"v"), 0, "PUT", b"v", {"If-None-Match": "*"}),
        (CompareAndSet(expected=ANY, value=b"v"), 7, "PUT", b"v", {"If-Match": "*"}),
        (CompareAndSet(expected=b"u", value=None), 7, "DELETE", b"", {"If-Match": '"7"'}),
    ],
)
def test_every_action_has_its_request(action, revision, method, body, headers):
    request = request_of(ClientStep(key=b"a/b", action=action, revision=revision), timeout_s=2.0)

    assert (request.method, request.body, request.headers) == (method, body, headers)
    assert request.target == "/kv/a%2Fb?timeout=2"


def test_reads_carry_their_consistency_and_writes_their_retry_key():
    read = request_of(ClientStep(key=b"k", action=GetAction()), timeout_s=0.5, query="consistency=local")
    write = request_of(
        ClientStep(key=b"k", action=PutAction(b"v"), retry_key="one"), timeout_s=0.5, query="consistency=local"
    )

    assert read.target == "/kv/k?timeout=0.5&consistency=local"
    assert write.target == "/kv/k?timeout=0.5"
    assert write.headers == {"Idempotency-Key": "one"}


@pytest.mark.parametrize(
    ("action", "answered", "expected"),
    [
        (GetAction(), heard(200, b"v", etag='"7"'), Meaning(outcome=Outcome.OK, result=b"v", revision=7)),
        (GetAction(), heard(200, b"", etag='"7"'), Meaning(outcome=Outcome.OK, result=b"", revision=7)),
        (GetAction(), heard(404, ABSENT), Meaning(outcome=Outcome.OK, result=None, revision=0)),
        (
            GetAction(),
            heard(300, SIBLINGS),
            Meaning(outcome=Outcome.OK, result=b"b", siblings=(b"a", b"\xff")),
        ),
        (
            GetAction(),
            heard(200, b"v", etag='"7@n1"', raftkv_context="seen"),
            Meaning(outcome=Outcome.OK, result=b"v", context="seen"),
        ),
        (PutAction(b"v"), heard(201, etag='"7"'), Meaning(outcome=Outcome.OK, revision=7)),
        (PutAction(b"v"), heard(200, etag='"7"'), Meaning(outcome=Outcome.OK, revision=7)),
        (DeleteAction(), heard(200), Meaning(outcome=Outcome.OK, result=True)),
        (DeleteAction(), heard(404, ABSENT), Meaning(outcome=Outcome.OK, result=False, revision=0)),
        (WRITES[2], heard(200, etag='"7"'), Meaning(outcome=Outcome.OK, result=True, revision=7)),
        (WRITES[2], heard(412), Meaning(outcome=Outcome.OK, result=False)),
        (WRITES[3], heard(404, ABSENT), Meaning(outcome=Outcome.OK, result=False)),
        (WRITES[3], heard(200), Meaning(outcome=Outcome.OK, result=True)),
    ],
)
def test_answers_that_tell_the_outcome(action, answered, expected):
    assert finding(action, answered) == expected


@pytest.mark.parametrize("action", [GetAction(), *WRITES])
@pytest.mark.parametrize("code", sorted(TABLE.keys() - {Code.NOT_FOUND, Code.PRECONDITION_FAILED}))
def test_every_problem_is_as_definite_as_the_server_says(action, code):
    kind = TABLE[code]
    body = msgspec.json.encode({"code": code, "applied": kind.applied, "detail": "x"})

    expected = Outcome.FAILED if kind.applied == "no" else Outcome.UNKNOWN
    assert finding(action, heard(kind.status, body)) == Meaning(outcome=expected, note=code)


@pytest.mark.parametrize("action", WRITES)
@pytest.mark.parametrize("answered", [heard(500, b"<html>"), heard(502), heard(503, b'{"code": "x"}'), heard(302)])
def test_an_answer_that_is_not_ours_leaves_a_write_in_doubt(action, answered):
    assert finding(action, answered).outcome is Outcome.UNKNOWN


def test_a_write_that_is_not_yet_on_a_majority_says_so():
    assert finding(PutAction(b"v"), heard(202)).note == "not yet on a majority"
