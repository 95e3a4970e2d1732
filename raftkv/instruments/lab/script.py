"""What a client does next: an endless, seeded sequence of steps over a few contended keys and many private ones.

Pure: randomness is injected, and what the client learns from answers is told to it. Every value is written by exactly
one step, so that a value that is read names its writer. A contended key is replaced by a fresh one after
``operations_per_key`` steps, which bounds what the checker has to search. Imports its neighbours ``additions``,
``dialect`` and ``history``.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from raftkv.instruments.lab.additions import LIST_PREFIX, Additions, Update
from raftkv.instruments.lab.dialect import ClientStep, Meaning
from raftkv.instruments.lab.history import ANY, Action, CompareAndSet, DeleteAction, GetAction, Outcome, PutAction

Kind = Literal["get", "put", "delete", "compare_and_set", "once", "forget", "recall", "add"]

DEFAULT_MIX: Final[Mapping[Kind, int]] = {"get": 45, "put": 20, "delete": 5, "compare_and_set": 20, "once": 10}
"""Shares of the kinds of steps; ``once`` is a put to a key that nobody else writes, for the audit at the end.

``forget`` deletes one of the keys that this client wrote ``once``, for good, and ``recall`` reads one of them, deleted
or not. ``add`` is a read of a list and its replacement by a longer one, see ``raftkv.instruments.lab.additions``; then
``get`` reads lists.
"""

_REMEMBERED_MAX: Final = 1000


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What many clients do to a fresh cluster; the same workload again would write the same values again.

    ``rate_per_s`` is what all clients together begin at most. ``retry_share`` of the writes carry an idempotency key
    and are sent again, to any node, while their outcome is unknown. ``timeout_s`` is the server's deadline for one
    request. ``query`` is added to reads, such as ``consistency=local``, and ``write_query`` to writes; ``value_bytes``
    pads every value. ``update`` is how lists are written back. With ``sticky`` each client asks one node only. Raises
    ``ValueError`` for a mix that would write to lists in other ways.
    """

    seed: int = 0
    clients: Annotated[int, Meta(ge=1, le=1000)] = 10
    keys: Annotated[int, Meta(ge=1)] = 5
    operations_per_key: Annotated[int, Meta(ge=1)] = 300
    rate_per_s: Annotated[float, Meta(gt=0)] = 300.0
    mix: dict[Kind, int] = msgspec.field(default_factory=lambda: dict(DEFAULT_MIX))
    retry_share: Annotated[float, Meta(ge=0, le=1)] = 0.3
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 1.5
    query: str = ""
    write_query: str = ""
    update: Update = "put"
    sticky: bool = False
    value_bytes: Annotated[int, Meta(ge=0, le=1 << 20)] = 0

    def __post_init__(self) -> None:
        if "add" in self.mix and self.mix.keys() & {"put", "delete", "compare_and_set"}:
            raise ValueError("mix: add goes with no other writes to shared keys")


class ScriptKeys:
    """The contended keys, shared by all clients: each slot's key is renewed when it has had its operations."""

    def __init__(self, workload: Workload) -> None:
        self._per_key = workload.operations_per_key
        self._used = [0] * workload.keys

    def pick(self, random: Random) -> bytes:
        """A contended key for one operation."""
        slot = random.randrange(len(self._used))
        generation, self._used[slot] = self._used[slot] // self._per_key, self._used[slot] + 1
        return f"shared/{slot}/{generation}".encode()


class Script:
    """The steps of one client; ``learn`` what came of each before the next is asked for."""

    def __init__(self, workload: Workload, client: int, keys: ScriptKeys) -> None:
        self._workload = workload
        self._client = client
        self._keys = keys
        self._random = Random(f"{workload.seed}/{client}")  # noqa: S311  a script, not a secret
        self._kinds: list[Kind] = list(workload.mix)
        self._weights = [workload.mix[kind] for kind in self._kinds]
        self._seen: dict[bytes, tuple[bytes | None, int]] = {}
        self._additions = Additions(workload.update)
        self._once: list[bytes] = []
        self._forgotten: list[bytes] = []
        self._step_count = 0

    def next_step(self) -> ClientStep:
        """The next thing to do."""
        self._step_count += 1
        if self._additions.is_under_way:
            return self._additions.next_step()
        kind = self._random.choices(self._kinds, self._weights)[0]
        if kind in ("once", "forget", "recall"):
            return self._step_on_own(kind)
        key = self._keys.pick(self._random)
        return self._step_on_list(LIST_PREFIX + key, kind) if "add" in self._workload.mix else self._step_on(key, kind)

    def _step_on(self, key: bytes, kind: Kind) -> ClientStep:
        if kind == "get" or (kind == "compare_and_set" and key not in self._seen):
            return ClientStep(key=key, action=GetAction())
        if kind == "put":
            return self._written(key, PutAction(self._value()))
        if kind == "delete":
            return self._written(key, DeleteAction())
        return self._compare_and_set(key)

    def learn(self, step: ClientStep, finding: Meaning) -> None:
        """``step`` came to ``finding``: where its key stands, as far as this client knows."""
        if self._additions.is_under_way:
            self._additions.learn(finding)
            return
        if finding.outcome is not Outcome.OK or step.key.startswith(LIST_PREFIX):
            return
        if step.key.startswith(b"once/"):
            if isinstance(step.action, PutAction):
                self._once = [*self._once[1 - _REMEMBERED_MAX :], step.key]
            return
        self._seen.pop(step.key, None)
        if finding.revision is None:
            return
        value = finding.result if isinstance(step.action, GetAction) else getattr(step.action, "value", None)
        assert value is None or isinstance(value, bytes)
        self._seen[step.key] = (value, finding.revision)
        while len(self._seen) > _REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]

    def think_s(self) -> float:
        """How long this client waits before its next step: random, so that clients do not fall into step."""
        return self._random.expovariate(self._workload.rate_per_s / self._workload.clients)

    def pick_node(self, nodes: list[str]) -> str:
        """Which server to ask."""
        return nodes[self._client % len(nodes)] if self._workload.sticky else self._random.choice(nodes)

    def _step_on_own(self, kind: Kind) -> ClientStep:
        if kind == "forget" and self._once:
            key = self._once.pop(self._random.randrange(len(self._once)))
            self._forgotten = [*self._forgotten[1 - _REMEMBERED_MAX :], key]
            return self._written(key, DeleteAction())
        if kind == "recall" and self._once + self._forgotten:
            return ClientStep(key=self._random.choice(self._once + self._forgotten), action=GetAction())
        key = f"once/{self._client}/{self._step_count}".encode()
        return self._written(key, PutAction(self._value()))

    def _step_on_list(self, key: bytes, kind: Kind) -> ClientStep:
        if kind == "get":
            return ClientStep(key=key, action=GetAction())
        self._additions.begin(key, self._value())
        return self._additions.next_step()

    def _compare_and_set(self, key: bytes) -> ClientStep:
        value, revision = self._seen[key]
        expected = ANY if value is not None and self._random.random() < 0.1 else value
        is_delete = expected is not None and self._random.random() < 0.2
        action = CompareAndSet(expected=expected, value=None if is_delete else self._value())
        return self._written(key, action, revision)

    def _written(self, key: bytes, action: Action, revision: int = 0) -> ClientStep:
        can_retry = self._random.random() < self._workload.retry_share
        retry_key = f"{self._workload.seed}-{self._client}-{self._step_count}" if can_retry else ""
        return ClientStep(key=key, action=action, revision=revision, retry_key=retry_key)

    def _value(self) -> bytes:
        return f"{self._client}.{self._step_count}".encode().ljust(self._workload.value_bytes, b".")
