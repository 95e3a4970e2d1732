"""Leases: how they begin, live on and end, and what goes with them."""

from __future__ import annotations

from raftkv.core.errors import Code
from raftkv.core.requests import Delete, FindLease, FindLeases, Grant, KeepAlive, Revoke, Touch, Transaction
from raftkv.core.results import Granted, Missing, NoLease, PutDone, Revoked
from raftkv.formats import layout
from raftkv.formats.commands import LeaseTimeCommand
from raftkv.machine import lease_rows, past, reading
from raftkv.machine.conversion import command_of
from tests.unit.machine_requests import put, refused
from tests.unit.test_machine_history import Driver


def test_leases_that_end_together_with_many_keys_end_one_command_after_another(monkeypatch):
    monkeypatch.setattr("raftkv.machine.machine.EXPIRIES_PER_COMMAND", 5)
    driver = Driver()
    for lease in (1, 2, 3):
        driver.do(Grant(ttl_ms=10, lease=lease), *[put(b"%d/%d" % (lease, key), lease=lease) for key in range(4)])
    driver.now_ms += 10

    left = []
    for _ in range(3):
        driver.command()
        left.append(len(driver.all()))
    assert left == [8, 4, 0]


def test_a_lease_takes_its_keys_with_it_when_it_ends():
    driver = Driver()
    granted = driver.one(Grant(ttl_ms=50))
    driver.do(put(b"a", lease=granted.lease), put(b"b", lease=granted.lease), put(b"c"))

    lease = reading.answer(driver.tables, FindLease(lease=granted.lease))
    assert granted == Granted(lease=1, ttl_ms=50, expires_at_ms=driver.now_ms + 50)
    assert (lease.keys, lease.key_count, lease.ttl_ms) == ((b"a", b"b"), 2, 50)
    driver.now_ms += 49
    driver.command()
    assert len(driver.all()) == 3
    driver.now_ms += 1
    driver.command()
    assert sorted(driver.all()) == [b"c"]
    assert reading.answer(driver.tables, FindLease(lease=1)) == NoLease(lease=1)
    assert [list(driver.tables.scan(table, b"", None)) for table in (layout.LEASES, layout.LEASE_KEYS)] == [[], []]
    assert list(driver.tables.scan(layout.EXPIRY, b"", None)) == []


def test_a_lease_that_is_kept_alive_lives_on_and_comes_due_where_it_ends():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=7))
    driver.do(put(b"a", lease=7))

    for _ in range(10):
        driver.now_ms += 30
        (kept,) = driver.command(command_of(KeepAlive(leases=(7, 8))))
        assert kept.leases[0].expires_at_ms == driver.now_ms + 50
        assert kept.leases[1] == NoLease(lease=8)
    driver.now_ms += 49
    driver.command()
    assert driver.get(b"a").lease == 7
    assert driver.machine.next_expiry_ms() == driver.now_ms + 1
    driver.now_ms += 1
    driver.command()
    assert driver.get(b"a") == Missing(key=b"a")


def test_a_key_leaves_its_lease_when_it_is_written_without_it():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=1), Grant(ttl_ms=90, lease=2))
    driver.do(put(b"a", lease=1), put(b"b", lease=1), put(b"c", lease=1), put(b"d", lease=1))
    driver.do(put(b"a"), put(b"b", lease=2), Touch(key=b"c", ttl_ms=0), Delete(key=b"d"))

    assert reading.answer(driver.tables, FindLease(lease=1)).keys == ()
    driver.now_ms += 50
    driver.command()
    assert sorted(driver.all()) == [b"a", b"b", b"c"]


def test_a_revoked_lease_ends_at_once():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=1))
    driver.do(put(b"a", lease=1), put(b"b", lease=1))

    assert driver.one(Revoke(lease=1)) == Revoked(count=2, revision=2)
    assert not any(one.expired for one in past.events_after(driver.tables, 1))
    assert driver.one(Revoke(lease=1)) == refused(Code.LEASE_NOT_FOUND)
    assert driver.one(put(b"a", lease=1)) == refused(Code.LEASE_NOT_FOUND)
    assert driver.one(Grant(ttl_ms=5, lease=1)).lease == 1
    assert driver.one(Grant(ttl_ms=5, lease=1)) == refused(Code.LEASE_EXISTS)


def test_numbers_that_the_machine_gives_are_free():
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=2))

    assert [driver.one(Grant(ttl_ms=50)).lease for _ in range(3)] == [1, 3, 4]
    driver.one(Revoke(lease=4))
    driver.again()
    assert driver.one(Grant(ttl_ms=50)).lease == 5


def test_a_lease_has_only_so_many_keys(monkeypatch):
    monkeypatch.setattr("raftkv.machine.leases.LEASE_KEYS_MAX", 3)
    driver = Driver()
    driver.do(Grant(ttl_ms=50, lease=1))

    together = driver.one(Transaction(success=tuple([put(b"%d" % number, lease=1) for number in range(4)])))
    apart = [driver.one(put(b"%d" % number, lease=1)) for number in range(4)]

    assert together == apart[3] == refused(Code.TOO_MANY_CHANGES)
    assert all(isinstance(one, PutDone) for one in apart[:3])


def test_a_lease_ends_by_the_clock_without_its_leaps():
    driver = Driver()
    driver.do(Grant(ttl_ms=100, lease=7), put(b"a", lease=7))
    lease_ms = driver.machine.lease_ms

    driver.now_ms += 1_000
    driver.command(LeaseTimeCommand(lease_ms + 40))
    assert driver.machine.leapt_ms == 960
    record = reading.answer(driver.tables, FindLease(lease=7))
    assert record.expires_at_ms == driver.now_ms + 60
    driver.command(LeaseTimeCommand(lease_ms + 90))  # there was no leap: it is none to make time stand still, or go on
    assert driver.machine.lease_ms == lease_ms + 40
    driver.now_ms += 59
    driver.command()
    assert driver.get(b"a").lease == 7
    driver.now_ms += 1
    driver.command()
    assert driver.get(b"a") == Missing(key=b"a")
    assert reading.answer(driver.tables, FindLease(lease=7)) == NoLease(lease=7)


def test_leases_are_listed_by_number():
    driver = Driver()
    driver.do(*[Grant(ttl_ms=50, lease=number) for number in (5, 1, 3)])

    page = reading.answer(driver.tables, FindLeases(limit=2))

    assert [one.lease for one in page.leases] == [1, 3]
    assert page.next_start == 5
    assert lease_rows.lease_row(driver.tables, 4) is None
