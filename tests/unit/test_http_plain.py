"""Plain requests: what is one and what is left to the general way, and in what order they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raftkv.client.http1 import RequestForm
from raftkv.http.door.plain import (
    AWAITED_BYTES_MAX,
    HEAD_BYTES_MAX,
    TURN_REQUESTS,
    Begun,
    PlainConnection,
    PlainRequest,
    read,
    written,
)
from raftkv.http.messages import HttpResponse

HOST = b"Host: 127.0.0.1:8001\r\n"


def get(key: bytes = b"k", fields: bytes = HOST) -> bytes:
    return b"GET /kv/" + key + b" HTTP/1.1\r\n" + fields + b"\r\n"


def put(value: bytes, key: bytes = b"k", fields: bytes = HOST) -> bytes:
    return b"PUT /kv/%b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (key, fields, len(value), value)


# -- what is plain ----------------------------------------------------------------------------------------------------


def test_a_plain_request_is_read_from_where_it_begins_to_where_it_ends() -> None:
    sent = b"PUT /kv/a%2Fb?ttl=5 HTTP/1.1\r\nhost: x\r\nX-Y:  z \r\nContent-Length: 3\r\n\r\nabc"
    for before in (b"", get()):
        found = read(before + sent + b"def", len(before))

        assert isinstance(found, PlainRequest)
        assert found._replace(headers={}) == ("PUT", b"/kv/a%2Fb", b"ttl=5", {}, b"abc", len(before + sent))
        assert found.headers == {b"host": b"x", b"x-y": b"z", b"content-length": b"3"}


@pytest.mark.parametrize("end", range(1, len(put(b"abc"))))
def test_what_has_not_come_whole_is_begun_at_the_most_and_only_with_its_whole_head(end: int) -> None:
    whole = put(b"abc")
    assert read(whole[:end]) == (Begun(len(whole)) if end >= len(whole) - 3 else None)
    assert read(get() + whole[:end], len(get())) == (Begun(len(get() + whole)) if end >= len(whole) - 3 else None)


def test_the_rest_of_a_long_body_is_not_awaited() -> None:
    assert read(put(bytes(AWAITED_BYTES_MAX))[:-1]) is not None
    assert read(put(bytes(AWAITED_BYTES_MAX + 1))[:-1]) is None
    assert read(put(bytes(AWAITED_BYTES_MAX + 1))) is not None


# As they were seen on the wire, each value as its client writes it; Go's as net/http has it in its source.
SENT_BY_CLIENTS = {
    "raftkv": RequestForm("PUT", [("Host", "127.0.0.1:8001"), ("User-Agent", "raftkv-client")])
    .request("/kv/k", b"v")
    .partition(b"\r\n\r\n")[0],
    "curl": b"PUT /kv/k HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
    b"Content-Length: 1\r\nContent-Type: application/x-www-form-urlencoded",
    "requests": b"PUT /kv/k HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nUser-Agent: python-requests/2.34.2\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nContent-Length: 1",
    "http.client": b"PUT /kv/k HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nAccept-Encoding: identity\r\nContent-Length: 1",
    "aiohttp": b"PUT /kv/k HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    b"User-Agent: Python/3.11 aiohttp/3.14.5\r\nContent-Length: 1\r\nContent-Type: application/octet-stream",
    "Node's http": b"PUT /kv/k HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nConnection: keep-alive\r\nContent-Length: 1",
    "Node's fetch": b"PUT /kv/k HTTP/1.1\r\nhost: 127.0.0.1:8001\r\nconnection: keep-alive\r\n"
    b"content-type: text/plain;charset=UTF-8\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n"
    b"user-agent: node\r\naccept-encoding: gzip, deflate\r\ncontent-length: 1",
    "Java's HttpClient": b"PUT /kv/k HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 1\r\n"
    b"Host: 127.0.0.1:8001\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
    b"User-Agent: Java-http-client/17.0.15",
    "Java's HttpURLConnection": b"PUT /kv/k HTTP/1.1\r\nUser-Agent: Java/17.0.15\r\nHost: 127.0.0.1:8001\r\n"
    b"Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\nConnection: keep-alive\r\nContent-Length: 1",
    "Go": b"PUT /kv/k HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 1\r\n"
    b"Accept-Encoding: gzip",
}


@pytest.mark.parametrize("head", SENT_BY_CLIENTS.values(), ids=SENT_BY_CLIENTS)
def test_what_common_clients_send_is_plain_in_one_piece_and_in_two(head: bytes) -> None:
    sent = head + b"\r\n\r\nv"
    found = read(sent)

    assert isinstance(found, PlainRequest)
    assert (found.method, found.path, found.body, found.end) == ("PUT", b"/kv/k", b"v", len(sent))
    assert read(sent[:-1]) == Begun(len(sent))


NOT_PLAIN = {
    "another version": get().replace(b"1.1", b"1.0"),
    "another method": get().replace(b"GET", b"PATCH"),
    "a lower-case method": get().replace(b"GET", b"get"),
    "an absolute target": get().replace(b"/kv", b"http://127.0.0.1/kv"),
    "a fragment": get(b"k#f"),
    "a space in the target": get(b"a b"),
    "raw bytes in the target": get(b"\xc3\xa9"),
    "an empty line first": b"\r\n" + get(),
    "no host": get(fields=b"X: y\r\n"),
    "an empty host": get(fields=b"Host:\r\n"),
    "two hosts": get(fields=HOST * 2),
    "a field twice": get(fields=HOST + b"X: y\r\nx: y\r\n"),
    "no field at all": get(fields=b""),
    "a fold": get(fields=HOST + b"X: y\r\n z\r\n"),
    "a space before the colon": get(fields=HOST + b"X : y\r\n"),
    "no name": get(fields=HOST + b": y\r\n"),
    "no colon": get(fields=HOST + b"X\r\n"),
    "an underscore": get(fields=HOST + b"X_Y: z\r\n"),
    "a bare line feed": get(fields=HOST + b"X: y\nZ: a\r\n"),
    "a bare carriage return": get(fields=HOST + b"X: y\rZ: a\r\n"),
    "a NUL": get(fields=HOST + b"X: \0\r\n"),
    "raw bytes in a field": get(fields=HOST + b"X: \xff\r\n"),
    "the end of the connection": get(fields=HOST + b"Connection: close\r\n"),
    "a wish about the connection": get(fields=HOST + b"Connection: keep-alive, X\r\nX: y\r\n"),
    "a word about trailers": get(fields=HOST + b"TE: trailers\r\n"),
    "what opens HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an expectation": put(b"v", fields=HOST + b"Expect: 100-continue\r\n"),
    "chunks": put(b"v", fields=HOST + b"Transfer-Encoding: chunked\r\n"),
    "a length twice": put(b"v", fields=HOST + b"Content-Length: 1\r\n"),
    "a length with a sign": get(fields=HOST + b"Content-Length: +0\r\n"),
    "a length in another base": get(fields=HOST + b"Content-Length: 0x0\r\n"),
    "a length of many digits": get(fields=HOST + b"Content-Length: 0000000000\r\n"),
    "an empty length": get(fields=HOST + b"Content-Length:\r\n"),
    "what a proxy says": get(fields=HOST + b"X-Forwarded-Proto: https\r\n"),
    "many fields": get(fields=HOST + b"".join(b"X%d: y\r\n" % number for number in range(100))),
    "a long head": get(fields=HOST + b"X: " + b"y" * HEAD_BYTES_MAX + b"\r\n"),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_could_be_read_in_two_ways_or_is_about_the_connection_is_not_plain(what: str) -> None:
    assert read(NOT_PLAIN[what]) is None


def test_an_answer_is_framed_once_and_no_header_of_it_breaks_out() -> None:
    end = b"Date: x\r\n\r\n"
    response = HttpResponse(status=200, headers=((b"a", b"b"),), body=b"body")
    assert written(response, "GET", end) == (b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n" + end, b"body")
    assert written(response, "HEAD", end) == (b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n" + end, b"")
    framed = HttpResponse(status=200, headers=((b"content-length", b"9"),))
    assert written(framed, "HEAD", end)[0].count(b"content-length") == 1
    for status in (204, 304):
        assert written(HttpResponse(status=status), "GET", end) == (
            b"HTTP/1.1 %d %b\r\n%b" % (status, {204: b"No Content", 304: b"Not Modified"}[status], end),
            b"",
        )
    for value in (b"b\r\nc: d", b"b\nc: d", b"b\rc", b"b\0"):
        with pytest.raises(ValueError, match="a line of its own"):
            written(HttpResponse(status=200, headers=((b"a", value),)), "GET", end)


# -- one after another ------------------------------------------------------------------------------------------------


class Carrier:
    """Answers when told; what it cannot take goes the general way."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.may_answer = self.is_taking = True
        self.at_once = at_once
        self.asked: list[bytes] = []
        self.responds: list[Callable[[HttpResponse], None]] = []
        self.written: list[bytes] = []
        self.passed = b""
        self.held_bytes = self.awaited_bytes = 0
        self.later = 0
        self.plain = PlainConnection(self)

    def take(self, request: Any, respond: Callable[[HttpResponse], None]) -> bool:
        if request.path == b"/other":
            return False
        self.asked.append(request.path)
        self.responds.append(respond)
        if self.at_once:
            self.respond()
        return True

    def respond(self) -> None:
        self.responds.pop(0)(HttpResponse(status=200, body=self.asked[-1]))

    def write(self, response: HttpResponse, method: str) -> None:
        assert isinstance(response.body, bytes)
        self.written.append(response.body)

    def hold(self, size_bytes: int) -> None:
        self.held_bytes, self.awaited_bytes = size_bytes, 0

    def await_rest(self, size_bytes: int) -> None:
        self.awaited_bytes = size_bytes

    def pass_on(self, data: bytes) -> None:
        self.passed += data
        self.may_answer = False

    def go_on_later(self) -> None:
        self.later += 1

    def turn(self) -> None:
        """Do what was put off."""
        assert self.later
        self.later = 0
        self.plain.go_on()


def test_the_next_is_asked_when_the_one_before_is_answered_and_what_waits_is_held() -> None:
    carrier = Carrier()
    carrier.plain.received(get(b"1") + get(b"2"))
    assert carrier.asked == [b"/kv/1"]
    assert carrier.held_bytes == len(get(b"2"))
    carrier.plain.received(get(b"3"))
    assert carrier.held_bytes == len(get(b"2") + get(b"3"))
    assert carrier.plain.is_busy

    carrier.respond()
    assert (carrier.asked, carrier.written) == (
        [b"/kv/1"],
        [b"/kv/1"],
    )  # whoever answers is not asked the next thing yet
    carrier.turn()
    assert (carrier.asked, carrier.held_bytes) == ([b"/kv/1", b"/kv/2"], len(get(b"3")))
    carrier.respond()
    carrier.turn()
    carrier.respond()
    assert carrier.written == [b"/kv/1", b"/kv/2", b"/kv/3"]
    assert carrier.held_bytes == 0
    assert not carrier.plain.is_busy


def test_who_takes_no_answers_is_asked_nothing_more() -> None:
    carrier = Carrier(at_once=True)
    carrier.is_taking = False
    carrier.plain.received(get(b"1"))
    carrier.plain.go_on()
    assert carrier.asked == []
    assert carrier.held_bytes == len(get(b"1"))

    carrier.is_taking = True
    carrier.plain.go_on()
    assert carrier.written == [b"/kv/1"]
    assert carrier.held_bytes == 0


def test_what_is_not_for_here_goes_the_general_way_with_all_that_follows_and_after_what_came_before() -> None:
    carrier = Carrier()
    other = get().replace(b"/kv/k", b"/other")
    carrier.plain.received(get(b"1") + other + get(b"2"))
    assert carrier.passed == b""
    carrier.respond()
    carrier.turn()
    assert carrier.passed == other + get(b"2")
    carrier.plain.received(get(b"3"))
    assert carrier.passed == other + get(b"2") + get(b"3")

    carrier.may_answer = True
    carrier.plain.received(get(b"4"))
    assert carrier.asked[-1] == b"/kv/4"


def test_a_body_that_comes_later_is_awaited_and_counted_while_it_comes() -> None:
    carrier = Carrier()
    sent = put(b"value", b"1")
    carrier.plain.received(get(b"0") + sent[:-5])
    carrier.respond()
    carrier.turn()
    assert carrier.awaited_bytes == len(sent) - 5
    assert carrier.plain.is_busy
    carrier.plain.received(b"val")
    assert carrier.awaited_bytes == len(sent) - 2
    assert carrier.asked == [b"/kv/0"]

    carrier.plain.received(b"ue" + get(b"2"))
    assert carrier.asked == [b"/kv/0", b"/kv/1"]
    assert (carrier.awaited_bytes, carrier.held_bytes, carrier.passed) == (0, len(get(b"2")), b"")


@pytest.mark.parametrize("ends", [False, True])
def test_what_is_begun_goes_the_general_way_when_its_rest_is_late_or_never_comes(*, ends: bool) -> None:
    carrier = Carrier()
    carrier.plain.received(put(b"value")[:-2])
    (carrier.plain.end if ends else carrier.plain.give_up)()
    assert carrier.passed == put(b"value")[:-2]
    assert carrier.awaited_bytes == 0
    assert not carrier.plain.is_busy

    carrier.plain.received(b"ue")
    assert carrier.passed == put(b"value")


def test_nothing_is_awaited_of_who_has_closed_its_half_while_it_waited() -> None:
    carrier = Carrier()
    carrier.plain.received(get(b"1") + put(b"value")[:-2])
    carrier.plain.end()
    carrier.respond()
    carrier.turn()
    assert carrier.awaited_bytes == 0
    assert carrier.passed == put(b"value")[:-2]


def test_what_belongs_to_the_general_way_reaches_it_though_the_client_takes_nothing() -> None:
    carrier = Carrier()
    carrier.may_answer = carrier.is_taking = False
    carrier.plain.received(b"the rest of a body")
    assert carrier.passed == b"the rest of a body"


def test_many_at_once_leave_turns_to_others() -> None:
    carrier = Carrier(at_once=True)
    carrier.plain.received(get() * (2 * TURN_REQUESTS + 1))
    assert len(carrier.written) == TURN_REQUESTS
    assert carrier.later == 1
    carrier.turn()
    carrier.turn()
    assert len(carrier.written) == 2 * TURN_REQUESTS + 1
    assert carrier.later == 0
    assert carrier.held_bytes == 0


def test_nothing_is_written_to_who_is_gone() -> None:
    carrier = Carrier()
    carrier.plain.received(get(b"1") + get(b"2"))
    carrier.plain.close()
    carrier.respond()
    assert carrier.written == []
    assert carrier.asked == [b"/kv/1"]
