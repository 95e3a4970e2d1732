"""``[delays]``: artificial waits."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class DelaysSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[delays]``: artificial waits, so that windows of inconsistency can be seen; all 0 for anything but a lesson.

    A leader or coordinator waits ``leader_after_message_s`` after each message that carries a write before it sends it
    to the next replica, one after the other; a replica waits ``follower_update_s`` before it takes an update and
    ``follower_read_s`` before it answers a read.
    """

    leader_after_message_s: Annotated[float, Meta(ge=0, le=60)] = 0.0
    follower_update_s: Annotated[float, Meta(ge=0, le=60)] = 0.0
    follower_read_s: Annotated[float, Meta(ge=0, le=60)] = 0.0
