"""Kept-alive HTTP connections of the blocking client: opened, lent to one call at a time, given back, let go.

Rules. A channel belongs to the process that opened it and to the one call that it is lent to. After a fork the child
has none: it closes its copies of the descriptors, which tells the server nothing, and opens its own; the parent goes on
with all of its. Locks are made anew as well, since a thread that held one does not live on in the child. Of one server
at most ``CHANNELS_MAX`` are open at a time; who wants one more waits for it until its deadline. A channel on which
anything went wrong is not used again, nor one that was idle for long or on which the server has said something unasked.

"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Final

from raftkv.api import paths
from raftkv.client.events import EventReader, LineReader, ServerSentEvent
from raftkv.client.http1 import AnswerError, AnswerReader, Headers, HttpAnswer
from raftkv.client.reach import (
    CONNECT_TIMEOUT_S,
    IDLE_S,
    Host,
    UnheardError,
    UnopenedError,
    is_close_without_a_word,
    trusting,
    unheard,
    unopened,
)

CHANNELS_MAX: Final = 64
"""Connections of one client to one server. More calls at a time than this would only queue in the server."""

RECEIVE_BYTES: Final = 1 << 16
RECEIVE_BYTES_MAX: Final = 1 << 20
"""At a time, of an answer that is known to be long."""


class Channel:
    """One connection to ``host``; see the module."""

    def __init__(self, host: Host, connection: socket.socket) -> None:
        self.host = host
        self.is_fresh = True
        self.is_over = False
        self.idle_since_s = 0.0
        self._socket = connection
        self._reader: AnswerReader | None = None

    def send(self, request: bytes, deadline_s: float) -> None:
        """Send all of it; raises ``OSError`` when the server cannot have got the last byte."""
        self._socket.settimeout(_remaining_s(deadline_s))
        self._socket.sendall(request)

    def hear(self, method: str, deadline_s: float) -> HttpAnswer:
        """Read one whole answer; raises ``OSError`` or ``AnswerError``."""
        reader = AnswerReader(method)
        while not reader.is_over:
            self._receive(reader, deadline_s)
        answer = reader.answer()
        self._heard(reader)
        return answer

    def begin(self, method: str, deadline_s: float) -> HttpAnswer:
        """Read the head of an answer, whose body ``piece`` then gives; raises as ``hear``."""
        reader = self._reader = AnswerReader(method, None)
        while not (reader.status or reader.is_over):
            self._receive(reader, deadline_s)
        return reader.head or reader.answer()  # which raises what kept it away

    def piece(self, deadline_s: float) -> bytes:
        """The next piece of the body, empty at its end; no more is read than that. Raises as ``hear``."""
        reader = self._reader
        assert reader is not None
        while not (reader.has_piece or reader.is_over):
            self._receive(reader, deadline_s)
        piece = reader.take()
        if not piece:
            self._heard(reader)
        return piece

    def rest(self, bytes_max: int, deadline_s: float) -> bytes:
        """The pieces that are left, or as many as are more than ``bytes_max``; raises as ``hear``."""
        found = b""
        while len(found) <= bytes_max and (piece := self.piece(deadline_s)):
            found += piece
        return found

    def end(self) -> None:
        """Nothing more of the answer is wanted; unless all of it was there, the connection is not used again."""
        self.is_over = self.is_over or self._reader is not None

    def _receive(self, reader: AnswerReader, deadline_s: float) -> None:
        """However slowly bytes drip in, until the deadline."""
        self._socket.settimeout(_remaining_s(deadline_s))
        reader.feed(self._socket.recv(min(RECEIVE_BYTES_MAX, max(RECEIVE_BYTES, reader.wanted_bytes))))

    def _heard(self, reader: AnswerReader) -> None:
        self.is_fresh = False
        self.is_over = self.is_over or not reader.is_reusable
        self._reader = None

    @property
    def is_usable(self) -> bool:
        """May it be lent again? Before an answer is due the server has nothing to say but that it closes."""
        return not self.is_over and self.idle_since_s + IDLE_S > time.monotonic() and not _is_readable(self._socket)

    def close(self) -> None:
        """Let go of the descriptor; nothing is sent, and a copy of it in another process stays as it is."""
        self.is_over = True
        with contextlib.suppress(OSError):
            self._socket.close()


class Channels:
    """The channels of one client, to any number of servers. Any thread may call; see the module for forks."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` says who is trusted where it is https, by default whom the system trusts."""
        self._tls = tls
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._idle: dict[Host, list[Channel]] = {}
        self._lent: set[Channel] = set()
        self._places: dict[Host, int] = {}

    @contextlib.contextmanager
    def lend(self, host: Host, deadline_s: float) -> Iterator[Channel]:
        """A channel to ``host`` for one exchange; raises ``UnopenedError``."""
        process = self._changed
        self._take_place(host, deadline_s)
        channel = None
        try:
            channel = self._idle_channel(host) or self._opened(host, deadline_s)
            yield channel
        except BaseException:
            if channel is not None:
                channel.is_over = True
            raise
        finally:
            if process is self._changed:  # else this is a child's copy of its parent's call
                self._give_back(host, channel)

    def exchange(
        self, host: Host, method: str, target: str, *, headers: Headers = (), body: bytes = b"", timeout_s: float
    ) -> HttpAnswer:
        """Send one request, ``Host`` and its length added, and wait for the whole answer; never sends it twice.

        Raises ``UnopenedError`` or ``UnheardError``, and ``UsageError`` when it is no request.
        """
        request, deadline_s = host.form(method, headers).request(target, body), time.monotonic() + timeout_s
        try:
            with self.lend(host, deadline_s) as channel:
                channel.send(request, deadline_s)
                return channel.hear(method, deadline_s)
        except (OSError, AnswerError) as error:
            raise unheard(error) from None

    def close(self) -> None:
        """Close what nobody uses now; what is lent is closed when it comes back."""
        with self._changed:
            idle, self._idle = self._idle, {}
            for channel in self._lent:
                channel.is_over = True
        for channels in idle.values():
            for channel in channels:
                channel.close()

    def open(self, host: Host, deadline_s: float) -> Channel:
        """A connection of its own, for the caller to close; raises ``UnopenedError``."""
        return Channel(host, self._connected(host, deadline_s))

    def _take_place(self, host: Host, deadline_s: float) -> None:
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._places.get(host, 0) < CHANNELS_MAX, max(0.0, deadline_s - time.monotonic())
            )
            if not free:
                raise UnopenedError(f"all {CHANNELS_MAX} connections are in use by other threads")
            self._places[host] = self._places.get(host, 0) + 1

    def _idle_channel(self, host: Host) -> Channel | None:
        while True:
            with self._changed:
                idle = self._idle.get(host)
                channel = idle.pop() if idle else None
                if channel is not None:
                    self._lent.add(channel)
            if channel is None or channel.is_usable:
                return channel
            with self._changed:
                self._lent.discard(channel)
            channel.close()

    def _opened(self, host: Host, deadline_s: float) -> Channel:
        channel = self.open(host, deadline_s)
        with self._changed:
            self._lent.add(channel)
        return channel

    def _give_back(self, host: Host, channel: Channel | None) -> None:
        with self._changed:
            self._places[host] -= 1
            if channel is not None:
                self._lent.discard(channel)
                channel.idle_since_s = time.monotonic()
                if not channel.is_over:
                    self._idle.setdefault(host, []).append(channel)
            self._changed.notify()
        if channel is not None and channel.is_over:
            channel.close()

    def _connected(self, host: Host, deadline_s: float) -> socket.socket:
        timeout_s = min(CONNECT_TIMEOUT_S, _remaining_s(deadline_s))
        try:
            connection = socket.create_connection((host.name, host.port), timeout_s)
        except (OSError, UnicodeError) as error:
            raise unopened(error, host, in_handshake=False) from None
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._secured(host, connection, deadline_s) if host.is_tls else connection

    def _secured(self, host: Host, connection: socket.socket, deadline_s: float) -> socket.socket:
        if self._tls is None:
            self._tls = trusting(None)
        connection.settimeout(_remaining_s(deadline_s))
        try:
            return self._tls.wrap_socket(connection, server_hostname=host.name)
        except OSError as error:
            connection.close()
            raise unopened(error, host, in_handshake=True) from None

    def _after_fork(self) -> None:
        """In the child: everything is the parent's."""
        lent, idle = self._lent, self._idle
        self._begin()
        for channel in (*lent, *[one for channels in idle.values() for one in channels]):
            channel.close()


_ALL: Final[weakref.WeakSet[Channels]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for channels in tuple(_ALL):
        channels._after_fork()  # noqa: SLF001  this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _remaining_s(deadline_s: float) -> float:
    """Raises ``TimeoutError`` when it is over: a timeout of 0 would mean not to wait at all."""
    remaining_s = deadline_s - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    return remaining_s


class AnswerStream:
    """An answer whose body is taken as it comes: iterate over it once, in any one of the three ways."""

    def __init__(self, channel: Channel, head: HttpAnswer, silence_s: float) -> None:
        self.head = head
        self._channel = channel
        self._silence_s = silence_s

    def __iter__(self) -> Iterator[bytes]:
        """Pieces, until the end; raises ``UnheardError`` when it breaks off or nothing comes for too long."""
        try:
            while piece := self._channel.piece(time.monotonic() + self._silence_s):
                yield piece
        except TimeoutError:
            raise UnheardError(f"said nothing for {self._silence_s:g} s", is_silence=True) from None
        except (OSError, AnswerError) as error:
            raise unheard(error) from error

    def lines(self) -> Iterator[bytes]:
        """Lines, without their ends; raises as well ``UnheardError`` for one that is too long."""
        feed = LineReader().feed
        return (line for piece in self for line in feed(piece))

    def events(self) -> Iterator[ServerSentEvent]:
        """Server-Sent Events; raises as ``lines``."""
        feed = EventReader().feed
        return (event for piece in self for event in feed(piece))


def _is_readable(connection: socket.socket) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([connection], [], [], 0)[0])


def what_else(channels: Channels, host: Host, deadline_s: float) -> str | None:
    """Why a server that spoke no HTTP on a new connection never will; ``None`` when it may.

    Asked when a first request was met by a close without a word: whoever does that to the next connection too, or
    takes a TLS handshake, is no server of ours at an http:// address, while one that was just killed refuses.
    """
    if host.is_tls:
        return None
    limit_s = min(deadline_s, time.monotonic() + CONNECT_TIMEOUT_S)
    try:
        if _takes_tls(host, limit_s):
            return "speaks TLS: https:// instead of http://?"
        channel = channels.open(host, limit_s)
    except (UnopenedError, TimeoutError):
        return None
    try:
        channel.send(host.form("GET").request(paths.LIVEZ), limit_s)
        channel.hear("GET", limit_s)
    except TimeoutError:
        return None
    except (OSError, AnswerError) as error:
        if is_close_without_a_word(error):
            return "closes every connection without a word, as the port does that nodes use among themselves (peer)"
    finally:
        channel.close()
    return None


def _takes_tls(host: Host, deadline_s: float) -> bool:
    """Nothing is trusted and nothing sent but the greeting."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError, UnicodeError),
        socket.create_connection((host.name, host.port), _remaining_s(deadline_s)) as connection,
    ):
        connection.settimeout(min(0.5, _remaining_s(deadline_s)))
        context.wrap_socket(connection, server_hostname=host.name).close()
        return True
    return False
