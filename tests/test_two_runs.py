"""Two runs of a study: what differs beyond the intervals is listed, and nothing of the
user's is imported for it.
"""

from __future__ import annotations

import pytest

from robustbook.errors import UserError
from robustbook.results import Metric
from robustbook.run import records, scoreboard, status, two_runs
from robustbook.run.project import Project, RunId
from robustbook.run.records import ClaimRecord, Provenance, Record


def make_record(metrics) -> Record:
    said = dict.fromkeys(
        ("statement", "source", "measure", "rule", "control", "evidence"), "s"
    )
    return Record(
        study="loss_metric",
        run="quick",
        overrides={},
        parameters={"epsilon": 0.1},
        metrics=metrics,
        claims=[ClaimRecord(id="T1", verdict="reproduced", **said)],
        provenance=Provenance(
            hash="h",
            code="c",
            sources={},
            data={},
            versions={},
            device="cpu",
            threads=1,
        ),
    )


def record_with(*metrics, **changes):
    return make_record(metrics=list(metrics)).model_copy(update=changes)


def row(value, low=None, high=None, **factors):
    return Metric(name="share", value=value, low=low, high=high, factors=factors)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (row(0.5, 0.4, 0.6), row(0.6, 0.55, 0.7), False),
        (row(0.5, 0.4, 0.6), row(0.7, 0.65, 0.8), True),
        (row(0.5, 0.4, 0.6), row(0.55), False),
        (row(0.5, 0.4, 0.6), row(0.61), True),
        (row(0.5), row(0.5), False),
        (row(0.5), row(0.51), True),
    ],
)
def test_numbers_differ_where_their_intervals_do_not_meet(one, other, apart) -> None:
    for pair in ((one, other), (other, one)):
        found = two_runs.contrast(*map(record_with, pair))
        assert bool(found.numbers) is apart
        assert found.alike == (not apart)


def test_rows_parameters_and_verdicts_of_one_side_are_told() -> None:
    first = record_with(row(0.5, budget=0.1), parameters={"seeds": 3, "epsilon": 0.1})
    second = record_with(row(0.5, budget=0.2), parameters={"seeds": 3, "epsilon": 0.2})
    claim = second.claims[0].model_copy(update={"verdict": "inconclusive"})
    found = two_runs.contrast(first, second.model_copy(update={"claims": [claim]}))
    assert found.parameters == {"epsilon": ("0.1", "0.2")}
    assert found.numbers == {
        "share (budget 0.1)": ("0.5", ""),
        "share (budget 0.2)": ("", "0.5"),
    }
    assert found.verdicts[claim.id][1] == "inconclusive"


STUDY = "your_network"
BOMB = "open('imported', 'w').write('x')\n\ndef build():\n    raise SystemExit\n"


@pytest.fixture
def own_runs(tmp_path, monkeypatch) -> Project:
    """Two published runs of networks that a file of the user's makes."""
    (tmp_path / "mine.py").write_text(BOMB)
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.notebooks.mkdir()
    for name, value in (("mine", 0.5), ("v2", 0.9)):
        run = RunId(STUDY, name)
        project.page(run).parent.mkdir(parents=True, exist_ok=True)
        project.page(run).write_bytes(b"a page")
        row = Metric(name="clean accuracy", value=value, unit="share")
        record = make_record(metrics=[row]).model_copy(
            update={
                "study": STUDY,
                "run": name,
                "claims": [],
                "overrides": {"model": "mine.py:build"},
                "parameters": {"model": "mine.py:build"},
                "page_digest": records.sha256(b"a page"),
            }
        )
        project.record(run).write_bytes(record.to_bytes())
    return project


def test_what_a_record_names_is_never_imported(own_runs: Project) -> None:
    for each in status.of_study(own_runs, STUDY):
        assert each.state in ("missing", "stale")
    assert scoreboard.entries(own_runs, [STUDY]) == []
    found = two_runs.contrast(*two_runs.pair(own_runs, "mine", f"{STUDY}/v2"))
    assert found.numbers == {"clean accuracy": ("0.5", "0.9")}
    assert not (own_runs.root / "imported").exists()


def test_runs_that_are_not_there_or_of_two_studies_are_said(own_runs: Project) -> None:
    with pytest.raises(UserError, match="did you mean 'mine'"):
        two_runs.pair(own_runs, "min", "v2")
    with pytest.raises(UserError, match="two runs of one study"):
        two_runs.pair(own_runs, "loss_metric/mine", f"{STUDY}/v2")
