"""What is only true of ``AsyncClient``: tasks and loops. All else is in the tests of both clients, by the fixture."""

import asyncio
import inspect

import pytest

from raftkv import AsyncClient, Client, DefiniteError, IndefiniteError
from raftkv.client.async_holding import AsyncLeases
from raftkv.client.holding import ClientLeases
from tests.unit.fake_server import HANG, Told, json
from tests.unit.key_server import KeyServer

MAPPING = {"__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__enter__", "__exit__"}


@pytest.fixture
def server():
    with KeyServer() as running:
        yield running


def offered(kind):
    """Names, and the arguments of each."""
    own = {name: found for name, found in vars(kind).items() if callable(found) and name[:2] != "_e"}
    return {
        name: str(inspect.signature(found).replace(return_annotation=inspect.Signature.empty))
        for name, found in own.items()
        if not name.startswith("_")
    }


def test_both_clients_offer_the_same_calls_with_the_same_arguments():
    assert offered(AsyncClient) == {**offered(Client), "has": "(self, key: 'Key')"}
    assert offered(AsyncLeases) == offered(ClientLeases)
    assert inspect.signature(AsyncClient) == inspect.signature(Client)


def test_a_client_tells_whom_it_asks():
    assert repr(AsyncClient("a:1, b:2")) == "<AsyncClient of http://a:1, http://b:2>"
    assert repr(Client("a:1")) == "<Client of http://a:1>"


def test_tasks_share_a_client_and_each_gets_its_own_answers(server):
    async def check(store, name):
        for number in range(25):
            key = f"{name}-{number}"
            await store.set(key, key.encode())
            assert await store.get(key) == key.encode()

    async def run():
        async with AsyncClient(server.url, timeout_s=20.0) as store, asyncio.TaskGroup() as group:
            for task in range(16):
                group.create_task(check(store, f"t{task}"))

    asyncio.run(run())

    assert server.connections <= 16
    assert all(value.decode() == key for key, value in server.stored.items())


def test_more_tasks_than_connections_wait_for_one(server, monkeypatch):
    monkeypatch.setattr("raftkv.client.async_exchange.CHANNELS_MAX", 2)

    async def run():
        async with AsyncClient(server.url, timeout_s=20.0) as store:
            await asyncio.gather(*[store.set(f"k{number}", b"v") for number in range(20)])

    asyncio.run(run())

    assert server.connections <= 2
    assert len(server.stored) == 20


def test_what_the_last_write_said_is_of_ones_own_task(server):
    async def run():
        async with AsyncClient(server.url, timeout_s=20.0) as store:
            await store.set("k", b"k")
            await asyncio.create_task(store.set("k", b"k", acks="leader"))
            return store.durability

    assert asyncio.run(run()) == "majority"


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_client_that_goes_on_on_another_loop_closes_what_it_had_on_the_first(server, is_closed):
    store, first = AsyncClient(server.url, timeout_s=20.0), asyncio.new_event_loop()
    first.run_until_complete(store.set("k", b"k"))
    if is_closed:
        first.close()

    async def run():
        found = await store.get("k")
        if not is_closed:
            await asyncio.to_thread(first.run_until_complete, asyncio.sleep(0))
        await asyncio.to_thread(server.wait_until_open, 1)
        return found

    assert asyncio.run(run()) == b"k"
    assert server.connections == 2
    first.close()


def test_a_client_goes_on_on_another_loop(server):
    store = AsyncClient(server.url)

    async def run(number):
        async with store:
            await store.set("k", f"{number}")
            return await store.get("k")

    assert [asyncio.run(run(number)) for number in range(2)] == [b"0", b"1"]


def test_a_call_that_is_cancelled_leaves_no_connection_behind_on_which_its_answer_would_come(serve):
    server = serve(HANG, Told(200, b"v"))

    async def run():
        async with AsyncClient(server.url, retry=False) as store:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.get("k"), 0.2)
            return await store.get("k")

    assert asyncio.run(run()) == b"v"
    assert server.connections == 2


def test_who_leaves_a_listing_early_leaves_a_client_that_serves_on(serve):
    item = {"key": "a", "value": "", "version": 1, "revision": 1, "create_revision": 1}
    server = serve(json({"items": [item, item], "next": "c", "revision": 5}))

    async def run():
        async with AsyncClient(server.url) as store:
            records = store.list()
            first = await anext(records)
            await records.aclose()
            return first.key, (await store.page()).next

    assert asyncio.run(run()) == ("a", "c")


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_server_that_closes_before_it_has_the_whole_request_has_not_applied_it(kind):
    """Both kinds see that the system took less than was to be sent; raftkv acts on whole requests only."""
    value = b"x" * (64 << 20)

    async def close_early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async def run():
        async with await asyncio.start_server(close_early, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            choices = {"retry": False, "idempotent": False, "timeout_s": 10.0}
            if kind == "asyncio":
                async with AsyncClient(url, **choices) as store:
                    await store.set("k", value)
            else:
                with Client(url, **choices) as store:
                    await asyncio.to_thread(store.set, "k", value)

    with pytest.raises(DefiniteError, match="before it had the whole request"):
        asyncio.run(run())


def test_a_server_that_falls_silent_after_it_has_the_whole_request_may_have_applied_it(serve):
    async def run(url):
        async with AsyncClient(url, timeout_s=0.3) as store:
            await store.set("k", b"v")

    with pytest.raises(IndefiniteError, match="did not answer in time"):
        asyncio.run(run(serve(HANG).url))
