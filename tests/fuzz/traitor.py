"""A member that went bad: it holds the cluster's secret, and says whatever it is told to say, in either mode.

What it must not be told to say is a *well-formed claim to lead*: Raft believes whoever holds the secret and a newer
term, as it must. Everything else, numbers beyond all reason, contradictions and bytes that are no message, may be
answered or cost the connection, and must cost nothing more.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from itertools import count
from typing import Any, Self

import msgspec
from hypothesis import strategies as st

from raftkv.formats import quorum_messages as leaderless
from raftkv.formats import raft_messages as messages
from raftkv.formats.greetings import Greeting
from raftkv.formats.handshakes import NONCE_BYTES
from raftkv.formats.identity import Life
from raftkv.formats.peers import MalformedMessageError
from raftkv.peers.handshake import Dialer
from raftkv.peers.session import PeerSession
from raftkv.raft.conversation import TERM_JUMP_MAX
from tests.fuzz.mutations import bent, numbers, rearranged, values
from tests.fuzz.siege import TRAITOR, Siege

ANSWER_S = 10.0
FRAME_LIMIT = 64 << 20

_rounds = count(1)


def dialer(siege: Siege, node: str, **changes: Any) -> Dialer:
    """The traitor's handshake with ``node``; ``changes`` make it another one's, or a wrong one."""
    secret = (siege.cluster.home / "secret").read_bytes().strip()
    wanted = {"cluster": "test", "node_id": TRAITOR, "target": node, "secret": secret, "nonce": os.urandom(NONCE_BYTES)}
    return Dialer(**{**wanted, **changes})


def knock(siege: Siege, node: str) -> socket.socket:
    """A connection to the peer port, on which nothing has been said."""
    return socket.create_connection(("127.0.0.1", siege.cluster.peer[node]), timeout=ANSWER_S)


def hear_out(client: socket.socket) -> bytes:
    """Everything that ``client`` still gets to hear; a port that does not close the connection fails."""
    received = b""
    try:
        while chunk := client.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def own_greeting(heard: Greeting) -> Greeting:
    """How the traitor greets: as a node of the version and rules that it ``heard``, always in the same life."""
    return Greeting(TRAITOR, "d15c", Life(1, "11fe"), heard.rules, False, {}, heard.protocols, heard.reads)


class Traitor:
    """A live link to ``node`` in the name of ``TRAITOR``; a context manager. Raises ``ConnectionError``.

    It greets as a member would, with the rules that it hears, unless ``greets`` says otherwise.
    """

    def __init__(self, siege: Siege, node: str, *, greets: bool = True) -> None:
        self._session = PeerSession(dialer(siege, node), FRAME_LIMIT)
        self._socket = knock(siege, node)
        self._is_leaderless = siege.cluster.mode == "quorum"
        self._heard: set[int] = set()
        self._socket.sendall(self._session.take_output())
        self.greeting: Greeting | None = None
        self.verdict: str | None = None
        while self.greeting is None:
            self._hear()
        if greets:
            self.say(msgspec.msgpack.encode(own_greeting(self.greeting)), msgspec.msgpack.encode(""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def say(self, *payloads: bytes) -> None:
        """Send ``payloads`` in frames that verify."""
        self.write(self._session.encode(payloads))

    def write(self, data: bytes) -> None:
        """Send ``data`` as it is."""
        with suppress(ConnectionError):  # what was said before may have been enough to be turned away
            self._socket.sendall(data)

    def is_heard(self) -> bool:
        """Does ``node`` still answer a harmless question on this link? It has then dealt with all that was said."""
        number = next(_rounds)
        if self._is_leaderless:
            self.say(leaderless.frame([leaderless.encode(leaderless.Fetch(number, b"siege"))]))
        else:
            self.say(messages.encode(messages.PreVote(term=0, last_log_index=0, last_log_term=0, round=number)))
        try:
            while number not in self._heard:
                self._hear()
        except ConnectionError:
            return False
        return True

    def _hear(self) -> None:
        chunk = self._socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError("the node hung up")
        for payload in self._session.receive(chunk):
            if payload and self.greeting is None:
                self.greeting = msgspec.msgpack.decode(payload, type=Greeting)
            elif payload and self.verdict is None:
                self.verdict = msgspec.msgpack.decode(payload, type=str)
            elif payload:
                self._heard |= self._answered(payload)
        if output := self._session.take_output():
            self._socket.sendall(output)

    def _answered(self, payload: bytes) -> set[int]:
        """The numbers of the harmless questions that ``payload`` answers."""
        if self._is_leaderless:
            return {one.id for one in leaderless.decode(payload) if isinstance(one, leaderless.Fetched)}
        message = messages.decode(payload)
        return {message.round} if isinstance(message, messages.PreVoteAnswer) else set()


def claims_to_lead(payload: bytes, term: int) -> bool:
    """Is this a message that a node at ``term``, or a few terms on, takes from its leader?"""
    try:
        message = messages.decode(payload)
    except MalformedMessageError:
        return False
    led = (messages.Append, messages.SnapshotOffer, messages.SnapshotChunk)
    return isinstance(message, led) and term <= message.term <= term + 2 * TERM_JUMP_MAX


def said(place: dict[str, int]) -> st.SearchStrategy[bytes]:
    """Messages of every kind with whatever in their fields, and the same with some of their bytes or parts changed."""
    whole = values(messages.Message, numbers(place.values())).map(messages.encode)
    return (whole | bent(whole) | rearranged(whole)).filter(lambda payload: not claims_to_lead(payload, place["term"]))
