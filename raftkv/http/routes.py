"""THE list of everything that is served: method, path, handler, and what the documentation says of it.

Flask, the hot path of ``asgi``, the metrics and ``/openapi.json`` are all made from it. This module must not import
Flask.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from raftkv.api import answers, bodies, cluster_answers, paths
from raftkv.core.sights import View
from raftkv.http.handlers import (
    backup,
    batch,
    cluster,
    coordination,
    following,
    holding,
    internal,
    kv,
    live,
    observing,
    reference,
    ring,
    users,
    watching,
)
from raftkv.http.handlers.cluster import not_built
from raftkv.http.handlers.handler import Handler


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    ``path`` is written as in OpenAPI; ``{key*}`` takes the whole rest of the path. ``hot`` routes are answered in front
    of Flask, by the same handler. ``body`` is ``bytes``, a type for JSON, or ``None``. ``answers`` are the types of
    what it answers by status, problems and redirects aside; a route without any only ever refuses. ``events``: whoever
    accepts a stream of the same has one; of an ``endless`` route there is nothing else, and ``answers`` has what is in
    its events. A ``conditional`` read may be answered 304. Where the handler takes a token in a form,
    ``body`` is that form, or nothing.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    body: Any = None
    answers: Mapping[int, tuple[Any, ...]] = msgspec.field(default_factory=dict)
    conditional: bool = False
    hot: bool = False
    events: bool = False
    endless: bool = False

    @property
    def name(self) -> str:
        """The path as metrics and Flask name it."""
        return self.path.replace("*", "")


def _get(path: str, handler: Handler, summary: str, answer: Any, **more: Any) -> Route:
    found: dict[int, tuple[Any, ...]] = {200: (answer,) if answer is not answers.RecordFound else (bytes, answer)}
    if answer in (answers.RecordFound, answers.Found):
        found[300] = (answers.SiblingsAnswer,)
    if more.get("conditional"):
        found[304] = ()
    return Route(method="GET", path=path, handler=handler, summary=summary, answers=found, **more)


def _change(method: str, path: str, handler: Handler, summary: str, answer: Any, *statuses: int, **more: Any) -> Route:
    found = dict.fromkeys(statuses or (200,), (answer,))
    return Route(method=method, path=path, handler=handler, summary=summary, answers=found, **more)


_write: Final = partial(_change, hot=True)
"""A change of data."""


_KV: Final = (
    _write("PUT", paths.KEY, kv.PUT, "Store the body under the key", answers.Stored, 200, 201, 202, body=bytes),
    _get(paths.KEY, kv.GET, "The value of the key", answers.RecordFound, hot=True, conditional=True),
    _write("DELETE", paths.KEY, kv.DELETE, "Remove the key", answers.Deleted, 200, 202),
    _get(paths.KEYS, kv.LIST, "A sorted page of keys", answers.Listed),
    _write("DELETE", paths.KEYS, kv.DELETE_SPAN, "Remove all keys of a range, at one revision", answers.KeysDeleted),
    _write(
        "POST",
        paths.INCREMENT,
        kv.INCREMENT,
        "Add to the integer in the key, within bounds",
        answers.Counted,
        body=bodies.IncrementBody,
    ),
    _write(
        "POST",
        paths.TOUCH,
        kv.TOUCH,
        "Let the key live on; its value and revision stay",
        answers.KeyTouched,
        body=bodies.TouchBody,
    ),
    _write(
        "POST",
        paths.BATCH,
        batch.BATCH,
        "Many independent operations at once",
        answers.BatchDone,
        200,
        202,
        body=bodies.Batch,
    ),
)

_REFERENCE: Final = (
    *(
        _write(method, paths.PUT, reference.PUT, "Store a value", answers.Acknowledged, body=bodies.KeyAndValue)
        for method in ("POST", "PUT")
    ),
    _get(paths.GET, reference.GET, "The value of ?key=", answers.Found, hot=True),
    _get(paths.GET_KEY, reference.GET_PATH, "The value of the key", answers.Found, hot=True),
    _write("DELETE", paths.DELETE, reference.DELETE, "Remove ?key=", answers.KeyDeleted, 200, 202),
    _write("POST", paths.SET_KEY, reference.SET_PATH, "Store a value", answers.Created, 201),
    _write("POST", paths.SET, reference.SET, "Store a value", answers.Created, 201, body=bodies.KeyAndValue),
    _get(paths.LOCAL_READ, reference.LOCAL_READ, "This node's own copy", answers.Found, hot=True),
    _get(paths.HEALTH, reference.HEALTH, "Is the front-end alive?", cluster_answers.Health, hot=True),
    _get(
        paths.CONFIG,
        reference.CONFIG,
        "Replicas, and how many of them reads and writes need",
        cluster_answers.QuorumSizes,
    ),
    _change(
        "POST",
        paths.CONFIG,
        reference.CHANGE_CONFIG,
        "Change how many replicas there are, or how many of them reads and writes need (leaderless clusters)",
        cluster_answers.QuorumSizes,
        body=bodies.NewSizes,
    ),
    _change(
        "POST",
        paths.INTERNAL_WRITE,
        internal.WRITE,
        "Let this one replica of a leaderless cluster take a version",
        answers.StoredHere,
        body=bodies.InternalWrite,
    ),
    _change("POST", paths.INTERNAL_KEY, internal.WRITE, "The same", answers.StoredHere, body=bodies.InternalWrite),
    _get(paths.INTERNAL_READ, internal.READ, "What this one replica of a leaderless cluster holds", answers.Found),
)

_CLUSTER: Final = (
    _get(
        paths.STATUS,
        following.STATUS,
        "This node's view of itself and its cluster; as a stream, now and whenever it changes",
        cluster_answers.NodeStatus,
        hot=True,
        events=True,
    ),
    _get(
        paths.LIVE,
        live.LIVE,
        "How all nodes stand and what happens to them, as this one sees it, four times a second",
        View,
        hot=True,
        endless=True,
    ),
    _get(
        paths.RING,
        ring.RING,
        "Which node comes first for which keys (leaderless clusters)",
        cluster_answers.TheRing,
    ),
    _get(
        paths.RING_KEY,
        ring.KEY,
        "Where a key lies, and what each node holds of it (leaderless clusters)",
        cluster_answers.KeyOnRing,
    ),
    _get(paths.MEMBERS, cluster.MEMBERS, "The members", cluster_answers.MemberList, hot=True),
    _change(
        "POST",
        paths.MEMBERS,
        cluster.ADD_MEMBER,
        "Let a node join; where there is a leader it learns first, and votes by itself once it has caught up",
        cluster_answers.MemberList,
        201,
        body=bodies.NewMember,
    ),
    _change(
        "DELETE",
        paths.MEMBER,
        cluster.REMOVE_MEMBER,
        "Let a node leave; in a leaderless cluster one that is alive hands its data over first",
        cluster_answers.MemberList,
    ),
    Route(
        method="GET",
        path=paths.BACKUP,
        handler=backup.BACKUP,
        summary="All that this node holds, as a file that raftkv restore takes: one state, made while writes go on",
        answers={200: (bytes,)},
        hot=True,
    ),
    Route(
        method="POST",
        path=paths.BACKUP,
        handler=backup.SAVE,
        summary="The same for a page's form, which may have a token in it, with a name to save it under",
        body=bodies.BackupForm,
        answers={200: (bytes,)},
        hot=True,
    ),
    _change(
        "PUT",
        paths.MEMBER,
        cluster.MOVE_MEMBER,
        "Let a member have other addresses (raft mode)",
        cluster_answers.MemberList,
        body=bodies.NewAddresses,
    ),
    _change(
        "POST",
        paths.PROMOTE,
        cluster.PROMOTE_MEMBER,
        "Let a node that has caught up vote (raft mode); it does by itself soon after",
        cluster_answers.MemberList,
    ),
    _change(
        "POST",
        paths.TRANSFER,
        cluster.TRANSFER,
        "Let another node lead (raft mode)",
        cluster_answers.LeaderNow,
        body=bodies.NewLeader,
    ),
    _change(
        "POST",
        paths.REPAIR,
        cluster.REPAIR,
        "Compare this node's data with every replica of it; in raft mode, fetch it anew where it is wrong",
        cluster_answers.RepairDone,
    ),
    _get(paths.LIVEZ, cluster.LIVEZ, "Is the front-end alive?", cluster_answers.Alive, hot=True),
    _get(
        paths.READYZ,
        cluster.READYZ,
        "Can this node serve writes and reads as they are by default? If not, why?",
        cluster_answers.Alive,
        hot=True,
    ),
)

_COORDINATION: Final = (
    _get(
        paths.WATCH,
        watching.WATCH,
        "What changes, as a stream: one message a revision; Last-Event-ID goes on after a message",
        answers.ChangesTold,
        hot=True,
        endless=True,
    ),
    _write(
        "POST",
        paths.TRANSACTION,
        coordination.TRANSACTION,
        "Compare, and do one of two branches, wholly or not at all",
        answers.TransactionDone,
        body=bodies.TransactionBody,
    ),
    _write("POST", paths.LEASES, coordination.GRANT, "Grant a lease", answers.LeaseGranted, 201, body=bodies.NewLease),
    _get(paths.LEASES, coordination.LEASES, "A page of leases, by number", answers.LeaseList),
    _get(paths.LEASE, coordination.LEASE, "A lease, and the keys that go with it", answers.LeaseShown),
    _write("DELETE", paths.LEASE, coordination.REVOKE, "End a lease, and its keys", answers.KeysDeleted),
    _write(
        "POST", paths.KEEPALIVE, coordination.KEEP_ALIVE, "Let a lease live for its whole time", answers.LeaseGranted
    ),
    _write(
        "POST",
        paths.KEEPALIVES,
        coordination.KEEP_ALIVES,
        "The same for many leases at once",
        answers.KeepAlives,
        body=bodies.LeaseIds,
    ),
    _get(paths.LOCKS, holding.LIST_LOCKS, "A page of locks, by name", answers.LockList, hot=True),
    _get(paths.LOCK, holding.HOLDERS, "Who holds the lock, and who waits for it", answers.LockShown, hot=True),
    _write(
        "POST",
        paths.LOCK,
        holding.LOCK,
        "Come to hold the lock, or wait for it",
        answers.LockGranted,
        body=bodies.LockBody,
    ),
    _write("DELETE", paths.LOCK, holding.UNLOCK, "Let go of the lock", answers.LockReleased),
    _get(paths.ELECTIONS, holding.LIST_ELECTIONS, "A page of elections, by name", answers.ElectionList, hot=True),
    _get(paths.ELECTION, holding.LEADER, "Who leads", answers.LeaderShown, hot=True),
    _get(
        paths.OBSERVE,
        observing.OBSERVE,
        "Who leads, now and whenever that or its value changes, as a stream; Last-Event-ID goes on after a message",
        answers.LeaderTold,
        hot=True,
        endless=True,
    ),
    _write(
        "POST",
        paths.CAMPAIGN,
        holding.CAMPAIGN,
        "Come to lead, or wait for it",
        answers.ElectionWon,
        body=bodies.CampaignBody,
    ),
    _write(
        "POST",
        paths.PROCLAIM,
        holding.PROCLAIM,
        "Let the leader be known by another value",
        answers.Proclaimed,
        body=bodies.ProclaimBody,
    ),
    _write("POST", paths.RESIGN, holding.RESIGN, "Lead no more", answers.LockReleased, body=bodies.ResignBody),
    _change(
        "POST",
        paths.COMPACT,
        coordination.COMPACT,
        "Forget what was before a revision",
        answers.CompactDone,
        body=bodies.CompactBody,
    ),
)

_hot_get: Final = partial(_get, hot=True)

_AUTH: Final = (
    _hot_get(paths.AUTH, users.STATUS, "Is authentication on, and who asks?", cluster_answers.AuthStatus),
    _write("POST", paths.LOGIN, users.LOGIN, "A token, for a password", cluster_answers.LoggedIn, body=bodies.Login),
    _write("POST", paths.ENABLE, users.ENABLE, "Let only users ask, from now on", cluster_answers.AuthStatus),
    _write("POST", paths.DISABLE, users.DISABLE, "Let everybody ask, from now on", cluster_answers.AuthStatus),
    _hot_get(paths.USERS, users.USERS, "All users", cluster_answers.UserList),
    _hot_get(paths.USER, users.USER, "A user", cluster_answers.UserShown),
    _write(
        "PUT",
        paths.USER,
        users.PUT_USER,
        "Let there be a user, or change one",
        cluster_answers.UserShown,
        200,
        201,
        body=bodies.UserBody,
    ),
    _write("DELETE", paths.USER, users.DELETE_USER, "Remove a user", answers.KeysDeleted),
    _write("PUT", paths.USER_ROLE, users.GRANT_ROLE, "Give a user a role", cluster_answers.UserShown),
    _write("DELETE", paths.USER_ROLE, users.REVOKE_ROLE, "Take a role from a user", cluster_answers.UserShown),
    _write(
        "POST",
        paths.USER_SETS,
        users.SET_PASSWORD,
        "Set a password; whoever sets its own says the old one",
        cluster_answers.UserShown,
        body=bodies.NewPassword,
    ),
    _hot_get(paths.ROLES, users.ROLES, "All roles", cluster_answers.RoleList),
    _hot_get(paths.ROLE, users.ROLE, "A role", cluster_answers.RoleShown),
    _write(
        "PUT",
        paths.ROLE,
        users.PUT_ROLE,
        "Let there be a role, or let it have other permissions",
        cluster_answers.RoleShown,
        200,
        201,
        body=bodies.RoleBody,
    ),
    _write("DELETE", paths.ROLE, users.DELETE_ROLE, "Remove a role, also from all users", answers.KeysDeleted),
    _write(
        "POST",
        paths.ROLE_PERMISSIONS,
        users.GRANT_PERMISSION,
        "Let a role have one more permission",
        cluster_answers.RoleShown,
        body=bodies.PermissionBody,
    ),
    _write(
        "DELETE",
        paths.ROLE_PERMISSIONS,
        users.REVOKE_PERMISSION,
        "Take a permission from a role: the one that the query says",
        cluster_answers.RoleShown,
    ),
)

_LATER: Final = (
    Route(
        method="POST",
        path=paths.RESTORE,
        handler=not_built(backup.RESTORE_INSTEAD),
        summary="Refused: a backup makes a new cluster, by raftkv restore",
    ),
)

ROUTES: Final[tuple[Route, ...]] = (*_KV, *_COORDINATION, *_REFERENCE, *_CLUSTER, *_AUTH, *_LATER)

PAGES: Final = (paths.OPENAPI, paths.DOCS, paths.METRICS)
"""What is served besides the list of routes; whoever reaches the node may see it."""
