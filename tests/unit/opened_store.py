"""A replica's store as its tests open and fill it."""

from raftkv.formats.versions import KeyState, Version
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.membership.ring import POSITIONS, Range

LWW, SIBLINGS = CONFLICTS["lww"], CONFLICTS["siblings"]
WHOLE = Range(0, POSITIONS - 1)


def opened(engine, conflicts=LWW, **options):
    """A store whose first commit, of the name of its conflicts, is done."""
    store = Store(engine, conflicts, **options)
    store.commit()
    return store


def state(counter, value=b"value", node="n1", expires_at_ms=0):
    return KeyState((Version(counter, node, value, expires_at_ms),))


def event(store, counter, value=b"value", *, key=b"k", context=(), stands_for="", directory="n1~dir"):
    return store.stage_event(key, Version(counter, directory, value), context, stands_for=stands_for)


def values(held):
    return [version.value for version in held.versions]


def marks(store, piece=WHOLE, after=b""):
    return list(store.scan_order(piece, after))
