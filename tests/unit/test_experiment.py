"""Orders to a node: what they make of its surroundings, how they are answered, and that they end with their giver."""

import asyncio
import contextlib
import os
import socket
import time

import msgspec
import pytest

from raftkv.experiment import Experiment, LinkOrder, Orders, Surroundings
from raftkv.peers.faults import Direction, Fault

SLOW = LinkOrder(peer="n2", direction=Direction.TO_PEER, fault=Fault(delay_s=0.2))


@contextlib.contextmanager
def experiment():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    made = Experiment(theirs.detach())
    with ours:
        yield made, ours


def obey(made, ours, *lines):
    """Send ``lines`` to the experiment and let it work until each is answered."""

    async def scenario():
        loop = asyncio.get_running_loop()
        made.attach(loop)
        ours.setblocking(False)
        await loop.sock_sendall(ours, b"".join(line + b"\n" for line in lines))
        answers = b""
        while answers.count(b"\n") < len(lines):
            answers += await asyncio.wait_for(loop.sock_recv(ours, 4096), 10)
        return answers.splitlines()

    return asyncio.run(scenario())


def test_the_surroundings_of_a_node_without_an_experiment_are_the_machine_s():
    plain = Surroundings()

    assert plain.faults is None
    assert plain.free_bytes(7) == 7
    assert abs(plain.wall_ms() / 1000 - time.time()) < 60
    assert plain.monotonic_s is time.monotonic


def test_an_order_is_in_force_once_it_is_answered_and_replaces_the_one_before():
    with experiment() as (made, ours):
        first = Orders(links=(SLOW,), free_bytes=3, wall_offset_s=-3600.0)
        answers = obey(made, ours, msgspec.json.encode(first))

        assert answers == [b"ok"]
        assert made.faults.fault("n2", Direction.TO_PEER).delay_s == 0.2
        assert made.faults.fault("n2", Direction.FROM_PEER) == Fault()
        assert made.free_bytes(1 << 30) == 3
        assert made.wall_ms() / 1000 < time.time() - 3000

        answers = obey(made, ours, msgspec.json.encode(Orders()))

        assert answers == [b"ok"]
        assert not made.faults.active
        assert made.free_bytes(1 << 30) == 1 << 30
        assert made.wall_ms() / 1000 > time.time() - 3000


@pytest.mark.parametrize(
    "line", [b"", b"{", b'{"clock_rate": 2}', b'{"clock_rate": 0}', b'{"links": [{}]}', b'{"x": 1}']
)
def test_a_refused_order_changes_nothing_and_says_why(line):
    with experiment() as (made, ours):
        answers = obey(made, ours, msgspec.json.encode(Orders(free_bytes=3)), line)

        assert answers[0] == b"ok"
        assert answers[1].startswith(b"refused: ")
        assert made.free_bytes(9) == 3


def test_a_slow_clock_never_runs_backwards_and_catches_up_when_it_is_sound_again():
    with experiment() as (made, ours):
        readings = [made.monotonic_s()]
        for rate in (0.01, 0.5, 0.001):
            obey(made, ours, msgspec.json.encode(Orders(clock_rate=rate)))
            readings.append(made.monotonic_s())
        time.sleep(0.1)
        readings.append(made.monotonic_s())
        lag_s = time.monotonic() - readings[-1]
        obey(made, ours, msgspec.json.encode(Orders()))
        before_s, caught_up_s, after_s = time.monotonic(), made.monotonic_s(), time.monotonic()

        assert readings == sorted(readings)
        assert lag_s > 0.09
        assert before_s <= caught_up_s <= after_s


def test_everything_is_well_again_when_the_giver_of_orders_is_gone():
    with experiment() as (made, ours):
        obey(made, ours, msgspec.json.encode(Orders(links=(SLOW,), free_bytes=3)))
        fd = made._fd

        async def scenario():
            healed = asyncio.Event()
            made.faults.on_change = healed.set
            made.attach(asyncio.get_running_loop())
            ours.close()
            await asyncio.wait_for(healed.wait(), 10)

        asyncio.run(scenario())

        assert not made.faults.active
        assert made.free_bytes(9) == 9
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)


def test_an_order_without_end_is_taken_for_the_end():
    with experiment() as (made, ours):
        obey(made, ours, msgspec.json.encode(Orders(free_bytes=3)))

        async def scenario():
            loop = asyncio.get_running_loop()
            made.attach(loop)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(10):
                    await loop.sock_sendall(ours, b" " * (4 << 20))

        asyncio.run(scenario())

        assert made.free_bytes(9) == 9
