"""Exit statuses, and how every failure becomes one line and one of them. Nothing here prints a traceback.

====== =========================================================
0      done
1      not found, or what the request requires of the store does not hold
2      usage or configuration
3      unavailable: definitely not applied
4      the outcome is unknown
====== =========================================================
"""

from __future__ import annotations

import sys
from typing import Final

from raftkv.api.headers import CONTEXT, IF_MATCH, IF_NONE_MATCH
from raftkv.cli.output import OutputError, printable
from raftkv.core.errors import Code, Effect, RaftkvError, StartupError, UsageError

DONE: Final = 0
NOT_FOUND: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
UNKNOWN: Final = 4
INTERRUPTED: Final = 130

_STATUS_OF_CODE: Final = {
    Code.NOT_FOUND: NOT_FOUND,
    Code.PRECONDITION_FAILED: NOT_FOUND,
    Code.LEASE_NOT_FOUND: NOT_FOUND,
    Code.LEASE_EXISTS: NOT_FOUND,
    Code.NOT_AN_INTEGER: NOT_FOUND,
    Code.OUT_OF_BOUNDS: NOT_FOUND,
    Code.HELD: NOT_FOUND,
    Code.COMPACTED: NOT_FOUND,
    Code.UNKNOWN_ROUTE: USAGE,
    Code.BAD_REQUEST: USAGE,
    Code.NOT_SUPPORTED: USAGE,
    Code.UNAUTHENTICATED: USAGE,
    Code.FORBIDDEN: USAGE,
    Code.METHOD_NOT_ALLOWED: USAGE,
    Code.UNSUPPORTED_MEDIA_TYPE: USAGE,
    Code.CROSS_SITE: USAGE,
    Code.MISDIRECTED: USAGE,
    Code.EXPECTATION_FAILED: USAGE,
    Code.HEADERS_TOO_LARGE: USAGE,
    Code.NOT_IMPLEMENTED: USAGE,
    Code.VALUE_TOO_LARGE: USAGE,
    Code.KEY_TOO_LARGE: USAGE,
    Code.TOO_MANY_CHANGES: USAGE,
    Code.OVERLOADED: UNAVAILABLE,
    Code.NO_LEADER: UNAVAILABLE,
    Code.QUORUM_UNREACHABLE: UNAVAILABLE,
    Code.DISK_FULL: UNAVAILABLE,
}
"""A definite failure's status by its code; one with a code that this table does not know is ``UNAVAILABLE``."""

_PARAMETERS: Final = {
    **{name: f"--{name}" for name in ("r", "n", "w", "consistency", "ttl", "limit", "timeout", "http", "peer", "zone")},
    "acks": "--w",
    "timeout_s": "--timeout",
    "sloppy": "--sloppy/--strict",
}
"""What the HTTP API and the client call what an option has given, at the head of a sentence; and anywhere in it:"""

_WORDS: Final = {
    "?r=": "--r",
    CONTEXT.name: "--context",
    IF_MATCH.name: "--if-revision",
    IF_NONE_MATCH.name: "--if-absent",
}


def in_options(sentence: str) -> str:
    """``sentence``, which begins with what is wrong, in the words of somebody who typed options."""
    head, colon, rest = sentence.partition(": ")
    named = [_PARAMETERS.get(name, "") for name in head.split(", ")]
    told = f"{', '.join(named)}: {rest}" if colon and all(named) else sentence
    for word, option in _WORDS.items():
        told = told.replace(word, option)
    return told


def complain(text: str) -> None:
    """One line on standard error, in the name of the command."""
    sys.stderr.write(f"raftkv: {one_line(text)}\n")


def one_line(text: str) -> str:
    """``text`` in one line, in which nothing can steer a terminal."""
    return printable(" ".join(text.split()))


def exit_status(error: Exception) -> int:
    """Tell ``error`` in one line and return the exit status it stands for."""
    if isinstance(error, StartupError):
        sys.stderr.write(f"{one_line(str(error))}\n")  # it begins with the file or the node it is about
        return USAGE
    if isinstance(error, RaftkvError):
        if error.applied == Effect.UNKNOWN:
            complain(f"outcome unknown: {error.detail}")
            return UNKNOWN
        complain(in_options(error.detail))
        return next((status for code, status in _STATUS_OF_CODE.items() if code == error.code), UNAVAILABLE)
    if isinstance(error, OutputError):
        complain(str(error))
        return UNAVAILABLE
    if isinstance(error, UsageError):
        complain(in_options(str(error)))
        return USAGE
    # A defect of ours, or of the machine: nobody knows how far a write had come.
    complain(f"{type(error).__name__}: {error}")
    return UNKNOWN
