"""What keeps PySyncObj inside the protocol: every message passes here on its way in and on its way out.

The remedies to the hazards of ``docs/pysyncobj.rst`` (numbers in the comments) are decisions about single messages,
taken from the log and the terms alone. Rules: no clock, no I/O, no queue; a guard returns what to hand on and what to
answer. What cannot be (two leaders in one term, a conflict below the commit index) is refused and costs the sender its
connection: one member that went wrong must not be able to stop the others. A conflict is one word against another about
who is wrong (``raftkv.raft.standing.divergence``).
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from raftkv.formats.configurations import decode_configuration
from raftkv.formats.entries import MEMBERS, NO_OP, REGULAR
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.raft_messages import Append, AppendAnswer, ContradictionError, Entry, NewerTerm


class LogView(Protocol):
    """What the guards look at."""

    term: int
    is_leader: bool
    commit_index: int
    first_index: int
    last_index: int

    def term_at(self, index: int) -> int: ...


class Inbound(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an inbound append: ``hand_on`` goes to PySyncObj, ``answer`` back to the sender."""

    hand_on: Append | None
    answer: AppendAnswer | NewerTerm | None = None


def admit_append(log: LogView, append: Append) -> Inbound:
    """Decide about an append from a leader (Raft, section 5.3, receiver steps 1 to 5).

    PySyncObj truncates everything after ``previous_index`` even where the entries match (7), takes the commit index of
    messages that say nothing about the log (9), and asks its way back one batch at a time (10). So only appends that
    extend the log, or replace a tail that truly conflicts, reach it with entries; the rest become bare heartbeats, with
    a commit index that the sender and we provably share.
    """
    if append.term < log.term:
        return Inbound(hand_on=None, answer=NewerTerm(term=log.term))
    if log.is_leader and append.term == log.term:
        raise MalformedMessageError("another leader in a term of ours")
    if append.previous_index == 0:
        # PySyncObj does not answer these; the leader must hear that we live, or it would step down (17).
        alive = AppendAnswer(term=append.term, sequence=append.sequence, next_index=1, success=False, reset=False)
        return Inbound(hand_on=_heartbeat(append, log.commit_index), answer=alive)
    _check_shape(append)
    previous = append.previous_index
    if previous < log.first_index or previous > log.last_index or log.term_at(previous) != append.previous_term:
        # Everything up to our commit index is in every legitimate leader's log (Raft, section 5.4), so the search for
        # the last common entry ends there at once.
        answer = AppendAnswer(
            term=append.term, sequence=append.sequence, next_index=log.commit_index + 1, success=False, reset=True
        )
        return Inbound(hand_on=_heartbeat(append, log.commit_index), answer=answer)
    known = _matching(log, append.entries)
    if known == len(append.entries):
        end = previous + known
        answer = AppendAnswer(term=append.term, sequence=append.sequence, next_index=end + 1, success=True, reset=False)
        return Inbound(hand_on=_heartbeat(append, max(log.commit_index, end)), answer=answer)
    fresh = append.entries[known:]
    if fresh[0][1] <= log.commit_index:
        raise ContradictionError(fresh[0][1])
    if known:
        _, previous, previous_term = append.entries[known - 1]
        append = msgspec.structs.replace(append, previous_index=previous, previous_term=previous_term, entries=fresh)
    return Inbound(hand_on=append)


def admit_answer(log: LogView, answer: AppendAnswer, *, reset_since: int) -> AppendAnswer | None:
    """Decide about a follower's answer; ``None`` drops it.

    An answer of another term may speak of entries that were since replaced (6). A reset that answers an append sent
    before the last reset was honoured is old news: honouring it again would send everything twice.
    """
    if not log.is_leader or answer.term != log.term:
        return None
    if answer.next_index - 1 > log.last_index:
        raise MalformedMessageError("an answer beyond the end of the log")
    if answer.reset and answer.sequence <= reset_since:
        return msgspec.structs.replace(answer, reset=False)
    return answer


def _heartbeat(append: Append, known_common: int) -> Append:
    """Strip ``append`` to a heartbeat whose commit index reaches no further than what we hold in common."""
    return Append(term=append.term, commit_index=min(append.commit_index, known_common), sequence=append.sequence)


def _check_shape(append: Append) -> None:
    """Entries must be consecutive, of non-decreasing terms up to the sender's, and of a kind we apply (19)."""
    index, term = append.previous_index, append.previous_term
    for command, entry_index, entry_term in append.entries:
        if entry_index != index + 1 or not term <= entry_term <= append.term:
            raise MalformedMessageError("entries out of order")
        kind = command[:1]
        if kind == MEMBERS:
            try:
                decode_configuration(memoryview(command)[1:])
            except ValueError as error:
                raise MalformedMessageError(f"an entry that is no configuration: {error}") from None
        elif kind not in (REGULAR, NO_OP):
            raise MalformedMessageError("an entry of unknown kind")
        index, term = entry_index, entry_term


def _matching(log: LogView, entries: tuple[Entry, ...]) -> int:
    """How many leading ``entries`` our log already holds."""
    count = 0
    for _, index, term in entries:
        if index > log.last_index or log.term_at(index) != term:
            break
        count += 1
    return count
