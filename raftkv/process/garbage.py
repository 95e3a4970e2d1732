"""How rarely a long-lived process of a node looks for cycles of objects that nobody holds any more."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLD: Final = 20_000
"""Objects between two searches for cycles, of which there are few here: rare enough not to be felt by requests."""


def collect_rarely() -> None:
    """Look through nothing again that is there already, such as what was imported, and seldom through the rest."""
    gc.freeze()
    gc.set_threshold(THRESHOLD)
