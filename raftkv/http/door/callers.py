"""Finds out who asks, once for each request, and whether that is enough for what is asked.

A request says who asks by a token (``Authorization: Bearer``, RFC 6750; one form has it in its body, which is then
read as that header), by a name and its password (``Basic``, RFC 7617) or by the certificate of its connection; a proof
of the cluster's secret (``raftkv.core.proof``) says that it is the cluster itself. What it says goes on with the
request, and what it may do to keys is judged where that is done: here a user is found, no more. What is known here of
users may be a moment old, so nobody is turned away for what he says before the state was looked at anew. While
authentication is off nothing of this is looked at. Must not import Flask.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Final

from raftkv.core.errors import Code, DefiniteError, Refused
from raftkv.core.judgement import of_operator
from raftkv.core.replicator import Replicator
from raftkv.core.requests import Get, Read
from raftkv.core.rights import CLUSTER, NOBODY, Caller, User
from raftkv.formats.rights import ENABLED
from raftkv.formats.tokens import Bearer, TokenFlaw, Tokens
from raftkv.frontend.rights import KnownRights
from raftkv.http.bodies import backup_form
from raftkv.http.door.passwords import Passwords
from raftkv.http.futures import outcome_of
from raftkv.http.messages import Headers, HttpResponse
from raftkv.http.needs import Needs
from raftkv.http.problems import failure, problem

REALM: Final = b"raftkv"
_BASIC: Final = b'Basic realm="%b", charset="UTF-8"' % REALM
_BEARER: Final = b'Bearer realm="%b"' % REALM
_BAD_TOKEN: Final = b'Bearer realm="%b", error="invalid_token"' % REALM

NOT_KNOWN_YET: Final = Refused(
    code=Code.NO_LEADER, detail="this node has not read yet who may ask it", retry_after_s=1.0
)
NO_ROOT_YET: Final = "authentication is on, but there is no root user yet"
_HOW_TO: Final = "give a user's token or password (raftkv login, or --user)"


FRESHEN_S: Final = 1.0
"""So long whoever shows what is not known here waits for the newest state at most."""


async def freshened(replicator: Replicator) -> None:
    """Let the state that ``replicator`` reads here be no older than this call, if that can be had soon."""
    read = Read(query=Get(key=ENABLED), caller=CLUSTER)
    await outcome_of(replicator.submit(read, monotonic() + FRESHEN_S))


def _name_and_password(credentials: bytes) -> tuple[str, str] | None:
    """What ``Basic`` says (RFC 7617, section 2)."""
    try:
        name, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None


class UnauthenticatedError(Exception):
    """Nobody is let in by what the request says; ``detail`` says why."""

    def __init__(self, detail: str, *, is_of_token: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.is_of_token = is_of_token


class Callers:
    """Who may ask one worker.

    ``freshen`` lets ``known`` be as new as the cluster is, or gives up. ``is_demanded``: this node's configuration says
    that authentication is on, so it serves nobody before the state says so too; ``lack`` is why that is not so yet.
    """

    def __init__(
        self,
        known: KnownRights,
        tokens: Tokens,
        passwords: Passwords,
        *,
        freshen: Callable[[], Awaitable[None]],
        is_demanded: bool = False,
    ) -> None:
        self.known = known
        self.tokens = tokens
        self.passwords = passwords
        self._freshen = freshen
        self.is_demanded = is_demanded
        self.lack = ""

    @property
    def is_asked(self) -> bool:
        """Does it matter who asks?"""
        rights = self.known.current
        return rights is None or rights.enabled or self.is_demanded

    @property
    def missing(self) -> str:
        """Why nobody is served yet, empty if that is not so."""
        rights = self.known.current
        if not self.is_demanded or rights is None or rights.enabled:
            return ""
        return f"{NO_ROOT_YET}: {self.lack or 'nobody has made it yet'}"

    async def find(self, headers: Mapping[bytes, bytes], certificate: str, client: str) -> Caller:
        """Who asks, ``NOBODY`` if it does not say.

        ``certificate`` is the name in the connection's certificate, empty if it has shown none. Raises
        ``UnauthenticatedError``, or ``DefiniteError`` if too many passwords are checked.
        """
        shown = headers.get(b"authorization")
        if shown is None:
            return await self._by_certificate(certificate) if certificate else NOBODY
        scheme, _, credentials = shown.strip().partition(b" ")
        match scheme.lower():
            case b"bearer":
                return await self._by_token(credentials.strip())
            case b"basic":
                return await self._by_basic(credentials.strip(), client)
        raise UnauthenticatedError("Authorization: only Bearer and Basic, one of them once, say who a user is")

    def known_at_once(self, headers: Mapping[bytes, bytes], certificate: str) -> Caller | None:
        """Whom ``find`` would find without looking anything up; ``None`` where it would have to, or to refuse."""
        shown = headers.get(b"authorization")
        if shown is None:
            user = self._user(certificate) if certificate else None
            return None if user is None else Caller(certificate, user.generation)
        scheme, _, credentials = shown.partition(b" ")
        match scheme.lower():
            case b"bearer":
                found = self.tokens.read(credentials.strip())
                return found.caller if isinstance(found, Bearer) and self._knows(found.caller) else None
            case b"basic":
                name, password = _name_and_password(credentials.strip()) or ("", "")
                user = self._user(name)
                return None if user is None else self.passwords.known(name, user, password)
        return None

    async def by_password(self, name: str, password: str, client: str) -> Caller:
        """The user ``name``, who has that ``password``; raises as ``find`` does."""
        user = self._user(name)
        if user is None:
            await self._freshen()
            user = self._user(name)
        caller = await self.passwords.caller(name, user, password, client)
        if caller is None and user is not None:
            await self._freshen()
            if self._user(name) != user:
                caller = await self.passwords.caller(name, self._user(name), password, client)
        if caller is not None:
            return caller
        raise UnauthenticatedError("there is no such user, or the password is another")

    async def _by_basic(self, credentials: bytes, client: str) -> Caller:
        told = _name_and_password(credentials)
        if told is None:
            raise UnauthenticatedError("Authorization: Basic takes name:password in UTF-8 and base64")
        return await self.by_password(*told, client)

    async def _by_token(self, token: bytes) -> Caller:
        found = self.tokens.read(token)
        if isinstance(found, TokenFlaw):
            raise UnauthenticatedError(f"the token is worth nothing: {found.value}", is_of_token=True)
        caller = found.caller
        if not await self._is_known(caller):
            detail = f"the token is worth nothing: {caller.user} is no user any more, or has another password since"
            raise UnauthenticatedError(f"{detail}; log in again", is_of_token=True)
        return caller

    def _user(self, name: str) -> User | None:
        return None if self.known.current is None else self.known.current.users.get(name)

    async def _is_known(self, caller: Caller) -> bool:
        if self._knows(caller):
            return True
        await self._freshen()
        return self._knows(caller)

    def _knows(self, caller: Caller) -> bool:
        user = self._user(caller.user)
        return user is not None and user.generation == caller.generation

    async def _by_certificate(self, name: str) -> Caller:
        user = self._user(name)
        if user is None:
            await self._freshen()
            user = self._user(name)
        if user is None:
            raise UnauthenticatedError(f"the certificate is {name!r}'s, and there is no such user")
        return Caller(name, user.generation)

    def refusal(self, needs: Needs, caller: Caller, headers: Headers) -> HttpResponse | None:
        """Why ``caller`` may not ask for what ``needs`` so much, if it may not; asked where it matters who asks."""
        rights = self.known.current
        if needs is Needs.NOTHING:
            return None
        if rights is None:
            return failure(NOT_KNOWN_YET, headers)
        if caller == NOBODY:
            if self.missing:
                return problem(Code.NO_LEADER, self.missing, headers=headers)
            return unauthenticated(f"this needs a user: {_HOW_TO}", headers)
        if needs in (Needs.ROOT, Needs.OPERATOR):
            refused = of_operator(rights, caller)
            if refused is not None:
                return failure(refused, headers)
        return None


def with_token_of_form(headers: dict[bytes, bytes], body: bytes) -> dict[bytes, bytes]:
    """``headers``, with the token of the form ``body``, if there is one and they do not say who asks themselves.

    What is wrong with a form is for its handler to say, once it is known who asks.
    """
    if b"authorization" in headers:
        return headers
    try:
        token = backup_form(headers, body).token
    except DefiniteError:
        return headers
    return {**headers, b"authorization": b"Bearer " + token.encode()} if token else headers


def unauthenticated(detail: str, headers: Headers, *, is_of_token: bool = False) -> HttpResponse:
    """The response for who did not say who it is; ``is_of_token``: it has shown a token."""
    challenges = ((b"www-authenticate", _BAD_TOKEN if is_of_token else _BEARER), (b"www-authenticate", _BASIC))
    return problem(Code.UNAUTHENTICATED, detail, headers=(*headers, *challenges))
