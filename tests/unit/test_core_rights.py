"""Rights: what roles allow, alone and together, and who is who."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.core.keys import prefix_end
from raftkv.core.rights import CLUSTER, NOBODY, ROOT, Access, Caller, Name, Permission, Rights, Role, User
from raftkv.formats import rights as rows

ANN = Caller("ann", 7)


def may(*permissions, access=Access.READ, start=b"a", end=b"a\0"):
    role = Role(permissions=tuple(Permission(access=a, start=s, end=e) for a, s, e in permissions))
    rights = Rights(enabled=True, users={"ann": User(roles=("r",), generation=7)}, roles={"r": role})
    return rights.may(ANN, access, start, end)


def prefix(text):
    return Access.BOTH, text, prefix_end(text)


def test_while_authentication_is_off_everybody_may_do_everything():
    rights = Rights()

    assert rights.may(NOBODY, Access.BOTH, b"", None)
    assert rights.is_root(NOBODY)


def test_once_it_is_on_nobody_else_than_users_and_the_cluster_may():
    rights = Rights(enabled=True, users={"ann": User(generation=7)})

    assert [rights.knows(one) for one in (NOBODY, Caller("bob", 7), Caller("ann", 6))] == [False] * 3
    assert [rights.knows(one) for one in (ANN, CLUSTER)] == [True] * 2
    assert [rights.is_root(one) for one in (NOBODY, ANN, CLUSTER)] == [False, False, True]
    assert not rights.may(ANN, Access.READ, b"a", b"b")


def test_a_generation_of_before_is_worth_nothing_whatever_the_roles():
    rights = Rights(enabled=True, users={"ann": User(roles=(ROOT,), generation=8)})

    assert not rights.is_root(ANN)
    assert not rights.may(ANN, Access.READ, b"a", b"b")
    assert rights.is_root(Caller("ann", 8))


def test_a_role_that_nobody_made_allows_nothing():
    rights = Rights(enabled=True, users={"ann": User(roles=("gone",), generation=7)})

    assert not rights.may(ANN, Access.READ, b"a", b"b")


def test_access_is_to_be_allowed_as_it_is_asked_for():
    read = (Access.READ, b"a", b"b")

    assert may(read)
    assert not may(read, access=Access.WRITE)
    assert not may(read, access=Access.BOTH)
    assert may(read, (Access.WRITE, b"a", b"aa"), access=Access.BOTH)


@pytest.mark.parametrize(
    ("start", "end", "allowed"),
    [
        (b"a", b"a\0", True),
        (b"a", b"b", True),
        (b"azzz", b"azzz\0", True),
        (b"b", b"b\0", False),
        (b"a", b"b\0", False),
        (b"", b"a", False),
        (b"a", None, False),
    ],
)
def test_a_prefix_allows_its_keys_and_no_others(start, end, allowed):
    assert may(prefix(b"a"), start=start, end=end) is allowed


def test_roles_that_overlap_or_touch_allow_a_span_together():
    parts = [(Access.READ, b"m", None), (Access.READ, b"a", b"f"), (Access.READ, b"c", b"m")]

    assert may(*parts, start=b"a", end=None)
    assert not may(*parts[:2], start=b"a", end=b"n")
    assert not may(*parts, start=b"", end=b"b")


KEYS = st.binary(max_size=2)
SPANS = st.tuples(KEYS, st.none() | KEYS)


@given(st.lists(SPANS, max_size=6), SPANS)
def test_what_is_allowed_is_what_each_key_of_it_is(permissions, asked):
    """Judged key by key, over all that differ by the bounds that were drawn."""
    start, end = asked
    bounds = {bound for span in [*permissions, asked] for bound in span if bound is not None}
    keys = [key for bound in sorted(bounds) for key in (bound, bound + b"\0")]
    wanted = [key for key in keys if start <= key and (end is None or key < end)]
    last = b"\xff\xff\xff"
    allowed = all(
        any(s <= key and (e is None or key < e) for s, e in permissions)
        for key in ([*wanted, last] if end is None else wanted)
    )

    if end is None or start < end:
        assert may(*[(Access.READ, s, e) for s, e in permissions], start=start, end=end) is allowed


@pytest.mark.parametrize("name", ["ann", "web 1", "CN=ann,O=shop", "ä" * 64])
def test_names_are_text(name):
    assert msgspec.convert(name, Name) == name


@pytest.mark.parametrize("name", ["", "a\nb", "\0cluster", "a" * 65, "a\n"])
def test_control_characters_make_no_name(name):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, Name)


def test_rows_hold_rights():
    user = User(roles=("r", ROOT), password="$argon2id$...", generation=7)
    role = Role(permissions=(Permission(access=Access.BOTH, start=b"a", end=None),))
    stored = [
        (rows.ENABLED, b""),
        (rows.role_key("r"), rows.encode_role(role)),
        (rows.user_key("ann"), rows.encode_user(user)),
    ]
    rights = rows.rights_of(stored)

    assert (rights.enabled, rights.users, rights.roles) == (True, {"ann": user}, {"r": role})
    assert stored == sorted(stored)
    assert all(rows.AUTH <= key < rows.AUTH_END for key, _ in stored)
    assert not rows.rights_of([]).enabled


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (rows.user_key("ann"), b"\xc1"),
        (rows.user_key("ann"), rows.encode_role(Role())),
        (rows.user_key("a\n"), rows.encode_user(User(generation=1))),
        (rows.user_key("ann") + b"\xff", rows.encode_user(User(generation=1))),
        (rows.role_key(ROOT), rows.encode_role(Role())),
        (rows.AUTH + b"else", rows.encode_role(Role())),
    ],
)
def test_a_row_that_means_nothing_is_no_user_and_no_role(key, value):
    rights = rows.rights_of([(key, value)])

    assert rows.decoded(key, value) is None
    assert (rights.users, rights.roles) == ({}, {})
