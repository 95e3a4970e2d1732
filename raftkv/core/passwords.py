"""What may be a password, and how one stands in a file. Pure.

Whoever guesses has to ask a node, which takes its time for each guess: so a password
need not be what a secret is that can be tried at leisure, but neither what everybody tries first.
"""

from __future__ import annotations

from typing import Final

CHARACTERS_MIN: Final = 8
"""As NIST SP 800-63B, section 5.1.1.1, has it; neither does that ask for characters of several kinds."""

BYTES_MAX: Final = 512


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
