"""``raftkv lab``: scenarios that show what each choice of consistency costs, on real clusters on this machine."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from raftkv.cli import exits
from raftkv.cli.kinds import Duration
from raftkv.cli.tables import print_figures, print_text


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
        seconds = (scenario.duration_s + 7) * len(scenario.variant)
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
    """See an old leader answer from the past, and a shopping cart lose something: a story of less than two minutes."""
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
