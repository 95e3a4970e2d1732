"""The entry point ``raftkv``: finds the command, runs it, turns whatever goes wrong into one line and an exit status.

Commands live in modules by topic and are imported when they are named: ``raftkv get`` loads nothing of the server, and
``raftkv node`` nothing of the client.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any, Final

import click

from raftkv.cli import connection, exits, output

COMMANDS: Final = {
    "up": ("raftkv.cli.nodes", "up"),
    "node": ("raftkv.cli.nodes", "node"),
    "proxy": ("raftkv.cli.proxy", "proxy"),
    "config": ("raftkv.cli.config", "config"),
    "get": ("raftkv.cli.keys", "get"),
    "set": ("raftkv.cli.keys", "set_"),
    "delete": ("raftkv.cli.keys", "delete"),
    "list": ("raftkv.cli.keys", "list_"),
    "increment": ("raftkv.cli.transactions", "increment"),
    "touch": ("raftkv.cli.transactions", "touch"),
    "txn": ("raftkv.cli.transactions", "txn"),
    "watch": ("raftkv.cli.watch", "watch"),
    "lease": ("raftkv.cli.leases", "lease"),
    "lock": ("raftkv.cli.locks", "lock"),
    "elect": ("raftkv.cli.locks", "elect"),
    "compact": ("raftkv.cli.transactions", "compact"),
    "status": ("raftkv.cli.status", "status"),
    "members": ("raftkv.cli.members", "members"),
    "transfer": ("raftkv.cli.members", "transfer"),
    "user": ("raftkv.cli.users", "user"),
    "role": ("raftkv.cli.users", "role"),
    "auth": ("raftkv.cli.users", "auth"),
    "login": ("raftkv.cli.users", "login"),
    "repair": ("raftkv.cli.members", "repair"),
    "backup": ("raftkv.cli.backup", "backup"),
    "restore": ("raftkv.cli.backup", "restore"),
    "import": ("raftkv.cli.importing", "import_"),
    "recover": ("raftkv.cli.recover", "recover"),
    "bench": ("raftkv.cli.bench", "bench"),
    "lab": ("raftkv.cli.lab", "lab"),
}


ALIASES: Final = {
    **dict.fromkeys(("put", "store", "write"), "set"),
    **dict.fromkeys(("del", "rm", "remove", "unset"), "delete"),
    **dict.fromkeys(("ls", "keys", "scan"), "list"),
    **dict.fromkeys(("read", "show", "cat"), "get"),
    **dict.fromkeys(("start", "run", "serve", "server"), "up"),
    **dict.fromkeys(("info", "health", "nodes"), "status"),
    **dict.fromkeys(("member", "cluster", "join"), "members"),
    **dict.fromkeys(("incr", "incrby", "inc", "count"), "increment"),
    **dict.fromkeys(("expire", "prolong"), "touch"),
    **dict.fromkeys(("transaction", "tx", "multi"), "txn"),
    **dict.fromkeys(("campaign", "election", "leader"), "elect"),
    **dict.fromkeys(("mutex", "flock", "acquire"), "lock"),
    **dict.fromkeys(("subscribe", "tail", "observe"), "watch"),
    **dict.fromkeys(("handover", "step-down", "move-leader"), "transfer"),
    **dict.fromkeys(("users", "useradd", "passwd", "password"), "user"),
    **dict.fromkeys(("roles", "permission", "permissions", "acl"), "role"),
    **dict.fromkeys(("signin", "token", "logon"), "login"),
    **dict.fromkeys(("migrate", "load", "copy"), "import"),
    "leases": "lease",
    "compaction": "compact",
    "benchmark": "bench",
}
"""What other stores call our commands: a suggestion, never a second name."""


class Commands(click.Group):
    """The commands of ``COMMANDS``, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            hint = _meant(cmd_name)
            raise click.UsageError(f"there is no command {cmd_name!r}{hint}", ctx)
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


def _meant(name: str) -> str:
    """What somebody who typed ``name`` may have had in mind."""
    if name == "help":
        return "; it is 'raftkv --help', or 'raftkv COMMAND --help'"
    meant = ALIASES.get(name.lower()) or next(iter(difflib.get_close_matches(name.lower(), COMMANDS, 1)), None)
    return f"; did you mean 'raftkv {meant}'?" if meant else ""


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001  click's signature
    if value:
        from raftkv import __version__  # noqa: PLC0415  looking it up takes a while

        click.echo(f"raftkv {__version__}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@connection.options
@click.pass_context
def cli(context: click.Context, /, **given: Any) -> None:
    """A replicated key-value store. `raftkv up` starts a cluster of three nodes on this machine.

    Exit status: 0 done, 1 not found or precondition failed, 2 usage or configuration, 3 unavailable (definitely not
    applied), 4 outcome unknown.
    """
    context.obj = connection.chosen(context, given)


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    elif isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "raftkv"
        sys.stderr.write(f"{command}: {' '.join(error.format_message().split())} (see '{command} --help')\n")
    else:
        exits.complain(error.format_message())
    return exits.USAGE


def run(arguments: list[str]) -> int:
    """Run the command line ``arguments``; returns the exit status and never raises what a person could see."""
    try:
        result = cli.main(arguments, prog_name="raftkv", standalone_mode=False)
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except output.ReaderGoneError:
        return exits.DONE  # what it wanted it has, and nothing more can be said to it
    except Exception as error:  # noqa: BLE001  a person sees one line, whatever it was
        return exits.exit_status(error)
    return result if isinstance(result, int) else exits.DONE


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
