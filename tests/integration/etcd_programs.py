"""Random programs of requests for etcd: what is asked, in which order, by which way.

Revisions count from where a program finds the store (1 is the revision there), leases and keys are few, so that
requests meet. What is known to differ (docs/etcd.rst) is not made up; each place says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as some

from tests.integration.etcd_oracle import encoded

SOME_KEYS, OTHER_KEYS = ["a", "a/1", b"a/\xff"], ["b", b"b\0\xc3", b"\xfe\xff\xff"]
KEYS = some.sampled_from(SOME_KEYS + OTHER_KEYS)
"""Six, of text and of bytes: Go sorts so few in a stable way, and more in none."""

ENDS = some.sampled_from(["", "a0", "b", b"b\0\xff", b"\xff"])
EVERYTHING = "\0"
LEASES = some.sampled_from([0, 0, 7, 21, 22])
GIVEN_LEASES = (7, 21, 22, 23)
CONTENDED = b"\xff\xfe/"
"""Locks and elections are beyond all other keys: a range that is sorted meets none of theirs."""

FLAG = some.booleans()
RARELY = some.integers(0, 4).map(lambda number: number == 0)
NUMBER = some.integers(-1, 14)
REVISIONS = some.just(0) | NUMBER
VALUES = some.sampled_from(["", "1", "2"])
_BOUNDS = ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision")
_COUNTED = {"revision", "create_revision", "mod_revision", "start_revision", "rev", *_BOUNDS}


def counted_from(base: int, body: Any) -> Any:
    """``body`` with every revision counted from ``base``."""
    if isinstance(body, list):
        return [counted_from(base, one) for one in body]
    if not isinstance(body, dict):
        return body
    return {
        name: base + value if name in _COUNTED and value > 0 else counted_from(base, value)
        for name, value in body.items()
    }


def key(name: str | bytes) -> dict[str, str]:
    return {"key": encoded(name)}


def span(first: str | bytes, end: str | bytes) -> dict[str, str]:
    return {"key": encoded(first), "range_end": encoded(end)}


@some.composite
def ranges(draw: Any, *, revisions: Any = REVISIONS) -> dict[str, Any]:
    asked = {**span(draw(KEYS), draw(ENDS)), "serializable": draw(FLAG), "revision": draw(revisions)}
    asked |= {"limit": draw(some.integers(-1, 3)), "keys_only": draw(FLAG), "count_only": draw(RARELY)}
    asked["sort_order"] = draw(some.sampled_from(["NONE", "ASCEND", "DESCEND", 1]))
    asked["sort_target"] = draw(some.sampled_from(["KEY", "VERSION", "CREATE", "MOD", "VALUE", 3]))
    for bound in _BOUNDS:
        if draw(RARELY):
            asked[bound] = draw(NUMBER)
    return asked


EVERY_KEY = some.sampled_from(["\0", "a", "b"]).map(lambda first: span(first, EVERYTHING))


@some.composite
def puts(draw: Any, *, keys: Any = KEYS) -> dict[str, Any]:
    asked = {**key(draw(keys)), "value": encoded(draw(VALUES)), "prev_kv": draw(FLAG)}
    asked |= {"lease": draw(LEASES), "ignore_value": draw(RARELY), "ignore_lease": draw(RARELY)}
    if asked["ignore_value"]:
        # Of a key and a lease that are both not there, etcd tells of the lease: not in a transaction, and not here.
        asked["lease"] = 0
        asked["value"] = "" if not draw(RARELY) else asked["value"]
    if asked["ignore_lease"] and not draw(RARELY):
        asked["lease"] = 0
    return asked


@some.composite
def deletions(draw: Any) -> dict[str, Any]:
    return {**span(draw(KEYS), draw(ENDS)), "prev_kv": draw(FLAG)}


TARGETS = {
    "VERSION": "version",
    "CREATE": "create_revision",
    "MOD": "mod_revision",
    "VALUE": "value",
    "LEASE": "lease",
}


@some.composite
def comparisons(draw: Any) -> dict[str, Any]:
    target = draw(some.sampled_from(sorted(TARGETS)))
    field = TARGETS[target] if not draw(RARELY) else draw(some.sampled_from(sorted(TARGETS.values())))
    asked = span(draw(KEYS), draw(some.just("") | ENDS))
    operand = encoded(draw(VALUES)) if field == "value" else draw(LEASES if field == "lease" else NUMBER)
    result = draw(some.sampled_from(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]))
    return {**asked, "target": target, "result": result, field: operand}


def operations(depth: int, *, is_outermost: bool) -> Any:
    """What a branch has in it."""
    # A range at a revision that cannot be told fails here whichever branch is taken: none is made up.
    asked = ranges(revisions=some.just(0)).map(lambda one: {"request_range": one})
    if is_outermost:
        put, removed = puts(), deletions()
    else:
        # Of puts and deletions in transactions beside each other, or in the branches of one, etcd finds some that
        # meet and not others; here those of one branch are refused. So that none meets, they are of other keys.
        put = puts(keys=some.sampled_from(OTHER_KEYS))
        removed = some.builds(span, some.sampled_from(SOME_KEYS), some.sampled_from(["", "a0", "b"]))
    kinds = [asked, put.map(lambda one: {"request_put": one}), removed.map(lambda one: {"request_delete_range": one})]
    if depth:
        kinds.append(transactions(depth - 1, is_outermost=False).map(lambda one: {"request_txn": one}))
    return some.one_of(kinds)


def transactions(depth: int = 2, *, is_outermost: bool = True) -> Any:
    """Transactions, in which others stand so ``depth``."""
    return some.fixed_dictionaries(
        {
            "compare": some.lists(comparisons(), max_size=2),
            "success": some.lists(operations(depth, is_outermost=is_outermost), max_size=3),
            "failure": some.lists(operations(depth, is_outermost=is_outermost), max_size=2),
        }
    )


@some.composite
def contending(draw: Any) -> tuple[str, dict[str, Any]]:
    """Each lease has names of its own, so that nobody waits."""
    lease = draw(some.sampled_from(GIVEN_LEASES))
    what = draw(some.sampled_from(["lock", "unlock", "campaign", "proclaim", "leader", "resign"]))
    if what == "lock":
        return "/v3/lock/lock", {"name": encoded(b"%bl%d" % (CONTENDED, lease)), "lease": lease}
    if what == "unlock":
        return "/v3/lock/unlock", key(b"%bl%d/%x" % (CONTENDED, lease, lease))
    name = b"%be%d" % (CONTENDED, lease)
    if what == "campaign":
        return "/v3/election/campaign", {"name": encoded(name), "lease": lease, "value": encoded(draw(VALUES))}
    if what == "leader":
        return "/v3/election/leader", {"name": encoded(name)}
    leader = {"name": encoded(name), **key(b"%b/%x" % (name, lease)), "rev": draw(NUMBER), "lease": lease}
    asked = {"leader": leader}
    if what == "proclaim":
        asked["value"] = encoded(draw(VALUES))
    return f"/v3/election/{what}", asked


def to(path: str, body: Any) -> Any:
    return body.map(lambda found: (path, found))


REQUESTS = some.one_of(
    to("/v3/kv/range", ranges()),
    to("/v3/kv/range", EVERY_KEY),
    to("/v3/kv/put", puts()),
    to("/v3/kv/put", puts()),
    to("/v3/kv/deleterange", deletions()),
    to("/v3/kv/txn", transactions()),
    to("/v3/kv/txn", transactions()),
    to("/v3/lease/grant", LEASES.map(lambda lease: {"TTL": 600, "ID": lease or 23})),
    to("/v3/lease/keepalive", LEASES.map(lambda lease: {"ID": lease})),
    to("/v3/lease/revoke", LEASES.map(lambda lease: {"ID": lease})),
    to("/v3/lease/timetolive", LEASES.map(lambda lease: {"ID": lease, "keys": True})),
    some.just(("/v3/lease/leases", {})),
    contending(),
    # To forget nothing (0, 1) is a change to etcd, which refuses it the second time, and none here.
    to("/v3/kv/compaction", some.integers(3, 30).map(lambda revision: {"revision": revision})),
)


CANCEL, PROGRESS = "cancel", "progress"
"""What is asked of the stream of watches."""


class Step(NamedTuple):
    """One request, over gRPC or over JSON, or a word on the stream of watches."""

    path: str
    body: Any
    is_call: bool


@some.composite
def steps(draw: Any) -> Step:
    lot = draw(some.integers(0, 14))
    if lot == 14:
        return Step(PROGRESS, None, is_call=True)
    if lot == 13:
        return Step(CANCEL, draw(some.integers(0, 2)), is_call=True)
    return Step(*draw(REQUESTS), is_call=draw(FLAG))


@some.composite
def watches(draw: Any, *, is_late: bool) -> dict[str, Any]:
    asked = {**span(draw(KEYS), draw(ENDS | some.just(EVERYTHING))), "prev_kv": draw(FLAG), "fragment": draw(RARELY)}
    kinds = some.sampled_from([[], [], ["NOPUT"], ["NODELETE"]])
    return {**asked, "start_revision": draw(some.integers(1, 14)) if is_late else 0, "filters": draw(kinds)}


class Program(NamedTuple):
    """``watching`` listen from the beginning, ``watching_late`` are told in the end what was."""

    watching: list[dict[str, Any]]
    steps: list[Step]
    watching_late: list[dict[str, Any]]


PROGRAMS = some.builds(
    Program,
    some.lists(watches(is_late=False), max_size=2),
    some.lists(steps(), min_size=10, max_size=40),
    some.lists(watches(is_late=True), max_size=3),
)
