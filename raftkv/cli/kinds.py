"""The kinds of values that people type after options: durations, and how many replicas.

What is mistyped is a usage error that says what would have been right. Imports click only.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

import click

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d)?")
_CLOCK: Final = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WORDS: Final = ("leader", "majority", "all")


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time in seconds: ``10``, ``10s``, ``1.5s``, ``200ms``, ``5m``, ``2h``, ``7d``."""

    name = "duration"
    examples = "10, 10s, 5m or 2h"

    def __init__(self, *, least_s: float = 0.001, most_s: float = 10 * 365 * 86_400.0) -> None:
        self._least_s = least_s
        self._most_s = most_s

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        if isinstance(value, int | float):
            return float(value)
        found = _DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no time: {self.examples} are.", param, ctx)
        seconds = float(found[1]) * _SECONDS[found[2] or "s"]
        if not self._least_s <= seconds <= self._most_s:
            self.fail(f"{value!r} is not between {self._least_s:g} and {self._most_s:.0f} seconds.", param, ctx)
        return seconds


class OpenDuration(Duration):
    """A time, or ``never`` for what shall not end."""

    name = "open duration"
    examples = "10, 10s, 5m, 2h or never"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        return math.inf if value == "never" else super().convert(value, param, ctx)


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time: so long ago (``1h``), or as a clock here shows it (``15:00``: the last; ``2026-07-01T15:00``)."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """See click."""
        if isinstance(value, datetime):
            return value
        text, now = str(value).strip(), datetime.now(UTC)
        if _DURATION.fullmatch(text):
            return now - timedelta(seconds=Duration(least_s=0.0).convert(text, param, ctx))
        try:
            if not _CLOCK.fullmatch(text):
                return datetime.fromisoformat(text).astimezone(UTC)
            at = datetime.combine(now.astimezone(), time.fromisoformat(text)).astimezone(UTC)
            return at if at <= now else at - timedelta(days=1)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is no time: 1h (ago), 15:00 or 2026-07-01T15:00 are.", param, ctx)


class Replicas(click.ParamType):  # type: ignore[type-arg]
    """``leader``, ``majority``, ``all`` or a number."""

    name = "replicas"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """See click."""
        text = str(value)
        if text in _WORDS:
            return text
        if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text) > 0):
            self.fail(f"{text!r} is none of {', '.join(_WORDS)} or a number above 0.", param, ctx)
        return int(text)


DURATION: Final = Duration()
MOMENT: Final = Moment()
TIMEOUT: Final = Duration(most_s=86_400.0)
OPEN_DURATION: Final = OpenDuration()
WAIT: Final = Duration(least_s=0.0, most_s=3600.0)
REPLICAS: Final = Replicas()
