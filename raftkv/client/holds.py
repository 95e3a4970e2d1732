"""What is held with a lease: a lock, a permit of a semaphore, the lead. Pure: no socket, no thread.

An attempt is one request that the server answers when the turn has come. It names the lease, so that sending it again,
to whichever node, stands in the same place of the same queue and ends in the same token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, TypeVar

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import ElectionWon, LeaderShown, LockGranted, LockReleased, Proclaimed
from raftkv.api.bodies import CampaignBody, LockBody, ProclaimBody, ResignBody
from raftkv.api.values import value_from_json, value_to_json
from raftkv.client.arguments import Value, bytes_of, path_of
from raftkv.client.calls import Call
from raftkv.client.errors import LockLost
from raftkv.client.leases import HeldLease
from raftkv.client.records import not_raftkv, outcome_from_body, typed
from raftkv.client.requests import CallPlans, must_exist
from raftkv.client.steps import Plan
from raftkv.core.errors import Code, DefiniteError, UsageError

WAIT_MAX_S: Final = 3600.0
"""Longer nobody waits with one request."""

Told = TypeVar("Told", LockGranted, ElectionWon)


class LockTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a lock is asked for with; see ``Client.lock``."""

    name: str
    wait: float
    holder: str = ""
    permits: int = 1


class LeadTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the lead is asked for with; see ``ClientElection.campaign``."""

    name: str
    wait: float
    value: Value


class LeaderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads: the value by which it is known, since ``revision``, and its fencing ``token``."""

    value: bytes
    token: int
    lease: int
    revision: int


class HeldName(ABC):
    """Something that is held with a lease. ``token`` is greater than those of all grants before, 0 while not held.

    Whatever the token is shown to, and refuses a smaller one than it has seen, is safe from holders that do not know
    yet that they have lost it (a fencing token).
    """

    def __init__(self, calls: CallPlans, name: str, wait: float) -> None:
        if not name:
            raise UsageError("a name must not be empty")
        if not 0 <= wait <= WAIT_MAX_S:
            raise UsageError(f"wait: {wait!r} is not a number of seconds from 0 to {WAIT_MAX_S:.0f}")
        self.name = name
        self.token = 0
        self._calls = calls
        self._wait = wait

    @property
    @abstractmethod
    def lease(self) -> HeldLease:
        """The lease with which it is held."""

    @property
    def is_lost(self) -> bool:
        """Was it held, and is not any more, or may not be by now? It is told before another can hold it."""
        return bool(self.token) and self.lease.is_lost

    def left_s(self) -> float:
        """How many seconds it is held for certain, if nobody keeps it any more."""
        return self.lease.left_s() if self.token else 0.0

    def check(self) -> None:
        """Raises ``LockLost`` when it is lost."""
        lost = self.loss()
        if lost is not None:
            raise lost

    def loss(self) -> LockLost | None:
        """What tells that it is lost."""
        if not self.is_lost:
            return None
        return LockLost(f"{self.name!r} is lost: its lease {self.lease.id} could not be kept alive")

    def entering(self) -> Plan[None]:
        """Wait for it; raises ``LockHeld`` when others still hold it then."""
        token = yield from self._token(self.lease.id)
        self.token = token
        self.check()

    @abstractmethod
    def _token(self, lease: int) -> Plan[int]:
        """The token."""

    @abstractmethod
    def leaving(self, token: int) -> Plan[None]:
        """Let go what was granted with ``token``, and keep the lease; that it was lost is no failure here."""

    def _attempt(self, path: str, body: msgspec.Struct, kind: type[Told]) -> Plan[int]:
        call = Call(
            method="POST",
            path=path_of(self.name, path),
            headers={"Content-Type": names.JSON},
            body=msgspec.json.encode(body),
            is_read=False,
            repeatable=True,
            wait_s=self._wait,
        )
        answer = yield from self._calls.answer(call)
        must_exist(answer)
        return typed(outcome_from_body(answer.body), kind, is_read=False).token

    def _release(self, call: Plan[LockReleased]) -> Plan[None]:
        try:
            yield from call
        except DefiniteError as error:
            if error.code != Code.NOT_FOUND:
                raise

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else f"token {self.token}" if self.token else "not held"
        return f"<{type(self).__name__} {self.name!r}, {state}>"


class HeldLock(HeldName, ABC):
    """A lock that one, or ``permits``, may hold at once."""

    def __init__(self, calls: CallPlans, terms: LockTerms) -> None:
        super().__init__(calls, terms.name, terms.wait)
        if terms.permits < 1:
            raise UsageError(f"permits: {terms.permits!r} is not a number above 0")
        self._terms = terms

    def _token(self, lease: int) -> Plan[int]:
        body = LockBody(lease=lease, wait=self._wait, holder=self._terms.holder, permits=self._terms.permits)
        return (yield from self._attempt(paths.LOCK, body, LockGranted))

    def leaving(self, token: int) -> Plan[None]:
        """See ``HeldName``."""
        call = self._calls.told("DELETE", path_of(self.name, paths.LOCK), None, LockReleased, {"token": token})
        yield from self._release(call)


class HeldLead(HeldName, ABC):
    """The lead of an election, by which the leader is known by ``value``."""

    def __init__(self, calls: CallPlans, terms: LeadTerms) -> None:
        super().__init__(calls, terms.name, terms.wait)
        self._value = bytes_of(terms.value)

    def _token(self, lease: int) -> Plan[int]:
        body = CampaignBody(lease=lease, wait=self._wait, value=value_to_json(self._value))
        return (yield from self._attempt(paths.CAMPAIGN, body, ElectionWon))

    def leaving(self, token: int) -> Plan[None]:
        """See ``HeldName``."""
        path = path_of(self.name, paths.RESIGN)
        yield from self._release(self._calls.told("POST", path, ResignBody(token=token), LockReleased))

    def proclaiming(self, value: Value) -> Plan[int]:
        """Be known by another value from now on: the revision of that."""
        self.check()
        body = ProclaimBody(token=self.token, value=value_to_json(bytes_of(value)))
        return (yield from self._calls.told("POST", path_of(self.name, paths.PROCLAIM), body, Proclaimed)).revision


class ElectionPlans:
    """Plans that ask who leads."""

    def __init__(self, calls: CallPlans, name: str) -> None:
        if not name:
            raise UsageError("a name must not be empty")
        self._calls = calls
        self._path = path_of(name, paths.ELECTION)

    def leader(self) -> Plan[LeaderRecord | None]:
        """Who leads, if anybody does."""
        answer = yield from self._calls.read(self._path, {})
        if answer.status == 404:
            return None
        try:
            return leader_of(msgspec.json.decode(answer.body, type=LeaderShown))
        except (msgspec.DecodeError, ValueError) as error:
            raise not_raftkv(error) from None


def leader_of(told: LeaderShown) -> LeaderRecord:
    """The same with its value as bytes; raises ``ValueError``."""
    return LeaderRecord(value=value_from_json(told.value), token=told.token, lease=told.lease, revision=told.revision)
