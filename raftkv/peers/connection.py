"""One TCP connection: the thin shell of asyncio around the pure ``PeerSession``.

It moves bytes between socket and session, gathers what is sent within one turn of the loop into one write, and passes
everything else to its owner, the link. It decides nothing about peers. Imports ``raftkv.peers.session`` and its
neighbours only.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from raftkv.formats.frames import FrameError
from raftkv.peers.faults import NO_FAULT, Direction, Fault, FaultGate, LinkFaults
from raftkv.peers.handshake import HandshakeRefused
from raftkv.peers.session import KEEPALIVE, PeerSession


class ConnectionOwner(Protocol):
    """Whom a connection reports to, on the loop's thread, in the order things happen."""

    def authenticated(self, connection: Connection) -> None:
        """Both sides have proven themselves; payloads follow only if the owner calls ``announce``."""

    def deliver(self, connection: Connection, payloads: list[bytes]) -> None:
        """Payloads have arrived, keepalives among them."""

    def misbehaved(self, connection: Connection, reason: str) -> None:
        """The other side broke the protocol; nothing more of what it sends is looked at."""

    def lost(self, connection: Connection) -> None:
        """The connection is gone, or one direction of it, which is the same to us."""


class Connection(asyncio.Protocol):
    """A connection from the first byte to the last.

    ``settled`` resolves to whether the connection became live, ``gone`` once it is closed. After ``close`` nothing
    that arrives, or has arrived, is reported any more.
    """

    def __init__(
        self, session: PeerSession, *, generation: int, owner: ConnectionOwner, faults: LinkFaults | None
    ) -> None:
        """``generation`` orders the connections of one link by when they were accepted or dialled."""
        self._loop = asyncio.get_running_loop()
        self.session = session
        self.generation = generation
        self.live = False
        self.closed = False
        self.settled: asyncio.Future[bool] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.heard_at_s = self.frame_at_s = self.sent_at_s = self._loop.time()
        self.transport: asyncio.Transport | None = None
        self._owner = owner
        self._faults = faults
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._gate_out = FaultGate()
        self._gate_in = FaultGate()
        self._timers: dict[FaultGate, asyncio.TimerHandle] = {}

    @property
    def host(self) -> str | None:
        """The other side's host, as long as there is a connection."""
        name = None if self.transport is None else self.transport.get_extra_info("peername")
        return str(name[0]) if name else None

    @property
    def certificate(self) -> dict[str, Any] | None:
        """What the other side has shown, as ``ssl.SSLSocket.getpeercert`` tells it; ``None``: no TLS is spoken."""
        return None if self.transport is None else self.transport.get_extra_info("peercert")

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: a dialer speaks first."""
        self.transport = cast("asyncio.Transport", transport)
        if self.closed:
            self.transport.abort()
        elif output := self.session.take_output():
            self.transport.write(output)

    def data_received(self, data: bytes) -> None:
        """Feed the session and report what comes of it."""
        if self.closed or self.transport is None:
            return
        session = self.session
        self.heard_at_s = self._loop.time()
        try:
            payloads = session.receive(data)
        except (HandshakeRefused, FrameError) as error:
            self._owner.misbehaved(self, error.reason)
            return
        if payloads:
            self.frame_at_s = self.heard_at_s
        if not self.live:
            # The owner may still turn the peer away, so it is asked before the acceptor's welcome leaves.
            if session.established:
                self._owner.authenticated(self)
            if self.closed:
                return
            self._write_output()
        if payloads:
            self._deliver(payloads)

    def _write_output(self) -> None:
        output = self.session.take_output()
        if output and self.transport is not None:
            self.transport.write(output)

    def eof_received(self) -> bool:
        """The other side will send no more: close, for a half-open link serves nobody."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed, by whichever side."""
        del error
        self._owner.lost(self)
        self.close()
        if not self.gone.done():
            self.gone.set_result(None)

    # What the link calls.

    def announce(self) -> None:
        """The link takes this connection for the peer's live one: the acceptor's welcome leaves, ahead of all else."""
        self._write_output()
        self.live = True
        self.frame_at_s = self._loop.time()
        self.settled.set_result(True)

    def send(self, payload: bytes) -> None:
        """Queue ``payload``; everything queued within this turn of the loop leaves in one write."""
        if not self._queue:
            self._loop.call_soon(self.flush)
        self._queue.append(payload)
        self._queued_bytes += len(payload)

    def flush(self) -> None:
        """Write what is queued."""
        if not self._queue or self.closed:
            return
        payloads, self._queue = self._queue, []
        self._queued_bytes = 0
        if self._faults is not None and (self._faults.active or self._gate_out.held_bytes):
            payloads = self._gate_out.admit(payloads, self._fault(Direction.TO_PEER), self._loop.time())
            self._wake_for(self._gate_out)
        if payloads:
            self._write(payloads)

    def keep_alive(self) -> None:
        """Say that this side is there."""
        self._write([KEEPALIVE])

    def outstanding_bytes(self) -> int:
        """Bytes queued, held by a fault, or not yet taken by the socket."""
        waiting = 0 if self.transport is None else self.transport.get_write_buffer_size()
        return self._queued_bytes + self._gate_out.held_bytes + waiting

    def held_bytes(self) -> int:
        """Bytes that have arrived and are held by a fault."""
        return self._gate_in.held_bytes

    def is_broken(self) -> bool:
        """Has a fault that is over left a gap, behind which nothing may pass any more?"""
        gates = ((self._gate_out, Direction.TO_PEER), (self._gate_in, Direction.FROM_PEER))
        return any(gate.has_gap and not self._fault(direction).drop for gate, direction in gates)

    def close(self, *, gently: bool = False) -> None:
        """Close unread; ``gently`` lets what was written before still leave."""
        if self.closed:
            return
        if gently:
            self.flush()
        self.closed = True
        self._queue.clear()
        self._queued_bytes = 0
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if not self.settled.done():
            self.settled.set_result(False)
        if self.transport is not None:
            if gently:
                self.transport.close()
            else:
                self.transport.abort()

    def _write(self, payloads: list[bytes]) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        self.sent_at_s = self._loop.time()
        self.transport.write(self.session.encode(payloads))

    # Faults: only with some set, or with something still held by one.

    def _fault(self, direction: Direction) -> Fault:
        peer = self.session.peer
        return NO_FAULT if self._faults is None or peer is None else self._faults.fault(peer, direction)

    def _deliver(self, payloads: list[bytes]) -> None:
        if self._faults is not None and (self._faults.active or self._gate_in.held_bytes):
            # Keepalives are the link's own and pass through every fault: a drop must not look like silence.
            payloads = [payload for payload in payloads if payload]
            payloads = self._gate_in.admit(payloads, self._fault(Direction.FROM_PEER), self._loop.time())
            self._wake_for(self._gate_in)
        if payloads:
            self._owner.deliver(self, payloads)

    def _wake_for(self, gate: FaultGate) -> None:
        # The first held is the first due, so one timer for each gate is enough.
        if gate.due_s is not None and gate not in self._timers:
            self._timers[gate] = self._loop.call_at(gate.due_s, self._release, gate)

    def _release(self, gate: FaultGate) -> None:
        del self._timers[gate]
        payloads = gate.release(self._loop.time())
        self._wake_for(gate)
        if payloads and gate is self._gate_out:
            self._write(payloads)
        elif payloads:
            self._owner.deliver(self, payloads)
