"""What a front-end serves beside the native API: routes of its own, and connections that speak HTTP/2.

The door knows nothing of what is said there: whoever composes the process gives it (``raftkv.serving``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from raftkv.core.replicator import Replicator
from raftkv.http.door.access import Exchanged
from raftkv.http.door.room import HeldBytes
from raftkv.http.handlers.handler import Context
from raftkv.http.routes import Route

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n"
"""What every client of HTTP/2 says first (RFC 9113, section 3.4), and none of HTTP/1."""
HTTP1: Final = "http/1.1"
HTTP2: Final = "h2"
"""As TLS names them (ALPN)."""


class SecondConnection(Protocol):
    """A connection that was handed over: it is driven as an ``asyncio.Protocol``."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is its from now on."""

    def data_received(self, data: bytes) -> None:
        """See asyncio."""

    def eof_received(self) -> bool:
        """See asyncio."""

    def pause_writing(self) -> None:
        """See asyncio."""

    def resume_writing(self) -> None:
        """See asyncio."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""

    def idle_since_s(self) -> float | None:
        """Since when nothing is under way (monotonic); ``None`` while something is."""

    def give_way(self) -> None:
        """End, once what is under way is answered."""

    def refuse(self, why: str) -> None:
        """End at once, with a word that lets the client ask elsewhere: nothing that it asked here was done."""

    def leave(self, within_s: float) -> None:
        """The same, as the server ends: what takes longer than ``within_s`` is ended."""


Tell = Callable[[str, int, float, Callable[[], Exchanged]], None]
"""Is told of every call: its name (``UNROUTED`` where there is none such), its code, what it took (seconds), and what
makes the rest, if anybody wants to hear of it. The method of all is ``GRPC``."""

Speak = Callable[[Replicator, Context, HeldBytes, Tell], Callable[[], SecondConnection]]
"""What makes connections for one worker."""


class Beside(NamedTuple):
    """``routes`` are all hot; ``http2`` takes connections that begin as HTTP/2 does, on which ``calls`` are made."""

    routes: tuple[Route, ...] = ()
    http2: Speak | None = None
    calls: tuple[str, ...] = ()

    @property
    def protocols(self) -> tuple[str, ...]:
        """What may be spoken over TLS. Whoever knows both, as browsers do, is served by the native API's own."""
        return (HTTP1,) if self.http2 is None else (HTTP1, HTTP2)


NOTHING_BESIDE = Beside()
