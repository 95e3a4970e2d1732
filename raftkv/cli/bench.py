"""``raftkv bench``: load on a cluster that runs; ``raftkv bench reference4``: sixteen runs on clusters of its own."""

from __future__ import annotations

import contextlib
import csv
import gc
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import click
import msgspec

from raftkv.api.cluster_answers import NodeStatus
from raftkv.cli import connection, exits
from raftkv.cli.connection import ConnectionOptions
from raftkv.cli.kinds import Duration
from raftkv.cli.tables import print_figures, print_text
from raftkv.instruments.load.plan import Distribution, LoadError, LoadPlan, parse_ratio

if TYPE_CHECKING:
    from raftkv.instruments.load.engine import LoadTarget
    from raftkv.instruments.load.result import Result
    from raftkv.instruments.load.run import Progress

ETCD_SERVERS: Final = ("http://127.0.0.1:2379",)
DEFAULTS: Final = LoadPlan()
ASK_S: Final = 2.0
"""How long a server may take to say what it is."""

MISSING: Final = "{} is not installed; the extra 'lab' brings it: pip install '.[lab]' where you installed raftkv from"
RUN: Final = Duration(most_s=86_400.0)
RUN_OF_SIXTEEN: Final = Duration(least_s=1.0, most_s=3600.0)
WARM_UP: Final = Duration(least_s=0.0, most_s=3600.0)
FILE = click.Path(dir_okay=False, path_type=Path)


def _writable(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse what cannot be written before anything is measured."""
    if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written.")
    return path


@click.group("bench", invoke_without_command=True, short_help="Measure a cluster under load.")
@click.option(
    "--ratio", default=str(DEFAULTS.ratio), show_default=True, metavar="WRITES/READS", help="1/99, 50/50, ..."
)
@click.option("--seconds", type=RUN, default=DEFAULTS.seconds, show_default=True, help="How long to measure.")
@click.option(
    "--warm-up", "warm_up_s", type=WARM_UP, default=DEFAULTS.warm_up_s, show_default=True, help="Time not measured."
)
@click.option("--clients", default=DEFAULTS.clients, show_default=True, help="Requests under way at most.")
@click.option(
    "--rate", "rate_per_s", type=float, help="Requests per second, an open loop; without it the loop is closed."
)
@click.option("--keys", default=DEFAULTS.keys, show_default=True, help="How many different ones.")
@click.option(
    "--distribution",
    type=click.Choice([each.value for each in Distribution]),
    default=DEFAULTS.distribution.value,
    show_default=True,
    help="Which keys are asked for; local-in-time: those just written.",
)
@click.option("--exponent", default=DEFAULTS.exponent, show_default=True, help="Of the zipfian distribution.")
@click.option("--value-bytes", default=DEFAULTS.value_bytes, show_default=True)
@click.option("--consistency", default="", metavar="LEVEL", help="Of reads: linearizable, lease, eventual, local.")
@click.option("--r", default="", metavar="N", help="Replicas that each read asks.")
@click.option("--w", default="", metavar="leader|majority|all|N", help="Replicas that have a write before its answer.")
@click.option("--seed", default=DEFAULTS.seed, show_default=True, help="The same one draws the same operations.")
@click.option("--fill/--no-fill", default=DEFAULTS.fill, show_default=True, help="Write every key before measuring.")
@click.option("--keep", is_flag=True, help="Leave the keys; otherwise they are deleted at the end.")
@click.option("--etcd", is_flag=True, help="The servers are etcd's, spoken to through its JSON gateway.")
@click.option("--json", "json_path", type=FILE, callback=_writable, help="Write the result here.")
@click.option("--csv", "csv_path", type=FILE, callback=_writable, help="Add a line for the run here.")
@connection.options
@click.pass_context
def bench(
    context: click.Context, /, *, etcd: bool, json_path: Path | None, csv_path: Path | None, ratio: str, **given: Any
) -> int:
    """Read and write at random, a random server for each request, and show latencies, errors and stale reads.

    Writes the keys bench-0, bench-1, ..., and deletes those it wrote when it ends, also on Ctrl-C (a second one leaves
    them). Exit status 3 when not one operation succeeded.
    """
    link = connection.chosen(context, given)
    if context.invoked_subcommand is not None:
        context.obj = link
        return exits.DONE
    try:
        timeout_s = link.timeout_s or DEFAULTS.timeout_s
        plan = msgspec.convert(
            {**given, "ratio": parse_ratio(ratio), "distribution": given["distribution"], "timeout_s": timeout_s},
            type=LoadPlan,
        )
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None
    try:
        result = _run(plan, link, etcd=etcd)
    except LoadError as error:
        exits.complain(str(error))
        return exits.UNAVAILABLE
    _show(result)
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    if csv_path is not None:
        _add_line(csv_path, result)
    return exits.DONE if result.latency else exits.UNAVAILABLE


def _run(plan: LoadPlan, link: ConnectionOptions, *, etcd: bool) -> Result:
    try:
        import uvloop  # noqa: PLC0415  commands load what they use

        from raftkv.client.reach import trusting  # noqa: PLC0415
        from raftkv.instruments.load.dialect import EtcdDialect, RaftkvDialect  # noqa: PLC0415
        from raftkv.instruments.load.run import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.UsageError(MISSING.format(error.name)) from None
    urls = ETCD_SERVERS if etcd and not link.server and link.config is None else link.servers()
    servers = [_server(url) for url in urls]
    tls = trusting(link.trusted(), link.certificate()) if any(server.tls for server in servers) else None
    gc.freeze()  # what was imported need not be looked through again and again while latencies are measured
    print_text(_heading(plan, link, urls, etcd=etcd))
    # If the cluster wanted to know who asks, there is a token since then.
    known = None if etcd else link.credentials()
    dialect = EtcdDialect(plan) if etcd else RaftkvDialect(plan, known.token if known is not None else "")
    reached: Progress | None = None
    try:
        with _watching() as watch:

            def remember(now: Progress) -> None:
                nonlocal reached
                reached = now
                watch(now)

            return uvloop.run(run(plan, servers, dialect, watch=remember, tls=tls))
    except KeyboardInterrupt:
        if reached is not None and not plan.keep and (reached.phase != "clean up" or reached.done < reached.total):
            exits.complain("interrupted; some of the keys bench-... may be left")
        raise


def _heading(plan: LoadPlan, link: ConnectionOptions, urls: tuple[str, ...], *, etcd: bool) -> str:
    from raftkv.client.records import typed  # noqa: PLC0415
    from raftkv.core.errors import RaftkvError  # noqa: PLC0415
    from raftkv.instruments.load import report  # noqa: PLC0415

    if etcd:
        return report.heading(plan, urls, "etcd", None)
    try:
        with link.client(timeout_s=min(link.timeout_s or ASK_S, ASK_S)) as client:
            found = typed(client.status(), NodeStatus)
        return report.heading(plan, urls, found.mode, (found.n, found.r, found.w))
    except RaftkvError:  # the run itself says what is wrong with the servers
        return report.heading(plan, urls, "mode unknown", None)


def _server(url: str) -> LoadTarget:
    from raftkv.instruments.load.engine import LoadTarget  # noqa: PLC0415

    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    assert parts.hostname is not None
    return LoadTarget(parts.hostname, parts.port or (443 if is_tls else 80), is_tls)


@contextlib.contextmanager
def _watching() -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error, if a person is there to see it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    columns = (
        progress.TextColumn("{task.description:8}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[told]}"),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", told="")

        def watch(now: Progress) -> None:
            told = f"{now.done:.0f} of {now.total:.0f}"
            if now.phase == "measure":
                told += f" s, {now.operations / max(now.done, 0.1):,.0f} op/s, {now.errors} errors, {now.stale} stale"
            bar.update(task, description=now.phase, completed=now.done, total=now.total, told=told)

        yield watch


def _show(result: Result) -> None:
    from raftkv.instruments.load import report  # noqa: PLC0415

    print_figures(report.COLUMNS, report.latency_rows(result))
    for line in report.remarks(result):
        print_text(line)


def _add_line(path: Path, result: Result) -> None:
    from raftkv.instruments.load.report import csv_fields  # noqa: PLC0415

    fields = csv_fields(result)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(fields))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(fields)


@bench.command("reference4", short_help="The sixteen runs of reference 4, on clusters of its own.")
@click.option("--seconds", "run_s", type=RUN_OF_SIXTEEN, default=15.0, show_default=True, help="Of each run.")
@click.option("--seed", type=click.IntRange(min=0), default=DEFAULTS.seed, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reference4"),
    show_default=True,
    metavar="DIR",
    help="Where the report and all results go.",
)
@click.option(
    "--images", type=click.Choice(["png", "svg"]), default="png", show_default=True, help="Format of the graphs."
)
def reference4(run_s: float, seed: int, out: Path, images: Literal["png", "svg"]) -> int:
    """Compare leader-follower W=5/R=1, W=1/R=5, W=3/R=3 and leaderless W=5/R=1 on five nodes.

    Each at 1, 10, 50 and 90 percent writes, with the reference's artificial delays, on clusters of real processes that
    are started and ended here. Writes tables, graphs, and which choice is best for which ratio, and why.
    """
    try:
        from raftkv.instruments.lab.reference4.report import write  # noqa: PLC0415
        from raftkv.instruments.lab.reference4.runs import Settings, perform  # noqa: PLC0415
        from raftkv.instruments.lab.report.drawing import can_make_png  # noqa: PLC0415
        from raftkv.instruments.local.nodes import ClusterError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.UsageError(MISSING.format(error.name)) from None
    if images == "png" and not can_make_png():
        raise click.UsageError(MISSING.format("resvg-py"))
    command = shlex.join(["raftkv", "bench", "reference4", "--seconds", f"{run_s:g}", "--seed", str(seed)])
    try:
        runs = perform(Settings(seconds=run_s, seed=seed), out, tell=click.echo)
    except (ClusterError, LoadError) as error:
        exits.complain(str(error))
        return exits.UNAVAILABLE
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None
    click.echo(f"{write(runs, out, image_format=images, command=command)}")
    return exits.DONE
