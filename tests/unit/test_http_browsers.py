"""What a web page cannot have a browser do, and that everybody else is heard as before."""

from __future__ import annotations

import pytest

from raftkv.core.config import parse_config
from raftkv.http.door.browsers import BrowserGuard, names_of
from raftkv.http.messages import HttpResponse

GUARD = BrowserGuard(["n1.example.org"])
HERE = {b"host": b"localhost:8001"}


def refusal(method: str, path: bytes, headers: dict[bytes, bytes]) -> HttpResponse | None:
    first, again = (GUARD.refusal(method, path, headers) for _ in range(2))
    assert first == again  # what is remembered of a host changes nothing
    assert first is None or not GUARD.is_plain(headers)  # what is told quickly is told rightly

    return first


@pytest.mark.parametrize(
    "host",
    [b"127.0.0.1:8001", b"[::1]:8001", b"10.1.2.3", b"localhost", b"LOCALHOST.:1", b"a.localhost", b"N1.example.org"],
)
def test_addresses_loopback_names_and_names_of_the_configuration_are_answered(host: bytes) -> None:
    assert refusal("PUT", b"/kv/a", {b"host": host}) is None


@pytest.mark.parametrize("host", [b"evil.example", b"n1.example.org.evil.example", b"localhost.evil.example", b"n2"])
def test_a_name_that_points_here_by_another_s_will_is_refused_and_the_setting_is_named(host: bytes) -> None:
    found = refusal("GET", b"/kv/a", {b"host": host})

    assert found is not None
    assert found.status == 421
    assert b"http.hosts" in found.body
    assert b'"applied":"no"' in found.body


@pytest.mark.parametrize(
    "host", [None, b"", b"x/y@z", b"a b", b"localhost:80:80", b"localhost:x", b"[::1", b"a@localhost"]
)
def test_a_host_that_is_none_is_a_bad_request(host: bytes | None) -> None:
    found = refusal("GET", b"/livez", {} if host is None else {b"host": host})

    assert found is not None
    assert found.status == 400
    assert GUARD.refusal("GET", b"/livez", {}, host_needed=False) is None


CROSS_SITE = {
    "another site": {b"origin": b"https://evil.example", b"sec-fetch-site": b"cross-site"},
    "another port of this host": {b"origin": b"http://localhost:3000", b"sec-fetch-site": b"same-site"},
    "a sandboxed page": {b"origin": b"null"},
    "an older browser": {b"origin": b"http://evil.example"},
    "a browser older still": {b"referer": b"http://evil.example/localhost:8001"},
    "an image": {b"sec-fetch-site": b"cross-site"},
    "a word that nobody knows": {b"sec-fetch-site": b"sideways"},
    "two headers that disagree": {b"origin": b"http://evil.example", b"sec-fetch-site": b"same-origin"},
}


@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", b"/set/k/v"),
        ("POST", b"/cluster/members"),
        ("DELETE", b"/kv/k"),
        ("POST", b"/config"),
        ("POST", b"/livez"),
    ],
)
def test_what_another_site_s_page_sends_changes_nothing(method: str, path: bytes, headers: dict[bytes, bytes]) -> None:
    found = refusal(method, path, HERE | headers)

    assert found is not None
    assert found.status == 403
    assert b'"code":"cross_site"' in found.body
    assert b'"applied":"no"' in found.body


def test_another_site_reads_public_pages_only() -> None:
    page = HERE | CROSS_SITE["another site"]

    assert refusal("GET", b"/kv/a", page) is not None
    assert refusal("GET", b"/status", page) is not None
    assert refusal("GET", b"/docs", page) is None
    assert refusal("GET", b"/readyz", page) is None


def test_its_own_pages_and_the_address_bar_are_heard() -> None:
    own = {
        b"origin": b"http://localhost:8001",
        b"referer": b"http://localhost:8001/ui",
        b"sec-fetch-site": b"same-origin",
    }

    assert refusal("POST", b"/set/k/v", HERE | own) is None
    assert refusal("GET", b"/kv/k", HERE | {b"sec-fetch-site": b"same-origin"}) is None
    assert refusal("GET", b"/kv/k", HERE | {b"sec-fetch-site": b"none"}) is None
    assert refusal("GET", b"/kv/k", HERE | {b"referer": b"http://evil.example/"}) is None  # a link, to a browser of old


def test_hosts_of_strangers_are_not_kept_for_ever() -> None:
    guard = BrowserGuard([])
    for number in range(10_000):
        assert guard.refusal("GET", b"/", {b"host": b"%d.localhost:%d" % (number, number)}) is None

    assert len(guard._known) < 1000


def test_the_configuration_s_names_are_its_nodes_and_those_it_lists() -> None:
    config = parse_config(
        '[[node]]\nid = "n1"\nhttp = "db1:80"\npeer = "127.0.0.1:90"\nhttp_bind = "inside:80"\n'
        '[auth]\nopen_to_anyone = true\n[http]\nhosts = ["front"]\n'
    )

    assert names_of(config) == {"db1", "inside", "front"}


def test_a_request_is_plain_once_its_host_is_known_and_unless_a_browser_sent_it() -> None:
    guard = BrowserGuard([])
    assert not guard.is_plain(HERE)
    assert guard.refusal("GET", b"/kv/a", HERE) is None

    assert guard.is_plain(HERE)
    assert not any(guard.is_plain({**HERE, **headers}) for headers in CROSS_SITE.values())
