"""What may be a password, and where the first one is found.

Whoever guesses has to ask a node, which takes its time for each guess: so a password
need not be what a secret is that can be tried at leisure, but neither what everybody tries first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from raftkv.core.config import AuthSection
from raftkv.core.errors import StartupError

CHARACTERS_MIN: Final = 8
"""As NIST SP 800-63B, section 5.1.1.1, has it; neither does that ask for characters of several kinds."""

BYTES_MAX: Final = 512
VARIABLE: Final = "RAFTKV_ROOT_PASSWORD"
"""What the environment may say instead of ``auth.root_password_file``."""


def weakness(password: str) -> str | None:
    """Why ``password`` is none, as the end of a sentence that begins with where it stands; ``None`` if it is one."""
    if len(password) < CHARACTERS_MIN:
        return f"has {len(password)} characters; a password has {CHARACTERS_MIN} at least"
    if len(password.encode("utf-8", "surrogatepass")) > BYTES_MAX:
        return f"has more than {BYTES_MAX} bytes"
    if len(set(password)) == 1:
        return "has only one character, again and again"
    if not password.isprintable():
        return "has characters that cannot be typed"
    return None


def root_password(chosen: AuthSection, directory: Path, environment: Mapping[str, str]) -> str:
    """The first root user's, from ``environment`` or the file that is named; empty if neither says it.

    ``directory`` is what the file's path is relative to. Raises ``StartupError``.
    """
    if not chosen.enabled:
        return ""
    if VARIABLE in environment:
        reason = weakness(environment[VARIABLE])
        if reason is not None:
            raise StartupError(f"{VARIABLE} {reason}")
        return environment[VARIABLE]
    if not chosen.root_password_file:
        return ""
    path = directory / chosen.root_password_file
    try:
        return password_in(path.read_bytes())
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise StartupError(f"{path} {error}") from None


def password_in(content: bytes) -> str:
    """The password in a file: its one line. Raises ``ValueError`` with the end of a sentence, as in ``weakness``."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    password = text.removesuffix("\n").removesuffix("\r")
    reason = "has more than one line" if "\n" in password else weakness(password)
    if reason is not None:
        raise ValueError(reason)
    return password
