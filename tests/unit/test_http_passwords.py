"""Passwords: few at a time, slow for whoever guesses, and known again for a while once they were right."""

import asyncio
import logging
import threading

import pytest

from raftkv.core.config import AuthSection
from raftkv.core.errors import DefiniteError
from raftkv.core.rights import Caller, User
from raftkv.http.door import passwords
from raftkv.http.door.passwords import Passwords, hashed

RIGHT = "correct horse"
ALICE = User(password=hashed(RIGHT), generation=7)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def checks(monkeypatch):
    """How often a password was worked out."""
    done = []
    real = passwords._matches
    monkeypatch.setattr(passwords, "_matches", lambda *given: done.append(given) or real(*given))
    monkeypatch.setattr(passwords, "FAILURE_S", 0.01)
    return done


def known(clock, **chosen) -> Passwords:
    return Passwords(AuthSection(**chosen), monotonic_s=clock)


def ask(subject: Passwords, user=ALICE, password=RIGHT, name="alice"):
    return subject.caller(name, user, password, "10.0.0.1")


def test_hashes_are_argon2id_of_the_stated_cost_and_salted():
    assert ALICE.password.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hashed(RIGHT) != ALICE.password


def test_the_right_password_is_worked_out_once_for_a_while(clock, checks):
    async def scenario():
        subject = known(clock, password_remembered_s=60.0)
        for _ in range(3):
            assert await ask(subject) == Caller("alice", 7)
        assert len(checks) == 1
        clock.now_s += 61
        assert await ask(subject) == Caller("alice", 7)
        assert len(checks) == 2

    asyncio.run(scenario())


def test_it_is_not_remembered_where_that_is_not_wished(clock, checks):
    async def scenario():
        subject = known(clock, password_remembered_s=0)
        for _ in range(2):
            assert await ask(subject) == Caller("alice", 7)
        assert len(checks) == 2

    asyncio.run(scenario())


def test_what_was_right_is_of_that_user_generation_and_hash_only(clock, checks):
    async def scenario():
        subject = known(clock)
        assert await ask(subject)
        other = User(password=hashed("another one"), generation=8)
        assert await ask(subject, other) is None
        assert await ask(subject, name="bob", user=other) is None
        assert await ask(subject, password=RIGHT + " ") is None
        assert await ask(subject, User(password=ALICE.password, generation=9)) == Caller("alice", 9)
        assert len(checks) == 5

    asyncio.run(scenario())


@pytest.mark.parametrize(("user", "password"), [(None, RIGHT), (User(generation=1), ""), (User(generation=1), RIGHT)])
def test_whoever_has_no_password_is_worked_out_all_the_same(clock, checks, user, password):
    async def scenario():
        assert await ask(known(clock), user, password) is None
        assert len(checks) == 1

    asyncio.run(scenario())


def test_the_log_has_neither_the_password_nor_the_name_of_a_stranger(clock, checks, caplog):
    async def scenario():
        subject = known(clock)
        assert await ask(subject, password="Tr0ub4dor&3") is None
        assert await ask(subject, None, "Tr0ub4dor&3", name="Tr0ub4dor&3") is None

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())

    assert "'alice' from 10.0.0.1" in caplog.text
    assert "an unknown user from 10.0.0.1" in caplog.text
    assert "Tr0ub4dor" not in caplog.text


def test_nothing_that_is_kept_holds_the_password(clock, checks):
    async def scenario():
        subject = known(clock)
        assert await ask(subject)
        assert RIGHT not in repr(vars(subject))
        assert RIGHT.encode().hex() not in repr(vars(subject))

    asyncio.run(scenario())


def test_who_asks_the_same_at_the_same_time_shares_one_check(clock, checks):
    async def scenario():
        subject = known(clock)
        assert await asyncio.gather(*[ask(subject) for _ in range(200)]) == [Caller("alice", 7)] * 200
        assert len(checks) == 1

    asyncio.run(scenario())


def test_more_than_so_many_at_once_are_turned_away(clock, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(passwords, "_matches", lambda *_: go.wait(30) and False)
    monkeypatch.setattr(passwords, "FAILURE_S", 0.01)

    async def scenario():
        subject = known(clock, max_password_checks=1)
        waiting = [asyncio.ensure_future(ask(subject, password=f"guess {one}")) for one in range(33)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(DefiniteError, match="too many passwords") as refused:
            await ask(subject, password="one more")
        assert refused.value.code == "overloaded"
        go.set()
        assert await asyncio.gather(*waiting) == [None] * 33
        subject.close()

    asyncio.run(scenario())


def test_so_many_wrong_ones_are_kept_waiting_at_most(clock, checks, monkeypatch):
    monkeypatch.setattr(passwords, "FAILING_MAX", 0)

    async def scenario():
        with pytest.raises(DefiniteError, match="too many wrong passwords"):
            await ask(known(clock), password="wrong one")

    asyncio.run(scenario())


def test_a_hash_that_is_none_fits_nothing(clock, checks):
    async def scenario():
        assert await ask(known(clock), User(password="$argon2id$nonsense", generation=1)) is None

    asyncio.run(scenario())
