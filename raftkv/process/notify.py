"""What a service manager is told of this process: datagrams as ``sd_notify(3)`` describes them.

Rules: nothing is told that was not asked for by ``NOTIFY_SOCKET``; nobody is waited for, and a service manager that
does not listen costs nothing but the datagram; the variables are taken out of the environment, so that no process that
is started from here (gunicorn's arbiter would) speaks in this one's name. Imports the standard library and
``raftkv.core`` only.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from typing import Final

from raftkv.core.status import ModeStatus, RaftStatus

STATUS_CHARACTERS_MAX: Final = 200
BUILDING_S: Final = 24 * 3600
"""A state that is taken up or rebuilt keeps the loop for as long as it is large; then nothing has hung."""


class ServiceManager:
    """Whoever started this process and wants to hear of it; nobody, for most.

    ``alive`` is called often and by the loop itself, so that a loop that hangs is noticed.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take the three variables of sd_notify(3) and sd_watchdog_enabled(3) out of ``environment``."""
        address = environment.pop("NOTIFY_SOCKET", "")
        limit_us = environment.pop("WATCHDOG_USEC", "")
        is_ours = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._socket = _connected(address)
        self._limit_us = int(limit_us) if self._socket is not None and is_ours and limit_us.isdecimal() else 0
        self._told_s = float("-inf")
        self._status = ""

    def building(self) -> None:
        """The loop will be kept for a while, rightly."""
        if self._limit_us:
            self._tell(f"WATCHDOG_USEC={BUILDING_S * 1_000_000}")

    def ready(self) -> None:
        """Started; from here on ``alive`` is called in time."""
        self._tell(*([f"WATCHDOG_USEC={self._limit_us}", "WATCHDOG=1"] if self._limit_us else []), "READY=1")

    def alive(self, now_s: float) -> None:
        """The loop turns; it is said four times within the limit, by the monotonic clock ``now_s``."""
        if self._limit_us and now_s - self._told_s >= self._limit_us / 4_000_000:
            self._told_s = now_s
            self._tell("WATCHDOG=1")

    def status(self, sentence: str) -> None:
        """What a person should know, in one line; told when it changes."""
        if sentence != self._status:
            self._status = sentence
            self._tell(f"STATUS={' '.join(sentence.split())[:STATUS_CHARACTERS_MAX]}")

    def stopping(self) -> None:
        """The end was asked for, or has come."""
        self._tell("STOPPING=1")

    def _tell(self, *assignments: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send("\n".join(assignments).encode())


def standing(status: ModeStatus) -> str:
    """How a node stands, for the one line that a service manager shows."""
    seen = f"sees {status.reached_count} of {status.cluster_size} nodes"
    if status.misfit:
        return f"takes no part: {status.misfit}"
    if not isinstance(status, RaftStatus):
        return f"{status.role}; {seen}"
    leads = status.role if status.leader in (None, status.node) else f"{status.role} of {status.leader}"
    if status.diverged:
        leads = f"diverged, {leads}"
    return f"{leads} in term {status.term}{'' if status.leader else ', no leader known'}; {seen}"


def _connected(address: str) -> socket.socket | None:
    """A datagram socket to ``address``: a path, or an abstract name after ``@``; ``None`` if nobody is there."""
    if not address.startswith(("/", "@")):
        return None
    try:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        connected.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError:
        return None
    return connected
