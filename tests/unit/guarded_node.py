"""An application in process on which authentication is on."""

from __future__ import annotations

import base64
import time
from typing import Any

from raftkv.api import paths
from raftkv.core.requests import Put, Write
from raftkv.core.rights import Access, Caller, Permission, Role, User
from raftkv.formats.rights import ENABLED, encode_role, encode_user, role_key, user_key
from raftkv.http.door.passwords import hashed
from tests.unit.http_node import Answer, Node

ROOT_PASSWORD = "correct horse"

ALICE_PASSWORD = "in wonderland"

ANONYMOUS = {"/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs", "/auth/login"}
"""As docs/authentication.rst has it."""


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


APP = Role(permissions=(Permission(access=Access.BOTH, start=b"a/", end=b"a0"),))

STANDING = (
    Put(key=role_key("app"), value=encode_role(APP)),
    Put(key=user_key("root"), value=encode_user(User(roles=("root",), password=hashed(ROOT_PASSWORD), generation=1))),
    Put(key=user_key("alice"), value=encode_user(User(roles=("app",), password=hashed(ALICE_PASSWORD), generation=2))),
    Put(key=ENABLED, value=b""),
)


class GuardedNode(Node):
    """A node on which authentication is on; ``root``, and ``alice``, who may read and write what begins with a/."""

    def __init__(self) -> None:
        super().__init__()
        self.solo.subscribe(lambda _: self.known.learn(self.solo.machine.rights))
        self.shown: str | None = None
        self.solo.submit(Write(operations=STANDING), time.monotonic() + 60)
        self.solo.work(time.monotonic())
        self.solo.submitted.clear()

    def by(self, name: str | None) -> GuardedNode:
        """From now on ``name`` asks, with a token."""
        self.shown = None
        if name is not None:
            generation = self.solo.machine.rights.users[name].generation
            self.shown = "Bearer " + self.callers.tokens.make(Caller(name, generation))
        return self

    async def ask(self, method: str, target: str, body: Any = b"", **more: Any) -> Answer:  # type: ignore[override]
        if getattr(self, "shown", None) is not None:
            more.setdefault("authorization", self.shown)
        return await super().ask(method, target, body, **more)

    def may(self, name: str, method: str, target: str, body: Any = b"", **headers: str) -> int:
        return self.by(name)(method, target, body, **headers).status


def filled(path: str) -> str:
    return paths.filled(path, *["1" if "leases" in path else "other"] * len(paths.names_in(path)))
