"""``raftkv lock`` and ``raftkv elect``: hold a name, and run a command for exactly so long.

The command ends before what it runs under can be another's: see ``raftkv.cli.charge``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from raftkv.api.answers import LockGranted
from raftkv.cli import connection, exits, output
from raftkv.cli.advice import explaining
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.keys import json_option, to_line
from raftkv.cli.kinds import DURATION, WAIT
from raftkv.cli.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raftkv.client import Client
    from raftkv.client.holding import ClientHold

TOKEN_VARIABLE: Final = "RAFTKV_LOCK_TOKEN"  # noqa: S105  what RAFTKV_TOKEN is for is authentication
TTL_S: Final = 10.0
GRACE_S: Final = 2.0
WAIT_MAX_S: Final = 3600.0
"""Longer nobody waits with one request; who waits for ever comes again."""


class CommandRunner(click.Command):
    """Takes its own options before and after its own arguments; all that follows is a command, with or without --."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        options = [one for one in self.params if isinstance(one, click.Option)]
        valued = {name for one in options if not one.is_flag for name in one.opts}
        count = sum(isinstance(one, click.Argument) and one.nargs == 1 for one in self.params)
        own: list[str] = []
        names: list[str] = []
        words = list(args)
        while words and words[0] != "--":
            if words[0].startswith("-"):
                own += [words.pop(0) for _ in range(1 + (words[0] in valued)) if words]
            elif len(names) < count:
                names.append(words.pop(0))
            else:
                break
        return super().parse_args(ctx, [*own, "--", *names, *words[words[:1] == ["--"] :]])


def _holding(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--ttl", type=DURATION, default=TTL_S, metavar="TIME", help="How long it outlives us.  [default: 10s]"
            ),
            click.option(
                "--wait",
                "wait_s",
                type=WAIT,
                default=None,
                metavar="TIME",
                help="Give up after so long; 0: at once.  [default: never]",
            ),
            click.option(
                "--grace",
                "grace_s",
                type=DURATION,
                default=None,
                metavar="TIME",
                help="From SIGTERM to SIGKILL.  [default: 2s, or a quarter of --ttl]",
            ),
        )
    ):
        command = option(command)
    return command


@click.command("lock", cls=CommandRunner, short_help="Run a command under a lock.")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_holding
@click.option(
    "--permits", type=click.IntRange(min=1, max=100), default=1, metavar="N", help="So many may hold it at once."
)
@click.option("--holder", default=None, metavar="TEXT", help="What others see.  [default: host:pid]")
@json_option
@partial(connection.options, has_wait=False)
@click.pass_context
def lock(
    context: click.Context, /, name: str, command: Sequence[str], *, permits: int, holder: str | None, **given: Any
) -> int:
    """Hold the lock NAME while COMMAND runs, and end with its exit status.

    COMMAND finds a fencing token in RAFTKV_LOCK_TOKEN. When the lock is about to be lost, COMMAND gets SIGTERM, and
    SIGKILL before another can hold it; then the exit status is 4. Without COMMAND: print the token, and hold the lock
    until Ctrl-C. Exit status 1 when others hold it.
    """
    shown = f"{socket.gethostname()}:{os.getpid()}" if holder is None else holder

    def make(client: Client, **terms: Any) -> ClientHold:
        if permits > 1:
            return client.semaphore(name, permits, holder=shown, **terms)
        return client.lock(name, holder=shown, **terms)

    return _hold(context, name, make, command, **given)


@click.command("elect", cls=CommandRunner, short_help="Run a command while leading.")
@click.argument("name")
@click.argument("value")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_holding
@json_option
@partial(connection.options, has_wait=False)
@click.pass_context
def elect(context: click.Context, /, name: str, value: str, command: Sequence[str], **given: Any) -> int:
    """Campaign in the election NAME, known by VALUE, and run COMMAND while leading: as raftkv lock does."""

    def make(client: Client, **terms: Any) -> ClientHold:
        return client.election(name).campaign(os.fsencode(value), **terms)

    return _hold(context, name, make, command, **given)


def _hold(
    context: click.Context,
    name: str,
    make: Callable[..., ClientHold],
    command: Sequence[str],
    *,
    ttl: float,
    wait_s: float | None,
    grace_s: float | None,
    as_json: bool,
    **given: Any,
) -> int:
    grace_s = grace_of(ttl) if grace_s is None else grace_s
    if command and grace_s > ttl / 2:
        raise click.UsageError(f"--grace is at most half of --ttl, which is {ttl:g}s", context)
    link = connection.chosen(context, given)
    lost = threading.Event()
    with link.client() as client, _ending():
        held = _acquired(link, lambda wait: make(client, ttl=ttl, wait=wait, on_lost=lost.set), wait_s)
        try:
            if not command:
                return _kept(held, lost, as_json=as_json)
            from raftkv.cli.charge import run_charged  # noqa: PLC0415  commands load what they use

            more = {TOKEN_VARIABLE: str(held.token), "RAFTKV_SERVERS": ",".join(client.servers)}
            status, was_ended = run_charged(command, more, left_s=held.left_s, grace_s=grace_s)
            if was_ended:
                exits.complain(f"{name} could not be kept, and {command[0]} was ended")
                return exits.UNKNOWN
            return status
        finally:
            _release(held)


def grace_of(ttl_s: float) -> float:
    """How much of a life is kept for ending: so little that a keep-alive may fail, and be tried again for a while."""
    return min(GRACE_S, ttl_s / 4)


def _acquired(link: ConnectionOptions, make: Callable[[float], ClientHold], wait_s: float | None) -> ClientHold:
    """What is held, once it is."""
    from raftkv.client.errors import LockHeld  # noqa: PLC0415  commands load what they use
    from raftkv.core.errors import DefiniteError  # noqa: PLC0415

    while True:
        held = make(WAIT_MAX_S if wait_s is None else wait_s)
        try:
            with explaining(lambda: survey(link.patient())):
                held.acquire()
        except LockHeld as error:
            if wait_s is not None:  # else it comes again
                who = ", ".join(one.holder or f"lease {one.lease}" for one in error.holders)
                raise DefiniteError(error.code, f"{held.name} is held" + (f" by {who}" if who else "")) from None
        else:
            return held


def _kept(held: ClientHold, lost: threading.Event, *, as_json: bool) -> int:
    """Hold it until somebody ends us, or it is lost."""
    told = LockGranted(name=held.name, lease=held.lease.id, token=held.token)
    try:
        output.write(to_line(told) if as_json else b"%d\n" % held.token)
        lost.wait()
    except KeyboardInterrupt:
        return exits.DONE
    exits.complain(f"{held.name} could not be kept")
    return exits.UNKNOWN


def _release(held: ClientHold) -> None:
    from raftkv.core.errors import RaftkvError  # noqa: PLC0415  commands load what they use

    is_lost = held.is_lost
    try:
        held.release()
    except RaftkvError as error:
        if not is_lost:
            exits.complain(f"{held.name} is let go within {held.lease.ttl:g} s: {error.detail}")


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does: by letting go what is held."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
