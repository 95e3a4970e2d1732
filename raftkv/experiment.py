"""What an experiment may do to a running node: orders over a descriptor that its parent process handed down.

Off unless the node was started with ``--experiment-fd``. Nobody but the holder of the other end can give orders, and
all faults end when that end closes, so that no experimenter who dies leaves a node broken. Each order is the whole of
what is wanted from then on, one line of JSON; each is answered by one line once it is in force: ``ok`` or a reason.

The node's clocks and its disk's free space pass through here while an experiment is on; links are made faulty at
``raftkv.peers.faults``. Owned by the loop's thread. Imports ``raftkv.peers`` and msgspec; must not import the replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.peers.faults import Direction, Fault, LinkFaults

ORDER_BYTES_MAX: Final = 1 << 20

DONE: Final = b"ok\n"


class LinkOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of the node's link with ``peer`` in one direction."""

    peer: str
    direction: Direction
    fault: Fault


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that is wrong with a node; the default is a node that nothing is wrong with.

    ``wall_offset_s``: its wall clock is ahead by so much. ``clock_rate``: its monotonic clock runs at this fraction of
    the true rate, and catches up in one leap when that ends; never faster, because its front-end goes by the true one.
    ``free_bytes``: its disk seems to have so much room left.
    """

    links: tuple[LinkOrder, ...] = ()
    wall_offset_s: float = 0.0
    clock_rate: Annotated[float, Meta(gt=0, le=1)] = 1.0
    free_bytes: Annotated[int, Meta(ge=0)] | None = None


class Surroundings:
    """What a node has from its machine: clocks, room on the disk, and links that work."""

    faults: LinkFaults | None = None
    monotonic_s = staticmethod(time.monotonic)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once, on the thread that runs ``loop``."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def free_bytes(self, true_free_bytes: int) -> int:
        """What the node believes to be free on its disk, of which so much really is."""
        return true_free_bytes


class Experiment(Surroundings):
    """Surroundings that are as faulty as the last order says."""

    faults: LinkFaults

    def __init__(self, orders_fd: int) -> None:
        """``orders_fd`` is one end of a connected stream socket; it is owned from here on."""
        self.faults = LinkFaults()
        self._fd = orders_fd
        self._unread = b""
        self._orders = Orders()
        self._origin_s = self._origin_true_s = time.monotonic()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take orders from now on."""
        os.set_blocking(self._fd, False)
        loop.add_reader(self._fd, self._read, loop)

    def monotonic_s(self) -> float:
        """The true clock, slowed down as ordered; never backwards."""
        return self._origin_s + (time.monotonic() - self._origin_true_s) * self._orders.clock_rate

    def wall_ms(self) -> int:
        """See ``Surroundings``."""
        return super().wall_ms() + int(self._orders.wall_offset_s * 1000)

    def free_bytes(self, true_free_bytes: int) -> int:
        """See ``Surroundings``."""
        return true_free_bytes if self._orders.free_bytes is None else self._orders.free_bytes

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        *lines, self._unread = (self._unread + data).split(b"\n")
        if not data or len(self._unread) > ORDER_BYTES_MAX:
            self._obey(Orders())
            loop.remove_reader(self._fd)
            os.close(self._fd)
            return
        for line in lines:
            answer = DONE
            try:
                self._obey(msgspec.json.decode(line, type=Orders))
            except msgspec.DecodeError as error:
                answer = f"refused: {error}\n".encode()
            with contextlib.suppress(BrokenPipeError):  # then the end of the descriptor is the next thing to be read
                os.write(self._fd, answer)

    def _obey(self, orders: Orders) -> None:
        # A clock goes on from where it is, and catches up when it is sound again: its front-end goes by the true one.
        origin_s, true_s = self.monotonic_s(), time.monotonic()
        self._origin_s, self._origin_true_s = (true_s if orders.clock_rate == 1.0 else origin_s), true_s
        self._orders = orders
        self.faults.replace({(order.peer, order.direction): order.fault for order in orders.links})
