"""Sweeps: one study at many parameters and seeds. `expand` makes the plan, `pending`
says what is left, `member` runs one.

A sweep's runs lie in a folder of their own below `.robustbook/sweeps/`; the book gets
one page and one table of them (`sweep_page`, `sweep_table`). Snakemake runs them side
by side (`side_by_side`) and calls `member` for each.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from robustbook import files, studies
from robustbook.errors import (
    DamagedFileError,
    ParameterError,
    RunFailedError,
    UserError,
    quoted,
)
from robustbook.run import execute, parameters, publish, records, runner, status
from robustbook.run.project import QUICK, Project, RunId
from robustbook.run.records import Record

SEED_FIELDS = ("first_seed", "seed")
MOST_RUNS = 10_000
_PLACE = re.compile(r"[a-z][a-z0-9_]{0,59}\.[a-z0-9-]{1,40}")


@dataclass(frozen=True)
class SweepProject(Project):
    """The project as the runs of one sweep see it: notebooks as ever, everything
    written in the sweep's folder.
    """

    folder: Path

    @property
    def work(self) -> Path:
        """Logs, locks, staging, and the runs themselves."""
        return self.folder

    def page(self, run: RunId) -> Path:
        """The page of a member, which is not a page of the book."""
        return self.folder / "runs" / f"{run.run}.ipynb"


@dataclass(frozen=True)
class Member:
    """One run of a sweep: its name, the parameters it is given, and which repetition it
    is (0, 1, ...).
    """

    run: str
    overrides: dict[str, Any]
    repetition: int


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a sweep: `axes` are the parameters with more than one value,
    `seed_field` what repetitions change.
    """

    study: str
    name: str
    axes: dict[str, list[Any]]
    seeds: int
    seed_field: str
    members: tuple[Member, ...]

    @property
    def place(self) -> str:
        """Name of the sweep's folder."""
        return f"{self.study}.{self.name}"


def expand(
    project: Project,
    study: str,
    name: str,
    *,
    parameter_set: str = QUICK,
    file: Path | None = None,
    typed: Sequence[tuple[str, str]] = (),
    seeds: int = 1,
) -> SweepPlan:
    """The plan of a sweep over all combinations of the typed values, each `seeds` times
    with other seeds.

    Every combination is checked as strictly as one run, before anything starts. Raises
    UserError for a bad name, value or number of runs, or where the study has no
    parameter that sets its seeds.
    """
    model = studies.get(study).Parameters
    RunId(study, name)
    if len(name) > 40:
        raise UserError(f"a sweep's name has at most 40 characters, got {quoted(name)}")
    given_names = [given for given, _ in typed]
    choices = {given: split_values(model, given, text) for given, text in typed}
    for given in (given for given, texts in choices.items() if not texts):
        raise ParameterError(f"parameter {quoted(given)} is given no value")
    if len(choices) < len(given_names):
        raise ParameterError("a parameter was given twice")
    axes = [given for given, texts in choices.items() if len(texts) > 1]
    field = seed_field(model, study, [*choices], seeds)
    total = seeds
    for texts in choices.values():
        total *= len(texts)
    if total <= 1:
        raise UserError(
            "a sweep varies something: give a parameter several values (-p NAME "
            "V1,V2) or --seeds 2"
        )
    if total > MOST_RUNS:
        raise UserError(
            f"a sweep has at most {MOST_RUNS} runs, this one would have {total}"
        )
    members: list[Member] = []
    for combination in itertools.product(*choices.values()):
        pairs = list(zip(choices, combination, strict=True))
        members += _members(
            project, study, model, parameter_set, file, pairs, axes, seeds, field
        )
    if len({member.run for member in members}) < len(members):
        raise ParameterError("two combinations are the same: a value was given twice")
    values = {
        axis: list(
            {json.dumps(m.overrides[axis]): m.overrides[axis] for m in members}.values()
        )
        for axis in axes
    }
    return SweepPlan(study, name, values, seeds, field, tuple(members))


def split_values(model: type[BaseModel], name: str, text: str) -> list[str]:
    """Values of one parameter: apart at `;` where there is one, else at `,` unless the
    parameter itself is a list.
    """
    if ";" in text:
        return [part.strip() for part in text.split(";") if part.strip()]
    if parameters.is_list(model, name):
        return [text]
    return [part.strip() for part in text.split(",")]


def seed_field(
    model: type[BaseModel], study: str, given: Sequence[str], seeds: int
) -> str:
    """The parameter that repetitions change, empty where there is one
    repetition only.
    """
    if seeds == 1:
        return ""
    field = next((name for name in SEED_FIELDS if name in model.model_fields), "")
    if not field:
        raise UserError(
            f"{study} has no parameter {' or '.join(SEED_FIELDS)}, so --seeds "
            "cannot repeat it with others"
        )
    if field in given:
        raise UserError(f"--seeds sets {field} itself: give one of the two")
    return field


def _members(
    project: Project,
    study: str,
    model: type[BaseModel],
    parameter_set: str,
    file: Path | None,
    pairs: list[tuple[str, str]],
    axes: list[str],
    seeds: int,
    field: str,
) -> list[Member]:
    """The repetitions of one combination; each starts where the seeds of the one before
    it end, so they share none.
    """
    given, mine = parameters.collect(
        project, study, model, parameter_set=parameter_set, file=file, typed=pairs
    )
    overrides = {**given, **mine}
    said = {axis: overrides[axis] for axis in axes}
    found = []
    for repetition in range(seeds):
        own: dict[str, Any] = {}
        if field:
            full = parameters.validate(model, overrides)
            own = {
                field: getattr(full, field)
                + repetition * max(1, int(getattr(full, "seeds", 1)))
            }
            parameters.validate(model, {**overrides, **own})
        name = parameters.derived_name(QUICK, {**said, **own})
        found.append(Member(name, {**overrides, **own}, repetition))
    return found


def folder_of(project: Project, place: str) -> Path:
    """The folder of the sweep `<study>.<name>`; UserError where that is no such
    name.
    """
    if not _PLACE.fullmatch(place):
        raise UserError(f"there is no sweep {quoted(place)}")
    return project.work / "sweeps" / place


def inner(project: Project, plan: SweepPlan) -> SweepProject:
    """The project in which the members of a sweep are run."""
    return SweepProject(project.root, folder_of(project, plan.place))


def read(project: Project, place: str) -> SweepPlan:
    """The plan that was written for a sweep."""
    path = folder_of(project, place) / "plan.json"
    try:
        content = json.loads(files.read(path, records.LARGEST))
        members = tuple(Member(**member) for member in content.pop("members"))
        content.pop("pending")
        plan = SweepPlan(**content, members=members)
        model = studies.get(plan.study).Parameters
        for each in members:
            RunId(plan.study, each.run)
            parameters.validate(model, each.overrides)
        if plan.place != place:
            raise ValueError("it is that of another sweep")
        return plan
    except FileNotFoundError:
        raise UserError(f"there is no sweep {quoted(place)}") from None
    except (ValueError, TypeError, KeyError, AttributeError, UserError) as error:
        raise DamagedFileError(
            f"the plan of sweep {place} is damaged: give its command again"
        ) from error


def write(project: Project, plan: SweepPlan, left: Sequence[Member]) -> None:
    """Write the plan for the processes that run its members, and take away the marks of
    those that are left to do.
    """
    folder = folder_of(project, plan.place)
    for name in ("done", "failed"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for member in left:
        (folder / "done" / member.run).unlink(missing_ok=True)
        (folder / "failed" / member.run).unlink(missing_ok=True)
    content = {**asdict(plan), "pending": [member.run for member in left]}
    files.write_whole(
        folder / "plan.json", (json.dumps(content, indent=1) + "\n").encode()
    )


def finished(project: Project, plan: SweepPlan, member: Member) -> Record | None:
    """The member's record where it still fits its sources and parameters, else None."""
    found = status.of(inner(project, plan), RunId(plan.study, member.run))
    if found.record is None or found.state not in ("fresh", "prose differs"):
        return None
    return (
        found.record
        if found.record.overrides == records.rounded(member.overrides)
        else None
    )


def pending(project: Project, plan: SweepPlan) -> list[Member]:
    """Members that have to be run; what a killed command had committed is completed
    first.
    """
    publish.recover(inner(project, plan))
    return [
        member for member in plan.members if finished(project, plan, member) is None
    ]


def member(project: Project, place: str, run: str) -> None:
    """Run one member of a sweep whose plan was written; waits where another process has
    it.

    A failure is written where the sweep finds it and raised again.
    """
    plan = read(project, place)
    found = next((each for each in plan.members if each.run == run), None)
    if found is None:
        raise UserError(f"sweep {place} has no run {quoted(run)}")
    try:
        runner.perform(
            inner(project, plan),
            RunId(plan.study, run),
            found.overrides,
            execute.SilentReporter(),
            wait=True,
        )
    except (UserError, RunFailedError) as failure:
        failed = folder_of(project, place) / "failed" / run
        failed.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(failed, str(failure).encode())
        raise


def failures(project: Project, plan: SweepPlan) -> dict[str, str]:
    """What each failed member said."""
    folder = folder_of(project, plan.place) / "failed"
    return {
        each.run: path.read_text()
        for each in plan.members
        if (path := folder / each.run).exists()
    }


def marked(project: Project, plan: SweepPlan, left: Sequence[Member]) -> int:
    """How many of the members that were left are over, well or badly; cheap enough to
    be asked every second.
    """
    folder = folder_of(project, plan.place)
    return sum(
        (folder / "done" / each.run).exists() or (folder / "failed" / each.run).exists()
        for each in left
    )
