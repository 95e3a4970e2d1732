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

from raftkv.client.http1 import BODY_BYTES_MAX, AnswerError, AnswerReader, Headers, HttpAnswer, common_answer
from raftkv.client.reach import CONNECT_TIMEOUT_S, IDLE_S, Host, UnopenedError, silent, trusting, unheard, unopened

CHANNELS_MAX: Final = 64
"""Connections of one client to one server. More calls at a time than this would only queue in the server."""

RECEIVE_BYTES: Final = 1 << 16
RECEIVE_BYTES_MAX: Final = 1 << 20
"""At a time, of an answer that is known to be long."""


class Channel:
    """One connection; see the module."""

    def __init__(self, connection: socket.socket) -> None:
        self.is_fresh = True
        self.is_over = False
        self.idle_since_s = 0.0
        self._socket = connection

    def ask(self, request: bytes, method: str, deadline_s: float) -> HttpAnswer:
        """Send ``request`` and hear the whole answer; raises ``UnheardError``."""
        is_cut = self._sent(request, deadline_s)
        try:
            data = self._received(RECEIVE_BYTES, deadline_s)
            answer = common_answer(data, method, BODY_BYTES_MAX)
            if answer is None:
                reader = AnswerReader(method)
                reader.feed(data)
                while not reader.is_over:
                    self._receive(reader, deadline_s)
                answer = reader.answer()
                self.is_over = not reader.is_reusable
        except (OSError, AnswerError) as error:
            raise unheard(error, is_cut=is_cut, is_fresh=self.is_fresh) from None
        self.is_fresh = False
        self.is_over = self.is_over or is_cut
        return answer

    def begin(self, request: bytes, reader: AnswerReader, deadline_s: float) -> HttpAnswer:
        """Send ``request`` and hear the head of the answer; raises ``UnheardError``."""
        is_cut = self._sent(request, deadline_s)
        try:
            while not (reader.is_over or reader.status):
                self._receive(reader, deadline_s)
            return reader.head or reader.answer()  # which raises what kept it away
        except (OSError, AnswerError) as error:
            raise unheard(error, is_cut=is_cut, is_fresh=self.is_fresh) from None
        finally:
            self.is_fresh = False

    def piece(self, reader: AnswerReader, timeout_s: float) -> bytes:
        """The next piece of the body, empty at its end; no more is read than that. Raises ``UnheardError``."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while not (reader.has_piece or reader.is_over):
                self._receive(reader, deadline_s)
            return reader.take()
        except TimeoutError:
            raise silent(timeout_s) from None
        except (OSError, AnswerError) as error:
            raise unheard(error) from None

    def _sent(self, request: bytes, deadline_s: float) -> bool:
        """Was it cut off, so that the server cannot have it whole? It may have said why. Raises ``UnheardError``."""
        try:
            self._socket.settimeout(_remaining_s(deadline_s))
            self._socket.sendall(request)
        except TimeoutError as error:
            raise unheard(error, is_cut=True) from None
        except OSError:
            return True
        return False

    def _receive(self, reader: AnswerReader, deadline_s: float) -> None:
        """However slowly bytes drip in, until the deadline."""
        reader.feed(self._received(min(RECEIVE_BYTES_MAX, max(RECEIVE_BYTES, reader.wanted_bytes)), deadline_s))

    def _received(self, bytes_max: int, deadline_s: float) -> bytes:
        self._socket.settimeout(_remaining_s(deadline_s))
        return self._socket.recv(bytes_max)

    @property
    def is_usable(self) -> bool:
        """May it be lent again? Before an answer is due the server has nothing to say but that it closes."""
        return not self.is_over and self.idle_since_s + IDLE_S > time.monotonic() and not _is_readable(self._socket)

    def cut(self) -> None:
        """End it for both sides, whoever may be waiting on it in another thread."""
        self.is_over = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

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
        self._lent_now: set[Channel] = set()
        self._places: dict[Host, int] = {}

    @contextlib.contextmanager
    def _lent(self, host: Host, deadline_s: float) -> Iterator[Channel]:
        """A channel to ``host`` for one exchange; raises ``UnopenedError``."""
        process = self._changed
        self._take_place(host, deadline_s)
        channel = None
        try:
            channel = self._idle_channel(host) or self._new_channel(host, deadline_s)
            yield channel
        except BaseException:
            if channel is not None:
                channel.is_over = True
            raise
        finally:
            if process is self._changed:  # else this is a child's copy of its parent's call
                self._give_back(host, channel)

    def ask(self, host: Host, method: str, request: bytes, timeout_s: float, *, is_apart: bool = False) -> HttpAnswer:
        """Send ``request`` once and wait for the whole answer; raises ``UnopenedError`` or ``UnheardError``.

        ``is_apart``: on a new connection that serves for nothing else.
        """
        deadline_s = time.monotonic() + timeout_s
        with (
            contextlib.closing(self._opened(host, deadline_s)) if is_apart else self._lent(host, deadline_s) as channel
        ):
            return channel.ask(request, method, deadline_s)

    def begin(self, host: Host, method: str, request: bytes, timeout_s: float) -> ChannelBody:
        """Send ``request`` once and wait for the head of the answer; raises as ``ask``."""
        reader, deadline_s = AnswerReader(method, None), time.monotonic() + timeout_s
        with contextlib.ExitStack() as stack:
            channel = stack.enter_context(self._lent(host, deadline_s))
            head = channel.begin(request, reader, deadline_s)
            return ChannelBody(channel, reader, head, stack.pop_all())

    def exchange(
        self, host: Host, method: str, target: str, *, headers: Headers = (), body: bytes = b"", timeout_s: float
    ) -> HttpAnswer:
        """As ``ask``, ``Host`` and the length added; raises as well ``UsageError`` when it is no request."""
        return self.ask(host, method, host.form(method, headers).request(target, body), timeout_s)

    def close(self) -> None:
        """Close what nobody uses now; what is lent is closed when it comes back."""
        with self._changed:
            idle, self._idle = self._idle, {}
            for channel in self._lent_now:
                channel.is_over = True
        for channels in idle.values():
            for channel in channels:
                channel.close()

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
                    self._lent_now.add(channel)
            if channel is None or channel.is_usable:
                return channel
            with self._changed:
                self._lent_now.discard(channel)
            channel.close()

    def _new_channel(self, host: Host, deadline_s: float) -> Channel:
        channel = self._opened(host, deadline_s)
        with self._changed:
            self._lent_now.add(channel)
        return channel

    def _give_back(self, host: Host, channel: Channel | None) -> None:
        with self._changed:
            self._places[host] -= 1
            if channel is not None:
                self._lent_now.discard(channel)
                channel.idle_since_s = time.monotonic()
                if not channel.is_over:
                    self._idle.setdefault(host, []).append(channel)
            self._changed.notify()
        if channel is not None and channel.is_over:
            channel.close()

    def _opened(self, host: Host, deadline_s: float) -> Channel:
        """A connection of its own; raises ``UnopenedError``."""
        try:
            return Channel(self._connected(host, deadline_s))
        except TimeoutError:
            raise UnopenedError("was not connected to in time") from None

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
        try:
            connection.settimeout(_remaining_s(deadline_s))
            return self._tls.wrap_socket(connection, server_hostname=host.name)
        except OSError as error:
            connection.close()
            raise unopened(error, host, in_handshake=True) from None

    def _after_fork(self) -> None:
        """In the child: everything is the parent's."""
        lent, idle = self._lent_now, self._idle
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


class ChannelBody:
    """See ``AnswerBody``."""

    def __init__(
        self, channel: Channel, reader: AnswerReader, head: HttpAnswer, lent: contextlib.ExitStack[bool | None]
    ) -> None:
        self.head = head
        self._channel = channel
        self._reader = reader
        self._lent = lent

    def piece(self, timeout_s: float) -> bytes:
        """See ``TakePiece``; raises ``UnheardError``."""
        return self._channel.piece(self._reader, timeout_s)

    def end(self) -> None:
        """See ``AnswerBody``; unless all of it was taken, the connection is not used again."""
        self._channel.is_over = self._channel.is_over or self._reader.has_piece or not self._reader.is_reusable
        self._lent.close()

    def cut(self) -> None:
        """See ``AnswerBody``."""
        self._channel.cut()


def _is_readable(connection: socket.socket) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([connection], [], [], 0)[0])
