"""Who a client asks as: a user with a password, a token, or both; it logs in by itself. Pure: no socket, no clock.

Rules. Nothing is shown before a server asks for it, so a cluster without authentication never sees a password. Then the
client logs in at the server that asked, once for all its threads and tasks, and shows the token from then on; it takes
a new one shortly before that ends. A token that is refused is replaced once; if that does not help, the caller is told.
All of it goes to the client's own servers alone, as no redirect is followed. Neither password nor token stands in any
text that is made here. A process that was forked has the token of its parent, and renews it by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.bodies import Login
from raftkv.api.cluster_answers import LoggedIn
from raftkv.client.http1 import HttpAnswer
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.client.steps import AskWhole, Plan, Wait
from raftkv.core.errors import UsageError

USER_ENVIRONMENT: Final = "RAFTKV_USER"
PASSWORD_ENVIRONMENT: Final = "RAFTKV_PASSWORD"  # noqa: S105  the name of a variable
TOKEN_ENVIRONMENT: Final = "RAFTKV_TOKEN"  # noqa: S105  likewise

RENEWED_AT: Final = 0.8
"""After this part of its life a token is replaced."""

LOGIN_S: Final = 5.0
"""The login of another thread is waited for no longer."""

LOOK_S: Final = 0.02
"""How often it is looked whether that is over."""

AGAIN_S: Final = 5.0
"""A token that could not be replaced in good time is kept, and this long not tried to be replaced."""


class Credentials:
    """What the calls of one client show, for any number of threads and tasks."""

    def __init__(self, *, user: str = "", password: str = "", token: str = "") -> None:
        """Raises ``UsageError``, which never says what was given."""
        if not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError("a token is one word of visible ASCII characters, as raftkv login prints it")
        if password and not user:
            raise UsageError(f"a password needs the name of a user: auth=(name, password), or {USER_ENVIRONMENT}")
        if user and not password and not token:
            raise UsageError(f"the user {user!r} needs a password: auth=(name, password), or {PASSWORD_ENVIRONMENT}")
        self._user = user
        self._password = password
        self._token = token
        self._due_s = float("inf")
        self._busy_until_s = float("-inf")
        self._busy_process = 0

    def __repr__(self) -> str:
        return f"<Credentials of {self._user or 'whom a token names'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled")

    @property
    def user(self) -> str:
        """Who asks; empty where only a token says so."""
        return self._user

    @property
    def password(self) -> str:
        """For who is to show it in another way than by logging in."""
        return self._password

    @property
    def token(self) -> str:
        """What is shown; empty before a server asked."""
        return self._token

    @property
    def can_log_in(self) -> bool:
        return bool(self._password)

    def is_due(self, now_s: float) -> bool:
        """Is the token to be replaced before it ends?"""
        return now_s >= self._due_s and self.can_log_in

    def renew(
        self, host: Host, refused: str, until_s: float, now_s: Callable[[], float]
    ) -> Plan[HttpAnswer | UnopenedError | UnheardError | None]:
        """Log in at ``host`` for a token other than ``refused``: ``None`` once there is one, or what came instead."""
        while self._token == refused and self._is_busy(now_s()) and now_s() < until_s:
            yield Wait(LOOK_S)
        if self._token != refused:
            return None
        begun_s = now_s()
        self._busy_process, self._busy_until_s = os.getpid(), min(until_s, begun_s + LOGIN_S)
        try:
            heard = yield AskWhole(host, "POST", self._login(host), max(0.0, self._busy_until_s - begun_s))
        finally:
            self._busy_until_s = float("-inf")
        assert isinstance(heard, HttpAnswer | UnopenedError | UnheardError)
        if not isinstance(heard, HttpAnswer) or heard.status != 200:
            if self.is_due(now_s()):
                self._due_s = now_s() + AGAIN_S
            return heard
        try:
            told = msgspec.json.decode(heard.body, type=LoggedIn)
            Credentials(token=told.token)
        except (msgspec.DecodeError, UsageError):
            return UnheardError("answers a login with what is no token")
        self._token, self._due_s = told.token, begun_s + RENEWED_AT * told.expires_in
        return None

    def _is_busy(self, now_s: float) -> bool:
        return self._busy_process == os.getpid() and now_s < self._busy_until_s

    def _login(self, host: Host) -> bytes:
        headers = (("User-Agent", "raftkv-client"), ("Content-Type", names.JSON))
        body = msgspec.json.encode(Login(user=self._user, password=self._password))
        return host.form("POST", headers).request(paths.LOGIN, body)


Auth = Credentials | tuple[str, str] | str | None
"""A user's name and password, or a token; several clients may share ``Credentials``."""


def credentials_of(auth: Auth, environment: Mapping[str, str]) -> Credentials | None:
    """What ``auth`` says, else the environment; ``None``: nothing. Raises ``UsageError``."""
    if isinstance(auth, Credentials):
        return auth
    if isinstance(auth, str):
        if not auth:
            raise UsageError("auth: a token is not empty")
        return Credentials(token=auth)
    if auth is not None:
        pair = auth if isinstance(auth, tuple | list) else ()
        if len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise UsageError("auth: a token, or the name of a user and its password: auth=(name, password)")
        return Credentials(user=pair[0], password=pair[1])
    user, token = environment.get(USER_ENVIRONMENT, ""), environment.get(TOKEN_ENVIRONMENT, "")
    if not user and not token:
        return None
    return Credentials(user=user, password=environment.get(PASSWORD_ENVIRONMENT, ""), token=token)
