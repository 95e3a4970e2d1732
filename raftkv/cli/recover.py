"""``raftkv recover``: a cluster of one out of a survivor, when a raft cluster has lost its quorum for good."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from raftkv.cli import connection, exits, output
from raftkv.cli.keys import advance_option, json_option

if TYPE_CHECKING:
    from raftkv.backup.recovering import Survivor, SurvivorSummary
    from raftkv.core.config import ClusterConfig
    from raftkv.formats.backups import BackupManifest


@click.command("recover", short_help="Make a cluster of one out of a survivor, when the quorum is lost for good.")
@click.option(
    "--from",
    "homes",
    metavar="DATA",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="A survivor's data directory, the one named after its node. Repeat it to compare several.",
)
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@advance_option
@json_option
@connection.options
@click.pass_context
def recover(
    context: click.Context,
    /,
    homes: tuple[Path, ...],
    *,
    yes: bool,
    advance: int | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Make a cluster of one out of what a survivor holds, when the quorum of a raft cluster is lost for good.

    Without --config it says what each DATA holds, and which to choose; nothing is done. With --config FILE, a new
    cluster's of one node, it makes that node's data out of the one DATA, after a warning and a question. DATA is never
    changed, and no node may run on it. While a majority of the old nodes can be brought back, bring them back instead.
    """
    from raftkv.backup import recovering  # noqa: PLC0415  commands load what they use
    from raftkv.launch.config_file import load_cluster  # noqa: PLC0415

    link = connection.chosen(context, given)
    if link.config is not None and len(homes) != 1:
        raise click.UsageError("with --config it takes one --from: the survivor that was chosen", context)
    if link.config is not None and not yes and not sys.stdin.isatty():
        raise click.UsageError("it asks before it goes on: give --yes where nobody can answer", context)
    with ExitStack() as stack:
        found = [stack.enter_context(recovering.survivor(home)) for home in homes]
        summaries = [one.summary for one in found]
        if not (as_json and link.config is not None):
            _tell(summaries, as_json=as_json)
        if link.config is None:
            if not as_json:
                _advise(recovering.longest(summaries), summaries)
            return exits.DONE
        config = load_cluster(link.config)
        recovering.check_target(found[0], config)
        return _made(found[0], config, link.config, advance, is_sure=yes, as_json=as_json)


def _made(
    found: Survivor, config: ClusterConfig, path: Path, advance: int | None, *, is_sure: bool, as_json: bool
) -> int:
    from raftkv import __version__  # noqa: PLC0415  looking it up takes a while
    from raftkv.backup import recovering, restoring  # noqa: PLC0415  commands load what they use

    node, directory = config.node[0], Path(config.cluster.data_dir)
    restoring.check_free(directory / node.id)
    with recovering.rebuilt(found, directory, __version__) as (file, manifest):
        _warn(found.summary, manifest)
        if not (is_sure or click.confirm("Go on?", err=True)):
            exits.complain("nothing was done")
            return exits.INTERRUPTED
        leap = restoring.ADVANCE if advance is None else advance
        (made,) = restoring.restore(file, config, (node.id,), advance=leap).made
    if as_json:
        content = {"made": str(made), "revision": manifest.revision, "advance": leap, "from": found.summary}
        output.write(msgspec.json.encode(content) + b"\n")
        return exits.DONE
    _write(
        f"{made}: made of revision {manifest.revision}; the next one is above {manifest.revision + leap}",
        f"start it:     raftkv node {path} --id {node.id}",
        f"let others in, one by one, each with an empty data directory and cluster.name {config.cluster.name}:",
        f"              raftkv node FILE --id NODE --join {node.http}",
    )
    return exits.DONE


def _tell(summaries: list[SurvivorSummary], *, as_json: bool) -> None:
    if as_json:
        output.write(msgspec.json.encode(summaries) + b"\n")
        return
    for one in summaries:
        lines = [
            f"{one.directory}: node {one.node} of cluster {one.cluster}",
            f"  last entry  {one.last_index} of term {one.last_term}, {one.commit_index} known to be committed",
            f"  last write  {_moment(one.stamped_ms)}",
            f"  revision    {'not known before it is rebuilt' if one.revision is None else one.revision}",
        ]
        if one.doubt:
            lines.append(f"  DOUBTFUL    {one.doubt}")
        _write(*lines)


def _advise(chosen: SurvivorSummary, summaries: list[SurvivorSummary]) -> None:
    if len(summaries) > 1:
        _write(f"choose {chosen.directory}: it has every acknowledged write that any of these has")
    _write(
        "Ask every survivor, then choose the one whose last entry has the highest term and, of those, the highest",
        f"index. Nothing was done; go on with: raftkv recover --from {chosen.directory} --config NEW.toml",
    )


def _warn(summary: SurvivorSummary, manifest: BackupManifest) -> None:
    """On standard error, so that it is seen wherever the rest goes."""
    open_count = manifest.index - summary.commit_index
    end = f"entry {manifest.index} of term {manifest.term}, revision {manifest.revision}"
    told = [
        f'WARNING: a new cluster is made of one survivor of "{summary.cluster}", {summary.node}.',
        f"  It ends at {end}, {_moment(summary.stamped_ms)}.",
        "  LOST may be:  every later write, acknowledged or not. The nodes that are gone",
        "                may have had some, and other survivors may have some: ask them",
        "                first, and choose by the highest term, then the highest index.",
        f"  NEW may be:   the last {open_count} entries, not known here to be committed. They",
        '                are applied, though clients may have been told "unknown".',
        f'  FROM NOW ON:  no other node of "{summary.cluster}" may run. Those that come back',
        "                are a second cluster, which knows nothing of this one.",
    ]
    if not open_count:
        del told[5:7]
    if summary.doubt:
        told.insert(2, f"  DOUBTFUL:     {summary.doubt}.")
    click.secho("\n".join([output.printable(line) for line in told]), fg="yellow", err=True)


def _moment(stamped_ms: int | None) -> str:
    if stamped_ms is None:
        return "none since its last snapshot"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stamped_ms / 1000))


def _write(*lines: str) -> None:
    output.write("".join([f"{output.printable(line)}\n" for line in lines]).encode())
