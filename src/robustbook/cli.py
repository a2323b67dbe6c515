"""The command `robustbook`, a thin front of `robustbook.run` and `robustbook.data`;
`main` tells errors in one line.

What is slow to import is imported inside the commands, so that help is instant.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from robustbook.errors import (
    RunFailedError,
    UserError,
    escaped,
    quoted,
    shortened,
)

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.table import Table

    from robustbook.run.answers import Entry, Status
    from robustbook.run.compare import Outcome
    from robustbook.run.project import RunId
    from robustbook.run.sweep import SweepPlan

app = typer.Typer(
    name="robustbook",
    help=(
        "Perturb and Measure: run the studies, render the book.\n\nExample: "
        "robustbook run loss_metric -p epsilon 0.2"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help=(
        "Data sets: what is here, get one, check one.\n\nExample: robustbook data "
        "get mnist"
    )
)
app.add_typer(data_app, name="data", no_args_is_help=True)

Study = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="Name of a study, as `robustbook list` shows it."
    ),
]
ParameterSet = Annotated[
    str,
    typer.Option(
        "-r", "--run", metavar="RUN", help="Parameter set in notebooks/runs/."
    ),
]
DataName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of a data set, as `robustbook data list` shows it."
    ),
]


class Executor(StrEnum):
    """Where the runs of a sweep are run."""

    LOCAL = "local"
    SLURM = "slurm"


class ClaimsForm(StrEnum):
    """How `robustbook claims` prints: a table, one CSV line a claim, JSON, or one CSV
    line a row that a rule read.
    """

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ROWS = "rows"


STOPPED = "stopped: nothing half-done was published"


class PairsCommand(TyperCommand):
    """A command whose `-p` takes a name and a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two words after every `-p` before the parser sees them."""
        return super().parse_args(ctx, joined_pairs(args))


def joined_pairs(args: Sequence[str]) -> list[str]:
    """The arguments with `-p NAME VALUE` as `-p NAME=VALUE`, which may be typed as
    well.
    """
    joined, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word in ("-p", "--parameter") and rest:
            name = rest.pop(0)
            joined.append(f"{name}={rest.pop(0)}" if rest and "=" not in name else name)
    return joined


def split_pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """(name, value) of every `NAME=VALUE`; UserError for a name without a value."""
    for word in words:
        if "=" not in word:
            raise UserError(f"-p takes a name and a value, got only {quoted(word)}")
    return [(name, value) for name, _, value in (word.partition("=") for word in words)]


@app.command("list")
def list_studies() -> None:
    """Studies, their runs, and whether each is fresh.

    Example: robustbook list
    """
    from robustbook.run import answers, project

    table = new_table("study", "title", "run", "state")
    for study, answer in answers.every(project.find()).items():
        first, *others = answer.states
        table.add_row(study, answer.title, first.run.run, first.state)
        for found in others:
            table.add_row("", "", found.run.run, found.state)
    show(table)


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name: a-z, 0-9 and '_'.")
    ],
    title: Annotated[str, typer.Option(help="Title of its page.")] = "",
    question: Annotated[str, typer.Option(help="What it asks, in one sentence.")] = "",
    paper: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="The paper that it repeats, in book/references.bib."
        ),
    ] = "",
) -> None:
    """Write a study that runs: a notebook, and a package with all its rooms to fill.

    Example: robustbook new edges --title "Edges" --question "Do edges matter?"
    """
    from robustbook.run import new_study, project

    here = project.find()
    for path in new_study.make(here, name, title, question, paper):
        print(here.relative(path))
    print(f"{name} is written: robustbook run {name} runs it")


@app.command()
def describe(study: Study) -> None:
    """Parameters of a study: type, range, default, meaning.

    Example: robustbook describe loss_metric
    """
    from robustbook import fields, studies

    module = studies.get(study)
    table = new_table("parameter", "type", "range", "default", "meaning")
    for item in fields.describe(module.Parameters):
        table.add_row(item.name, item.kind, item.range, item.default, item.help)
    print(f"{study}: {module.TITLE}")
    show(table)


@app.command(cls=PairsCommand)
def run(
    study: Study,
    parameter_set: ParameterSet = "quick",
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="YAML file of parameters."),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--parameter",
            metavar="NAME VALUE",
            help="One parameter; may be repeated.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the run: a-z, 0-9 and '-'."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run even if the published run is fresh.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what the run of your_network costs."),
    ] = False,
    if_stale: Annotated[
        bool,
        typer.Option(
            "--if-stale",
            help="For build tools: a fresh run is marked as new and nothing is said; "
            "one that is going on is waited for.",
        ),
    ] = False,
) -> None:
    """Run a study and publish its page and record; a run that is fresh is left as it
    is.

    Example: robustbook run loss_metric -p epsilon 0.2 --name wide
    """
    from robustbook import studies
    from robustbook.run import execute, parameters, project, runner

    here = project.find()
    module = studies.get(study)
    given, mine = parameters.collect(
        here,
        study,
        module.Parameters,
        parameter_set=parameter_set,
        file=file,
        typed=split_pairs(pairs or []),
    )
    if dry_run:
        return tell_cost(study, parameters.validate(module.Parameters, given | mine))
    which = parameters.run_name(here, study, parameter_set, mine, name)
    try:
        done = runner.perform(
            here,
            which,
            {**given, **mine},
            execute.reporter(str(which)),
            force=force,
            wait=if_stale,
        )
    except RunFailedError as failure:
        print(
            f"{which} {failure}\nThe whole log: {here.relative(here.log(which))}. "
            "Nothing was published.",
            file=sys.stderr,
        )
        raise typer.Exit(1) from failure
    page = here.page(which)
    if if_stale:
        os.utime(page)
        os.utime(here.record(which))
    if done == "was fresh":
        if not if_stale:
            print(f"{which} is fresh: {here.relative(page)} (--force runs it again)")
        return
    told = "has the notebook's new text" if done == "refreshed" else "is done"
    print(f"{which} {told}: {here.relative(page)} (robustbook book renders it)")


def tell_cost(study: str, values: BaseModel) -> None:
    """Print what each lens of a network of one's own costs; UserError for a study that
    cannot say it.
    """
    if study != "your_network":
        raise UserError("--dry-run is for your_network: no other study can say")
    from robustbook.studies.your_network.measure import lenses
    from robustbook.studies.your_network.measure.looking import duration

    plan = lenses.plan_of(values.model_dump())
    table = new_table("lens", "passes at most")
    for name, passes in plan.costs.items():
        table.add_row(name, f"{passes:,}")
    show(table)
    for remark in plan.subject.remarks:
        print(remark)
    print(f"at most {duration(plan.seconds())} on {plan.subject.device}")


@app.command("status")
def show_status(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="One study, with every reason."),
    ] = None,
) -> None:
    """State of every run: fresh, stale and why, missing, damaged.

    Example: robustbook status loss_metric
    """
    from robustbook import studies
    from robustbook.run import answers, project

    if study is not None:
        studies.get(study)
    for name, answer in answers.every(project.find()).items():
        for found in answer.states if study in (None, name) else ():
            print(f"{found.run}: {found if study is None else found.state}")
            for reason in found.reasons if study else ():
                print(f"  {reason}")


@app.command()
def refresh() -> None:
    """Give published pages the present text of their notebooks; nothing is computed.

    Example: robustbook refresh
    """
    from robustbook.run import project, publish, status

    here = project.find()
    publish.recover(here)
    for found in status.overview(here):
        if found.state == "prose differs":
            refresh_one(found)


def refresh_one(found: Status) -> None:
    """Refresh one page whose text differs, and say so."""
    from robustbook.run import project, publish, status

    here = project.find()
    publish.check_writable(here, found.run)
    with publish.locked(here, found.run):
        again = status.of(here, found.run)
        if again.state == "prose differs" and again.record is not None:
            status.refresh(here, found.run, again.record)
            print(f"{found.run} has the notebook's new text")


@app.command()
def check(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Name of a study; or --all.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "-r",
            "--run",
            metavar="RUN",
            help="Run to repeat: reference, with --all quick.",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Repeat this run of every study that has a record of it."
        ),
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="The same as -r reference.")
    ] = False,
    rtol: Annotated[
        float | None,
        typer.Option(min=0, help="Relative tolerance (0.02 unless given)."),
    ] = None,
    atol: Annotated[
        float | None,
        typer.Option(min=0, help="Absolute tolerance (0.005 unless given)."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the new run and of its workers (as ever unless given).",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help=(
                "Train every network again: start from an empty folder of checkpoints."
            ),
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON file in which to note what was found."),
    ] = None,
) -> None:
    """Run again and compare with the published record; exit 1 where numbers or verdicts
    differ.

    Two numbers agree where they differ by at most rtol times the larger one or by at
    most atol. Without --fresh a network that is kept in the user's cache is read and
    not trained again.

    Example: robustbook check loss_metric -r quick
    """
    from robustbook.run import compare, project, status
    from robustbook.workers import worker_threads

    wanted = runs_to_check(study, run, every=every, reference=reference)
    if report:  # A file that is something else is refused now, not after hours of runs.
        compare.noted(report)
    tolerances = (
        compare.RELATIVE if rtol is None else rtol,
        compare.ABSOLUTE if atol is None else atol,
    )
    with compare.conditions(threads, fresh=fresh):
        found = [check_one(each, tolerances, every=every) for each in wanted]
    outcomes = [outcome for outcome in found if outcome is not None]
    if report:
        compare.note(
            report, outcomes, fresh=fresh, worker_threads=threads or worker_threads()
        )
    same = sum(outcome.same for outcome in outcomes)
    if every:
        print(f"{same} of {len(outcomes)} runs repeat")
    here = project.find()
    damaged = any(status.of(here, each).state == "damaged" for each in wanted)
    if damaged or not outcomes or same < len(outcomes):
        raise typer.Exit(1)


def runs_to_check(
    study: str | None, run: str | None, *, every: bool, reference: bool
) -> list[RunId]:
    """The runs that the arguments of `check` name; UserError where they name none or
    contradict each other.
    """
    from robustbook.run import project, status

    if (study is None) is not every:
        raise UserError(
            "say which study to check, or --all"
            if not every
            else "--all checks every study: name none"
        )
    if reference and run not in (None, project.REFERENCE):
        raise UserError(f"--reference is another run than {quoted(run)}: give one")
    name = run or (project.QUICK if every and not reference else project.REFERENCE)
    if study is not None:
        return [project.RunId(study, name)]
    known = status.overview(project.find())
    if wanted := [found.run for found in known if found.run.run == name]:
        return wanted
    raise UserError(
        f"no study has a run {quoted(name)}: robustbook list shows which there are"
    )


def check_one(
    which: RunId, tolerances: tuple[float, float], *, every: bool
) -> Outcome | None:
    """Run one study again, print what differs, and return what was found; None where
    there is nothing to compare with.

    As one of `every` study, a run whose record is missing or damaged is passed over,
    which alone is refused.
    """
    from robustbook import studies
    from robustbook.run import compare, execute, project, runner, status

    here = project.find()
    studies.get(which.study)
    found = status.of(here, which)
    if every and found.record is None:
        print(f"{which} has no record to compare with: {found}")
        return None
    before, now = runner.rerun(here, which, execute.reporter(f"check {which}"))
    outcome = compare.outcome(before, now, *tolerances)
    within = f"within {tolerances[0]:g} (relative) or {tolerances[1]:g} (absolute)"
    if outcome.same:
        largest = (
            f"largest difference {outcome.largest:.2g}"
            if outcome.largest
            else "all to the last digit"
        )
        print(
            f"{which} repeats: {outcome.numbers} numbers {within}, "
            f"{outcome.verdicts} verdicts equal; {largest}"
        )
        return outcome
    table = new_table("what", "published", "now")
    for item in outcome.differences:
        table.add_row(item.what, item.committed, item.now)
    show(table)
    numbers = (
        f"{len(outcome.differences) - outcome.other_verdicts} of {outcome.numbers} "
        f"numbers, not {within}"
    )
    print(
        f"{which} differs in {numbers}, and in {outcome.other_verdicts} of "
        f"{outcome.verdicts} verdicts"
    )
    return outcome


@app.command()
def compare(
    first: Annotated[
        str, typer.Argument(metavar="RUN", help="Name of a run, or STUDY/NAME.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="RUN", help="Another run of the same study.")
    ],
) -> None:
    """Two runs of a study: parameters that differ, numbers that differ beyond their
    intervals, verdicts.

    Example: robustbook compare mine v2
    """
    from robustbook.run import project, two_runs

    found = two_runs.contrast(*two_runs.pair(project.find(), first, second))
    table = new_table("what", first, second)
    for kind in ("parameters", "numbers", "verdicts"):
        for name, (one, other) in getattr(found, kind).items():
            table.add_row(name, one, other)
    show(table)
    print(
        f"{len(found.parameters)} parameters and {len(found.numbers)} numbers differ "
        f"({found.alike} agree within their intervals), and {len(found.verdicts)} "
        "verdicts"
    )


@app.command()
def claims(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="One study; all unless given."),
    ] = None,
    form: Annotated[
        ClaimsForm, typer.Option("--format", help="How to print them.")
    ] = ClaimsForm.TABLE,
) -> None:
    """Every claim with verdict, evidence, published value and control: the book's
    scoreboard.

    Verdicts are those of the reference run's record where there is one, else of the
    quick run's, else of another run's; a study without a record is in preparation.

    Example: robustbook claims --format csv
    """
    from robustbook.run import answers, project

    wanted = [study] if study is not None else None
    found = answers.every(project.find(), wanted).values()
    print_claims([entry for answer in found for entry in answer.claims], form)
    if damaged := [each for answer in found for each in answer.damaged]:
        for each in damaged:
            print(f"{each.run} is left out: {each}", file=sys.stderr)
        raise typer.Exit(1)


def print_claims(board: Sequence[Entry], form: ClaimsForm) -> None:
    """Print the scoreboard in one of its forms."""
    from robustbook.run import answers

    if form is not ClaimsForm.TABLE:
        written = {
            "csv": answers.to_csv,
            "json": answers.to_json,
            "rows": answers.rows_csv,
        }[form.value]
        print(written(board), end="")
        return
    table = new_table(
        "study",
        "claim",
        "verdict",
        "run",
        "statement",
        "evidence",
        "published",
        "control",
    )
    for entry in board:
        stale = f" ({entry.state})" if entry.state == "stale" else ""
        found = (
            entry.verdict,
            (entry.run or "") + stale,
            entry.statement,
            entry.evidence,
        )
        table.add_row(
            entry.study,
            entry.claim,
            *found,
            entry.published or "no number",
            entry.control,
        )
    show(table)


@app.command()
def book(
    cores: Annotated[
        int | None, typer.Option(min=1, help="Processors to use (all unless given).")
    ] = None,
    as_pdf: Annotated[
        bool, typer.Option("--pdf", help="Print it as one PDF, too; needs Chromium.")
    ] = False,
) -> None:
    """Run what is out of date at `quick`, render the book, print the path of its front
    page.

    Example: robustbook book
    """
    from robustbook.run import pdf, project, publish, side_by_side

    here = project.find()
    publish.recover(here)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "html",
        "--snakefile",
        str(here.root / "Snakefile"),
    ]
    command += [
        "--directory",
        str(here.root),
        "--cores",
        str(cores or os.cpu_count() or 1),
    ]
    command += ["--nolock", "--rerun-incomplete", "--quiet", "all"]
    with publish.only_one(here, "book", "rendering the book"):
        status = side_by_side.finished(command)
    if status:
        print("the book was not rendered: see the messages above", file=sys.stderr)
        raise typer.Exit(1)
    print(here.root / "book" / "_build" / "html" / "index.html")
    if as_pdf:
        print(pdf.make(here))


@app.command(hidden=True)
def render(words: list[str]) -> None:
    """Render the book with a command; Snakemake calls this.

    One rendering at a time: the command holds the lock as well, since it lives on where
    this process is killed.
    """
    import shutil
    import subprocess

    from robustbook.run import project, publish

    here = project.find()
    with publish.only_one(here, "rendering", "rendering the book", wait=True) as handle:
        # All pages are written again: each lists all others, and says whether its
        # sources changed.
        shutil.rmtree(here.root / "book/_build/html/runs", ignore_errors=True)
        raise typer.Exit(subprocess.call(words, pass_fds=(handle,)))


@app.command()
def lesson(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Name of a study; or --all.")
    ] = None,
    solutions: Annotated[
        bool,
        typer.Option(
            "--solutions", help="The instructor's copy, with solutions and hints."
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")
    ] = Path("lessons"),
    every: Annotated[
        bool, typer.Option("--all", help="Every chapter that is ready for it.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="LINE", help="Read a line that was handed in."),
    ] = None,
) -> None:
    """Make a lesson of a chapter: a notebook with ideas to edit and exercises that are
    graded, by itself or by nbgrader.

    Example: robustbook lesson loss_metric --solutions
    """
    from robustbook import grading
    from robustbook.run import lesson as lessons
    from robustbook.run import project

    if check is not None:
        try:
            found = grading.read(check)
        except ValueError as error:
            raise UserError(str(error)) from error
        print(f"{found.student or 'no name'}: {found} in {found.study}")
        for name, (earned, points) in found.parts.items():
            print(f"  {name}: {earned} of {points}")
        return
    if (study is None) is not every:
        raise UserError(
            "--all makes every lesson: name none"
            if every
            else "say which study, or --all"
        )
    here = project.find()
    failed = False
    for name in [study] if study else lessons.ready(here):
        try:
            print(lessons.write(here, name, out, solutions=solutions))
        except UserError as error:
            if study:
                raise
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


@app.command("sweep", cls=PairsCommand)
def run_sweep(
    study: Study,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the sweep: a-z, 0-9 and '-'.")
    ],
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--parameter",
            metavar="NAME V1,V2",
            help="Values of a parameter; ';' between lists.",
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, help="Repetitions of every combination, with seeds of their own."
        ),
    ] = 1,
    parameter_set: ParameterSet = "quick",
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="YAML file of parameters."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Runs side by side (all processors unless given)."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("-m", "--metric", help="Metric to draw; may be repeated."),
    ] = None,
    executor: Annotated[
        Executor, typer.Option(help="Where the runs are run.")
    ] = Executor.LOCAL,
    snakemake: Annotated[
        str,
        typer.Option(
            metavar="WORDS", help="Further options for Snakemake, in one word."
        ),
    ] = "",
) -> None:
    """Run a study at many parameters and seeds, side by side; the book gets a table and
    a page of it.

    What is done already is not done again, so the same command goes on where one was
    stopped or killed.

    Example: robustbook sweep loss_metric -p epsilon 0.05,0.1,0.2 --seeds 5 --name eps
    """
    from robustbook.run import project, publish, sweep

    here = project.find()
    plan = sweep.expand(
        here,
        study,
        name,
        parameter_set=parameter_set,
        file=file,
        typed=split_pairs(pairs or []),
        seeds=seeds,
    )
    with publish.only_one(here, f"sweep-{plan.place}", f"sweep {name} of {study}"):
        finish_sweep(
            plan,
            workers or os.cpu_count() or 1,
            executor.value,
            snakemake,
            metric or [],
        )


def finish_sweep(
    plan: SweepPlan, workers: int, executor: str, extra: str, metrics: Sequence[str]
) -> None:
    """Run what is left of a sweep, then write its table and page, and say where they
    are.
    """
    from robustbook.run import project, side_by_side, sweep, sweep_page

    here = project.find()
    left = sweep.pending(here, plan)
    print(
        f"sweep {plan.name}: {len(plan.members)} runs, {len(plan.members) - len(left)} "
        "of them done already"
    )
    if left:
        words = side_by_side.command(
            here, plan, workers=workers, executor=executor, extra=extra
        )
        side_by_side.perform(
            here, plan, left, words, side_by_side.progress(f"sweep {plan.name}")
        )
    found = {each.run: sweep.finished(here, plan, each) for each in plan.members}
    complete = {run: record for run, record in found.items() if record is not None}
    if len(complete) < len(found):
        for run, said in sweep.failures(here, plan).items():
            print(f"{run} {said}", file=sys.stderr)
        log = here.relative(sweep.folder_of(here, plan.place) / side_by_side.LOG)
        print(
            f"{len(found) - len(complete)} of {len(found)} runs failed; the log: {log}",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    page = sweep_page.publish_all(here, plan, complete, metrics)
    print(
        f"sweep {plan.name} is done: {here.relative(page)}, with .csv and .parquet "
        "beside it (robustbook book renders it)"
    )


@app.command("sweep-member", hidden=True)
def sweep_member(place: str, member: str) -> None:
    """Run one member of a sweep; Snakemake calls this."""
    from robustbook.run import project, sweep

    sweep.member(project.find(), place, member)


@data_app.command("list")
def data_list() -> None:
    """Data sets and networks that the studies read, and whether they are on this
    machine.

    Example: robustbook data list
    """
    from robustbook import fetch
    from robustbook.data import store

    print(f"data root: {store.data_root()}")
    table = new_table("name", "title", "state", "licence")
    for entry in fetch.inventory():
        table.add_row(entry.name, entry.title, entry.state, entry.licence)
    show(table)


@data_app.command("get")
def data_get(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Names, as `robustbook data list` shows them."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Everything that a reference run reads.")
    ] = False,
    only_show: Annotated[
        bool,
        typer.Option("--show", help="Only show what would be fetched, and from whom."),
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the archives from which files are made."),
    ] = False,
) -> None:
    """Fetch data sets and networks from their authors (the only command that uses the
    network), make the files that the studies read, and check them.

    Sizes and licences are shown first. An interrupted call goes on where it was.

    Example: robustbook data get mnist gtsrb
    """
    from robustbook import fetch

    if bool(wanted) is every:
        raise UserError(
            "--all gets everything: name none" if every else "say which, or --all"
        )
    steps = fetch.plan(list(wanted or fetch.names()))
    table = new_table("name", "title", "state", "to fetch", "from", "licence")
    for step in steps:
        size = f"{step.size / 1e6:,.1f} MB" if step.remotes else "nothing"
        table.add_row(
            step.name, step.title, step.state, size, step.origin, step.licence
        )
    show(table)
    print(f"to fetch: {sum(step.size for step in steps) / 1e6:,.1f} MB")
    if only_show:
        return
    with transfer_lines() as tell:
        root = fetch.get([step.name for step in steps], tell=tell, keep=keep)
    for step in steps:
        place = "part of the installation" if step.state == "embedded" else f"in {root}"
        print(f"{step.name} is {place}")


@contextmanager
def transfer_lines() -> Iterator[Callable[[str, int, int], None]]:
    """What to call with a file's name, its bytes that are here and all of them: a bar
    on a terminal, else one line a file.
    """
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def tell(name: str, done: int, size: int) -> None:
        if not sys.stderr.isatty():
            if name not in bars:
                print(f"fetching {name}", file=sys.stderr)
            bars[name] = None
            return
        if name not in bars:
            close()
            bars[name] = tqdm(desc=name, unit="B", unit_scale=True, file=sys.stderr)
        bars[name].total = size
        bars[name].update(done - bars[name].n)

    def close() -> None:
        for bar in bars.values():
            if bar is not None:
                bar.close()

    try:
        yield tell
    finally:
        close()


@data_app.command("verify")
def data_verify(name: DataName) -> None:
    """Check the files of a data set against their pinned digests.

    Example: robustbook data verify mnist
    """
    from robustbook import fetch

    checked = fetch.verify(name)
    print(
        f"{name} is sound: {checked} files checked"
        if checked
        else f"{name} is part of the installation"
    )


def new_table(*columns: str) -> Table:
    """A plain table whose cells wrap and are not read as markup."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show(table: Table) -> None:
    """Print a table at the terminal's width, or wide where there is no terminal."""
    from rich.console import Console

    Console(
        markup=False, highlight=False, width=None if sys.stdout.isatty() else 160
    ).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 2 for what a user can mend, 1
    for a failure, 130 if stopped.
    """
    try:
        usable_surroundings()
        make_folders_absolute()
        words = list(sys.argv[1:] if arguments is None else arguments)
        code = int(app(words, prog_name="robustbook", standalone_mode=False) or 0)
        return told(STOPPED, code) if code == 130 else code
    except UserError as error:
        return told(f"error: {error}", 2)
    except (KeyboardInterrupt, typer.Abort):
        return told(STOPPED, 130)
    except Exception as error:
        return told_of(error)


def usable_surroundings() -> None:
    """Characters that an output cannot show are escaped; UserError where nothing can be
    said, or the working folder is gone.
    """
    if sys.stdout is None:
        raise UserError("standard output is closed: send it to a file or /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the working folder cannot be used ({error.strerror}): change to another"
        ) from error


def make_folders_absolute() -> None:
    """Kernels start in a folder of their own: a relative path of the user's is meant
    from where the command is typed.
    """
    for name in ("ROBUSTBOOK_CACHE", "ROBUSTBOOK_DATA"):
        if given := os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(given))
    os.environ.setdefault("ROBUSTBOOK_FROM", os.getcwd())


def told(message: str, code: int) -> int:
    """Say it on stderr and return the exit status."""
    print(message, file=sys.stderr)
    return code


def told_of(error: Exception) -> int:
    """The exit status for a usage error, a failed run or a full disk, each said
    clearly; anything else is raised.
    """
    said = getattr(error, "format_message", None)
    if type(error).__name__ == "NoArgsIsHelpError" and said is not None:
        return told(said(), 2)
    if said is not None:
        return told(f"error: {shortened(escaped(' '.join(said().split())))}", 2)
    if isinstance(error, OSError):
        where = f" ({quoted(os.fspath(error.filename))})" if error.filename else ""
        return told(f"error: {escaped(error.strerror or str(error))}{where}", 1)
    if isinstance(error, RunFailedError):
        return told(str(error), 1)
    raise error
