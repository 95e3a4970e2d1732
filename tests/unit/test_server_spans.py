"""``log.otlp``: refused in one line where it cannot work."""

from __future__ import annotations

import pytest

from raftkv.core.errors import StartupError
from raftkv.http.door import server


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "ftp://h:1", "http://", "http://h:4318/v1/traces", "http://h 1"])
def test_a_collector_that_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(StartupError, match=r"^log\.otlp: '.*' is no base URL"):
        server.check_otlp(url)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    server.check_otlp("")

    with pytest.raises(StartupError, match=r"pip install 'raftkv\[otel\]'"):
        server.check_otlp("http://127.0.0.1:4318")
