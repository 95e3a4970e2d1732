"""``raftkv backup`` and ``raftkv restore``: all that a cluster holds in one file, and a new cluster out of one."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from raftkv.cli import connection, exits, output
from raftkv.cli.keys import advance_option, json_option

if TYPE_CHECKING:
    from raftkv.cli.connection import ConnectionOptions
    from raftkv.client.arguments import BackupLevel
    from raftkv.formats.backups import BackupManifest


@click.command("backup", short_help="Write all that the cluster holds into a file.")
@click.argument("words", nargs=-1, required=True, metavar="FILE|- | verify FILE")
@click.option(
    "--consistency",
    type=click.Choice(["linearizable", "local"]),
    help="local: what the asked node has applied, without a leader.",
)
@json_option
@connection.options
@click.pass_context
def backup(
    context: click.Context,
    /,
    words: tuple[str, ...],
    *,
    consistency: BackupLevel | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Write all that the cluster holds into FILE, while it goes on; - is standard output.

    In raft mode it is one state, in which is all that was acknowledged before. A leaderless cluster's is gathered from
    its nodes into FILE; - or --consistency local is what the asked one holds. FILE gets its name once it is proved.
    `backup verify FILE` proves that again, and says what is in it, without a cluster.
    """
    link = connection.chosen(context, given)
    if words[0] == "verify" and len(words) == 2:
        from raftkv.storage.backups.reading import verify  # noqa: PLC0415  commands load what they use

        _tell(verify(Path(words[1])), words[1], as_json=as_json)
        return exits.DONE
    if len(words) != 1:
        raise click.UsageError("it takes FILE, or - for standard output, or verify FILE", context)
    if words[0] == "-":
        _write(link, consistency)
        return exits.DONE
    from raftkv.backup.fetching import drafted  # noqa: PLC0415
    from raftkv.backup.taking import take  # noqa: PLC0415

    scheme = link.servers()[0].partition("://")[0]
    with drafted(Path(words[0])) as draft:
        manifest = take(link.client, draft, scheme=scheme, level=consistency)
    _tell(manifest, words[0], as_json=as_json)
    return exits.DONE


@click.command("restore", short_help="Make a new cluster of a backup.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--id", "node", metavar="NODE", help="Only this node's data, on its machine; the others do the same.")
@advance_option
@json_option
@connection.options
@click.pass_context
def restore(
    context: click.Context,
    /,
    file: Path,
    *,
    node: str | None,
    advance: int | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Make the data of a new cluster, that of --config, out of the backup FILE; start it afterwards.

    Every node of the new cluster must be made of the same FILE, with the same --advance, before any is started. Nothing
    is written over data. No node of the cluster that the backup is of may run beside it.
    """
    from raftkv.backup import restoring  # noqa: PLC0415  commands load what they use
    from raftkv.core.config import ConfigError  # noqa: PLC0415
    from raftkv.core.errors import StartupError  # noqa: PLC0415
    from raftkv.launch.config_file import load_cluster  # noqa: PLC0415

    link = connection.chosen(context, given)
    if link.config is None:
        raise click.UsageError("it takes --config FILE, the new cluster's", context)
    config = load_cluster(link.config)
    nodes = (node,) if node else tuple([one.id for one in config.node])
    if node:
        try:
            config.member(node)
        except ConfigError as error:
            raise StartupError(f"{link.config}: {error}") from None
    done = restoring.restore(file, config, nodes, advance=restoring.ADVANCE if advance is None else advance)
    if as_json:
        content = {"made": [str(one) for one in done.made], "there": [str(one) for one in done.there]}
        output.write(msgspec.json.encode({**content, "backup": done.manifest}) + b"\n")
        return exits.DONE
    for home in done.there:
        output.write(f"{home}: was made of this backup before\n".encode())
    for home in done.made:
        output.write(f"{home}: made of revision {done.manifest.revision}\n".encode())
    started = f"raftkv up {link.config}" if not node else f"raftkv node {link.config} --id {node}"
    output.write(f"start it, once every node is made of this file: {started}\n".encode())
    return exits.DONE


def _write(link: ConnectionOptions, level: BackupLevel | None) -> None:
    if os.isatty(sys.stdout.fileno()):
        raise click.UsageError("a backup is not for a terminal: name a FILE, or pipe it on")
    with link.client(proves=True) as client:
        for piece in client.backup(level):
            output.write(piece)


def _tell(manifest: BackupManifest, name: str, *, as_json: bool) -> None:
    if as_json:
        output.write(msgspec.json.encode(manifest) + b"\n")
        return
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.made_ms / 1000))
    lines = [
        f"{name}: whole",
        f"  cluster   {manifest.cluster} ({manifest.mode}), from {', '.join(manifest.nodes)}",
        f"  made      {made} by raftkv {manifest.version}",
        f"  revision  {manifest.revision}",
        f"  holds     {_rows(manifest, 'keys' if manifest.mode == 'raft' else 'data')} keys"
        + (f", {_rows(manifest, 'leases')} leases" if manifest.mode == "raft" else ", deleted ones included"),
        f"  size      {manifest.body_bytes} bytes, blake2b {manifest.digest[:16]}...",
    ]
    output.write("".join([line + "\n" for line in lines]).encode())


def _rows(manifest: BackupManifest, table: str) -> int:
    return dict(manifest.tables).pop(table, 0)
