"""What whoever asks has to show, as each handler declares it; one list, which tests walk and OpenAPI tells.

Keys are another matter: whether a user may read or write them is judged where that is done. Imports nothing but the
standard library.
"""

from __future__ import annotations

import enum


class Needs(enum.Enum):
    """While authentication is on; without it there are no users, and only the last two mean anything."""

    NOTHING = enum.auto()
    """Whoever reaches the node may ask."""

    USER = enum.auto()
    ROOT = enum.auto()
    """A user with the role root, or who proves to hold the cluster's secret."""

    OPERATOR = enum.auto()
    """The same; without authentication, too, it is for who proves to hold the cluster's secret (``door.admission``)."""

    OWNER = enum.auto()
    """The same, or a user whose own affair it is, which the handler judges."""
