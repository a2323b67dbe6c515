"""All claims of all studies with what was found, from records alone: `entries`.

The command line, the book's scoreboard and its downloads show these entries and nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from robustbook import studies
from robustbook.results import Claim, Metric, Results
from robustbook.run import status
from robustbook.run.answers import Entry, Status
from robustbook.run.project import Project
from robustbook.run.records import ClaimRecord, Record

IN_PREPARATION = "in preparation"


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


def entries(project: Project, wanted: Iterable[str] | None = None) -> list[Entry]:
    """Every claim of every study (or of those named), in the order in which the study
    declares them.
    """
    return [
        entry
        for study in wanted or studies.names()
        for entry in of_study(project, study, status.of_study(project, study))
    ]


def of_study(project: Project, study: str, states: Iterable[Status]) -> list[Entry]:
    """Every claim of one study, the states of its runs being known.

    The run whose verdicts stand first is the first that has a record: the reference
    run, else the quick one, else any other.
    """
    module = studies.get(study)
    common: dict[str, Any] = {
        "study": study,
        "title": module.TITLE,
        "paper": getattr(module, "PAPER", ""),
    }
    damage = []
    for found in states:
        if found.record is not None:
            break
        if found.state == "damaged":
            damage.append(f"{found.run.run}: {found}")
    else:
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
            answer=judged.answer,
            rows=tuple(
                row.model_dump() for row in rows_read(declared[judged.id], record)
            )
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
