"""What both clients have: how they are made, what they say of themselves, and the plans that they perform.

Pure but for the environment and the secret, which are read when a client is made. This module must not import a socket,
a loop, or anything of a server.
"""

from __future__ import annotations

import os
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from raftkv.client.arguments import checked_timeout_s
from raftkv.client.attempts import Attempts
from raftkv.client.credentials import Auth, credentials_of
from raftkv.client.plans import KeyPlans
from raftkv.client.reach import Cert, trusting_as_told
from raftkv.client.requests import CallPlans
from raftkv.client.servers import parse_servers
from raftkv.client.steps import Performer
from raftkv.core.config import ClusterSection
from raftkv.core.proof import Prover
from raftkv.core.secret import read_key

Exchanging = TypeVar("Exchanging", bound=Performer)


class PlannedClient(ABC, Generic[Exchanging]):
    """What both clients have: how they are made, and what they say of themselves."""

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        timeout_s: float = 5.0,
        idempotent: bool = True,
        retry: bool = True,
        await_start: bool = False,
        auth: Auth = None,
        tls_ca: str | None = None,
        cert: Cert = None,
        secret_file: str | os.PathLike[str] | None = None,
        cluster: str = ClusterSection().name,
    ) -> None:
        """Make no connection yet; raises ``UsageError`` when an address, a time, ``auth`` or a file makes no sense.

        Raises ``StartupError`` when ``secret_file`` holds no secret.
        """
        self._exchange = self._exchanging(trusting_as_told(tls_ca, cert))
        prover = None
        if secret_file is not None:
            prover = Prover(read_key(Path(secret_file), cluster), cluster, wall_ms=lambda: time.time_ns() // 1_000_000)
        self._attempts = Attempts(
            parse_servers(servers),
            retry=retry,
            await_start=await_start,
            prover=prover,
            credentials=credentials_of(auth, os.environ),
            now_s=self._exchange.now_s,
        )
        self._calls = CallPlans(self._attempts, timeout_s=checked_timeout_s(timeout_s), idempotent=idempotent)
        self._plans = KeyPlans(self._calls)

    @abstractmethod
    def _exchanging(self, tls: ssl.SSLContext | None) -> Exchanging:
        """What performs its plans."""

    @property
    def servers(self) -> tuple[str, ...]:
        """The base URLs."""
        return self._attempts.servers

    @property
    def durability(self) -> str:
        """Who held this thread's, or task's, last write when it was answered.

        ``majority``, ``all``, ``leader``, ``w=2``, or a number below a majority; empty before the first.
        """
        return self._calls.durability

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self.servers)}>"
