"""What a store of etcd's is asked when it is read, and what its answers lead to."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest

from raftkv.cli.etcd_source import PAGE_BYTES, EtcdSource, SourceError
from raftkv.client.reach import Host


class Gateway:
    """Answers as etcd does from ``keys``, and keeps what it was asked."""

    def __init__(self, keys: dict[bytes, bytes], *, most_keys: int = 1000) -> None:
        self.keys = keys
        self.most_keys = most_keys
        self.asked: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.problems: list[tuple[int, dict[str, Any]]] = []

    def exchange(self, host: Host, method: str, target: str, *, headers: Any, body: bytes, timeout_s: float) -> Any:
        asked = json.loads(body)
        if target == "/v3/auth/authenticate":
            self.tokens.append(f"token {len(self.tokens)}")
            return _answer(200, {"token": self.tokens[-1]})
        self.asked.append({**asked, "token": dict(headers).get("Authorization", "")})
        if self.problems:
            return _answer(*self.problems.pop(0))
        if int(asked["limit"]) > self.most_keys:
            return _answer(429, {"code": 8, "message": "too large"})
        start, end = (base64.b64decode(asked[name]) for name in ("key", "range_end"))
        found = sorted(key for key in self.keys if key >= start and (end == b"\0" or key < end))
        page = found[: int(asked["limit"])]
        kvs = [{"key": _text(key), "value": _text(self.keys[key]), "lease": "7587862094"} for key in page]
        more = {"more": True} if len(page) < len(found) else {}
        return _answer(200, {"header": {"revision": "9"}, "kvs": kvs, "count": str(len(found)), **more})


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _answer(status: int, body: dict[str, Any]) -> Any:
    return SimpleNamespace(status=status, body=json.dumps(body).encode())


def source(gateway: Gateway, user: tuple[str, str] | None = None) -> EtcdSource:
    channels: Any = gateway
    return EtcdSource(Host("h", 1, is_tls=False), channels, user=user, timeout_s=1.0)


KEYS = {b"k%04d" % number: b"v" for number in range(1200)}


def test_all_pages_are_of_the_revision_of_the_first():
    gateway = Gateway(KEYS)
    etcd = source(gateway)
    pages = list(etcd.pages(b""))

    assert [one.key for page in pages for one in page] == sorted(KEYS)
    assert (etcd.revision, etcd.count, pages[0][0].lease) == (9, 1200, 7587862094)
    assert [one.get("revision") for one in gateway.asked] == [None, "9", "9"]


def test_pages_are_of_fewer_keys_where_values_are_long_or_the_server_says_so():
    gateway = Gateway({b"k%04d" % number: b"x" * (PAGE_BYTES // 10) for number in range(60)}, most_keys=31)
    found = [len(page) for page in source(gateway).pages(b"k")]

    assert (found[0], sum(found)) == (31, 60)
    assert [int(one["limit"]) for one in gateway.asked[:4]] == [500, 125, 31, 10]
    with pytest.raises(SourceError, match="too large to be read"):
        list(source(Gateway(KEYS, most_keys=0)).pages(b""))


def test_a_token_that_has_ended_is_asked_for_anew():
    gateway = Gateway(KEYS)
    gateway.problems = [(401, {"code": 16, "message": "etcdserver: invalid auth token"})]

    assert len(list(source(gateway, ("root", "secret")).pages(b""))) == 3
    assert [one["token"] for one in gateway.asked] == ["token 0", "token 1", "token 1", "token 1"]


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ({"code": 11, "message": "etcdserver: mvcc: required revision has been compacted"}, "run it again"),
        ({"code": 3, "error": "etcdserver: user name is empty"}, "user name is empty"),
    ],
)
def test_what_it_says_against_it_is_told(problem: dict[str, Any], told: str):
    gateway = Gateway(KEYS)
    gateway.problems = [(400, problem)]
    with pytest.raises(SourceError, match=told):
        list(source(gateway).pages(b""))


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"", b"\0"), (b"a", b"b"), (b"a\xff", b"b"), (b"\xff", b"\0"), (b"a/", b"a0")]
)
def test_where_keys_with_a_prefix_end(prefix: bytes, end: bytes):
    gateway = Gateway(KEYS)

    list(source(gateway).pages(prefix))

    assert {base64.b64decode(asked["range_end"]) for asked in gateway.asked} == {end}
