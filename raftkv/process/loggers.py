"""Where every module gets its logger: structlog's, without what that draws for a person at a terminal.

structlog imports rich wherever that is installed, as it is for ``raftkv up``, to draw tracebacks that no node ever
draws, and it takes as long as all the rest of structlog twice over. So it is imported here, first and once, as if there
were no rich. Whoever needs rich imports it as ever. Imports structlog and the standard library only.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["get_logger", "structlog"]


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """To whoever imports ``name`` meanwhile it is not installed (``None`` in ``sys.modules`` means that)."""
    is_there = name in sys.modules
    if not is_there:
        sys.modules[name] = None  # type: ignore[assignment]  # as the language reference has it, section 5.3.1
    try:
        yield
    finally:
        if not is_there:
            del sys.modules[name]


with _without("rich"):
    import structlog
    from structlog import get_logger
