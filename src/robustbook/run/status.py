"""Whether a published run still fits its sources: `of` one run, `overview` of all;
`refresh` gives a page new text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustbook import studies
from robustbook.errors import UserError
from robustbook.results import Results, UnmeasuredError
from robustbook.run import clean, notebook, parameters, provenance, publish, records
from robustbook.run.answers import Status, all_runs
from robustbook.run.project import Project, RunId
from robustbook.run.records import Record


def of(project: Project, run: RunId) -> Status:
    """The state of one run: its files, what they were computed from, and the page's
    text.
    """
    page, path = project.page(run), project.record(run)
    if not path.exists() and not page.exists():
        return Status(run, "missing")
    if not path.exists() or not page.exists():
        return Status(
            run, "damaged", (f"{'record' if page.exists() else 'page'} is missing",)
        )
    try:
        record = records.load(path)
    except UserError as error:
        return Status(run, "damaged", (str(error),))
    if (record.study, record.run) != (run.study, run.run):
        return Status(
            run, "damaged", (f"the record is that of {record.study} {record.run}",)
        )
    try:
        content = page.read_bytes()
    except OSError as error:
        return Status(run, "damaged", (f"the page cannot be read ({error.strerror})",))
    if records.sha256(content) != record.page_digest:
        return Status(
            run, "damaged", ("the page is not the one its record belongs to",)
        )
    reasons = tuple(_changes(project, run, record))
    try:
        rows = Results(record.metrics, rows=studies.get(run.study).ROWS)
    except UserError as error:
        return Status(run, "stale", (str(error),), record)
    except ValueError as error:
        if not _declared_otherwise(run, reasons):
            return Status(run, "damaged", (f"the record holds a wrong row: {error}",))
    if reasons:
        return Status(run, "stale", reasons, record)
    declared = sorted(claim.id for claim in studies.get(run.study).CLAIMS)
    if sorted(claim.id for claim in record.claims) != declared:
        return Status(run, "damaged", ("its claims are not those of its study",))
    if lost := tuple(_lost(record, rows)):
        return Status(run, "damaged", lost)
    try:
        present = clean.to_bytes(refreshed(project, run, record))
    except (UserError, ValueError) as error:  # A page that only its digest says is one.
        return Status(run, "damaged", (f"the page cannot be read: {error}",))
    if present != content:
        return Status(run, "prose differs", ("its notebook has new text",), record)
    return Status(run, "fresh", (), record)


def _declared_otherwise(run: RunId, reasons: tuple[str, ...]) -> bool:
    """Whether the study's rows were others when the record was made."""
    return any(reason.startswith(f"studies/{run.study}/rows.py ") for reason in reasons)


def _lost(record: Record, rows: Results) -> Iterator[str]:
    """What the claims of a record were judged by and its rows lack; its rules must be
    today's.
    """
    judged = {claim.id: claim.verdict for claim in record.claims}
    for claim in studies.get(record.study).CLAIMS:
        try:
            claim.judge(rows)
        except UnmeasuredError as error:
            if judged.get(claim.id) != "not tested at this scale":
                yield f"the record lost a row of claim {claim.id}: {error.args[0]}"
        except (LookupError, ValueError):
            continue


def _changes(project: Project, run: RunId, record: Record) -> list[str]:
    """What has changed since the record was made, each in a few words."""
    try:
        now = provenance.snapshot(run.study, project.notebook(run.study))
        module = studies.get(run.study)
        given = expected_overrides(project, run, record)
        current = parameters.validate(module.Parameters, given).model_dump(mode="json")
        own = parameters.validate(module.Parameters, record.overrides)
    except UserError as error:
        return [str(error)]
    was, reasons = record.provenance, []
    if now.code != was.code:
        reasons.append("code cells changed")
    reasons += _different("changed", was.sources, now.sources)
    for name in sorted(record.parameters.keys() | current.keys()):
        if records.rounded(record.parameters.get(name)) != records.rounded(
            current.get(name)
        ):
            kind = (
                "parameter"
                if name in given or name in record.overrides
                else "default of parameter"
            )
            reasons.append(f"{kind} {name} changed")
    if not reasons and own.model_dump(mode="json") != current:
        reasons.append(f"it was given other parameters than the set {run.run}")
    if (
        not reasons
        and provenance.total(now.code, current, now.sources, was.data) != was.hash
    ):
        reasons.append("the record's hash fits nothing")
    return reasons


def expected_overrides(
    project: Project, run: RunId, record: Record | None
) -> dict[str, Any]:
    """The parameters that a run of this name is given: those of its parameter set, else
    those in its record.
    """
    if run.run in project.parameter_sets():
        return parameters.from_set(project, run.study, run.run)
    return dict(record.overrides) if record else {}


def _different(word: str, was: dict[str, str], now: dict[str, str]) -> list[str]:
    found = [
        f"{name} {word}"
        for name in sorted(was.keys() & now.keys())
        if was[name] != now[name]
    ]
    found += [f"{name} is new" for name in sorted(now.keys() - was.keys())]
    return found + [f"{name} is gone" for name in sorted(was.keys() - now.keys())]


def refreshed(project: Project, run: RunId, record: Record) -> Any:
    """The page with its notebook's present text and its own outputs; the record must be
    fresh.
    """
    source = notebook.read(project.notebook(run.study))
    model = studies.get(run.study).Parameters
    page = clean.read(project.page(run))
    return clean.refresh(source, page, run, model, record.overrides)


def refresh(project: Project, run: RunId, record: Record) -> None:
    """Publish the page with its notebook's present text; nothing is computed. The
    caller holds the run's lock.
    """
    page = clean.to_bytes(refreshed(project, run, record))
    renewed = record.model_copy(update={"page_digest": records.sha256(page)})
    with publish.staging(project, run) as folder:
        publish.publish(project, run, folder, page, renewed.to_bytes())


def of_study(project: Project, study: str) -> Iterator[Status]:
    """The state of every run of a study, each found when it is asked for."""
    return (of(project, run) for run in all_runs(project, study))


def overview(project: Project) -> list[Status]:
    """The state of every run of every study."""
    return [found for study in studies.names() for found in of_study(project, study)]
