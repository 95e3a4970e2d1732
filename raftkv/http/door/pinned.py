"""Which gunicorn this is written for: the version, and those of its private names that our front-end touches.

gunicorn has no interface for what our worker (``door.general``, ``door.worker``) and arbiter (``door.server``) need, so
they replace and look at what is private, which any release may change without a word. Therefore the version is pinned
exactly and checked at start, as PySyncObj's is; whoever moves the pin looks at these names first. A test holds the list
together with what they use.
"""

from __future__ import annotations

from typing import Final

import gunicorn

from raftkv.core.errors import StartupError

PINNED_VERSION: Final = "27.0.1"

PRIVATE_NAMES: Final = (
    "_CACHED_SERVER_HEADER",
    "_REASON_PHRASES",
    "_arm_keepalive_timer",
    "_body_receiver",
    "_buffer",
    "_build_http_scope",
    "_callback_parser",
    "_close_transport",
    "_closed",
    "_complete",
    "_current_request",
    "_feed_callback_parser",
    "_flow_control",
    "_get_cached_date_header",
    "_is_listening",
    "_is_ssl",
    "_is_websocket_upgrade",
    "_keepalive",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_on_headers_complete",
    "_pause_reading",
    "_response_buffer",
    "_resume_reading",
    "_safe_write",
    "_send_error_response",
    "_task",
)


def check_version() -> None:
    """Refuse to run on a gunicorn whose private names were not verified. Raises ``StartupError``."""
    if gunicorn.__version__ != PINNED_VERSION:
        found = f"found {gunicorn.__version__} at {gunicorn.__file__}"
        raise StartupError(f"raftkv needs gunicorn {PINNED_VERSION}, {found}")
