"""Whether this node counts: in elections, in majorities, in rounds of reads. With an emptied disk it does not yet.

Such a node has forgotten its votes and the entries it acknowledged, and others rest on both. It is known by its disk,
which is another than its peers remember (``raftkv.peers.acquaintance``). Until it has made good what it forgot it
neither votes nor stands, its acknowledgements count towards no majority, and it confirms no leader. It is a member
again, by itself, once (recovery as in Viewstamped Replication Revisited, section 4.3):

1. every other member has told its term since the node came back. A forgotten vote was given to one of them, in a term
   that this one had then; so after adopting the highest, and voting no more in it, the node cannot vote twice.
2. after that, a leader has forgotten what the node had acknowledged, and then confirmed that it leads by a round of
   reads that this node takes no part in (Raft thesis, section 6.4). Whatever the node had helped to commit is on a
   majority of which at least one other member answered in that round or elected the leader; so it is within the
   leader's commit index of that moment.
3. the node holds all up to that index on its disk.

Where a majority cannot do without the node there is no such leader, and it stays out: two emptied disks of three cannot
be told from a lost cluster.

A node that is *new*, with a disk that never held anything, could be an emptied one that met none who knew it. It counts
once it has met all others and they are blank, or for some time only a majority, itself included: they found the
cluster. If it meets one that is not blank, the cluster was founded before, and it goes the way of an emptied one.

Pure: decides, and says what to ask; time enters as a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from raftkv.formats.configurations import Configuration
from raftkv.formats.identity import Identity, Standing
from raftkv.process.loggers import get_logger
from raftkv.raft.electorate import Electorate
from raftkv.raft.standing.divergence import StateJudgement

ASK_HEARTBEATS: Final = 2
"""Questions that were not answered within so many heartbeats are asked again."""

FOUNDING_HEARTBEATS: Final = 50
"""So long a majority of new nodes waits for the others: two emptied ones of three might meet before the third."""

STOPPED: Final = (Standing.DISPUTED, Standing.DIVERGED, Standing.DISCARDING)
"""The standings of a node that serves nobody, because its state differs."""

log_line = get_logger("raftkv.raft")


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What must outlive the process: the standing, through which term votes may be forgotten, how the state differs.

    ``configured``: the members have changed since the cluster was founded.
    """

    standing: Standing = Standing.MEMBER
    voteless_through_term: int = 0
    difference: str = ""
    configured: bool = False


def memory_of(identity: Identity, term: int) -> Memory:
    """What ``identity`` remembers; a disk of the version before says nothing, but a log that knows a ``term`` does."""
    standing = Standing.MEMBER if identity.standing is Standing.NEW and term else identity.standing
    return Memory(
        standing=standing,
        voteless_through_term=identity.voteless_through_term,
        difference=identity.difference,
        configured=identity.configured,
    )


def discarded(identity: Identity) -> Identity:
    """``identity`` once the data is thrown away: from there the node goes the way of one whose disk was emptied."""
    return msgspec.structs.replace(identity, standing=Standing.RECOVERING, difference="")


def with_memory(identity: Identity, memory: Memory) -> Identity:
    """``identity`` that remembers ``memory``."""
    return msgspec.structs.replace(
        identity,
        standing=memory.standing,
        voteless_through_term=memory.voteless_through_term,
        difference=memory.difference,
        configured=memory.configured,
    )


class Readmission:
    """The standing of one node among its peers.

    ``counts``: it may vote, acknowledge and confirm. ``is_stopped``: it serves nobody, as its state differs.
    """

    counts = False
    is_stopped = False

    def __init__(
        self,
        electorate: Electorate,
        memory: Memory,
        *,
        nonce: int,
        heartbeat_s: float,
        save: Callable[[Memory], None],
        disk: str = "",
    ) -> None:
        """``nonce`` is random, so that no answer to an earlier life counts; ``save`` makes the memory durable.

        ``disk`` is the number of this node's disk.
        """
        self._electorate = electorate
        self._disk = disk
        self._take(memory)
        self._save = save
        self._nonce = nonce
        self._ask_every_s = ASK_HEARTBEATS * heartbeat_s
        self._asked_at_s = float("-inf")
        self._patience_s = FOUNDING_HEARTBEATS * heartbeat_s
        self._new_since_s: float | None = None
        self._blank: set[str] = set()
        self._terms: dict[str, int] = {}
        self._index: int | None = None
        self._learns = False
        if electorate.is_alone and memory.standing is not Standing.MEMBER and not memory.configured:
            self._become(Standing.MEMBER)

    @property
    def is_recovering(self) -> bool:
        """Is this node making good what its disk lost?"""
        return self._memory.standing is Standing.RECOVERING

    @property
    def has_say(self) -> bool:
        """Does this node hold all that it ever promised, so that its state can be compared with others'?"""
        return self._memory.standing not in (Standing.NEW, Standing.JOINING, Standing.RECOVERING)

    def judged(self, judgement: StateJudgement) -> None:
        """The replicas were compared. Whoever was outnumbered once stays so until it is repaired."""
        standing = self._memory.standing
        if judgement.reason and standing in (Standing.MEMBER, Standing.DISPUTED):
            becomes = Standing.DISPUTED if judgement.is_tie else Standing.DIVERGED
            if becomes is not standing:
                self._remember(msgspec.structs.replace(self._memory, standing=becomes, difference=judgement.reason))
                log_line.error("this node stops serving", reason=self.reason)
        elif not judgement.reason and standing is Standing.DISPUTED:
            self._remember(msgspec.structs.replace(self._memory, standing=Standing.MEMBER, difference=""))
            log_line.warning("this node serves again: its state is that of most of the nodes that have a say")

    def discard(self) -> None:
        """What this node holds is to be thrown away; its next start does that, whatever becomes of this life."""
        self._become(Standing.DISCARDING)

    def may_vote_in(self, term: int) -> bool:
        """May this node vote in ``term``, or has it perhaps done so on the disk that is gone?"""
        return self.counts and term > self._memory.voteless_through_term

    @property
    def reason(self) -> str:
        """Why this node does not count; empty if it does."""
        if self.counts:
            return ""
        if self.is_stopped:
            return f"{self._memory.difference}; raftkv repair lets this node fetch the state of the others anew"
        return self._reason_of_newcomer if not self.is_recovering else self._reason_of_emptied

    @property
    def _reason_of_newcomer(self) -> str:
        if self._memory.standing is Standing.JOINING:
            return "it was let in, and waits for the leader to send it what the others have"
        found = len(self._blank) + 1
        needed = self._electorate.majority
        return f"it is new and has met {found} of the {needed} new nodes that can found a cluster (to join one: --join)"

    @property
    def _reason_of_emptied(self) -> str:
        silent = sorted(self.unheard)
        if silent:
            return f"its data was lost; it waits to hear from {', '.join(silent)}"
        if self._index is None:
            others = self._electorate.majority
            return f"its data was lost; it waits for a leader that {others} other members confirm"
        return f"its data was lost; it fetches all up to entry {self._index}"

    @property
    def _peers(self) -> frozenset[str]:
        return frozenset(self._electorate.others)

    # --- who is met

    def met(self, peer: str, *, is_blank: bool, knew_another_disk: bool) -> None:
        """See ``Newcomers`` of ``raftkv.peers.greeting``."""
        if knew_another_disk and not self.is_recovering and not self.is_stopped:
            log_line.warning("the disk of this node was emptied: it counts in no majority until it has caught up")
            self._become(Standing.RECOVERING)
        if self._memory.standing is not Standing.NEW:
            return
        if not is_blank:
            log_line.info("the cluster was founded before: this node catches up before it counts")
            self._become(Standing.RECOVERING)
            return
        if peer in self._peers:  # not one that waits to be let in later
            self._blank.add(peer)
        if self._blank == self._peers:
            self._become(Standing.MEMBER)

    def found(self, now_s: float) -> None:
        """Found a cluster with a majority once whoever is still missing has had time to say that there is one."""
        self._new_since_s = now_s if self._new_since_s is None else self._new_since_s
        is_new = self._memory.standing is Standing.NEW
        if is_new and self._electorate.agree(self._blank) and now_s - self._new_since_s >= self._patience_s:
            self._become(Standing.MEMBER)

    def heard_of_term(self) -> None:
        """A peer is in some term: elections are held, so the cluster was founded without this node if it is new."""
        if self._memory.standing is Standing.NEW:
            self._become(Standing.RECOVERING)

    # --- making good what was lost

    def due(self, now_s: float) -> bool:
        """Is it time to ask (again)? Then ``unheard`` are to be asked for their terms, or else the leader."""
        if not self._can_ask or now_s - self._asked_at_s < self._ask_every_s:
            return False
        self._asked_at_s = now_s
        return True

    @property
    def nonce(self) -> int:
        """What questions carry, and answers must bring back."""
        return self._nonce

    @property
    def unheard(self) -> frozenset[str]:
        """Members that have not told their term since this node came back."""
        return self._peers - set(self._terms)

    def told_term(self, peer: str, nonce: int, term: int) -> int | None:
        """``peer`` told its term; the highest of all once it was the last to be heard, to be adopted by the node."""
        if not self._can_ask or nonce != self._nonce or peer in self._terms:
            return None
        self._terms[peer] = term
        return self.all_told()

    def all_told(self) -> int | None:
        """The highest term, once every other member has told its own, to be adopted; ``None`` if nothing follows.

        Members may come and go meanwhile: who came is heard as well, and who went is not waited for.
        """
        if not self._can_ask or self.unheard or not self._terms:
            return None
        highest = max(self._terms.values())
        if highest <= self._memory.voteless_through_term:
            return None
        self._remember(msgspec.structs.replace(self._memory, voteless_through_term=highest))
        return highest

    @property
    def _can_ask(self) -> bool:
        """Who was let in knows whom to ask only once it has been sent the members."""
        return self.is_recovering and self._electorate.size > 0

    def configured(self, configuration: Configuration) -> None:
        """These are the members from now on, by an entry of the log.

        Who was let in counts from here on, as a learner, who has promised nothing. But if it was a member before, or
        votes by another disk than its own, it may have, and goes the way of an emptied one; also if it learns only from
        a later entry that it does.
        """
        own = configuration.find(self._electorate.node_id)
        is_by_other_disk = own is not None and own.votes and own.disk != self._disk
        has_learned, self._learns = self._learns, own is not None and not own.votes
        if not self._memory.configured:
            self._remember(msgspec.structs.replace(self._memory, configured=True))
        if self._memory.standing is Standing.JOINING and own is not None:
            has_promised = own.id in configuration.former or is_by_other_disk
            self._become(Standing.RECOVERING if has_promised else Standing.MEMBER)
        elif self._memory.standing is Standing.MEMBER and has_learned and is_by_other_disk:
            self._become(Standing.RECOVERING)
        if self.is_recovering and self.unheard:
            self._index = None

    def told_index(self, nonce: int, index: int) -> None:
        """A confirmed leader told how far the node must come; 0 if it does not lead any more."""
        if self._can_ask and nonce == self._nonce and not self.unheard and index:
            self._index = index if self._index is None else self._index

    @property
    def awaits_index(self) -> bool:
        """Is a leader to be asked how far the node must come?"""
        return self._can_ask and not self.unheard and self._index is None

    def caught_up(self, durable_index: int) -> bool:
        """The node holds all up to ``durable_index`` on its disk; is it a member again by that?"""
        if not self._can_ask or self.unheard or self._index is None or durable_index < self._index:
            return False
        log_line.warning("all that was lost is here again: this node counts from now on", index=self._index)
        self._become(Standing.MEMBER)
        return True

    def _become(self, standing: Standing) -> None:
        self._remember(msgspec.structs.replace(self._memory, standing=standing))

    def _remember(self, memory: Memory) -> None:
        if memory != self._memory:
            self._save(memory)
            self._take(memory)

    def _take(self, memory: Memory) -> None:
        """Remember ``memory``; what every message and every turn asks is worked out once, here."""
        self._memory = memory
        self.counts = memory.standing is Standing.MEMBER
        self.is_stopped = memory.standing in STOPPED
