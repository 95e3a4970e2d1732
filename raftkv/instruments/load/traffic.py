"""The measured work: draws reads and writes as planned, judges every answer, and counts what was due in the window.

A value is ``RUN.KEY.NUMBER.`` and noise up to its size, so that whoever reads it knows which write it came from; one
that belongs to another key is a failure, ``wrong_value``. Randomness comes from the plan's seed, one stream for each
client. Imports nothing that does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from raftkv.core.errors import Effect
from raftkv.instruments.load.dialect import Dialect
from raftkv.instruments.load.engine import Failure, LoadCall, Times
from raftkv.instruments.load.keys import keys
from raftkv.instruments.load.ledger import FOREIGN, Before, Ledger
from raftkv.instruments.load.plan import OPERATIONS_MAX, LoadPlan
from raftkv.instruments.load.samples import INTERVAL_STEP_S, Age, RequestKind, Samples


class LoadOperation(LoadCall, kw_only=True):
    """One read or write on its way."""

    key: int
    number: int = FOREIGN
    before: Before | None = None

    @property
    def kind(self) -> RequestKind:
        """A read knows what came before it."""
        return RequestKind.WRITE if self.before is None else RequestKind.READ


class Traffic:
    """``Work`` of clients that read and write at random; ``samples`` has what was due from ``begin_s`` on."""

    def __init__(
        self, plan: LoadPlan, dialect: Dialect, *, run: str, readers: Sequence[int], writers: Sequence[int]
    ) -> None:
        """``run`` tells this run's values from those of any other; which servers reads and writes may go to."""
        self._dialect = dialect
        self._readers = readers
        self._writers = writers
        self._write_share = plan.ratio.write_share
        self._randoms = [Random(f"{plan.seed}/{client}") for client in range(plan.clients)]
        self._keys = keys(plan)
        self._ledger = Ledger(plan.keys)
        self._mark = f"{run}.".encode()
        self._value_bytes = plan.value_bytes
        self._noise = Random(plan.seed).randbytes(plan.value_bytes).hex().encode()
        self._begun = 0
        self.begin_s = float("inf")
        self.samples = Samples()

    # --- Work

    def begin(self, client: int, began_s: float) -> LoadOperation | None:
        """See ``Work``."""
        if self._begun == OPERATIONS_MAX:
            return None
        self._begun += 1
        random = self._randoms[client]
        is_write = random.random() < self._write_share
        key = self._keys.write(random) if is_write else self._keys.read(random)
        servers = self._writers if is_write else self._readers
        server = servers[int(random.random() * len(servers))]
        if is_write:
            return self._write(key, server, began_s)
        before = self._ledger.read_begins(key)
        return LoadOperation(request=self._dialect.get(key), server=server, key=key, before=before)

    def answered(self, call: LoadOperation, status: int, body: bytes, times: Times) -> bool:
        """See ``Work``."""
        failure = (
            self._wrote(call, status, body, times) if call.before is None else self._read(call, status, body, times)
        )
        if times.due_s >= self.begin_s:
            if failure is None:
                self.samples.done(call.kind, times.ended_s - times.due_s)
            else:
                self.samples.failed(call.kind, failure)
        return failure is None

    def failed(self, call: LoadOperation, failure: Failure, times: Times) -> None:
        """See ``Work``."""
        if call.before is None:
            self._ledger.write_ends(call.key, call.number, times.ended_s, acknowledged=False)
        if times.due_s >= self.begin_s:
            # A read that was not answered has changed nothing.
            is_write = call.kind is RequestKind.WRITE
            self.samples.failed(call.kind, failure if is_write else msgspec.structs.replace(failure, applied=Effect.NO))

    # --- filling

    def filling(self, key: int, turn: int, began_s: float) -> LoadOperation:
        """The write that gives ``key`` its first value; see ``Pour``."""
        return self._write(key, self._writers[turn % len(self._writers)], began_s)

    def filled(self, call: LoadOperation, answer: tuple[int, bytes] | Failure, times: Times) -> Failure | None:
        """What came of it."""
        if not isinstance(answer, Failure):
            return self._wrote(call, *answer, times)
        self._ledger.write_ends(call.key, call.number, times.ended_s, acknowledged=False)
        return answer

    # --- cleaning up

    def touched(self) -> list[int]:
        """The keys that this run may have written."""
        return self._ledger.touched()

    def removing(self, key: int, turn: int, began_s: float) -> LoadOperation:  # noqa: ARG002  see Pour
        """The request that deletes ``key``; see ``Pour``."""
        server = self._writers[turn % len(self._writers)]
        return LoadOperation(request=self._dialect.delete(key), server=server, key=key)

    def removed(self, call: LoadOperation, answer: tuple[int, bytes] | Failure, times: Times) -> Failure | None:  # noqa: ARG002
        """What came of it."""
        return answer if isinstance(answer, Failure) else self._dialect.deleted(*answer)

    # --- both

    def _write(self, key: int, server: int, began_s: float) -> LoadOperation:
        number = self._ledger.write_begins(key, began_s)
        self._keys.written(key)
        value = self._mark + b"%d.%d." % (key, number)
        value += self._noise[: self._value_bytes - len(value)]
        return LoadOperation(request=self._dialect.put(key, value), server=server, key=key, number=number)

    def _wrote(self, call: LoadOperation, status: int, body: bytes, times: Times) -> Failure | None:
        failure = self._dialect.written(status, body)
        self._ledger.write_ends(call.key, call.number, times.ended_s, acknowledged=failure is None)
        return failure

    def _read(self, call: LoadOperation, status: int, body: bytes, times: Times) -> Failure | None:
        found = self._dialect.found(status, body)
        if isinstance(found, Failure):
            return found
        try:
            numbers = [self._number(call.key, value) for value in found]
        except ValueError as error:
            return Failure(Effect.NO, "wrong_value", str(error))
        before = call.before
        assert before is not None
        judged = self._ledger.read_ends(call.key, before, numbers, times.ended_s)
        if times.due_s >= self.begin_s:
            fresh = self.samples.freshness
            fresh.stale += judged.stale
            fresh.missed += judged.missed
            fresh.backward += judged.backward
            fresh.during_write += before.under_way
            fresh.during_write_older += before.under_way and judged.older_than_newest
            if before.newest != FOREIGN:
                age = Age.STALE if judged.stale else Age.OVERTAKEN if judged.older_than_newest else Age.NEWEST
                since_s = times.began_s - before.newest_began_s
                fresh.since_write_ms[age][int(since_s / INTERVAL_STEP_S)] += 1
        return None

    def _number(self, key: int, value: bytes) -> int:
        """Which write ``value`` came from; raises ``ValueError`` when it cannot be one of this key."""
        if not value.startswith(self._mark):
            return FOREIGN
        found, number, _ = value[len(self._mark) :].split(b".", 2)
        if int(found) != key:
            raise ValueError(f"key {key} has a value that was written to key {int(found)}")
        return int(number)
