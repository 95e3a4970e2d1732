"""``raftkv lab``: scenarios that show what each choice of consistency costs, on real clusters on this machine."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raftkv.cli import connection, exits
from raftkv.cli.kinds import Duration
from raftkv.cli.tables import print_figures, print_text

if TYPE_CHECKING:
    from raftkv.instruments.lab.playground.run import PlaygroundPlan


@click.group("lab", short_help="See what each choice of consistency costs.")
def lab() -> None:
    """Run the same workload under the same faults against several kinds of clusters, and see what each choice costs.

    Clusters are real processes on this machine, on free ports; they are gone afterwards. No root is needed.
    """


@lab.command("list")
def list_() -> int:
    """List the scenarios that come with raftkv, and about how long they take."""
    from raftkv.instruments.lab.scenario import shipped  # noqa: PLC0415  commands load what they use

    scenarios = shipped()
    width = max(map(len, scenarios))
    for name, scenario in scenarios.items():
        seconds = sum(map(scenario.expected_s, scenario.variant))
        click.echo(f"{name:<{width}}  {f'~{seconds:.0f} s':>6}  {scenario.title}")
    return exits.DONE


@lab.command("run", short_help="Run a scenario and write a report.")
@click.argument("scenario_name", metavar="SCENARIO")
@click.option("--seed", type=click.IntRange(min=0), help="Other choices of keys, values and nodes.")
@click.option("--duration", type=Duration(least_s=1, most_s=3600), metavar="TIME", help="How long each variant runs.")
@click.option("--variant", "names", multiple=True, metavar="NAME", help="Run only this one; repeat it.")
@click.option("--namespaces", is_flag=True, help="Give every node a network of its own (root, on Linux).")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where everything goes.")
def run(
    scenario_name: str,
    *,
    seed: int | None,
    duration: float | None,
    names: tuple[str, ...],
    namespaces: bool,
    out: Path | None,
) -> int:
    """Run SCENARIO (see `raftkv lab list`, or a TOML file) and write a report.

    Exit status 1 when a variant that promises to be linearizable was not.
    """
    from raftkv.instruments.lab.run import perform  # noqa: PLC0415
    from raftkv.instruments.lab.scenario import changed, load  # noqa: PLC0415
    from raftkv.process import streams  # noqa: PLC0415

    name, source, scenario = load(scenario_name)
    scenario = changed(scenario, seed=seed, duration_s=duration, names=names)
    folder = out or _folder(name)
    print_text(f"{scenario.title}\n{scenario.expect.strip()}\n")

    def begin() -> None:
        streams.lossy()  # what counts is written to files; a run of minutes is not lost with whoever reads of it
        perform(name, scenario, folder, source=source, command=_command(), tell=print_text, in_namespaces=namespaces)

    return _reported(folder, begin)


@lab.command("demo", short_help="A leader that answers from the past, a cart that loses something.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where everything goes.")
def demo(out: Path | None) -> int:
    """See an old leader answer from the past, and a shopping cart lose something: a story of half a minute."""
    from raftkv.instruments.lab.demo import perform  # noqa: PLC0415
    from raftkv.process import streams  # noqa: PLC0415

    streams.lossy()
    folder = out or _folder("demo")
    return _reported(folder, lambda: perform(folder, command=_command(), tell=print_text))


@lab.command("lesson", short_help="A play of real processes that shows one thing.")
@click.argument("name", metavar="[LESSON]", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where the logs go.")
def lesson(name: str | None, *, out: Path | None) -> int:
    """See LESSON, which takes half a minute; without one, list them.

    Exit status 1 when what raftkv promises was not to be seen.
    """
    from raftkv.instruments.lab.lessons.shelf import LESSONS  # noqa: PLC0415
    from raftkv.instruments.local.nodes import ClusterError  # noqa: PLC0415
    from raftkv.process import streams  # noqa: PLC0415

    if name is None:
        width = max(map(len, LESSONS))
        for known, each in LESSONS.items():
            click.echo(f"{known:<{width}}  {each.title}")
        return exits.DONE
    if name not in LESSONS:
        raise click.UsageError(f"there is no lesson {name!r} (there are: {', '.join(LESSONS)})")
    streams.lossy()
    folder = out or _folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    print_text(f"{LESSONS[name].title}.\n")
    try:
        shown = LESSONS[name].perform(folder, print_text)
    except ClusterError as error:
        exits.complain(str(error))
        return exits.UNAVAILABLE
    click.echo()
    for one in shown:
        print_text(f"{'seen' if one.was_seen else 'NOT SEEN':8}  {one.sentence}")
    return exits.DONE if all(one.was_seen or one.is_elsewhere for one in shown) else exits.NOT_FOUND


@lab.command("playground", short_help="A cluster to break by a click, and a verdict that is live.")
@click.option("--mode", type=click.Choice(["raft", "quorum"]), help="With a leader, or without.  [default: raft]")
@click.option("--nodes", type=click.Choice(["3", "5"]), help="How many.  [default: 3]")
@click.option("--n", type=click.IntRange(1, 5), help="Quorum mode: copies of each key.  [default: 3]")
@click.option("--r", type=click.IntRange(1, 5), help="Quorum mode: copies that a read asks.  [default: 2]")
@click.option("--w", type=click.IntRange(1, 5), help="Quorum mode: copies that a write waits for.  [default: 2]")
@click.option("--siblings", is_flag=True, help="Quorum mode: keep what two wrote at once side by side.")
@click.option("--like", metavar="URL", help="Be like the cluster of this node, with a copy of its keys.")
@click.option(
    "--for",
    "for_s",
    type=Duration(least_s=1, most_s=86_400),
    default="1h",
    metavar="TIME",
    help="How long it goes on.  [default: 1h]",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Where the page is.  [default: a free one]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where runs are saved.",
)
@connection.options
@click.pass_context
def playground(
    context: click.Context,
    /,
    *,
    mode: str | None,
    nodes: str | None,
    n: int | None,
    r: int | None,
    w: int | None,
    siblings: bool,
    like: str | None,
    for_s: float,
    port: int,
    out: Path,
    **given: Any,
) -> int:
    """Start a cluster of your own, and a page on which you break it by a click and see what its clients are told.

    Nodes are cut off, slowed down, paused and killed there, while clients write and read, and each answer is judged as
    it comes. The page is for this machine alone; everything is gone when it ends.
    """
    from raftkv.client.servers import parse_servers  # noqa: PLC0415
    from raftkv.core.config import Address, QuorumSection  # noqa: PLC0415
    from raftkv.instruments.lab.playground.likeness import Likeness, likeness_of  # noqa: PLC0415
    from raftkv.instruments.lab.playground.run import PlaygroundPlan, perform  # noqa: PLC0415
    from raftkv.instruments.local.nodes import ClusterError  # noqa: PLC0415
    from raftkv.process import streams  # noqa: PLC0415

    link = connection.chosen(context, given)
    with contextlib.ExitStack() as held:
        source = None if like is None else held.enter_context(link.client(parse_servers((like,))))
        base = Likeness(mode="raft", nodes=3, quorum=QuorumSection(sloppy=False))
        base = base if source is None else likeness_of(source)
        count = int(nodes or base.nodes)
        quorum = QuorumSection(
            n=n or base.quorum.n,
            r=r or base.quorum.r,
            w=w or base.quorum.w,
            conflicts="siblings" if siblings else base.quorum.conflicts,
            sloppy=False,
        )
        plan = PlaygroundPlan(
            mode=mode or base.mode,
            nodes=count,
            quorum=quorum,
            for_s=for_s,
            listen=Address("127.0.0.1", port),
            out=out,
            command=_command(),
        )
        _check(plan, (n, r, w, siblings or None))
        streams.lossy()
        try:
            perform(plan, print_text, source)
        except ClusterError as error:
            exits.complain(str(error))
            return exits.UNAVAILABLE
    return exits.DONE


def _check(plan: PlaygroundPlan, given: tuple[object, ...]) -> None:
    quorum = plan.quorum
    if plan.mode == "raft" and any(each is not None for each in given):
        raise click.UsageError("--n, --r, --w and --siblings are of quorum mode: add --mode quorum")
    if plan.mode == "quorum" and quorum.n > plan.nodes:
        raise click.UsageError(f"--n: there are {plan.nodes} nodes, and a node keeps one copy of a key (--nodes 5)")
    if max(quorum.r, quorum.w) > quorum.n:
        raise click.UsageError(f"--r and --w are {quorum.n} at most, which is how many copies there are")


@lab.command("report", short_help="Make the report of a run anew.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def report_(folder: Path) -> int:
    """Compute the report of the run in DIR anew from its histories."""
    return _reported(folder, lambda: None)


@lab.command("check", short_help="Is a history linearizable?")
@click.argument("paths", metavar="HISTORY...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="Give up on a key after so many steps of the search."
)
def check_(paths: tuple[Path, ...], *, steps: int | None) -> int:
    """Is each HISTORY (a history.jsonl of a run, or your own) linearizable?

    Exit status 0 when all are, 1 when one is not, 4 when the steps did not suffice to tell.
    """
    statuses = {_checked(path, steps) for path in paths}
    return next(status for status in (exits.NOT_FOUND, exits.UNKNOWN, exits.DONE) if status in statuses)


def _checked(path: Path, steps: int | None) -> int:
    from raftkv.instruments.lab.checker import STEPS_PER_KEY_MAX, GaveUp, NotLinearizable, check  # noqa: PLC0415
    from raftkv.instruments.lab.history import History  # noqa: PLC0415
    from raftkv.instruments.lab.witness import render  # noqa: PLC0415

    try:
        history = History.read(path)
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error
    verdict = check(history, steps_per_key_max=steps or STEPS_PER_KEY_MAX)
    told = f"{path}: {len(history):,} operations on {len(history.by_key())} keys"
    if isinstance(verdict, NotLinearizable):
        click.echo(f"{told}: not linearizable\n\n{render(verdict.witness)}\n")
        return exits.NOT_FOUND
    if isinstance(verdict, GaveUp):
        keys = ", ".join(key.decode(errors="backslashreplace") for key in verdict.undecided)
        click.echo(f"{told}: gave up on {keys} after {verdict.steps:,} steps; more may decide it (--steps)")
        return exits.UNKNOWN
    click.echo(f"{told}: linearizable ({verdict.steps:,} steps)")
    return exits.DONE


def _reported(folder: Path, perform: Callable[[], object]) -> int:
    """Do what fills ``folder``, make its report, and say what it says."""
    from raftkv.instruments.lab.report.drawing import can_make_png  # noqa: PLC0415
    from raftkv.instruments.lab.report.make import PAGE, report  # noqa: PLC0415
    from raftkv.instruments.lab.report.sentences import SIGNS, headline, tag, tone, worst_first  # noqa: PLC0415
    from raftkv.instruments.lab.report.table import rows  # noqa: PLC0415
    from raftkv.instruments.local.nodes import ClusterError  # noqa: PLC0415

    try:
        perform()
        results = report(folder)
    except ClusterError as error:
        exits.complain(str(error))
        return exits.UNAVAILABLE
    except OSError as error:
        exits.complain(f"{error.filename}: {error.strerror}")
        return exits.USAGE
    except ValueError as error:
        exits.complain(f"{folder}: not what a run leaves behind: {error}")
        return exits.USAGE
    results = worst_first(results)
    click.echo()
    for each in results.variants:
        print_text(f"{SIGNS[tone(each)]} {each.variant.name}\n  {headline(each)}; {tag(each)}")
    click.echo()
    print_figures(
        ["", *(each.variant.name for each in results.variants)], [(row.name, *row.cells) for row in rows(results)]
    )
    click.echo()
    if not can_make_png():
        print_text("pictures are SVG only; for PNG as well: pip install '.[lab]' where you installed raftkv from")
    click.echo(f"report: {(folder / PAGE).resolve()}")
    return exits.NOT_FOUND if any(each.is_promise_broken for each in results.variants) else exits.DONE


def _folder(name: str) -> Path:
    return Path(f"lab-{name}-{time.strftime('%Y%m%d-%H%M%S')}")


def _command() -> str:
    return shlex.join(["raftkv", *sys.argv[1:]])
