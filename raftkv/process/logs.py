"""The log of a node: one line for each event, in one shape for all of its processes, whichever library speaks.

``configure`` is called once in each process: structlog for what is ours, and a handler of the standard library's root
logger for what is not. Lines go to standard error, which loses lines rather than hold anything up
(``raftkv.process.streams``). A line has, in this order, timestamp (UTC), level, node, process, event, and what else
there is to say. What ends a process is said as plain text besides (``streams.last_words``). Imports structlog, the
standard library, ``core`` and its neighbours.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from raftkv.core.config import LogSection
from raftkv.process import streams
from raftkv.process.loggers import structlog

ORDER: Final = ("timestamp", "level", "node", "process", "event")
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_OF_GUNICORN: Final = ("gunicorn.error", "gunicorn.access")


def configure(section: LogSection, *, process: str, node: str = "") -> None:
    """Let this process, which is ``process`` of ``node`` if there is one, log as ``section`` says."""
    rendered, origin = _renderer(section.format), {"process": process} | ({"node": node} if node else {})

    def missing(count: int) -> bytes:
        line = {"timestamp": datetime.now(UTC).isoformat(), "level": "warning", **origin}
        return rendered(line | {"event": "lines of the log were dropped here", "count": count}).encode() + b"\n"

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            lambda _logger, _method, line: rendered(line),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[section.level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**origin)
    streams.say_missing(missing)
    logging.config.dictConfig(foreign())


def foreign() -> dict[str, Any]:
    """How the standard library's loggers are configured, gunicorn's among them, which does that once more itself."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": "WARNING", "handlers": ["lines"]},
        "loggers": {name: {"level": "ERROR", "handlers": [], "propagate": True} for name in _OF_GUNICORN},
        "handlers": {"lines": {"()": ForeignLines}},
        "formatters": {},
    }


class ForeignLines(logging.Handler):
    """What is logged by way of the standard library, as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging``."""
        level = min((one for one in _LEVELS.values() if one >= record.levelno), default=logging.ERROR)
        more = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(level, record.getMessage(), logger=record.name, **more)


def _renderer(form: str) -> Callable[[structlog.typing.EventDict], str]:
    """Makes text of a line."""
    if form == "json":
        render: Callable[..., str | bytes] = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    else:
        render = structlog.processors.LogfmtRenderer()

    def in_order(line: structlog.typing.EventDict) -> str:
        return str(render(None, "", {name: line[name] for name in ORDER if name in line} | dict(line)))

    return in_order
