"""``raftkv user``, ``role``, ``auth`` and ``login``: who may ask a cluster, and for what.

A password is asked for at the terminal, twice and without an echo, or read from standard input (``-``); it is never an
argument, which every process of the machine could see.
"""

from __future__ import annotations

import functools
import getpass
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click
import msgspec

from raftkv.api import paths
from raftkv.api.bodies import AccessWord, Login, NewPassword, PermissionBody, RoleBody, UserBody
from raftkv.api.cluster_answers import AuthStatus, LoggedIn, RoleList, RoleShown, UserList, UserShown
from raftkv.api.values import Value, text_from_json, text_to_json, value_from_json
from raftkv.cli import connection, exits, output
from raftkv.cli.advice import explaining
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.keys import json_option, to_line
from raftkv.cli.survey import survey
from raftkv.cli.tables import print_table

PASSWORD_BYTES_MAX: Final = 4096
ACCESS: Final = click.Choice(["read", "write", "both"])


Answer = TypeVar("Answer", bound=msgspec.Struct)


def _ask(
    link: ConnectionOptions, method: str, path: str, content: msgspec.Struct | None = None
) -> Mapping[str, object]:
    with link.client(proves=True) as client, explaining(lambda: survey(link.patient())):
        return client.ask(method, path, content)


def _read(content: Mapping[str, object], kind: type[Answer]) -> Answer:
    from raftkv.client.records import typed  # noqa: PLC0415  commands load what they use

    return typed(content, kind)


def _is_there(link: ConnectionOptions, path: str) -> bool:
    from raftkv.core.errors import Code, DefiniteError  # noqa: PLC0415  commands load what they use

    try:
        _ask(link, "GET", path)
    except DefiniteError as error:
        if error.code != Code.NOT_FOUND:
            raise
        return False
    return True


def _done(content: object, *, as_json: bool) -> int:
    output.confirm(to_line(content) if as_json else b"OK\n")
    return exits.DONE


def _password_from(source: str | None, prompt: str) -> str:
    """The first line of standard input if ``source`` is ``-``, else what is typed twice at the terminal."""
    if source is not None:
        line = sys.stdin.readline(PASSWORD_BYTES_MAX).rstrip("\r\n")
        if not line:
            raise click.UsageError("standard input has no password in its first line")
        return line
    connection.check_terminal("give the password by - on standard input")
    first = getpass.getpass(f"{prompt}: ")
    if getpass.getpass("the same again: ") != first:
        raise click.UsageError("the two passwords differ")
    return first


source_argument = click.argument("source", metavar="[-]", required=False, type=click.Choice(["-"]))


# -- users ------------------------------------------------------------------------------------------------------------


@click.group("user", short_help="Show or change who may ask.")
def user() -> None:
    """Show or change the users of the cluster. What they may do is said by their roles; the role root may do all."""


@user.command("add", short_help="Let there be a user.")
@click.argument("name")
@source_argument
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="What it has from the start; repeat.")
@click.option("--no-password", is_flag=True, help="It is known by its certificate alone.")
@json_option
@connection.options
@click.pass_context
def add(
    context: click.Context,
    /,
    name: str,
    source: str | None,
    *,
    roles: tuple[str, ...],
    no_password: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Let there be a user NAME. Its password is asked for, or read from standard input with -."""
    link, path = connection.chosen(context, given), paths.filled(paths.USER, name)
    if _is_there(link, path):
        exits.complain(f"there is a user {name} already; 'raftkv user passwd {name}' sets its password")
        return exits.NOT_FOUND
    password = None if no_password else _password_from(source, f"password of {name}")
    return _done(_ask(link, "PUT", path, UserBody(password=password, roles=list(roles))), as_json=as_json)


@user.command("list", short_help="Print all users.")
@json_option
@connection.options
@click.pass_context
def list_users(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    """Print every user and its roles. With --json, one object a line."""
    content = _ask(connection.chosen(context, given), "GET", paths.USERS)
    users = _read(content, UserList).users
    if as_json:
        output.write(b"".join(to_line(one) for one in users))
    else:
        print_table(("user", "roles"), [((one.name, ", ".join(one.roles) or "-"), "") for one in users])
    return exits.DONE


@user.command("show", short_help="Print a user.")
@click.argument("name")
@json_option
@connection.options
@click.pass_context
def show_user(context: click.Context, /, name: str, *, as_json: bool, **given: Any) -> int:
    """Print the roles of the user NAME, a line each."""
    content = _ask(connection.chosen(context, given), "GET", paths.filled(paths.USER, name))
    roles = [f"{role}\n".encode() for role in _read(content, UserShown).roles]
    output.write(to_line(content) if as_json else b"".join(roles))
    return exits.DONE


@user.command("delete", short_help="Remove a user.")
@click.argument("name")
@json_option
@connection.options
@click.pass_context
def delete_user(context: click.Context, /, name: str, *, as_json: bool, **given: Any) -> int:
    """Remove the user NAME: its tokens are worth nothing from then on."""
    link = connection.chosen(context, given)
    return _done(_ask(link, "DELETE", paths.filled(paths.USER, name)), as_json=as_json)


@user.command("passwd", short_help="Set a password.")
@click.argument("name")
@source_argument
@json_option
@connection.options
@click.pass_context
def passwd(context: click.Context, /, name: str, source: str | None, *, as_json: bool, **given: Any) -> int:
    """Set the password of NAME, after which its tokens of before are worth nothing.

    Who is not root sets its own, and asks as itself (--user NAME): that password is the old one.
    """
    link = connection.chosen(context, given)
    credentials = link.credentials()
    is_own = credentials is not None and credentials.can_log_in and credentials.user == name
    old = credentials.password if credentials is not None and is_own else None
    content = NewPassword(password=_password_from(source, f"new password of {name}"), old=old)
    return _done(_ask(link, "POST", paths.filled(paths.USER_SETS, name), content), as_json=as_json)


@user.command("grant", short_help="Give a user a role.")
@click.argument("name")
@click.argument("role_name", metavar="ROLE")
@json_option
@connection.options
@click.pass_context
def grant_role(context: click.Context, /, name: str, role_name: str, *, as_json: bool, **given: Any) -> int:
    """Give the user NAME the ROLE."""
    path = paths.filled(paths.USER_ROLE, name, role_name)
    return _done(_ask(connection.chosen(context, given), "PUT", path), as_json=as_json)


@user.command("revoke", short_help="Take a role from a user.")
@click.argument("name")
@click.argument("role_name", metavar="ROLE")
@json_option
@connection.options
@click.pass_context
def revoke_role(context: click.Context, /, name: str, role_name: str, *, as_json: bool, **given: Any) -> int:
    """Take the ROLE from the user NAME: what only it allowed is refused from then on."""
    path = paths.filled(paths.USER_ROLE, name, role_name)
    return _done(_ask(connection.chosen(context, given), "DELETE", path), as_json=as_json)


# -- roles ------------------------------------------------------------------------------------------------------------


@click.group("role", short_help="Show or change what roles may do.")
def role() -> None:
    """Show or change the roles of the cluster. The role root is built in and may do all."""


@role.command("add", short_help="Let there be a role.")
@click.argument("name")
@json_option
@connection.options
@click.pass_context
def add_role(context: click.Context, /, name: str, *, as_json: bool, **given: Any) -> int:
    """Let there be a role NAME, which may do nothing yet."""
    link, path = connection.chosen(context, given), paths.filled(paths.ROLE, name)
    if _is_there(link, path):
        exits.complain(f"there is a role {name} already")
        return exits.NOT_FOUND
    return _done(_ask(link, "PUT", path, RoleBody()), as_json=as_json)


@role.command("list", short_help="Print all roles.")
@json_option
@connection.options
@click.pass_context
def list_roles(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    """Print every role and what it may do. With --json, one object a line."""
    content = _ask(connection.chosen(context, given), "GET", paths.ROLES)
    roles = _read(content, RoleList).roles
    if as_json:
        output.write(b"".join(to_line(one) for one in roles))
        return exits.DONE
    rows = [(one.name, *_words(permission)) for one in roles for permission in one.permissions]
    rows += [(one.name, "nothing", "-") for one in roles if not one.permissions]
    print_table(("role", "may", "keys"), [(row, "") for row in sorted(rows)])
    return exits.DONE


@role.command("show", short_help="Print what a role may do.")
@click.argument("name")
@json_option
@connection.options
@click.pass_context
def show_role(context: click.Context, /, name: str, *, as_json: bool, **given: Any) -> int:
    """Print what the role NAME may do."""
    content = _ask(connection.chosen(context, given), "GET", paths.filled(paths.ROLE, name))
    if as_json:
        output.write(to_line(content))
    else:
        print_table(("may", "keys"), [(_words(one), "") for one in _read(content, RoleShown).permissions])
    return exits.DONE


def _words(permission: PermissionBody) -> tuple[str, str]:
    """What it allows, and of which keys."""
    access = {"both": "read, write"}.get(permission.access, permission.access)
    if permission.key is not None:
        return access, _bound(permission.key)
    if permission.prefix is not None:
        return access, f"{_bound(permission.prefix)}*" if permission.prefix else "all"
    return access, f"{_bound(permission.start or '')} up to {_bound(permission.end or 'the end')}"


def _bound(bound: Value) -> str:
    """As a line shows it, escaped."""
    return output.escaped(value_from_json(bound)).decode()


@role.command("delete", short_help="Remove a role.")
@click.argument("name")
@json_option
@connection.options
@click.pass_context
def delete_role(context: click.Context, /, name: str, *, as_json: bool, **given: Any) -> int:
    """Remove the role NAME, also from all users."""
    link = connection.chosen(context, given)
    return _done(_ask(link, "DELETE", paths.filled(paths.ROLE, name)), as_json=as_json)


_KEYS: Final = (
    click.option("--key", metavar="KEY", help="This key."),
    click.option("--prefix", metavar="PREFIX", help="All keys with it; '' are all keys."),
    click.option("--start", metavar="KEY", help="All keys from this one,"),
    click.option("--end", metavar="KEY", help="up to this one, which is not among them.  [default: no end]"),
)


def _permission(access: AccessWord, named: Mapping[str, str | None]) -> PermissionBody:
    given = {name: text_to_json(text) for name, text in named.items() if text is not None}
    if len(given.keys() - {"end"}) != 1 or ("end" in given and "start" not in given):
        raise click.UsageError("say which keys: one of --key, --prefix, and --start with --end or without")
    return PermissionBody(access, **given)


def _permitting(command: Callable[..., int]) -> Callable[..., int]:
    """Let ``command`` take what is permitted as one, said by an access and by which keys."""

    @functools.wraps(command)
    def permitted(*args: Any, access: AccessWord, **given: Any) -> int:
        named = {name: given.pop(name) for name in ("key", "prefix", "start", "end")}
        return command(*args, permission=_permission(access, named), **given)

    for option in reversed((click.argument("access", type=ACCESS), *_KEYS)):
        permitted = option(permitted)
    return permitted


@role.command("grant", short_help="Let a role do more.")
@click.argument("name")
@_permitting
@json_option
@connection.options
@click.pass_context
def grant(context: click.Context, /, name: str, *, permission: PermissionBody, as_json: bool, **given: Any) -> int:
    """Let the role NAME read, write or do both with a key, those with a prefix or those of a range."""
    path = paths.filled(paths.ROLE_PERMISSIONS, name)
    return _done(_ask(connection.chosen(context, given), "POST", path, permission), as_json=as_json)


@role.command("revoke", short_help="Let a role do less.")
@click.argument("name")
@_permitting
@json_option
@connection.options
@click.pass_context
def revoke(context: click.Context, /, name: str, *, permission: PermissionBody, as_json: bool, **given: Any) -> int:
    """Take from the role NAME what was granted in just these words."""
    from raftkv.client.arguments import query_of  # noqa: PLC0415  commands load what they use

    bounds = {one: getattr(permission, one) for one in ("key", "prefix", "start", "end")}
    named = {one: None if bound is None else text_from_json(bound) for one, bound in bounds.items()}
    path = f"{paths.filled(paths.ROLE_PERMISSIONS, name)}?{query_of({'access': permission.access, **named})}"
    return _done(_ask(connection.chosen(context, given), "DELETE", path), as_json=as_json)


# -- authentication itself --------------------------------------------------------------------------------------------


@click.group("auth", short_help="Is authentication on? Switch it.")
def auth() -> None:
    """Say whether the cluster wants to know who asks, and switch that."""


@auth.command("status", short_help="Is it on, and who am I?")
@json_option
@connection.options
@click.pass_context
def status(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    """Print whether authentication is on, as whom this command asks, and which roles that user has."""
    content = _ask(connection.chosen(context, given), "GET", paths.AUTH)
    if as_json:
        output.write(to_line(content))
        return exits.DONE
    told = _read(content, AuthStatus)
    lines = [f"authentication\t{'on' if told.enabled else 'off'}"]
    if told.user is not None:
        lines += [f"user\t{told.user}", f"roles\t{', '.join(told.roles) or '-'}"]
    output.write("".join(f"{output.printable(line.replace(chr(9), ': '))}\n" for line in lines).encode())
    return exits.DONE


@auth.command("enable", short_help="Let only users ask.")
@json_option
@connection.options
@click.pass_context
def enable(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    """Let only users ask, from now on. There must be one with the role root."""
    return _done(_ask(connection.chosen(context, given), "POST", paths.ENABLE), as_json=as_json)


@auth.command("disable", short_help="Let everybody ask.")
@json_option
@connection.options
@click.pass_context
def disable(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    """Let everybody ask for everything, from now on. Users and roles stay."""
    return _done(_ask(connection.chosen(context, given), "POST", paths.DISABLE), as_json=as_json)


@click.command("login", short_help="Print a token for a password.")
@json_option
@connection.options
@click.pass_context
def login(context: click.Context, /, *, as_json: bool, **given: Any) -> int:
    r"""Print a token for the user of --user, which commands take from RAFTKV_TOKEN until it ends.

    \b
    export RAFTKV_TOKEN=$(raftkv login --user alice)
    """
    link = connection.chosen(context, given)
    credentials = link.credentials()
    if credentials is None or not credentials.can_log_in:
        raise click.UsageError("whose token? --user NAME says it, and the password is asked for")
    told = _ask(link, "POST", paths.LOGIN, Login(user=credentials.user, password=credentials.password))
    output.write(to_line(told) if as_json else f"{_read(told, LoggedIn).token}\n".encode())
    return exits.DONE
