"""``PeerLink``: messages between this node and its peers, over exactly one live connection for each.

Rules:

- Of each pair the node with the smaller id dials. A connection that proves itself supersedes the peer's older one,
  which is closed unread: nothing that was buffered or is still arriving on it is ever delivered. A connection that was
  accepted before the live one never supersedes it, however late its proof arrives.
- ``link_up`` and ``link_down`` alternate for each peer, and no payload comes outside of them.
- Within one connection messages arrive in order and at most once; when it is lost, so may be the last ones sent.
- Everything is bounded: strangers (see ``listener``), frames, what one peer may leave unread.

What the bytes mean, when to resend and how much to have on the way is the caller's. Imports ``raftkv.core``, its
neighbours and the standard library only.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Coroutine, Mapping
from random import Random
from typing import Any, Protocol

from raftkv.core.config import Address
from raftkv.formats.handshakes import NONCE_BYTES
from raftkv.peers.connection import Connection
from raftkv.peers.faults import LinkFaults
from raftkv.peers.handshake import Acceptor, Dialer
from raftkv.peers.listener import HANDSHAKE_TIMEOUT_S, Listener
from raftkv.peers.notices import Notices
from raftkv.peers.session import PeerSession
from raftkv.peers.tls import PeerTls, misnamed

REDIAL_MIN_S = 0.05
REDIAL_MAX_S = 1.0
# So many failures in a row, about a second of them, go untold: the nodes of a cluster start one after another.
UNTOLD_DIALS = 5
# A connection that lived this long was sound: the next dial need not be shy.
SOUND_AFTER_S = 1.0

# Keepalives are this many to one silence timeout, so that losing a few to a busy moment is not silence.
KEEPALIVES_PER_SILENCE = 4
# One frame may take this many silence timeouts to arrive. Bytes count as life, but a length that was tampered with on
# the way must not keep a link waiting for the rest of a frame for ever.
FRAME_SILENCES = 10

# What one peer may leave unread before it is dropped: far above any sensible window, below what endangers the node.
# It is never less than four frames.
UNREAD_LIMIT_BYTES = 64 << 20

# How long ``stop`` lets written messages leave.
FAREWELL_S = 0.5


class LinkEvents(Protocol):
    """What the link tells its user; called on the loop's thread, one call at a time, and must not block.

    For each peer ``link_up`` and ``link_down`` alternate, ``link_up`` first, and ``received`` comes only between them.
    ``link_down`` may be called from within ``close_peer``. An exception stops the link: it goes to the loop's
    exception handler, and no further event is delivered.
    """

    def link_up(self, peer: str) -> None:
        """Messages to ``peer`` can be sent from now on."""

    def link_down(self, peer: str) -> None:
        """The connection is gone; messages sent last may or may not have arrived."""

    def received(self, peer: str, payload: bytes) -> None:
        """``peer`` sent ``payload``."""


class PeerLink:
    """The node's link to its peers. One thread, that of the loop which ran ``start``, owns it."""

    def __init__(
        self,
        *,
        cluster: str,
        node_id: str,
        secret: bytes,
        listen: Address,
        members: Mapping[str, Address],
        events: LinkEvents,
        silence_timeout_s: float,
        frame_limit_bytes: int,
        tls: PeerTls | None = None,
        random: Random,
        faults: LinkFaults | None = None,
    ) -> None:
        """``members`` may contain this node; addresses are looked up at each dial. ``random`` jitters redials only."""
        assert frame_limit_bytes < 1 << 32
        self._cluster = cluster
        self._node_id = node_id
        self._secret = secret
        self._members = members
        self._events = events
        self._silence_timeout_s = silence_timeout_s
        self._frame_limit_bytes = frame_limit_bytes
        self._unread_limit_bytes = max(UNREAD_LIMIT_BYTES, 4 * frame_limit_bytes)
        self._tls = tls
        self._random = random
        self._faults = faults
        self._notices = Notices()
        self._listener = Listener(listen, self._admit, self._notices)
        self._connections: set[Connection] = set()
        self._live: dict[str, Connection] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._generation = 0
        self._running = False

    # What the user calls.

    async def start(self) -> Address:
        """Listen, and dial every peer with a larger id; returns the bound address. Raises ``StartupError``."""
        assert not self._running
        self._loop = asyncio.get_running_loop()
        bound = self._listener.open()
        self._running = True
        if self._faults is not None:
            self._faults.on_change = self._apply_faults
        self._spawn(self._watch_silence())
        self._dial_members()
        return bound

    async def stop(self) -> None:
        """Close every link (``link_down`` is called for each) and stop listening; what was sent before still leaves."""
        self._running = False
        for connection in list(self._live.values()):
            self._take_down(connection, gently=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._listener.close()
        leaving = list(self._connections)
        if leaving:
            await asyncio.wait([connection.gone for connection in leaving], timeout=FAREWELL_S)
        for connection in leaving:
            if connection.transport is not None:
                connection.transport.abort()

    def set_members(self, members: Mapping[str, Address]) -> None:
        """Let exactly these in from now on, and dial those that are new; the links of others are closed.

        A peer whose address has changed is dialled at the new one the next time.
        """
        self._members = dict(members)
        for peer in [peer for peer in self._dialling if peer not in members]:
            self._dialling.pop(peer).cancel()
        for peer in [peer for peer in self._live if peer not in members]:
            self.close_peer(peer)
        if self._running:
            self._dial_members()

    def renew_tls(self, tls: PeerTls) -> None:
        """Make connections with ``tls`` from now on; those that there are go on. Only for a link that speaks TLS."""
        assert self._tls is not None
        self._tls = tls

    def send(self, peer: str, payload: bytes) -> bool:
        """Send ``payload`` if there is a live connection, else return ``False``; never blocks.

        Raises ``ValueError`` for a payload that is empty or longer than a frame may be.
        """
        connection = self._live.get(peer)
        if connection is None:
            return False
        if not 0 < len(payload) <= self._frame_limit_bytes:
            raise ValueError(f"a payload has 1 to {self._frame_limit_bytes} bytes, not {len(payload)}")
        connection.send(payload)
        return True

    def flush(self) -> None:
        """Write what ``send`` queued now, not at the end of this turn of the loop."""
        for connection in list(self._live.values()):
            connection.flush()

    def outstanding_bytes(self, peer: str) -> int:
        """Bytes accepted by ``send`` and not yet taken by the socket; a peer that leaves too many is dropped."""
        connection = self._live.get(peer)
        return 0 if connection is None else connection.outstanding_bytes()

    def is_up(self, peer: str) -> bool:
        """Is there a live connection to ``peer``?"""
        return peer in self._live

    def close_peer(self, peer: str) -> None:
        """Drop the connection to ``peer``, if there is one; it is dialled again."""
        connection = self._live.get(peer)
        if connection is not None:
            self._take_down(connection)

    def dismiss(self, peer: str) -> None:
        """As ``close_peer``, but let what was sent before still leave."""
        connection = self._live.get(peer)
        if connection is not None:
            self._take_down(connection, gently=True)

    # What connections report.

    def authenticated(self, connection: Connection) -> None:
        """See ``ConnectionOwner``: the new connection supersedes the old one."""
        peer = connection.session.peer
        assert peer is not None
        if (reason := misnamed(connection.certificate, peer, self._members.get(peer))) is not None:
            self.misbehaved(connection, reason)
            return
        old = self._live.get(peer)
        overtaken = old is not None and old.generation > connection.generation
        if overtaken or (self._faults is not None and self._faults.is_cut(peer)):
            connection.close()
            return
        if old is not None:
            self._take_down(old)
        if not self._running:  # Stopping, or the handler of link_down has just failed.
            connection.close()
            return
        self._live[peer] = connection
        if (host := connection.host) is not None:
            self._listener.proven(host)
        connection.announce()
        self._tell_link(up=True, peer=peer)

    def deliver(self, connection: Connection, payloads: list[bytes]) -> None:
        """See ``ConnectionOwner``: hand over what arrived on the live connection, for as long as it is live."""
        peer = connection.session.peer
        assert peer is not None
        received = self._events.received
        try:
            for payload in payloads:
                if connection.closed:
                    return
                if payload:
                    received(peer, payload)
        except Exception as error:  # noqa: BLE001  whatever the handler raised goes to the loop's exception handler
            self._fail(error)

    def misbehaved(self, connection: Connection, reason: str) -> None:
        """See ``ConnectionOwner``: one line in the log, then the connection is over."""
        peer = connection.session.peer
        event = "peer_link_closed" if connection.live else "peer_refused"
        self._notices.warn(event, reason=reason, peer=peer, now_s=self._loop.time())
        self._take_down(connection)

    def lost(self, connection: Connection) -> None:
        """See ``ConnectionOwner``: if it was the live one, the link is down."""
        self._take_down(connection)
        self._connections.discard(connection)

    # The life of a connection.

    def _connection(self, handshake: Dialer | Acceptor) -> Connection:
        self._generation += 1
        session = PeerSession(handshake, self._frame_limit_bytes)
        connection = Connection(session, generation=self._generation, owner=self, faults=self._faults)
        self._connections.add(connection)
        return connection

    def _take_down(self, connection: Connection, *, gently: bool = False) -> None:
        connection.close(gently=gently)
        peer = connection.session.peer
        if peer is not None and self._live.get(peer) is connection:
            del self._live[peer]
            self._tell_link(up=False, peer=peer)

    def _tell_link(self, *, up: bool, peer: str) -> None:
        try:
            if up:
                self._events.link_up(peer)
            else:
                self._events.link_down(peer)
        except Exception as error:  # noqa: BLE001  whatever the handler raised goes to the loop's exception handler
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """An event handler raised, so the state behind it cannot be trusted: tell the loop, deliver nothing more."""
        self._running = False
        self._live.clear()
        for connection in list(self._connections):
            connection.close()
        for task in self._tasks:
            task.cancel()
        self._loop.call_exception_handler({"message": "an event handler of the peer link failed", "exception": error})

    def _dial_members(self) -> None:
        for peer in self._members:
            if peer > self._node_id and peer not in self._dialling:
                self._dialling[peer] = self._spawn(self._keep_dialled(peer))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        task.add_done_callback(self._report)
        self._tasks.append(task)
        return task

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "the peer link failed", "exception": error})

    async def _admit(self, accepted: socket.socket) -> None:
        handshake = Acceptor(
            cluster=self._cluster,
            node_id=self._node_id,
            members=self._members,
            secret=self._secret,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        connection = self._connection(handshake)
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=None if self._tls is None else self._tls.server,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_TIMEOUT_S,
            )
            # Shielded, here and below: to stop waiting must not spoil the connection's own record.
            await asyncio.shield(connection.settled)
        finally:
            self._give_up(connection)

    async def _keep_dialled(self, peer: str) -> None:
        failure_count = 0
        while True:
            if self._faults is None or not self._faults.is_cut(peer):
                sound = await self._dial(peer, tell=failure_count >= UNTOLD_DIALS)
                failure_count = 0 if sound else failure_count + 1
            bound_s = min(REDIAL_MAX_S, REDIAL_MIN_S * 2 ** min(failure_count, 10))
            await asyncio.sleep(self._random.uniform(max(REDIAL_MIN_S, bound_s / 2), bound_s))

    async def _dial(self, peer: str, *, tell: bool) -> bool:
        """Dial once and stay until the connection is gone; was it a sound one? ``tell`` of a failure."""
        handshake = Dialer(
            cluster=self._cluster,
            node_id=self._node_id,
            target=peer,
            secret=self._secret,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        connection = self._connection(handshake)
        address = self._members[peer]
        reason = "the handshake did not succeed; the other node's log may say why"
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._loop.create_connection(
                    lambda: connection,
                    address.host,
                    address.port,
                    ssl=None if self._tls is None else self._tls.client,
                    server_hostname=None if self._tls is None else "",
                )
                await asyncio.shield(connection.settled)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
        finally:
            self._give_up(connection)
        began_s = self._loop.time()
        if not connection.live:
            if tell:
                self._notices.warn("peer_dial_failed", reason=reason, peer=peer, now_s=began_s)
            return False
        await asyncio.shield(connection.gone)
        return self._loop.time() - began_s >= SOUND_AFTER_S

    def _give_up(self, connection: Connection) -> None:
        """Forget a connection that did not become live in its time."""
        if not connection.live:
            connection.close()
            if connection.transport is None:
                self._connections.discard(connection)

    # Upkeep.

    async def _watch_silence(self) -> None:
        interval_s = self._silence_timeout_s / KEEPALIVES_PER_SILENCE
        while True:
            due_s = self._loop.time() + interval_s
            await asyncio.sleep(interval_s)
            now_s = self._loop.time()
            # When this process itself was held up, what the peers said meanwhile is still unread: judge the next time.
            held_up = now_s - due_s > interval_s
            for connection in list(self._live.values()):
                if held_up:
                    connection.heard_at_s = now_s
                self._look_after(connection, now_s, interval_s)

    def _look_after(self, connection: Connection, now_s: float, interval_s: float) -> None:
        if now_s - connection.heard_at_s > self._silence_timeout_s:
            self.misbehaved(connection, "the peer is silent")
        elif connection.session.held_bytes and now_s - connection.frame_at_s > FRAME_SILENCES * self._silence_timeout_s:
            self.misbehaved(connection, "a frame takes too long to arrive")
        elif (outstanding_bytes := connection.outstanding_bytes()) > self._unread_limit_bytes:
            self.misbehaved(connection, "the peer leaves too much unread")
        elif connection.held_bytes() > self._unread_limit_bytes:
            self.misbehaved(connection, "a fault delays more than may be held")
        elif not outstanding_bytes and now_s - connection.sent_at_s > interval_s / 2:
            connection.keep_alive()

    def _apply_faults(self) -> None:
        for peer, connection in list(self._live.items()):
            if connection.is_broken() or (self._faults is not None and self._faults.is_cut(peer)):
                self._take_down(connection)
