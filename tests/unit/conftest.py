"""Fixtures that several modules of unit tests share."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from raftkv import Client
from tests.unit.awaited import Awaited
from tests.unit.driven_feed import Driven, Scripted, Solo
from tests.unit.fake_server import FakeServer
from tests.unit.front_end import FrontEnd
from tests.unit.guarded_node import GuardedNode
from tests.unit.http_node import Node
from tests.unit.peers_stage import Stage


@pytest.fixture
def serve():
    servers = []

    def start(*answers):
        servers.append(FakeServer(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def node() -> Node:
    """An application in process, of a leader."""
    return Node()


@pytest.fixture(scope="module")
def walked() -> GuardedNode:
    """One for all who are turned away."""
    return GuardedNode()


@pytest.fixture(params=["general", "plain"])
def both_ways(request, monkeypatch):
    """The applications of nodes are asked by each of the two ways that they have."""
    monkeypatch.setattr(Node, "asks_plainly", request.param == "plain")


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "asyncio"])
def client(request):
    """Makes clients of ``servers``, fake ones or addresses: both kinds, which differ in nothing but who waits."""
    made = []

    def make(*servers, **options):
        addresses = [getattr(server, "url", server) for server in servers]
        made.append(request.param(addresses or None, **{"timeout_s": 2.0, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()
        if isinstance(one, Awaited):
            one.stop()


@pytest.fixture
def solo() -> Solo:
    return Solo()


@pytest.fixture
def driven(solo: Solo) -> Driven:
    return Driven(solo)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def played(scripted: Scripted) -> Driven:
    return Driven(scripted)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request):
    """Runs a scenario on a stage of its own, on either kind of loop; no exception may have reached the loop."""

    def run(scenario, *, complaints_expected=0):
        async def whole():
            stage = Stage()
            asyncio.get_running_loop().set_exception_handler(lambda _, context: stage.complaints.append(context))
            try:
                async with asyncio.timeout(60):
                    await scenario(stage)
            finally:
                await stage.close()
            assert len(stage.complaints) == complaints_expected, stage.complaints

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole())

    return run


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., FrontEnd]]:
    """Starts front-end processes, which end with the test."""
    made: list[FrontEnd] = []

    def start(**more: Any) -> FrontEnd:
        made.append(FrontEnd(tmp_path, **more))
        return made[-1].wait_until_ready()

    yield start
    for one in made:
        one.stop()
