"""What a command prints on standard output: bytes as they are, and how text that others chose is made harmless.

A reader that has gone away is a ``ReaderGoneError``, and nobody's mistake. Anything else that keeps output from being
written is an ``OutputError``, except after something was done: then it stays done, and only the word of it is missing.
"""

from __future__ import annotations

import os
import sys

from raftkv.process import descriptors


class OutputError(Exception):
    """Standard output takes nothing."""


class ReaderGoneError(Exception):
    """Whoever read our output has had enough. No ``BrokenPipeError``, for which click ends the process by itself."""


def write(content: bytes) -> None:
    """Print ``content``; raises ``OutputError`` or ``ReaderGoneError``."""
    if descriptors.was_closed(1):
        raise OutputError("standard output is closed")
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        forget()
        raise ReaderGoneError from None
    except OSError as error:
        forget()
        raise OutputError(f"standard output: {error.strerror}") from None


def confirm(content: bytes) -> None:
    """Print that something was done, which is true whether or not it can be printed."""
    try:
        write(content)
    except ReaderGoneError:
        pass
    except OutputError as error:
        sys.stderr.write(f"raftkv: done, but {error}\n")


def forget() -> None:
    """Let what is left in the buffer go nowhere, or Python would complain of it once more at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def printable(text: str) -> str:
    """``text`` without characters that steer a terminal, break lines or turn the direction of writing."""
    return text if text.isprintable() else "".join(one if one.isprintable() else _escape(one) for one in text)


def escaped(content: bytes) -> bytes:
    """Key or value as one line shows it, and no other one: what is not printable, and the backslash, are escaped."""
    text = content.decode(errors="surrogateescape").replace("\\", "\\\\")
    if text.isprintable():
        return text.encode()
    return "".join(one if one.isprintable() else _escape(one) for one in text).encode()


_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00  # a byte that is no UTF-8
    wide = f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 1 << 8 else wide)
