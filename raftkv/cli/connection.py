"""The cluster a command talks to: ``--server``, ``--config``, ``--timeout``, ``--wait``, ``--cacert``.

Before the command's name or after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from raftkv.cli.kinds import TIMEOUT

if TYPE_CHECKING:
    from raftkv.client import Client
    from raftkv.core.config import ClusterConfig

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_TIMEOUT_S = 5.0


class ConnectionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was given on the command line; ``None`` and empty mean: not given."""

    server: tuple[str, ...] = ()
    config: Path | None = None
    timeout_s: float | None = None
    wait: bool = False
    cacert: Path | None = None

    def over(self, outer: ConnectionOptions) -> ConnectionOptions:
        """These choices, and where there are none, those of ``outer``."""
        return ConnectionOptions(
            server=self.server or (() if self.config else outer.server),
            config=self.config or outer.config,
            timeout_s=self.timeout_s or outer.timeout_s,
            wait=self.wait or outer.wait,
            cacert=self.cacert or outer.cacert,
        )

    def patient(self) -> ConnectionOptions:
        """The same without a bound of its own on time, for what is asked on top of the command."""
        return msgspec.structs.replace(self, timeout_s=None)

    def servers(self) -> tuple[str, ...]:
        """The addresses; raises ``StartupError`` or ``UsageError``."""
        from raftkv.client.servers import parse_servers  # noqa: PLC0415  commands load what they use

        if self.server:
            return parse_servers(self.server)
        return parse_servers(None) if self.config is None else _servers_of(self.config)

    def trusted(self) -> str | None:
        """The file of certificates to trust: what was given, or ``RAFTKV_CACERT``, or what the configuration names."""
        from raftkv.client.servers import TRUST_ENVIRONMENT  # noqa: PLC0415  commands load what they use

        if self.cacert is not None:
            return str(self.cacert)
        if self.config is None or os.environ.get(TRUST_ENVIRONMENT):
            return os.environ.get(TRUST_ENVIRONMENT) or None
        named = _read(self.config).http.tls_ca
        return str(self.config.resolve().parent / named) if named else None

    def client(
        self,
        servers: tuple[str, ...] | None = None,
        *,
        timeout_s: float | None = None,
        proves: bool = False,
        **more: Any,
    ) -> Client:
        """A client of ``servers``, or of those that were given; ``proves``: with the secret that the file names."""
        from raftkv.client import Client  # noqa: PLC0415  it takes longer to import than a command to run

        limit_s = timeout_s or self.timeout_s or DEFAULT_TIMEOUT_S
        if proves and self.config is not None:
            cluster = _read(self.config).cluster
            path = self.config.resolve().parent / cluster.secret_path
            # A secret that the file does not name is asked for by no server on this machine.
            if cluster.secret_file or os.access(path, os.R_OK):
                more |= {"secret_file": path, "cluster": cluster.name}
        given = servers or self.servers()
        return Client(given, timeout_s=limit_s, await_start=self.wait, tls_ca=self.trusted(), **more)


def _servers_of(path: Path) -> tuple[str, ...]:
    """The addresses in a configuration file. Its text is enough: its paths need not exist on a client's machine."""
    config = _read(path)
    scheme = "https" if config.http.tls_cert else "http"
    return tuple([f"{scheme}://{node.http}" for node in config.node])


def _read(path: Path) -> ClusterConfig:
    from raftkv.core.environment import read_config  # noqa: PLC0415  commands load what they use

    return read_config(path, os.environ)


def options(command: Command, *, has_wait: bool = True) -> Command:
    """Give ``command`` the five options, as one ``connection`` argument; not ``--wait`` where it has its own."""
    waiting = click.option("--wait", is_flag=True, help="Wait for servers that do not listen yet, until --timeout.")
    for option in reversed(
        (
            click.option("--server", metavar="URL", multiple=True, help="A server; repeat, or separate by commas."),
            click.option(
                "--config",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="Ask the nodes of FILE, with its secret.",
            ),
            click.option(
                "--timeout", "timeout_s", type=TIMEOUT, metavar="TIME", help="Give up after so long.  [default: 5s]"
            ),
            *((waiting,) if has_wait else ()),
            click.option("--cacert", type=click.Path(path_type=Path), metavar="FILE", help="Certificates to trust."),
        )
    ):
        command = option(command)
    return command


def chosen(context: click.Context, given: dict[str, Any]) -> ConnectionOptions:
    """The connection of a command: what it was given over what ``raftkv`` was given; takes it out of ``given``."""
    names = ("server", "config", "timeout_s", "wait", "cacert")
    own = ConnectionOptions(**{name: given.pop(name) for name in names if name in given})
    return own.over(context.obj) if isinstance(context.obj, ConnectionOptions) else own
