"""What a front-end knows of its replica: whether it is there, what it said of itself last, and what it shows.

Rules: a replica that fell silent, or takes nothing, is asked nothing more. An announcement costs no more than telling
it: what is shown is kept beside the last status, and joined with it for who asks. Subscribers hear every pulse besides
what the replica announces, ``None`` when it is gone, and what the next one shows when it is there. Must not import
``raft`` or ``http``.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from raftkv.core.errors import Code, DefiniteError, Refused
from raftkv.core.replicator import Shown, Subscribers
from raftkv.core.status import ModeStatus, RaftStatus
from raftkv.frontend import wire
from raftkv.frontend.connection import WireConnection

SILENCE_S: Final = 3.0
"""A replica whose pulse is older than this is stuck: thirty pulses are missing."""

MAX_UNSENT_BYTES: Final = 64 << 20
"""A replica that leaves this much unread has more to do than it can."""

OVERLOADED: Final = Refused(
    code=Code.OVERLOADED, detail="too many requests are waiting already; try again later", retry_after_s=1.0
)
NOT_RUNNING: Final = Refused(code=Code.NO_LEADER, detail="the replica of this node is not running", retry_after_s=1.0)
_STUCK: Final = Refused(code=Code.NO_LEADER, detail="the replica of this node does not answer", retry_after_s=1.0)


class KnownReplica:
    """The replica as it is known here."""

    def __init__(self) -> None:
        self.connection: WireConnection[wire.ToFrontend] | None = None
        """``None`` unless it is there, and of this build."""

        self.absent = NOT_RUNNING
        """What is said while there is no connection."""

        self.status: ModeStatus | None = None
        """The last that was ever heard: what is known of the applied state that local reads are served from."""

        self.subscribers = Subscribers(self._wish)
        self._shown: Shown | None = None
        self._heard_at_s = 0.0
        self._is_fresh = False

    @property
    def pulse(self) -> ModeStatus | None:
        """The status with what was announced since; ``None`` while it is not running, not yet connected, or stuck."""
        if self.connection is None or self._is_stuck:
            return None
        status, shown = self.status, self._shown
        if status is None or shown is None or shown.revision <= status.revision:
            return status
        if isinstance(status, RaftStatus):
            return msgspec.structs.replace(status, revision=shown.revision, applied_index=shown.applied_index)
        return msgspec.structs.replace(status, revision=shown.revision)

    @property
    def silence(self) -> str:
        """Why there is no pulse, for a person."""
        return (_STUCK if self.connection is not None else self.absent).detail

    def standing(self) -> ModeStatus:
        """The pulse; raises ``DefiniteError`` while there is none."""
        pulse = self.pulse
        if pulse is None:
            raise DefiniteError(Code.NO_LEADER, self.silence, retry_after_s=1.0)
        return pulse

    def refusal(self) -> Refused | None:
        """Why it can be asked nothing now: what it was not asked it cannot do, so that is definite, and at once."""
        if self.connection is None:
            return self.absent
        if self._is_stuck:
            return _STUCK
        return OVERLOADED if self.connection.unsent_bytes >= MAX_UNSENT_BYTES else None

    @property
    def _is_stuck(self) -> bool:
        return self.status is not None and time.monotonic() - self._heard_at_s > SILENCE_S

    def _wish(self, to_hear: bool) -> None:  # noqa: FBT001  see ``Subscribers``
        if self.connection is not None:
            self.connection.write(wire.wish_frame(to_hear=to_hear))
        if not to_hear:
            self.subscribers.latest = None  # which nobody keeps up to date from now on

    def connected(self, connection: WireConnection[wire.ToFrontend]) -> None:
        """It is there, and of this build; its pulse follows at once."""
        self.connection = connection
        self.absent = NOT_RUNNING
        self._is_fresh = True
        self._shown = None
        if self.subscribers:
            self._wish(True)  # noqa: FBT003

    def mismatched(self, other: wire.Build | None) -> None:
        """It is of another build."""
        own = wire.build().version
        if other is not None and other.version == own:
            found = f"the front-end and the replica are different builds of version {own}"
        else:
            found = f"the front-end is version {own}, the replica {'older' if other is None else other.version}"
        self.absent = Refused(code=Code.NO_LEADER, detail=f"{found}: restart the node", retry_after_s=1.0)

    def heard(self, status: ModeStatus) -> bool:
        """It said how it stands; true if its state must be opened anew.

        A replica that started anew may have rebuilt its state at the same path, so what is open may be a ghost.
        """
        moved = self._is_fresh or self.status is None or self.status.state_path != status.state_path
        self.status, self._heard_at_s, self._is_fresh = status, time.monotonic(), False
        return moved

    def announced(self, shown: Shown) -> None:
        """It shows this now."""
        self._shown = shown
        self.subscribers.tell(shown)
