"""All claims of all studies with what was found, from records alone: `entries`, written
by `to_csv`, `to_json`, `rows_csv`.

The command line, the book's scoreboard and its downloads show these entries and nothing
else.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from robustbook.results import Claim, Metric, Results
from robustbook.run import status
from robustbook.run.project import Project
from robustbook.run.records import ClaimRecord, Record
from robustbook.run.status import Status

IN_PREPARATION = "in preparation"
FIELDS = (
    *(
        "study",
        "title",
        "paper",
        "claim",
        "statement",
        "source",
        "verdict",
        "evidence",
        "published",
        "control",
    ),
    *("measure", "rule", "run", "state", "page", "record", "data"),
)
ROW_FIELDS = (
    "study",
    "run",
    "claim",
    "name",
    "factors",
    "value",
    "low",
    "high",
    "n",
    "over",
    "unit",
)


@dataclass(frozen=True)
class Entry:
    """One claim: as it was declared, and the verdict with the evidence that a run gave
    it.

    A study of our own has no `paper`: its claims are questions, and "reproduced" there
    reads "held". A claim without a run is `in preparation`: its `run` is None and its
    evidence empty, or what damaged its records. `rows` are the metric rows that the
    rule read, where today's rule on the record's rows gives the verdict that the record
    has.
    """

    study: str
    title: str
    paper: str
    claim: str
    statement: str
    source: str
    measure: str
    rule: str
    control: str
    published: str
    verdict: str
    evidence: str = ""
    run: str | None = None
    state: str = ""
    page: str = ""
    record: str = ""
    data: tuple[str, ...] = ()
    rows: tuple[Metric, ...] = ()

    def line(self) -> dict[str, Any]:
        """The entry as a line of the CSV file, all but its metric rows."""
        texts = {name: getattr(self, name) for name in FIELDS}
        return {**texts, "run": self.run or "", "data": "; ".join(self.data)}


class Traced(Results):
    """Results that remember which of their rows a rule read, in the order in which it
    first did.
    """

    def __init__(self, metrics: Iterable[Metric] = ()) -> None:
        super().__init__(metrics)
        self.read: list[Metric] = []

    def select(self, name: str, **factors: Any) -> list[Metric]:
        """The rows of this name with these factors; they count as read."""
        found = super().select(name, **factors)
        self.read += [metric for metric in found if metric not in self.read]
        return found


def rows_read(claim: Claim, record: Record) -> tuple[Metric, ...]:
    """The rows that a claim's rule reads in a record; none where the rule no longer
    says what the record says.
    """
    results = Traced(record.metrics)
    try:
        judgement = claim.verdict(results)
    except (
        LookupError,
        ValueError,
    ):  # A record of an older rule may lack what today's rule reads.
        return ()
    same = any(
        judged.id == claim.id
        and (judged.verdict, judged.evidence) == (judgement.verdict, judgement.evidence)
        for judged in record.claims
    )
    return tuple(results.read) if same else ()


def shown(project: Project, study: str) -> Status | None:
    """The run whose verdicts stand first: the reference run, else the quick one, else
    any other; None without a record.
    """
    for run in status.all_runs(project, study):
        found = status.of(project, run)
        if found.record is not None:
            return found
    return None


def damaged(project: Project, studies: Iterable[str] | None = None) -> list[Status]:
    """Published runs of the studies whose page or record is damaged."""
    from robustbook import studies as present

    found = [
        status.of(project, run)
        for study in studies or present.names()
        for run in project.runs(study)
    ]
    return [each for each in found if each.state == "damaged"]


def entries(project: Project, studies: Iterable[str] | None = None) -> list[Entry]:
    """Every claim of every study (or of those named), in the order in which the study
    declares them.
    """
    from robustbook import studies as present

    return [
        entry
        for study in studies or present.names()
        for entry in _of_study(project, study)
    ]


def _of_study(project: Project, study: str) -> list[Entry]:
    module = status.study_module(study)
    common: dict[str, Any] = {
        "study": study,
        "title": module.TITLE,
        "paper": getattr(module, "PAPER", ""),
    }
    found = shown(project, study)
    if found is None or found.record is None:
        runs = [status.of(project, run) for run in status.all_runs(project, study)]
        damage = [f"{one.run.run}: {one}" for one in runs if one.state == "damaged"]
        common |= {
            "verdict": IN_PREPARATION,
            "state": "damaged" if damage else "",
            "evidence": "; ".join(damage),
        }
        return [Entry(**common, **_words(claim)) for claim in module.CLAIMS]
    record, declared = found.record, {claim.id: claim for claim in module.CLAIMS}
    where: dict[str, Any] = {
        "run": found.run.run,
        "state": found.state,
        "page": project.relative(project.page(found.run)),
        "record": project.relative(project.record(found.run)),
        "data": tuple(sorted(record.provenance.data)),
    }
    return [
        Entry(
            **common,
            **_words(judged),
            **where,
            verdict=judged.verdict,
            evidence=judged.evidence,
            rows=rows_read(declared[judged.id], record)
            if judged.id in declared
            else (),
        )
        for judged in record.claims
    ]


def _words(claim: Claim | ClaimRecord) -> dict[str, Any]:
    names = ("statement", "source", "measure", "rule", "control")
    return {
        "claim": claim.id,
        "published": claim.published or "",
        **{name: getattr(claim, name) for name in names},
    }


def to_csv(board: Iterable[Entry]) -> str:
    """One line a claim, without the metric rows."""
    return _csv(FIELDS, (entry.line() for entry in board))


def rows_csv(board: Iterable[Entry]) -> str:
    """One line for every metric row that a rule read: value, 95 % interval, n and what
    it is over.
    """
    return _csv(
        ROW_FIELDS, (_row(entry, metric) for entry in board for metric in entry.rows)
    )


def _row(entry: Entry, metric: Metric) -> dict[str, Any]:
    values = metric.model_dump()
    factors = json.dumps(values.pop("factors"), sort_keys=True, ensure_ascii=False)
    return {
        "study": entry.study,
        "run": entry.run,
        "claim": entry.claim,
        "factors": factors,
        **values,
    }


def _csv(fields: tuple[str, ...], lines: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def to_json(board: Iterable[Entry]) -> str:
    """A list of claims, each with the metric rows that its rule read."""
    content = [
        {
            **entry.line(),
            "data": list(entry.data),
            "rows": [row.model_dump() for row in entry.rows],
        }
        for entry in board
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
