"""Two runs of one study beside each other: parameters that differ, numbers that differ
beyond their intervals, verdicts.

Read `found` (a run by its name) and `contrast` first. Records alone are read: nothing
that a run was given is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustbook import studies
from robustbook.errors import UnknownNameError, UserError, quoted
from robustbook.results import Metric
from robustbook.run import records
from robustbook.run.compare import shown
from robustbook.run.project import Project, RunId
from robustbook.run.records import Record


@dataclass(frozen=True)
class Contrast:
    """What two records say differently; each entry has both sides, empty where one has
    nothing.

    `numbers` are those whose intervals do not meet, or that differ where one has no
    interval; `alike` counts the others that both have.
    """

    parameters: Mapping[str, tuple[str, str]]
    numbers: Mapping[str, tuple[str, str]]
    verdicts: Mapping[str, tuple[str, str]]
    alike: int


def found(project: Project, name: str, study: str | None = None) -> RunId:
    """The run that is called `name`, or `STUDY/NAME`.

    Raises UserError where there is none, or several studies have one.
    """
    named, _, run = name.rpartition("/")
    every = [each for known in studies.names() for each in project.runs(known)]
    hits = [
        each
        for each in every
        if each.run == run and (named or study or each.study) == each.study
    ]
    if not hits:
        raise UnknownNameError("run", run, [each.run for each in every])
    if len(hits) > 1:
        several = ", ".join(f"{each.study}/{each.run}" for each in hits)
        raise UserError(f"{quoted(name)} is a run of several studies: say {several}")
    return hits[0]


def pair(project: Project, first: str, second: str) -> tuple[Record, Record]:
    """The records of two runs of one study.

    Raises UserError if either cannot be read or they are of different studies.
    """
    named = {name.rpartition("/")[0] for name in (first, second)} - {""}
    if len(named) > 1:
        raise UserError(f"two runs of one study are compared, got {first} and {second}")
    study = next(iter(named), None)
    runs = [found(project, name, study) for name in (first, second)]
    if runs[0].study != runs[1].study:
        raise UserError(
            f"two runs of one study are compared: {first} is one of {runs[0].study}, "
            f"{second} of {runs[1].study}"
        )
    one, other = (records.load(project.record(run)) for run in runs)
    return one, other


def contrast(first: Record, second: Record) -> Contrast:
    """What differs between two records of one study."""
    sides = (_by_key(first), _by_key(second))
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    pairs = {name: (sides[0].get(name), sides[1].get(name)) for name in names}
    apart = {
        name: (shown(one), shown(other))
        for name, (one, other) in pairs.items()
        if one is None or other is None or _apart(one, other)
    }
    verdicts = (
        {each.id: each.verdict for each in run.claims} for run in (first, second)
    )
    return Contrast(
        _different(first.parameters, second.parameters),
        apart,
        _different(*verdicts),
        len(pairs) - len(apart),
    )


def _apart(one: Metric, other: Metric) -> bool:
    """Whether the intervals of two numbers do not meet; a number without an interval is
    one of no width.
    """
    low = max(each.value if each.low is None else each.low for each in (one, other))
    high = min(each.value if each.high is None else each.high for each in (one, other))
    return low > high


def _different(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    names = dict.fromkeys([*first, *second])
    return {
        name: (str(first.get(name, "")), str(second.get(name, "")))
        for name in names
        if first.get(name) != second.get(name)
    }


def _by_key(record: Record) -> dict[str, Metric]:
    found = {}
    for metric in record.metrics:
        factors = ", ".join(f"{key} {value}" for key, value in metric.factors.items())
        found[f"{metric.name} ({factors})" if factors else metric.name] = metric
    return found
