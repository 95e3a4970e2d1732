"""Reads that a front-end serves from the applied state: local ones at once, the others after a barrier.

Rules: what a client asks for is judged by the rights of the very view that it is read in; a barrier's readers share a
view that is opened after it was passed; what cannot be read here is asked of the replica; what one turn of the
loop reads is bounded in bytes. Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from raftkv.core.errors import Refused, StartupError
from raftkv.core.pages import size_of
from raftkv.core.replicator import Pending
from raftkv.core.requests import DEFAULT, Consistency, Read, Request
from raftkv.core.results import Answer, Content, KeyPage, KeyRecord, Outcome, Ready, Siblings
from raftkv.formats.rights import decode_document, rights_of
from raftkv.frontend.outstanding import LATE_READ, Outstanding, Waiting
from raftkv.frontend.readers import BarrierRounds, StateReader
from raftkv.frontend.replica import KnownReplica
from raftkv.frontend.rights import KnownRights

TURN_BYTES: Final = 4 << 20
"""What readers of one barrier are given in one turn of the loop: their answers leave before more are read."""


class StateReads:
    """Everything that is read here; ``open_state`` opens the applied state at the path that a pulse names."""

    def __init__(
        self, replica: KnownReplica, outstanding: Outstanding, open_state: Callable[[str], StateReader]
    ) -> None:
        self._replica = replica
        self._outstanding = outstanding
        self._open_state = open_state
        self._rounds = {level: BarrierRounds(level) for level in (Consistency.LINEARIZABLE, Consistency.LEASE)}
        self._state: StateReader | None = None
        self.rights = KnownRights()
        outstanding.gather = self._send_rounds

    @property
    def is_open(self) -> bool:
        """Is there a state to read?"""
        return self._state is not None

    def open(self, path: str) -> None:
        """The state lies at ``path`` now, which is empty where there is none to share."""
        self.close()
        if not path:
            return
        with contextlib.suppress(OSError, StartupError):
            self._state = self._open_state(path)
            self.rights.learn(self._state.rights)

    def told_rights(self, document: bytes) -> None:
        """The replica says who may do what, because it shares no state that does. Raises ``ValueError``."""
        rows = decode_document(document)
        self.rights.learn(rights_of((row.key, row.value) for row in rows if row.value is not None))

    def look_at_rights(self) -> None:
        """Learn what the state says now of who may do what."""
        self._in_one_view(())

    def counted(self) -> Mapping[str, int]:
        """See ``StateReader``; nothing where there is no state to read."""
        if self._state is not None:
            with contextlib.suppress(OSError, StartupError), self._state as state:
                return state.counted()
        return {}

    def close(self) -> None:
        """Let go of the state."""
        state, self._state = self._state, None
        if state is not None:
            state.close()

    def at_once(self, read: Read, pending: Pending) -> bool:
        """Read the applied state; false when it cannot be read, which the next pulse may mend."""
        if read.r != DEFAULT:
            return False
        answers = self._in_one_view((read,))
        if answers:
            pending.resolve(answers[0])
        return bool(answers)

    def _in_one_view(self, reads: Sequence[Request]) -> list[Answer | Refused]:
        """The answers of ``reads``, or of those that come before ``TURN_BYTES`` are reached or the state is gone.

        Their age is what was known before they were read: a pulse that comes in later speaks of a newer state.
        """
        state, status = self._state, self._replica.status
        answers: list[Answer | Refused] = []
        if state is None:
            return answers
        level_at_s = None if status is None else status.level_at_s
        read_bytes = 0
        try:
            with state:
                revision = state.revision
                for read in reads:
                    if read_bytes > TURN_BYTES:
                        break
                    assert isinstance(read, Read)
                    content = state.read(read.query, read.caller)
                    if isinstance(content, Refused):
                        answers.append(content)
                        continue
                    read_bytes += held_bytes(content)
                    answers.append(
                        Answer(content=content, consistency=read.consistency, revision=revision, level_at_s=level_at_s)
                    )
        except (OSError, StartupError):
            self.close()
        else:
            if state.rights is not self.rights.current:
                self.rights.learn(state.rights)
        return answers

    def after_barrier(self, reader: Waiting) -> bool:
        """Let a read wait for a barrier; false when only the replica can serve it."""
        read = reader.request
        if self._state is None or not isinstance(read, Read) or read.r != DEFAULT:
            return False
        rounds = self._rounds.get(read.consistency)
        if rounds is None:
            return False
        rounds.add(reader)
        return True

    def _send_rounds(self) -> None:
        for rounds in self._rounds.values():
            readers = rounds.next_round()
            if not readers:
                continue
            barrier = Waiting(rounds.barrier, max([reader.deadline_s for reader in readers]))
            barrier.when_done(partial(self._round_done, rounds, readers))
            self._outstanding.add(barrier)
            self._outstanding.send(barrier)
            for reader in readers:
                reader.is_sent = True

    def _round_done(self, rounds: BarrierRounds, readers: list[Waiting], outcome: Outcome) -> None:
        """A barrier has its outcome: its readers read, or share its failure."""
        rounds.finished()
        self._serve(readers, outcome)
        if self._replica.connection is not None:
            self._outstanding.expect()

    def _serve(self, readers: list[Waiting], outcome: Outcome) -> None:
        """Serve ``readers``; after ``TURN_BYTES`` the rest wait until those answers are sent."""
        readers = [reader for reader in readers if reader.outcome is None]
        answers: Sequence[Answer | Refused]
        if isinstance(outcome, Ready):
            answers = self._in_one_view([reader.request for reader in readers])
        else:
            answers = [outcome if isinstance(outcome, Refused) else LATE_READ] * len(readers)
        for reader, answer in zip(readers, answers, strict=False):
            if reader.outcome is None:  # as before, whatever was done for the others meanwhile
                self._outstanding.settle(reader, answer)
        rest = readers[len(answers) :]
        if rest and self._state is not None:
            asyncio.get_running_loop().call_soon(self._serve, rest, outcome)
            return
        for reader in [reader for reader in rest if reader.outcome is None]:
            self._outstanding.send(reader)
            self._outstanding.expect()

    def forget(self) -> None:
        """Nobody will pass a barrier any more, and who waited for one knows it."""
        for rounds in self._rounds.values():
            rounds.forget()


def held_bytes(content: Content) -> int:
    """How large a page or a value is; other content is small."""
    if isinstance(content, KeyRecord):
        return size_of(content)
    return sum(map(size_of, content.records)) if isinstance(content, KeyPage | Siblings) else 0
