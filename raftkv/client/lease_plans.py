"""Leases by their numbers, one request each: nobody keeps them alive in the background. Pure: no socket, no clock.

For programs that keep leases for others, and for looking at them; ``leases`` has those that a program holds itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import UNSET

from raftkv.api import paths
from raftkv.api.answers import KeepAlives, KeysDeleted, LeaseGranted, LeaseList, LeaseShown
from raftkv.api.bodies import LeaseIds, NewLease
from raftkv.api.values import text_from_json
from raftkv.client.arguments import AnyLease, checked_ttl, lease_of
from raftkv.client.portions import Paged
from raftkv.client.records import json_from_body, typed
from raftkv.client.requests import CallPlans, must_exist
from raftkv.client.steps import Plan
from raftkv.core.errors import Code, DefiniteError

KEPT_AT_ONCE: Final = 10_000
"""The API takes no more in one request."""


class LeaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as it stood when it was read: it lives for ``ttl`` seconds at a time, of which ``left`` were left.

    ``keys`` go with it, ``locks`` and ``elections`` are held with it or waited for. In a list, for brevity, all three
    are empty, and ``key_count`` says how many there are.
    """

    id: int
    ttl: float
    left: float
    key_count: int
    keys: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    elections: tuple[str, ...] = ()


class LeasePlans:
    """Plans for leases; see ``ClientLeases``."""

    def __init__(self, calls: CallPlans) -> None:
        self._calls = calls

    def grant(self, ttl: float, number: int | None) -> Plan[int]:
        """A new lease: its number."""
        checked_ttl(ttl)
        return (yield from self._calls.told("POST", paths.LEASES, NewLease(ttl=ttl, id=number), LeaseGranted)).id

    def keep_alive(self, leases: Iterable[AnyLease]) -> Plan[tuple[int, ...]]:
        """Let all live for their whole time again: those that there are not."""
        numbers = [_number(one) for one in leases]
        missing: list[int] = []
        for first in range(0, len(numbers), KEPT_AT_ONCE):
            body = LeaseIds(ids=numbers[first : first + KEPT_AT_ONCE])
            missing += (yield from self._calls.told_again("POST", paths.KEEPALIVES, body, KeepAlives)).missing
        return tuple(missing)

    def find(self, lease: AnyLease) -> Plan[LeaseInfo | None]:
        """What is known of it, ``None`` when there is no such lease."""
        try:
            answer = yield from self._calls.read(paths.filled(paths.LEASE, str(_number(lease))), {})
        except DefiniteError as error:
            if error.code != Code.LEASE_NOT_FOUND:
                raise
            return None
        must_exist(answer)
        return _info(typed(json_from_body(answer.body), LeaseShown))

    def every(self) -> Paged[LeaseInfo, int]:
        """All of them, page by page."""
        return Paged(self._page, 0, None)

    def revoke(self, lease: AnyLease) -> Plan[int]:
        """End it: how many keys went with it."""
        path = paths.filled(paths.LEASE, str(_number(lease)))
        return (yield from self._calls.told("DELETE", path, None, KeysDeleted)).deleted

    def _page(self, start: int, limit: int | None) -> Plan[tuple[tuple[LeaseInfo, ...], int | None]]:
        answer = yield from self._calls.read(paths.LEASES, {"start_lease": start or None, "limit": limit})
        must_exist(answer)
        found = typed(json_from_body(answer.body), LeaseList)
        return tuple([_info(one) for one in found.leases]), found.next


def _number(lease: AnyLease) -> int:
    number = lease_of(lease)
    assert number is not None
    return number


def _info(shown: LeaseShown) -> LeaseInfo:
    keys = () if shown.keys is UNSET else tuple(map(text_from_json, shown.keys))
    locks, elections = [() if one is UNSET else tuple(one) for one in (shown.locks, shown.elections)]
    return LeaseInfo(
        id=shown.id,
        ttl=shown.ttl,
        left=shown.left,
        key_count=shown.key_count,
        keys=keys,
        locks=locks,
        elections=elections,
    )
