"""Between the link and the replica: nodes greet each other, and only those that fit together talk.

On each new connection both sides say who they are, what rules they hold and whom they have met
(``raftkv.peers.acquaintance``). Then each says what it makes of the other: nothing, or why it does not fit. The
replica hears of a peer once both fit, and what was learnt of the peer is durable before that, but not sooner: an old
copy that is refused must not be remembered as a start of that node.
A node that learns that its own data is an old copy takes part in nothing until it is started again. Nothing that a peer
says ends a node.

Pure but for the ports it is given. Imports ``raftkv.core``, ``raftkv.formats`` and its neighbours only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, runtime_checkable

from raftkv.core.rules import Rule
from raftkv.formats.greetings import (
    COMMANDS_OF_PROTOCOL,
    PROTOCOLS,
    Greeting,
    decode_greeting,
    decode_verdict,
    encode_greeting,
    encode_verdict,
)
from raftkv.formats.identity import Identity
from raftkv.formats.peers import MalformedMessageError
from raftkv.peers.acquaintance import disk_of, greeting_of, is_replaced, misfit, own_fault, with_met
from raftkv.peers.notices import Notices

REASON_CHARACTERS_MAX: Final = 500
"""A peer may name rules of any length."""


class Link(Protocol):
    """What ``raftkv.peers.link`` offers, as far as greetings need it."""

    def send(self, peer: str, payload: bytes) -> bool:
        """Send, if there is a connection."""

    def flush(self) -> None:
        """Write what was sent."""

    def outstanding_bytes(self, peer: str) -> int:
        """How much was sent and not yet taken."""

    def close_peer(self, peer: str) -> None:
        """Drop the connection; it will be made anew."""

    def dismiss(self, peer: str) -> None:
        """Close the connection once what was sent has left; ``link_down`` may be called from within."""


class GreetedEvents(Protocol):
    """The replica's side: hears the link's events, of peers that were met."""

    def link_up(self, peer: str) -> None: ...
    def link_down(self, peer: str) -> None: ...
    def received(self, peer: str, payload: bytes) -> None: ...


class IdentityStore(Protocol):
    """Where the identity is kept. ``save`` returns once it is durable; raises ``DiskError``."""

    @property
    def identity(self) -> Identity: ...

    def save(self, identity: Identity) -> None: ...


@runtime_checkable
class Newcomers(Protocol):
    """Whoever must know of disks that are blank or were emptied."""

    @property
    def is_blank(self) -> bool:
        """Has this node never voted nor held an entry?"""

    def met(self, peer: str, *, is_blank: bool, knew_another_disk: bool) -> None:
        """``peer`` was met, which is blank or not, and which knew this node by another disk or not."""


class Greeter:
    """Greets every peer that the link reaches; for the replica it is the link to those that fit.

    ``misfits`` are the nodes that do not take part, with the reason, for as long as it holds; this node may be one.
    """

    def __init__(
        self,
        store: IdentityStore,
        rules: Mapping[str, Rule],
        *,
        link: Link,
        clock: Callable[[], float],
        reads: int = COMMANDS_OF_PROTOCOL,
    ) -> None:
        """``reads`` is the newest format of commands that this node reads."""
        self.misfits: dict[str, str] = {}
        self._reads = reads
        self._store = store
        self._rules = rules
        self._listener: GreetedEvents
        self._newcomers: Newcomers | None = None
        self._link = link
        self._clock = clock
        self.flush = link.flush
        self.outstanding_bytes = link.outstanding_bytes
        self.close_peer = link.close_peer
        self._notices = Notices()
        self._greeted: dict[str, tuple[Greeting, Identity] | None] = {}
        """Those greeted on the present connection: what they said, and what was known when it was judged."""
        self._met: dict[str, int] = {}
        """Those met on the present connection, and the newest protocol that both speak."""

    def attach(self, listener: GreetedEvents, newcomers: Newcomers | None = None) -> None:
        """Tell ``listener`` of the peers that fit from now on, and ``newcomers`` of their disks."""
        self._listener, self._newcomers = listener, newcomers

    def reads(self, peer: str) -> int:
        """The newest format of commands that ``peer`` is known to read: by what it said last, in whichever life."""
        return self._store.identity.reads.get(peer, COMMANDS_OF_PROTOCOL)

    def speaks(self, peer: str) -> int:
        """The newest protocol that both speak; 0 for one that was not met."""
        return self._met.get(peer, 0)

    def disk(self, peer: str) -> str:
        """The disk by which ``peer`` was met last; empty if it never was."""
        return disk_of(self._store.identity, peer)

    def send(self, peer: str, payload: bytes) -> bool:
        """Send, if ``peer`` was met on the present connection."""
        return peer in self._met and self._link.send(peer, payload)

    @property
    def _is_blank(self) -> bool:
        """Has this node never held anything? Only one that knows may say so."""
        return self._newcomers is not None and self._newcomers.is_blank

    # --- the link's events

    def link_up(self, peer: str) -> None:
        """A connection stands: say who this is, and at once that it does not fit if that is known."""
        identity = self._store.identity
        self._greeted[peer] = None
        greeting = greeting_of(identity, self._rules, is_blank=self._is_blank, reads=self._reads)
        self._link.send(peer, encode_greeting(greeting))
        if identity.node in self.misfits:
            self._refuse_as_copy(peer)

    def link_down(self, peer: str) -> None:
        """The connection is gone."""
        self._greeted.pop(peer, None)
        if peer in self._met:
            del self._met[peer]
            self._listener.link_down(peer)

    def received(self, peer: str, payload: bytes) -> None:
        """What is for the replica, once the peer was met; before that, its greeting, then its verdict."""
        if peer in self._met:
            self._listener.received(peer, payload)
            return
        if peer not in self._greeted:
            return  # it was refused, and has more to say
        judged = self._greeted[peer]
        try:
            if judged is None:
                self._judge(peer, decode_greeting(payload))
            else:
                self._meet(peer, *judged, decode_verdict(payload))
        except MalformedMessageError:
            self._refuse(peer, "what it sent first is no greeting")

    def _judge(self, peer: str, greeting: Greeting) -> None:
        """Tell ``peer`` whether it fits, or this node does."""
        identity = self._store.identity
        fault = own_fault(identity, greeting)
        if fault:
            self.misfits[identity.node] = fault
            for each in (*self._met, *self._greeted):
                self._refuse_as_copy(each)
            return
        reason = misfit(identity, self._rules, greeting, is_blank=self._is_blank)
        if greeting.node != peer:
            reason = "it greets in another's name"
        self._link.send(peer, encode_verdict(reason[:REASON_CHARACTERS_MAX]))
        if reason:
            self._refuse(peer, reason)
        else:
            self._greeted[peer] = greeting, identity

    def _is_outdated(self, greeting: Greeting, judged_by: Identity) -> bool:
        """Was something else learnt of the sender since its greeting was judged? It may be from a life that is over."""
        known, node = self._store.identity.others.get(greeting.node), greeting.node
        return known not in (judged_by.others.get(node), with_met(judged_by, greeting).others[node])

    def _meet(self, peer: str, greeting: Greeting, judged_by: Identity, verdict: str) -> None:
        """Both have said what they make of the other; what was learnt is remembered only if both fit."""
        if verdict:
            self._refuse(peer, verdict)
            return
        identity = self._store.identity
        if self._is_outdated(greeting, judged_by) or identity.origin != judged_by.origin:
            del self._greeted[peer]
            self._link.dismiss(peer)  # if it lives, it greets anew
            return
        remembered = with_met(identity, greeting, is_blank=self._is_blank)
        if remembered is not identity:
            self._store.save(remembered)
        if remembered.origin != identity.origin:
            self._greet_anew()
        self.misfits.pop(peer, None)
        del self._greeted[peer]
        self._met[peer] = min(PROTOCOLS[1], greeting.protocols[1])
        if self._newcomers is not None:
            knew_another = is_replaced(identity, greeting)
            self._newcomers.met(peer, is_blank=greeting.is_blank, knew_another_disk=knew_another)
        self._listener.link_up(peer)

    def _greet_anew(self) -> None:
        """Now that this node is one of a restored cluster, whoever it met before may be of another."""
        for peer in tuple(self._met):
            self._link.dismiss(peer)

    def _refuse(self, peer: str, reason: str) -> None:
        """Part from ``peer``."""
        self._greeted.pop(peer, None)
        self.misfits[peer] = reason[:REASON_CHARACTERS_MAX]
        now_s, detail = self._clock(), self.misfits[peer]
        self._notices.warn("peer_does_not_fit", reason="see detail", peer=peer, now_s=now_s, detail=detail)
        self._link.dismiss(peer)

    def _refuse_as_copy(self, peer: str) -> None:
        """Part from ``peer``, as from everybody: the data here is an old copy."""
        identity = self._store.identity
        fault = self.misfits[identity.node]
        self._notices.warn("data_is_an_old_copy", reason=fault, peer=peer, now_s=self._clock())
        if peer in self._greeted:
            self._link.send(peer, encode_verdict(f"{identity.node}: {fault}"))
            del self._greeted[peer]
        self._link.dismiss(peer)
