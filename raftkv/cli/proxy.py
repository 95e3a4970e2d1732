"""``raftkv proxy``: one address for a whole cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from raftkv.cli import connection, exits
from raftkv.cli.connection import DEFAULT_TIMEOUT_S, ConnectionOptions

LISTEN = "127.0.0.1:8000"


@click.command("proxy", short_help="Run one address for a whole cluster.")
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--listen", default=LISTEN, show_default=True, metavar="HOST:PORT", help="Where clients reach the proxy.")
@connection.options
@click.pass_context
def proxy(context: click.Context, /, config_file: Path | None, *, listen: str, **given: Any) -> int:
    """Pass requests on to the nodes of CONFIG, or of --server, until Ctrl-C.

    Every request goes to the node that is best placed for it, and to another one when that does no harm. Nodes that
    join later are found. Where authentication is on, requests speak for whoever sent them; the proxy itself asks
    who belongs to the cluster by the secret of CONFIG, or as --user.
    """
    from raftkv.core.config import parse_address  # noqa: PLC0415  commands load what they use
    from raftkv.core.environment import read_config  # noqa: PLC0415
    from raftkv.http.door.browsers import names_of  # noqa: PLC0415
    from raftkv.proxy.server import run_proxy  # noqa: PLC0415

    try:
        address = parse_address(listen)
    except ValueError as error:
        raise click.UsageError(f"--listen: {error}", context) from None
    if config_file is not None:
        given["config"] = config_file
    link: ConnectionOptions = connection.chosen(context, given)
    servers = link.servers()
    if link.certificate() is not None:
        raise click.UsageError("--cert: whoever asks through the proxy would be taken for whom it names; use --user")
    run_proxy(
        address,
        servers,
        timeout_s=link.timeout_s or DEFAULT_TIMEOUT_S,
        cacert=link.trusted(),
        credentials=link.credentials(),
        prover=link.prover(),
        hosts=() if config_file is None else names_of(read_config(config_file, os.environ)),
        announce=f"listening on http://{address} for {', '.join(servers)}",
    )
    return exits.DONE
