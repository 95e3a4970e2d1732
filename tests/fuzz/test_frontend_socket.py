"""The front-end's Unix socket under frames that no front-end sends: the file's mode is not its only door."""

from __future__ import annotations

import socket
import stat
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.requests import Configure, Inspect, MembersRequest, Put, Request, Write
from raftkv.frontend import wire
from raftkv.instruments.local.processes import descendants
from tests.fuzz.budget import made_up
from tests.fuzz.mutations import bent, numbers, rearranged, values
from tests.fuzz.siege import Siege

pytestmark = pytest.mark.integration

NODE = "n4"
ANSWER_S = 10.0

_ids = count(1 << 40)


def socket_path(siege: Siege) -> Path:
    """Where the node's front-end was told to find the replica."""
    for pid in descendants(siege.cluster.processes[NODE].pid):
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "--replica-socket" in arguments:
            return Path(arguments[arguments.index("--replica-socket") + 1])
    raise AssertionError("there is no front-end")


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body


class Imposter:
    """A connection to the replica, in the place of a front-end; a context manager."""

    def __init__(self, path: Path) -> None:
        self._frames = wire.FrameReader()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))  # waits while too many others wait to be accepted
        self._socket.settimeout(ANSWER_S)
        self._socket.sendall(wire.build_frame())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def is_answered(self, data: bytes) -> bool:
        """After ``data``, is a harmless request still answered on this connection?"""
        number = next(_ids)
        item = wire.encode_item(wire.Submission(number, time.monotonic() + ANSWER_S, Inspect()))
        try:
            self._socket.sendall(data + wire.submission_frames([item]))
            while chunk := self._socket.recv(1 << 16):
                for body in self._frames.feed(chunk):
                    if wire.decode_build(body) is not None:
                        continue
                    message = wire.decode_message(body)
                    if isinstance(message, wire.Replies) and any(one.id == number for one in message.replies):
                        return True
        except ConnectionError:
            pass
        return False


def submitted(request: Request) -> bytes:
    return wire.encode_item([wire.Submission(1, 2.0, request)])


def reconfigures(body: bytes) -> bool:
    """Is this a wish, and a well-formed one, to have the cluster answer by other rules, or be of other members?"""
    try:
        return any(isinstance(one.request, Configure | MembersRequest) for one in wire.decode_submissions(body))
    except wire.WireError:
        return False


WHOLE = st.lists(values(wire.Submission, numbers([])), max_size=3).map(wire.encode_item)
REFUSED = {
    "no frame": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a frame of four gigabytes": b"\xff\xff\xff\xff",
    "an empty frame": frame(b""),
    "no msgpack": frame(b"\xc1"),
    "deep nesting": frame(b"\x91\x94\x01\x02" + wire.encode_item(Inspect()) + b"\x91" * 100_000),
    "text that is not UTF-8": frame(
        submitted(Write(operations=(), idempotency_key="KEY")).replace(b"KEY", b"\xff" * 3)
    ),
    "an empty key": frame(submitted(Write(operations=(Put(key=b"", value=b""),)))),
    "an empty idempotency key": frame(submitted(Write(operations=(), idempotency_key=""))),
    "a lifetime beyond all numbers": frame(submitted(Write(operations=(Put(key=b"k", value=b"", ttl_ms=2**63),)))),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_ends_the_connection_and_nothing_else(siege: Siege, data: bytes) -> None:
    path = socket_path(siege)
    with Imposter(path) as imposter:
        is_answered = imposter.is_answered(data)

    assert not is_answered
    with Imposter(path) as imposter:
        assert imposter.is_answered(b"")


@made_up
@given(
    body=(WHOLE | bent(WHOLE) | rearranged(WHOLE.filter(lambda body: body != b"\x90"))).filter(
        lambda body: not reconfigures(body)
    )
)
def test_whatever_is_asked_is_answered_or_ends_the_connection(siege: Siege, body: bytes) -> None:
    path = socket_path(siege)
    with Imposter(path) as imposter:
        imposter.is_answered(frame(body))

    with Imposter(path) as imposter:
        assert imposter.is_answered(b""), "this stopped the replica"


def test_silent_and_broken_off_connections_leave_nothing_behind(siege: Siege) -> None:
    path = socket_path(siege)
    with ExitStack() as stack:
        for turn in range(200):
            imposter = stack.enter_context(Imposter(path))
            imposter._socket.sendall((b"", b"\x00", (1 << 25).to_bytes(4, "little") + bytes(1000))[turn % 3])
        with Imposter(path) as other:
            is_answered = other.is_answered(b"")

    assert is_answered


def test_only_this_user_may_connect(siege: Siege) -> None:
    assert stat.S_IMODE(socket_path(siege).stat().st_mode) == 0o600
