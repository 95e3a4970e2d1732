"""What msgspec says of a value that it refuses, in the words of the configuration. Pure."""

from __future__ import annotations

import re


def readable(message: str) -> str:
    """Turn msgspec's ``reason - at `$.section.key` `` into ``section.key: reason``."""
    unknown = re.fullmatch(r"Object contains unknown field `(.+?)`(?: - at `\$\.?(.*?)`)?", message)
    if unknown is not None:
        path = ".".join(part for part in (unknown[2], unknown[1]) if part)
        return f"{path}: unknown key"
    missing = re.fullmatch(r"Object missing required field `(.+?)`(?: - at `\$\.?(.*?)`)?", message)
    if missing is not None:
        path = ".".join(part for part in (missing[2], missing[1]) if part)
        return f"{path}: missing"
    located = re.fullmatch(r"(.*) - at `\$\.?(.*?)`", message)
    if located is not None:
        return f"{located[2]}: {located[1]}"
    return message
