"""The five programs of a new user: by ``raftkv.Client``, and by etcd's JSON gateway with the standard library alone.

What is written for etcd is the least that holds a lease longer than its life, loses no count and goes on after a broken
stream; it goes to one node only, and tells nobody that his lease was lost. How long a program is comes from the source
itself, a statement a line, with what it needs of the others in its class. Both classes answer to the same names.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread
from types import CodeType
from typing import Any, Final

from raftkv import Client

TTL_S: Final = 10
PARTS: Final = {
    "lock": ("lock",),
    "election": ("elect",),
    "reload": ("follow",),
    "counter": ("count",),
    "registry": ("serve", "find"),
}
"""The methods that a program consists of."""

Work = Callable[[], object]


class RaftkvPrograms:
    """By one client, which asks the given node first."""

    def __init__(self, host: str, port: int) -> None:
        self._store = Client(f"http://{host}:{port}")

    def lock(self, name: str, work: Work) -> None:
        """Do ``work`` while nobody else does any under this name."""
        with self._store.lock(name):
            work()

    def elect(self, name: str, value: str, work: Work) -> None:
        """Do ``work`` as the leader, once elected."""
        with self._store.election(name).campaign(value):
            work()

    def follow(self, prefix: str) -> Iterator[Mapping[str, bytes]]:
        """All that is under ``prefix``, and again whenever it has changed."""
        yield from self._store.mirror(prefix)

    def count(self, name: str) -> int:
        """One more, and how many there are then."""
        return self._store.increment(name)

    def serve(self, name: str, address: str, work: Work) -> None:
        """Be found under ``name`` while doing ``work``."""
        with self._store.lease(TTL_S) as lease:
            self._store.set(f"services/{name}/{lease.id}", address, lease=lease)
            work()

    def find(self, name: str) -> list[bytes | None]:
        """Who serves under ``name``."""
        return [found.value for found in self._store.list(f"services/{name}/")]

    def put(self, key: str, value: str) -> None:
        """What others are to hear of."""
        self._store.set(key, value)

    def close(self) -> None:
        """Close the connections."""
        self._store.close()


class EtcdPrograms:
    """By one connection to the gateway of the given node, save what has to wait meanwhile."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._connection = HTTPConnection(host, port)

    def lock(self, name: str, work: Work) -> None:
        """See ``RaftkvPrograms``."""
        with self._lease() as lease:
            self._ask("/v3/lock/lock", name=self._bytes(name), lease=lease)
            work()

    def elect(self, name: str, value: str, work: Work) -> None:
        """See ``RaftkvPrograms``."""
        with self._lease() as lease:
            self._ask("/v3/election/campaign", name=self._bytes(name), value=self._bytes(value), lease=lease)
            work()

    def follow(self, prefix: str) -> Iterator[Mapping[str, bytes]]:
        """See ``RaftkvPrograms``."""
        span = self._span(prefix)
        found = self._ask("/v3/kv/range", **span)
        values = {b64decode(one["key"]).decode(): b64decode(one["value"]) for one in found.get("kvs", [])}
        yield dict(values)
        after = int(found["header"]["revision"])
        while True:
            stream = HTTPConnection(self._host, self._port)
            try:
                wanted = {"create_request": {**span, "start_revision": after + 1}}
                stream.request("POST", "/v3/watch", json.dumps(wanted))
                answer = stream.getresponse()
                while line := answer.readline():
                    result = json.loads(line)["result"]
                    if result.get("canceled"):
                        raise ValueError(result)
                    for event in result.get("events", []):
                        key, after = b64decode(event["kv"]["key"]).decode(), int(event["kv"]["mod_revision"])
                        if event.get("type") == "DELETE":
                            values.pop(key, None)
                        else:
                            values[key] = b64decode(event["kv"].get("value", ""))
                    if "events" in result:
                        yield dict(values)
            except (OSError, HTTPException):
                time.sleep(0.1)
            finally:
                stream.close()

    def count(self, name: str) -> int:
        """See ``RaftkvPrograms``."""
        key = self._bytes(name)
        while True:
            found = self._ask("/v3/kv/range", key=key).get("kvs")
            number = int(b64decode(found[0]["value"])) + 1 if found else 1
            seen = {"key": key, "target": "MOD", "mod_revision": found[0]["mod_revision"] if found else "0"}
            put = {"request_put": {"key": key, "value": self._bytes(str(number))}}
            if self._ask("/v3/kv/txn", compare=[seen], success=[put]).get("succeeded"):
                return number

    def serve(self, name: str, address: str, work: Work) -> None:
        """See ``RaftkvPrograms``."""
        with self._lease() as lease:
            key = self._bytes(f"services/{name}/{lease}")
            self._ask("/v3/kv/put", key=key, value=self._bytes(address), lease=lease)
            work()

    def find(self, name: str) -> list[bytes | None]:
        """See ``RaftkvPrograms``."""
        found = self._ask("/v3/kv/range", **self._span(f"services/{name}/"))
        return [b64decode(one["value"]) for one in found.get("kvs", [])]

    def put(self, key: str, value: str) -> None:
        """See ``RaftkvPrograms``."""
        self._ask("/v3/kv/put", key=self._bytes(key), value=self._bytes(value))

    def close(self) -> None:
        """See ``RaftkvPrograms``."""
        self._connection.close()

    @contextmanager
    def _lease(self) -> Iterator[str]:
        """It ends with the block, and what was locked or put with it; nothing else has to be undone."""
        lease: str = self._ask("/v3/lease/grant", TTL=TTL_S)["ID"]
        is_over = Event()
        Thread(target=self._keep_alive, args=(lease, is_over), daemon=True).start()
        try:
            yield lease
        finally:
            is_over.set()
            self._ask("/v3/lease/revoke", ID=lease)

    def _keep_alive(self, lease: str, is_over: Event) -> None:
        own = EtcdPrograms(self._host, self._port)
        while not is_over.wait(TTL_S / 3):
            own._ask("/v3/lease/keepalive", ID=lease)

    def _ask(self, path: str, **body: object) -> Any:
        self._connection.request("POST", path, json.dumps(body))
        answer = self._connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200:
            raise OSError(content)
        return content

    def _span(self, prefix: str) -> dict[str, str]:
        return {"key": self._bytes(prefix), "range_end": self._bytes(prefix[:-1] + chr(ord(prefix[-1]) + 1))}

    @staticmethod
    def _bytes(text: str) -> str:
        return b64encode(text.encode()).decode()


Programs = RaftkvPrograms | EtcdPrograms


def line_count(kind: type, parts: tuple[str, ...]) -> int:
    """Lines of the methods ``parts`` of ``kind``, without the line that names each, and of what they need there."""
    counted: dict[str, int] = {}
    pending = list(parts)
    while pending:
        name = pending.pop()
        if name in counted:
            continue
        method = inspect.unwrap(getattr(kind, name))
        counted[name] = _statements(method) - (name in parts)
        pending += [one for one in _named(method.__code__) if inspect.isroutine(vars(kind).get(one))]
    return sum(counted.values())


def _statements(function: Callable[..., object]) -> int:
    """Lines of its source, a statement each: neither docstrings nor comments nor how lines are broken count."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (defined,) = tree.body
    assert isinstance(defined, ast.FunctionDef)
    if ast.get_docstring(defined) is not None:
        del defined.body[0]
    return len(ast.unparse(tree).splitlines())


def _named(code: CodeType) -> set[str]:
    """What it names besides its own variables, within comprehensions too."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return set(code.co_names).union(*map(_named, inner))
