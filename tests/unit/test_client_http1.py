"""The sans-I/O core: requests that cannot be broken open, and answers that mean the same however they are split."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftkv.client.http1 import (
    HEAD_BYTES_MAX,
    LINE_BYTES_MAX,
    AnswerError,
    AnswerReader,
    CutError,
    RequestForm,
    UnreadableError,
    common_answer,
)
from raftkv.core.errors import UsageError

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(pieces, method="GET", limit=1000, *, end=False):
    """What comes of ``pieces``: status, headers, body as far as it goes, what is wrong, and whether it is reusable."""
    reader = AnswerReader(method, body_bytes_max=limit)
    body, wrong = [], None
    for piece in [*pieces, *([b""] if end else [])]:
        reader.feed(piece)
        try:
            while found := reader.take():
                body.append(found)
        except AnswerError as error:
            wrong = (type(error).__name__, str(error))
    head = reader.head and (reader.head.status, reader.head.headers)
    return head, b"".join(body), wrong, reader.is_over, reader.is_reusable


def whole(raw, method="GET", *, end=False, limit=1000):
    reader = AnswerReader(method, body_bytes_max=limit)
    reader.feed(raw)
    if end:
        reader.feed(b"")
    return reader.answer(), reader.is_reusable


def wrong(raw, method="GET", *, end=False):
    with pytest.raises(AnswerError) as found:
        whole(raw, method, end=end)
    return found.value


# -- requests


def test_a_request_is_its_head_and_its_body():
    form = RequestForm("PUT", [("Host", "h:1"), ("X", "a b")])

    assert form.request("/kv/a%2Fb/..", b"v") == (
        b"PUT /kv/a%2Fb/.. HTTP/1.1\r\nHost: h:1\r\nX: a b\r\nContent-Length: 1\r\n\r\nv"
    )
    assert form.request("/kv/c").endswith(b"Content-Length: 0\r\n\r\n")
    assert RequestForm("GET", []).request("/") == b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\rb", "a\0b", "\x7f", "\u20ac"])
@pytest.mark.parametrize("where", ["method", "target", "name", "value"])
def test_nothing_can_be_smuggled_into_a_request(value, where):
    parts = {"method": "GET", "target": "/", "name": "X", "value": "y"} | {where: value}
    with pytest.raises(UsageError):
        RequestForm(parts["method"], [(parts["name"], parts["value"])]).request(parts["target"])


@given(st.text(), st.text(), st.text(), st.text())
def test_a_request_that_is_made_is_the_one_that_was_meant(method, target, name, value):
    try:
        made = RequestForm(method, [(name, value)]).request(target)
    except UsageError:
        return

    assert made.decode("latin-1").split("\r\n")[:2] == [f"{method} {target} HTTP/1.1", f"{name}: {value}"]
    assert made.count(b"\r\n") == (3 if method in ("GET", "HEAD") else 4)


# -- answers


@pytest.mark.parametrize(
    ("raw", "method", "status", "body", "is_reusable"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok", "GET", 200, b"ok", True),
        (OK + b"Content-Length: 0\r\n\r\n", "PUT", 200, b"", True),
        (OK + b"content-length:\t2 \r\n\r\nok", "GET", 200, b"ok", True),
        (OK + b"Content-Length: 2\r\n\r\n", "HEAD", 200, b"", True),
        (CHUNKED, "HEAD", 200, b"", True),
        (CHUNKED + b'3\r\nabc\r\n2 ;x="y"\r\nde\r\n0\r\nT: v\r\n\r\n', "GET", 200, b"abcde", True),
        (b"HTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n", "GET", 204, b"", True),
        (b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", "GET", 304, b"", True),
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + CHUNKED + b"0\r\n\r\n", "GET", 200, b"", True),
        (OK + b"Connection: x, Close\r\nContent-Length: 1\r\n\r\nv", "GET", 200, b"v", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nv", "GET", 200, b"v", False),
        (OK + b"Content-Length: 2\r\n\r\nok!", "GET", 200, b"ok", False),
        (OK + b"Content-Length: 2\r\n\r\nok", "HEAD", 200, b"", False),
        (CHUNKED + b"0\r\n\r\n\r\n", "GET", 200, b"", False),
    ],
)  # fmt: skip
def test_an_answer_ends_where_it_says(raw, method, status, body, is_reusable):
    answer, serves = whole(raw, method)

    assert (answer.status, answer.body, serves) == (status, body, is_reusable)


def test_an_answer_of_no_length_ends_with_the_connection():
    for start in (OK, b"HTTP/1.0 200 OK\r\n"):
        answer, is_reusable = whole(start + b"\r\nab", end=True)

        assert (answer.body, is_reusable) == (b"ab", False)


def test_headers_are_told_by_name_in_any_case_and_stay_two_when_they_come_twice():
    answer, _ = whole(OK + b"A: 1\r\na: 2\r\nContent-Length: 0\r\nB:\r\nC: \xe9 \r\n\r\n")

    assert answer.headers == [(b"a", b"1"), (b"a", b"2"), (b"content-length", b"0"), (b"b", b""), (b"c", b"\xe9")]
    assert [answer.header(name) for name in ("a", "b", "c", "d")] == ["1", "", "\u00e9", ""]


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-x",
        b"\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"A: b\nC: d\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b"Content-Length: x\r\n\r\n",
        OK + b"Content-Length:\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: +1\r\n\r\n",
        OK + b"Content-Length: 1001\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"x: " + b"y" * HEAD_BYTES_MAX,
        b"HTTP/1.1 100 C\r\n\r\n" * (HEAD_BYTES_MAX // 18 + 1),
        CHUNKED + b"x\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"1\r\nabc",
        CHUNKED + b"3e9\r\n",
        CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
        CHUNKED + b"1;" + b"x" * LINE_BYTES_MAX,
        CHUNKED + b"0\r\n" + b"a: b\r\n" * LINE_BYTES_MAX,
        CHUNKED + b"0\r\nnothing\r\n",
        OK + b"\r\n" + b"x" * 1001,
    ],
)
def test_what_is_no_answer_or_too_large_a_one_is_unreadable_at_once(raw):
    assert isinstance(wrong(raw), UnreadableError)


@pytest.mark.parametrize(
    "raw", [OK, OK + b"Content-Length: 2\r\n\r\no", CHUNKED + b"1\r\na", CHUNKED + b"0\r\n", b"HTTP/1.1 100 C\r\n\r\n"]
)
def test_an_answer_that_ends_early_was_cut_and_one_that_never_began_was_not_even_that(raw):
    error = wrong(raw, end=True)

    assert isinstance(error, CutError)
    assert not error.is_silent
    assert wrong(b"", end=True).is_silent


def test_a_body_without_a_bound_is_held_no_longer_than_until_it_is_taken():
    reader = AnswerReader(body_bytes_max=None)
    reader.feed(CHUNKED)
    for _ in range(100):
        reader.feed(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

        assert reader.take() == b"x" * 1000
        assert not reader.has_piece


# -- however it is split

_NAMES = st.sampled_from([b"content-length", b"Transfer-Encoding", b"connection", b"x", b""])
_VALUES = st.one_of(st.sampled_from([b"chunked", b"close", b"keep-alive", b"3", b"0", b"5, 5"]), st.binary(max_size=6))
_HEADS = st.builds(
    lambda start, fields: start + b"".join(b"%s: %s\r\n" % pair for pair in fields) + b"\r\n",
    st.sampled_from([OK, b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 100 C\r\n", b"HTTP/1.1 404\r\n"]),
    st.lists(st.tuples(_NAMES, _VALUES), max_size=3),
)
_CHUNKS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=20).map(lambda data: b"%x\r\n%s\r\n" % (len(data), data)),
        st.sampled_from([b"0\r\n\r\n", b"0\r\nt: v\r\n\r\n", b"2;e\r\nab\r\n", b"\r\n", b"1\r\nab\r\n"]),
    ),
    max_size=6,
).map(b"".join)
_ANSWERS = st.builds(
    b"".join, st.lists(st.one_of(_HEADS, st.just(CHUNKED), _CHUNKS, st.binary(max_size=30)), max_size=5)
)


@st.composite
def split(draw, data):
    """``data`` in pieces, none of them empty."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=20)))
    edges = [0, *cuts, len(data)]
    return [data[low:high] for low, high in pairwise(edges) if data[low:high]]


@settings(max_examples=400)
@given(st.data(), _ANSWERS, st.sampled_from(["GET", "HEAD"]), st.sampled_from([0, 7, 1000]), st.booleans())
@example(None, CHUNKED + b"1\r\na\r\n0\r\n\r\n", "GET", 1000, False)
def test_what_comes_of_bytes_does_not_depend_on_how_they_are_split(data, raw, method, limit, end):
    one_by_one = [raw[at : at + 1] for at in range(len(raw))]
    at_once = read([raw] if raw else [], method, limit, end=end)

    assert read(one_by_one, method, limit, end=end) == at_once
    if data is not None:
        assert read(data.draw(split(raw)), method, limit, end=end) == at_once


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), st.booleans())
def test_no_bytes_raise_anything_but_an_answer_error(pieces, end):
    read(pieces, end=end)
    read([CHUNKED, *pieces], end=end)


@settings(max_examples=400)
@given(_ANSWERS, st.sampled_from([0, 7, 1000]))
@example(OK + b"Content-Length: 2\r\n\r\nok", 1000)
@example(OK + b"Content-Length: 2\r\n\r\nok!", 1000)
@example(OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", 1000)
@example(OK + b"Content-Length: 8\r\n\r\n12345678", 7)
@example(b"HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n1", 1000)
@example(b"HTTP/1.1 200 O\0K\r\nContent-Length: 1\r\n\r\n1", 1000)
@example(OK + b"Upgrade: x\r\nContent-Length:\t1 \r\n\r\n1", 1000)
@example(OK + b"Content-Length: 0\r\n\r\nContent-Length: 0\r\n\r\n", 1000)
def test_what_is_read_at_a_glance_is_what_would_be_read_with_care(raw, limit):
    answer = common_answer(raw, "GET", limit)

    assert answer is None or (answer, True) == whole(raw, limit=limit)


def test_what_a_node_answers_is_read_at_a_glance():
    raw = OK + b'ETag: "7"\r\ncontent-length: 2\r\n\r\nok'
    answer = common_answer(raw, "GET", 1000)

    assert answer is not None
    assert (answer.status, answer.header("etag"), answer.body) == (200, '"7"', b"ok")
    assert common_answer(raw, "HEAD", 1000) is None
    assert common_answer(raw, "GET", None) is None
