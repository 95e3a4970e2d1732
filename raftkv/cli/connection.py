"""The cluster a command talks to, and as whom: ``--server``, ``--config``, ``--user``, ``--cacert`` and the like.

Before the command's name or after it.
"""

from __future__ import annotations

import functools
import getpass
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from raftkv.cli.kinds import TIMEOUT

if TYPE_CHECKING:
    from raftkv.client import Client
    from raftkv.client.credentials import Auth, Credentials
    from raftkv.client.reach import Cert
    from raftkv.core.config import ClusterConfig
    from raftkv.core.proof import Prover

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_TIMEOUT_S = 5.0


class ConnectionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was given on the command line; ``None`` and empty mean: not given."""

    server: tuple[str, ...] = ()
    config: Path | None = None
    timeout_s: float | None = None
    wait: bool = False
    cacert: Path | None = None
    user: str | None = None
    cert: Path | None = None
    cert_key: Path | None = None

    def over(self, outer: ConnectionOptions) -> ConnectionOptions:
        """These choices, and where there are none, those of ``outer``."""
        return ConnectionOptions(
            server=self.server or (() if self.config else outer.server),
            config=self.config or outer.config,
            timeout_s=self.timeout_s or outer.timeout_s,
            wait=self.wait or outer.wait,
            cacert=self.cacert or outer.cacert,
            user=self.user or outer.user,
            cert=self.cert or outer.cert,
            cert_key=self.cert_key or outer.cert_key,
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

    def named(self) -> dict[str, str]:
        """Who is at which address, as far as the configuration says so."""
        return {} if self.server or self.config is None else dict(_sites_of(self.config))

    def trusted(self) -> str | None:
        """The file of certificates to trust: what was given, or ``RAFTKV_CACERT``, or what the configuration names."""
        from raftkv.client.servers import TRUST_ENVIRONMENT  # noqa: PLC0415  commands load what they use

        if self.cacert is not None:
            return str(self.cacert)
        if self.config is None or os.environ.get(TRUST_ENVIRONMENT):
            return os.environ.get(TRUST_ENVIRONMENT) or None
        named = _read(self.config).http.tls_ca
        return str(self.config.resolve().parent / named) if named else None

    def credentials(self) -> Credentials | None:
        """Who asks, the same for all clients of a command; asks for a password that is missing at the terminal.

        Raises ``UsageError``.
        """
        return _credentials(self.user)

    def certificate(self) -> Cert:
        """Our own certificate, if one was given; raises ``UsageError``."""
        if self.cert is None:
            if self.cert_key is not None:
                raise click.UsageError("--cert-key: it is of no use without --cert")
            return None
        return str(self.cert) if self.cert_key is None else (str(self.cert), str(self.cert_key))

    def secret(self) -> tuple[Path, str] | None:
        """The file of the cluster's secret, and its name, unless it was said as which user to ask."""
        if self.config is None or self.user is not None:
            return None
        cluster = _read(self.config).cluster
        path = self.config.resolve().parent / cluster.secret_path
        # A secret that the file does not name is asked for by no server on this machine.
        return (path, cluster.name) if cluster.secret_file or os.access(path, os.R_OK) else None

    def prover(self) -> Prover | None:
        """What proves that we hold the secret; raises ``StartupError``."""
        from raftkv.core.proof import Prover  # noqa: PLC0415  commands load what they use
        from raftkv.core.secret import read_key  # noqa: PLC0415

        secret = self.secret()
        if secret is None:
            return None
        return Prover(read_key(*secret), secret[1], wall_ms=lambda: time.time_ns() // 1_000_000)

    def client(
        self,
        servers: tuple[str, ...] | None = None,
        *,
        timeout_s: float | None = None,
        proves: bool = False,
        auth: Auth = None,
        **more: Any,
    ) -> Client:
        """A client of ``servers``, or of those that were given; ``proves``: with the secret that the file names.

        Whoever said as which user it asks proves nothing by the secret. ``auth`` goes before what was given.
        """
        from raftkv.client import Client  # noqa: PLC0415  it takes longer to import than a command to run

        limit_s = timeout_s or self.timeout_s or DEFAULT_TIMEOUT_S
        if proves and (secret := self.secret()) is not None:
            more |= {"secret_file": secret[0], "cluster": secret[1]}
        given = servers or self.servers()
        more |= {"auth": auth or self.credentials(), "cert": self.certificate(), "tls_ca": self.trusted()}
        return Client(given, timeout_s=limit_s, await_start=self.wait, **more)


@functools.cache
def _credentials(user: str | None) -> Credentials | None:
    """What ``--user`` says, else the environment; once in a process, so that a password is asked for once."""
    from raftkv.client import credentials as known  # noqa: PLC0415  commands load what they use

    environment = dict(os.environ)
    if user is not None:
        name, colon, password = user.partition(":")
        environment[known.USER_ENVIRONMENT] = name
        environment.pop(known.TOKEN_ENVIRONMENT, None)
        if colon:
            environment[known.PASSWORD_ENVIRONMENT] = password
    name = environment.get(known.USER_ENVIRONMENT, "")
    if name and not (environment.get(known.PASSWORD_ENVIRONMENT) or environment.get(known.TOKEN_ENVIRONMENT)):
        check_terminal(f"{known.PASSWORD_ENVIRONMENT} gives the password of {name}")
        environment[known.PASSWORD_ENVIRONMENT] = getpass.getpass(f"password of {name}: ")
    return known.credentials_of(None, environment)


def check_terminal(otherwise: str) -> None:
    """Is there somebody to ask for a password? Raises ``UsageError`` that says what to do ``otherwise``."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise click.UsageError(f"there is no terminal to ask for a password: {otherwise}") from None


def _servers_of(path: Path) -> tuple[str, ...]:
    """The addresses in a configuration file. Its text is enough: its paths need not exist on a client's machine."""
    return tuple([url for url, _ in _sites_of(path)])


def _sites_of(path: Path) -> list[tuple[str, str]]:
    """Each node's address there, and its id."""
    config = _read(path)
    scheme = "https" if config.http.tls_cert else "http"
    return [(f"{scheme}://{node.http}", node.id) for node in config.node]


def _read(path: Path) -> ClusterConfig:
    from raftkv.core.environment import read_config  # noqa: PLC0415  commands load what they use

    return read_config(path, os.environ)


def options(command: Command, *, has_wait: bool = True) -> Command:
    """Give ``command`` these options, as one ``connection`` argument; not ``--wait`` where it has its own."""
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
            click.option("--user", metavar="NAME[:PASSWORD]", help="Ask as NAME; else RAFTKV_USER, or RAFTKV_TOKEN."),
            click.option("--cert", type=click.Path(path_type=Path), metavar="FILE", help="A certificate of our own."),
            click.option(
                "--cert-key", type=click.Path(path_type=Path), metavar="FILE", help="Its key, if not in FILE too."
            ),
        )
    ):
        command = option(command)
    return command


def chosen(context: click.Context, given: dict[str, Any]) -> ConnectionOptions:
    """The connection of a command: what it was given over what ``raftkv`` was given; takes it out of ``given``."""
    names = ConnectionOptions.__struct_fields__
    own = ConnectionOptions(**{name: given.pop(name) for name in names if name in given})
    return own.over(context.obj) if isinstance(context.obj, ConnectionOptions) else own
