"""A remedy that can be taken away: what planted bugs are made of. Imports msgspec and the standard library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Replace = Callable[[Any, str, Any], None]
"""Puts something in the place of an attribute until the remedy is given back."""


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """``hazards`` it stands against, as in the documents; ``take_away`` undoes it."""

    hazards: str
    what: str
    take_away: Callable[[Replace], None]


def remedy(hazards: str, what: str, take_away: Callable[[Replace], None]) -> Remedy:
    """The remedy that says ``what`` holds."""
    return Remedy(hazards=hazards, what=what, take_away=take_away)
