"""Commands of callers: judged by the rights of the state that they are applied to, whole, before any of it is done."""

from __future__ import annotations

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.keys import ELECTION_KEYS, LOCK_KEYS, SYSTEM, prefix_end
from raftkv.core.requests import (
    Compact,
    ComparedField,
    Configure,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeepAlive,
    KeyComparison,
    List,
    Put,
    Revoke,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.results import Compacted, Configured, KeptAlive, KeyRecord, Missing, PutDone, Withheld, Written
from raftkv.core.rights import CLUSTER, NOBODY, ROOT, USERS_MAX, Access, Caller, Permission, Role, User
from raftkv.formats import commands, entries, layout
from raftkv.formats import rights as rows
from raftkv.formats.commands import DEPTH_MAX, CallersCommand, OperateCommand, Transact, WriteCommand
from raftkv.machine import judging
from raftkv.machine.conversion import command_of
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import RepeatLimits
from tests.unit.test_machine_history import Driver

ANN, BOB, ALICE = Caller("ann", 1), Caller("bob", 2), Caller("alice", 3)


def permission(access, start, end=None):
    return Permission(access=access, start=start, end=prefix_end(start) if end is None else end)


def put_user(name, *roles, generation):
    return Put(key=rows.user_key(name), value=rows.encode_user(User(roles=roles, generation=generation)))


def put_role(name, *permissions):
    return Put(key=rows.role_key(name), value=rows.encode_role(Role(permissions=permissions)))


RIGHTS = (
    put_role("a", permission(Access.BOTH, b"a/")),
    put_role("ab", permission(Access.READ, b"a/"), permission(Access.WRITE, b"b/")),
    put_user("ann", "a", generation=1),
    put_user("bob", "ab", generation=2),
    put_user("alice", ROOT, generation=3),
    Put(key=rows.ENABLED, value=b""),
)


class Asked(Driver):
    """With authentication on: ann reads and writes what begins with a/, bob reads that and writes b/, alice is root."""

    def __init__(self, *more):
        super().__init__()
        self.ask(CLUSTER, *RIGHTS, *more)

    def ask(self, caller, *operations, **options):
        return self.request(Write(operations=operations, caller=caller, **options))

    def request(self, request):
        (outcome,) = self.command(command_of(request))
        self.check()
        return outcome

    def rows(self):
        return [(table, *row) for table in layout.TABLES[:-1] for row in self.tables.scan(table, b"", None)]


@pytest.fixture
def asked():
    return Asked()


def is_forbidden(outcome):
    return isinstance(outcome, Refused) and outcome.code is Code.FORBIDDEN


def put(key, value=b"v", **more):
    return Put(key=key, value=value, **more)


def exists(key):
    return KeyComparison(start=key, target=ComparedField.EXISTS, operand=1)


def test_before_authentication_is_on_nobody_is_judged():
    driver = Asked(Delete(key=rows.ENABLED))

    assert isinstance(driver.ask(NOBODY, put(b"x")), Written)
    assert isinstance(driver.ask(None, put(b"x")), Written)
    assert isinstance(driver.ask(Caller("eve", 9), put(b"x")), Written)


OUT_OF_BOUNDS = [
    (ANN, put(b"b/1")),
    (ANN, Delete(key=b"b/1")),
    (ANN, Get(key=b"b/1")),
    (ANN, Increment(key=b"b/1")),
    (BOB, Increment(key=b"b/1")),
    (ANN, Touch(key=b"b/1", ttl_ms=5)),
    (BOB, put(b"a/1")),
    (BOB, DeleteSpan(start=b"a/", end=b"a0")),
    (ANN, DeleteSpan(start=b"a/", end=b"a1")),
    (ANN, DeleteSpan(start=b"a/", end=None)),
    (ANN, List(start=b"a", end=b"a0", limit=1)),
    (BOB, List(start=b"b/", end=b"b0", limit=1)),
    (ANN, Transaction(comparisons=(exists(b"b/1"),), success=(put(b"a/1"),))),
    (ANN, Transaction(success=(put(b"a/1"),), failure=(put(b"b/1"),))),
    (ANN, Transaction(success=(put(b"a/1"), Transaction(failure=(Get(key=b"b/1"),))))),
    (
        ANN,
        Transaction(
            comparisons=(KeyComparison(start=b"a", end=b"b", several=True, target=ComparedField.EXISTS, operand=1),)
        ),
    ),
]
WITHIN = [
    (ANN, put(b"a/1")),
    (ANN, Delete(key=b"a/1")),
    (ANN, Get(key=b"a/1")),
    (ANN, Increment(key=b"a/1")),
    (ANN, Touch(key=b"a/1", ttl_ms=5)),
    (BOB, Get(key=b"a/1")),
    (BOB, put(b"b/1")),
    (BOB, DeleteSpan(start=b"b/", end=b"b0")),
    (BOB, List(start=b"a/", end=b"a0", limit=1)),
    (BOB, Transaction(comparisons=(exists(b"a/1"),), success=(put(b"b/1"),), failure=(Get(key=b"a/1"),))),
    (ANN, Grant(ttl_ms=5)),
    (ALICE, DeleteSpan(start=b"", end=None)),
    (CLUSTER, Transaction(comparisons=(exists(b"z"),), success=(Delete(key=rows.ENABLED),))),
]


@pytest.mark.parametrize(("caller", "operation"), OUT_OF_BOUNDS)
def test_what_a_user_has_no_right_to_is_refused_and_leaves_no_trace(asked, caller, operation):
    before, revision = asked.rows(), asked.machine.revision

    assert is_forbidden(asked.ask(caller, put(b"a/0" if caller is ANN else b"b/0"), operation))
    assert (asked.rows(), asked.machine.revision) == (before, revision)


@pytest.mark.parametrize(("caller", "operation"), WITHIN)
def test_what_a_user_has_the_right_to_is_done(asked, caller, operation):
    assert isinstance(asked.ask(caller, operation), Written)


@pytest.mark.parametrize("caller", [None, NOBODY, Caller("eve", 1), Caller("ann", 2)])
@pytest.mark.parametrize(
    "operations",
    [(), (put(b"a/1"),), (Grant(ttl_ms=5),), (Get(key=b"a/1"),), (Transaction(),), (Revoke(lease=9),)],
    ids=str,
)
def test_who_is_no_user_of_now_is_refused_everything(asked, caller, operations):
    before = asked.rows()

    assert is_forbidden(asked.ask(caller, *operations))
    assert is_forbidden(asked.request(KeepAlive(leases=(1,), caller=caller)))
    assert is_forbidden(asked.request(Compact(revision=1, caller=caller)))
    assert is_forbidden(asked.request(Configure(r=1, w=3, caller=caller)))
    assert asked.rows() == before


def test_what_changes_the_cluster_is_roots(asked):
    revision = asked.machine.revision

    assert is_forbidden(asked.request(Compact(revision=revision, caller=ANN)))
    assert is_forbidden(asked.request(Configure(r=1, w=3, caller=ANN)))
    assert isinstance(asked.request(Compact(revision=revision, caller=ALICE)), Compacted)
    assert isinstance(asked.request(Configure(r=1, w=3, caller=CLUSTER)), Configured)


def test_a_right_that_is_taken_away_is_gone_for_the_next_command_of_the_same_entry(asked):
    write = Write(operations=(put(b"a/1"),), caller=ANN)
    revocation = Write(operations=(put_user("ann", generation=1),), caller=ALICE)
    done, _, refused = asked.command(*map(command_of, (write, revocation, write)))

    assert isinstance(done, Written)
    assert is_forbidden(refused)


def test_an_unjudged_command_behind_the_one_that_turns_authentication_on_is_refused():
    driver = Driver()
    on, unsaid = Write(operations=RIGHTS, caller=CLUSTER), Write(operations=(put(b"a/1"),))
    before, _, refused = driver.command(*map(command_of, (unsaid, on, unsaid)))

    assert isinstance(before, Written)
    assert is_forbidden(refused)


def test_a_user_made_anew_is_another(asked):
    asked.ask(ALICE, Delete(key=rows.user_key("ann")))
    assert is_forbidden(asked.ask(ANN, put(b"a/1")))
    asked.ask(ALICE, put_user("ann", "a", generation=9))

    assert is_forbidden(asked.ask(ANN, put(b"a/1")))
    assert isinstance(asked.ask(Caller("ann", 9), put(b"a/1")), Written)


def test_a_role_that_changes_changes_what_its_users_may_do(asked):
    asked.ask(ALICE, put_role("a", permission(Access.READ, b"a/")))

    assert is_forbidden(asked.ask(ANN, put(b"a/1")))


def test_a_machine_over_the_same_rows_judges_alike(asked):
    over = asked.machine.over(asked.tables)

    assert over.rights.enabled
    assert over.rights.users == asked.machine.rights.users
    assert over.rights.users["ann"].roles == ("a",)


def test_readers_are_told_that_rights_have_changed(asked):
    def number():
        return asked.tables.get(layout.META, layout.RIGHTS)

    first = number()
    asked.ask(ANN, put(b"a/1"))
    same = number()
    asked.ask(ALICE, put_user("ann", generation=1))

    assert first == same != number()
    assert judging.stored_rights(asked.tables).users["ann"].roles == ()


# -- what is root's ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        put_user("ann", ROOT, generation=1),
        Delete(key=rows.ENABLED),
        Get(key=rows.user_key("alice")),
        List(start=rows.AUTH, end=rows.AUTH_END, limit=9),
        put(SYSTEM + b"else"),
        DeleteSpan(start=SYSTEM, end=None),
    ],
)
def test_users_have_no_access_to_keys_of_the_cluster(operation):
    asked = Asked(put_role("a", Permission(access=Access.BOTH, start=b"", end=None)))

    assert isinstance(asked.ask(ANN, put(b"z")), Written)
    assert is_forbidden(asked.ask(ANN, operation))


@pytest.mark.parametrize(
    "operation",
    [
        put(rows.user_key("eve"), b"\xc1"),
        put(rows.role_key(ROOT), rows.encode_role(Role())),
        put(rows.AUTH + b"else"),
        put(rows.ENABLED, ttl_ms=5),
        put(rows.ENABLED, lease=1),
        Increment(key=rows.user_key("eve")),
        Touch(key=rows.user_key("ann"), ttl_ms=5),
        Transaction(failure=(put(rows.user_key("eve"), b"\xc1"),)),
    ],
)
def test_what_means_nothing_cannot_be_written_for_a_user_or_role(asked, operation):
    asked.ask(ALICE, Grant(ttl_ms=1_000_000, lease=1))
    before = asked.rows()

    assert asked.ask(ALICE, operation).code is Code.BAD_REQUEST
    assert asked.rows() == before


def test_there_are_bounds_to_users_and_to_what_they_take_up_together(asked):
    many = [put_user(f"u{number}", generation=1) for number in range(USERS_MAX - 3)]
    assert isinstance(asked.ask(ALICE, *many), Written)

    assert asked.ask(ALICE, put_user("more", generation=1)) == judging.TOO_MANY_RIGHTS
    assert isinstance(asked.ask(ALICE, put_user("u1", "a", generation=2)), Written)
    large = [put_role(f"r{n}", *[permission(Access.READ, b"%04096d" % n) for n in range(20)]) for n in range(4)]
    assert asked.ask(ALICE, *large) == judging.TOO_MANY_RIGHTS


# -- leases, locks ----------------------------------------------------------------------------------------------------


def test_a_lease_is_of_those_who_may_write_one_of_its_keys(asked):
    asked.ask(ANN, Grant(ttl_ms=1_000_000, lease=7))
    keep = [KeepAlive(leases=(7,), caller=caller) for caller in (ANN, BOB)]
    assert [isinstance(asked.request(one), KeptAlive) for one in keep] == [True, True]
    asked.ask(ANN, put(b"a/1", lease=7))

    assert isinstance(asked.request(keep[0]), KeptAlive)
    assert is_forbidden(asked.request(keep[1]))
    assert is_forbidden(asked.ask(BOB, put(b"b/1", lease=7)))
    assert is_forbidden(asked.ask(BOB, Revoke(lease=7)))
    assert is_forbidden(asked.ask(ANN, put(b"b/1", lease=7)))
    asked.ask(ALICE, put(b"z", lease=7))
    assert is_forbidden(asked.ask(ANN, Revoke(lease=7)))
    assert isinstance(asked.request(keep[0]), KeptAlive)
    asked.ask(ALICE, put_user("ann", generation=1))
    assert is_forbidden(asked.request(keep[0]))
    assert isinstance(asked.ask(ALICE, Revoke(lease=7)), Written)


def test_one_command_looks_at_so_many_keys_of_leases(asked, monkeypatch):
    monkeypatch.setattr(judging, "LEASE_KEYS_LOOKED_AT", 5)
    asked.ask(ANN, *[Grant(ttl_ms=1_000_000, lease=lease) for lease in (1, 2)])
    asked.ask(ANN, *[put(b"a/%d" % n, lease=1 + n % 2) for n in range(6)])

    assert asked.ask(ANN, Revoke(lease=1), Revoke(lease=2)).code is Code.TOO_MANY_CHANGES
    assert isinstance(asked.ask(ANN, Revoke(lease=1)), Written)


@pytest.mark.parametrize("area", [LOCK_KEYS, ELECTION_KEYS])
def test_who_contends_for_a_name_must_be_allowed_to_write_it_as_a_key(asked, area):
    asked.ask(ANN, Grant(ttl_ms=1_000_000, lease=7))
    asked.ask(BOB, Grant(ttl_ms=1_000_000, lease=8))
    start, end = area + b"a/lock\0", area + b"a/lock\0g"

    def entry(lease):
        nobody = KeyComparison(start=start, end=end, several=True, target=ComparedField.EXISTS, operand=0)
        return Transaction(
            comparisons=(nobody,), success=(put(start + b"1", lease=lease), List(start=start, end=end, limit=1))
        )

    assert isinstance(asked.ask(ANN, entry(7)), Written)
    assert is_forbidden(asked.ask(BOB, entry(8)))
    assert isinstance(asked.ask(BOB, List(start=start, end=end, limit=1)), Written)
    assert is_forbidden(asked.ask(ANN, List(start=area, end=area + b"\xff", limit=1)))
    assert is_forbidden(asked.ask(ANN, put(area + b"b/lock\0" + b"1", lease=7)))
    assert isinstance(asked.ask(ANN, List(start=area + b"a/", end=area + b"a/\xff", limit=1)), Written)


def test_who_may_only_write_a_name_sees_who_contends_for_it(asked):
    start = LOCK_KEYS + b"b/lock\0"

    assert isinstance(asked.ask(BOB, List(start=start, end=start + b"g", limit=1)), Written)
    assert is_forbidden(asked.ask(BOB, List(start=b"b/", end=b"b/lock", limit=1)))


# -- repeats ----------------------------------------------------------------------------------------------------------


def test_idempotency_keys_are_each_users_own(asked):
    asked.ask(ANN, put(b"a/1", b"anns"), idempotency_key="once")
    outcome = asked.ask(ALICE, put(b"a/1", b"alices"), idempotency_key="once")

    assert outcome.refused is None
    assert outcome.results[0].version == 2


def test_who_lost_a_right_is_told_what_he_did_by_it_and_nothing_else(asked):
    write = (put(b"a/1"), Get(key=b"a/2"), List(start=b"a/", end=b"a0", limit=5), Delete(key=b"a/9"))
    first = asked.ask(ANN, *write, idempotency_key="once")
    asked.ask(ALICE, put_user("ann", generation=1), put(b"a/2", b"secret"))
    again = asked.ask(ANN, *write, idempotency_key="once")

    assert again.results == (first.results[0], Withheld(key=b"a/2"), Withheld(key=b"a/"), Missing(key=b"a/9"))
    assert is_forbidden(asked.ask(ANN, *write, idempotency_key="another"))
    assert is_forbidden(asked.ask(ANN, put(b"a/1", b"else"), idempotency_key="once"))


def test_a_user_made_anew_is_told_nothing_of_what_the_one_of_before_did_unless_it_may_do_it(asked):
    asked.ask(ANN, put(b"a/1"), idempotency_key="once")
    asked.ask(ALICE, put_user("ann", "a", generation=9))

    assert is_forbidden(asked.ask(ANN, put(b"a/1"), idempotency_key="once"))


def test_what_was_forbidden_is_not_kept(asked):
    write = {"idempotency_key": "once"}
    assert is_forbidden(asked.ask(BOB, put(b"a/1"), **write))
    asked.ask(ALICE, put_role("ab", permission(Access.BOTH, b"a/")))

    assert isinstance(asked.ask(BOB, put(b"a/1"), **write).results[0], PutDone)


# -- the format -------------------------------------------------------------------------------------------------------


def test_only_format_4_has_callers():
    body = b"".join(
        commands.batch_parts(1, 2, [commands.encode_command(CallersCommand("ann", 1, WriteCommand((), None)))])
    )

    assert commands.decode_batch(memoryview(body), 4).commands[0].user == "ann"
    with pytest.raises(ValueError, match="its format does not have"):
        commands.decode_batch(memoryview(body), 3)


def test_a_callers_transactions_stand_no_deeper_than_others():
    operation = Transact((), (), ())
    for _ in range(DEPTH_MAX):
        operation = Transact((), (operation,), ())
    entry = entries.encode(1, 1, 1, CallersCommand("ann", 1, OperateCommand((operation,), None)))

    assert entries.decode(entry) is None


def test_states_that_keep_no_history_judge_alike():
    tables = Driver().tables
    machine = Machine(type(tables)(tables.engine, layout.TABLES, tables.engine), RepeatLimits())

    def apply(*requests):
        index = machine.applied_index + 1
        return machine.apply(index, 1, entries.encode(1, 7, index, *map(command_of, requests))).outcomes

    apply(Write(operations=RIGHTS, caller=CLUSTER))
    forbidden, done = apply(
        Write(operations=(put(b"b/1"),), caller=ANN), Write(operations=(put(b"a/1"), Get(key=b"a/1")), caller=ANN)
    )

    assert is_forbidden(forbidden)
    assert isinstance(done.results[1], KeyRecord)
