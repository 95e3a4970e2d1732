"""``[history]``: how much of the past is kept."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class HistorySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[history]``: how much of the past a cluster with a leader keeps, for watchers and reads of earlier revisions.

    At most ``events`` changes, none older than ``age_s``, and of no more bytes than ``size_bytes`` or than all keys
    with their values take up, whichever is more. The leader's numbers are in force, by the log.
    """

    events: Annotated[int, Meta(ge=1, le=1 << 32)] = 100_000
    age_s: Annotated[float, Meta(gt=0, le=3600)] = 3600.0
    size_bytes: Annotated[int, Meta(ge=0, le=1 << 48)] = 16 << 20
