"""What commands of format 3 do to a state is a format as well: replicas of different versions are compared by it.

So no bound that decides what a command does may change, nor what lies in the tables afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path

from raftkv.core.requests import (
    Compact,
    ComparedField,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeepAlive,
    KeyComparison,
    List,
    Operator,
    Put,
    Revoke,
    Touch,
    Transaction,
)
from raftkv.machine import history, lease_rows, machine, operations
from raftkv.machine.conversion import command_of
from tests.unit.test_machine_history import Driver

STATES = Path(__file__).with_name("states.txt")
"""Hashes of states on the way; ``RAFTKV_GOLDEN=write`` writes them anew, as long as format 3 is not released."""


def test_the_bounds_are_those_that_they_were():
    assert (history.CHUNK_BYTES, history.CHUNKS_PER_COMMAND, history.SLACK) == (1 << 16, 128, 16)
    assert history.HELD_BYTES == operations.RANGE_BYTES_MAX == 64 << 20
    assert operations.CHANGES_MAX == lease_rows.LEASE_KEYS_MAX == 10_000
    assert machine.EXPIRIES_PER_COMMAND == 1_000


def nested(name, *operations):
    compared = KeyComparison(start=name, target=ComparedField.VALUE, operator=Operator.UNEQUAL, operand=b"7")
    return Transaction(comparisons=(compared,), success=operations, failure=(Increment(key=name, by=-5),))


def test_a_log_leads_to_the_states_that_it_led_to():
    driver = Driver(events=80)
    hashes = []
    for number in range(60):
        key, other = b"k%d" % (number % 7), b"k%d" % (number % 5)
        driver.do(Put(key=key, value=b"v%d" % number), Put(key=key, value=b"w"), Delete(key=other))
        driver.do(Grant(lease=1 + number % 3, ttl_ms=40), Put(key=b"leased/" + key, value=b"v", lease=1 + number % 3))
        driver.do(
            nested(
                b"n",
                Increment(key=b"n"),
                Put(key=other, value=b"x", ttl_ms=25),
                nested(b"m", Get(key=key), List(start=b"", end=None, limit=3)),
            ),
            Touch(key=key, ttl_ms=30 * (number % 2)),
            idempotency_key=f"once {number % 40}",
        )
        driver.do(
            DeleteSpan(start=b"k%d" % (number % 11), end=b"k%d" % (2 + number % 11)), Revoke(lease=number % 4 or 9)
        )
        driver.command(command_of(KeepAlive(leases=(1, 2, 9))), command_of(Compact(revision=max(0, number - 20))))
        driver.now_ms += number % 13
        hashes.append(driver.machine.state_hash)

    assert driver.machine.history.numbers.compacted > 40
    found = "".join(f"{one:016x}\n" for one in hashes[9::10])
    if os.environ.get("RAFTKV_GOLDEN") == "write":
        STATES.write_text(found)
    assert found == STATES.read_text()
