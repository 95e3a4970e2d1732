"""Users of a simulated cluster: which of them clients ask as, and how their rights change while they do.

Rules: a generation is never used twice. Clients know of a change as soon as somebody asks for it, before it is done and
though it may never be; and some ask on with what a user was before.
"""

from __future__ import annotations

import random as random_module
from typing import Final

from raftkv.core.requests import AnyOperation, Delete, Put
from raftkv.core.rights import CLUSTER, Access, Caller, Permission, Role, User
from raftkv.formats import rights as rows

USERS_COUNT: Final = 3
_BOUNDS: Final = (b"", b"c", b"k", b"k1", b"k2", b"l")
_ROLES: Final = ("all", "read all", "r1", "r2")


class SimulatedUsers:
    """All users of a run; unless ``is_used`` there are none, and nobody says who asks."""

    def __init__(self, random: random_module.Random, *, is_used: bool) -> None:
        self._random = random
        self._names = [f"u{number}" for number in range(USERS_COUNT)]
        self._is_used = is_used
        self._has_begun = False
        self._generation = 0
        self._callers = {name: [self._new_caller(name)] for name in self._names}

    @property
    def operator(self) -> Caller | None:
        """Who may do everything."""
        return CLUSTER if self._is_used else None

    def caller(self, client: int) -> Caller | None:
        """As whom a client asks now: mostly as its own user, as that is."""
        if not self._is_used:
            return None
        dice = self._random.random()
        if dice < 0.05:
            return None
        known = self._callers[self._names[client % USERS_COUNT]]
        return self._random.choice(known) if dice < 0.15 else known[-1]

    def change(self) -> tuple[AnyOperation, ...]:
        """What changes rights somehow; the first time it turns authentication on."""
        if not self._has_begun:
            self._has_begun = True
            return (*[self._role(name) for name in _ROLES], *map(self._user, self._names), self._on())
        dice, name = self._random.random(), self._random.choice(self._names)
        if dice < 0.05:
            return (Delete(key=rows.ENABLED),)
        if dice < 0.2:
            return (self._on(),)
        if dice < 0.35:
            return (self._role(self._random.choice(_ROLES[2:])),)
        if dice < 0.5:
            return (Delete(key=rows.user_key(name)),)
        if dice < 0.7:
            self._callers[name].append(self._new_caller(name))
        return (self._user(name),)

    def _new_caller(self, name: str) -> Caller:
        self._generation += 1
        return Caller(name, self._generation)

    @staticmethod
    def _on() -> Put:
        return Put(key=rows.ENABLED, value=b"")

    def _user(self, name: str) -> Put:
        roles = self._random.sample(_ROLES, self._random.randint(0, 2))
        generation = self._callers[name][-1].generation
        return Put(key=rows.user_key(name), value=rows.encode_user(User(roles=tuple(roles), generation=generation)))

    def _role(self, name: str) -> Put:
        if name.endswith("all"):
            access = Access.BOTH if name == "all" else Access.READ
            permissions = [Permission(access=access, start=b"", end=None)]
        else:
            permissions = [self._permission() for _ in range(self._random.randint(0, 3))]
        return Put(key=rows.role_key(name), value=rows.encode_role(Role(permissions=tuple(permissions))))

    def _permission(self) -> Permission:
        start, end = self._random.choices((*_BOUNDS, b"l", b"l"), k=2)
        access = self._random.choice((Access.READ, Access.WRITE, Access.BOTH))
        return Permission(access=access, start=min(start, end), end=max(start, end))
