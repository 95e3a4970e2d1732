"""The files of the console: what they weigh, how they are served, and that nothing in them comes from elsewhere."""

import gzip
import re

import pytest

from raftkv.console.serving import files, routes
from raftkv.core.config import parse_config
from raftkv.http.choices import Anything
from raftkv.http.messages import HttpRequest
from raftkv.serving import beside

CONFIG = """
[[node]]
id = "n1"
http = "127.0.0.1:8001"
peer = "127.0.0.1:9001"
"""


def ask(path, **headers):
    (route,) = [one for one in routes() if one.path == path]
    raw = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return route.handler.parse(HttpRequest(method="GET", path=path.encode(), headers=raw), Anything(), None)


def paths_beside(more=""):
    return {one.path for one in beside(parse_config(CONFIG + more)).routes}


def test_all_of_it_weighs_little():
    """As people read it, and as it travels."""
    assert sum(len(content) for content in files().values()) < 140_000
    assert sum(len(ask(route.path, accept_encoding="gzip, br").body) for route in routes()) < 60_000


def test_it_is_packed_for_those_who_can_unpack_it():
    packed, plain = ask("/ui/app.js", accept_encoding="gzip, deflate, br"), ask("/ui/app.js", accept_encoding="br")

    assert dict(packed.headers)[b"content-encoding"] == b"gzip"
    assert b"content-encoding" not in dict(plain.headers)
    assert gzip.decompress(packed.body) == plain.body == files()["app.js"]
    assert dict(packed.headers)[b"vary"] == dict(plain.headers)[b"vary"] == b"Accept-Encoding"


def test_a_page_may_load_and_ask_its_own_node_only_and_parses_no_text_as_markup():
    answer = ask("/ui")

    headers = dict(answer.headers)
    assert answer.status == 200
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert headers[b"content-security-policy"].startswith(b"default-src 'self';")
    assert b"require-trusted-types-for 'script'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_what_a_browser_has_is_not_sent_again():
    tag = dict(ask("/ui/app.js").headers)[b"etag"].decode()

    again = ask("/ui/app.js", if_none_match=tag)
    assert (again.status, again.body) == (304, b"")
    assert ask("/ui/app.js", if_none_match='"other"').status == 200


def test_the_policy_has_nothing_to_forbid():
    text = b"\n".join(files().values()).decode()

    assert re.findall(r"\bstyle=|<script(?! type=\"module\" src=)|\bon\w+=\"", text) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
    assert set(re.findall(r"https?://[^\"'`\s]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_whatever_a_file_names_is_there():
    named = {
        found for content in files().values() for found in re.findall(r'(?:/ui/|from "\./)([\w.]+)', content.decode())
    }

    assert named <= set(files())


@pytest.mark.parametrize("etcd", ["true", "false"])
def test_the_console_can_be_switched_off(etcd):
    section = f"[etcd]\nenabled = {etcd}\n"

    assert "/ui" in paths_beside(section)
    assert not any(path.startswith("/ui") for path in paths_beside("[http]\nconsole = false\n" + section))
