"""The last step of a notebook, `finish`: judge the claims, say what was computed from
what, write the record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from robustbook.results import Claim, Results
from robustbook.run.records import ClaimRecord, Record

if TYPE_CHECKING:
    from robustbook.data import ImageSet


def judged(claim: Claim, results: Results) -> ClaimRecord:
    """A claim together with the verdict of its rule on these results."""
    judgement = claim.verdict(results)
    return ClaimRecord(
        id=claim.id,
        statement=claim.statement,
        source=claim.source,
        measure=claim.measure,
        rule=claim.rule,
        control=claim.control,
        published=claim.published,
        verdict=judgement.verdict,
        evidence=judgement.evidence,
        answer=judgement.answer,
    )


def data_digests(data: Sequence[ImageSet]) -> dict[str, str]:
    """Digest of each image set by its title, and by title and split where two sets
    share the title.
    """
    shared = {
        images.title
        for images in data
        if any(images.title == one.title and images.split != one.split for one in data)
    }
    return {
        f"{one.title}, {one.split}" if one.title in shared else one.title: one.digest
        for one in data
    }


def finish(
    study: str,
    parameters: BaseModel,
    results: Results,
    data: Sequence[ImageSet] = (),
    timing: Mapping[str, float] | None = None,
    *,
    digests: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> Record:
    """The record of this run: `results` with a verdict per claim of `study`, and what
    they were computed from.

    `timing` holds measured seconds by name; comparisons leave it out. `digests` are
    those of what was read beside the `data`, by title, and `device` is where it was
    computed. Under the runner
    the record is also written to the file that ROBUSTBOOK_RECORD names; in plain
    JupyterLab nothing is written. UndeclaredRowError where the study does not declare a
    row of the results.
    """
    from robustbook import studies
    from robustbook.run import provenance

    module = studies.get(study)
    declared = Results(results, rows=module.ROWS)
    values = parameters.model_dump(mode="json")
    record = Record(
        study=study,
        run=os.environ.get("ROBUSTBOOK_RUN", "quick"),
        overrides={},
        parameters=values,
        metrics=list(declared),
        claims=[judged(claim, declared) for claim in module.CLAIMS],
        provenance=provenance.of_this_process(
            study, values, {**data_digests(data), **(digests or {})}, device
        ),
        timing=dict(timing or {}),
    )
    target = os.environ.get("ROBUSTBOOK_RECORD")
    if target and results.replaced:
        names = ", ".join(sorted(results.replaced))
        raise ValueError(f"two cells of the notebook record the same rows: {names}")
    if target:
        Path(target).write_bytes(record.to_bytes())
    return record
