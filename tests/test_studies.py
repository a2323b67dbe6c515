"""Every study has the shape that `studies.protocol` describes, and says things once."""

from pathlib import Path

import pytest
from annotated_types import Ge, Le, Lt

from robustbook import page, studies
from robustbook.errors import ParameterError
from robustbook.fields import describe
from robustbook.results import Results, UndeclaredRowError
from robustbook.run import notebook, parameters, provenance, records, status
from robustbook.run.project import REFERENCE, Project, RunId
from robustbook.studies import protocol

ROOT = Path(__file__).parents[1]
NAMES = studies.names()


def rows_are_todays(study: str) -> bool:
    """Whether a study has a reference record and still declares the record's rows."""
    path, name = ROOT / "book" / "studies" / f"{study}.json", f"studies/{study}/rows.py"
    if not path.exists():
        return False
    was = records.load(path).provenance.sources
    now = provenance.snapshot(study, ROOT / "notebooks" / f"{study}.py").sources
    return was.get(name) == now[name]


RECORDED = [study for study in NAMES if rows_are_todays(study)]


def cell_of(study: str) -> str:
    node = notebook.read(ROOT / "notebooks" / f"{study}.py")
    (cell,) = [
        cell
        for cell in notebook.code_cells(node)
        if notebook.has_tag(cell, notebook.PARAMETERS)
    ]
    return cell.source


@pytest.mark.parametrize("study", NAMES)
def test_a_parameter_s_meaning_is_said_once(study: str) -> None:
    source, model = cell_of(study), studies.get(study).Parameters
    assert issubclass(model, protocol.BaseParameters)
    assert "#" not in source
    assert len(source.splitlines()) == len(model.model_fields)
    for entry in describe(model):
        assert entry.help, entry.name
        assert entry.help not in source


def smallest(study: str) -> dict[str, object]:
    """The smallest value of every number, the default of all else."""
    values = {}
    for name, field in studies.get(study).Parameters.model_fields.items():
        if field.annotation in (int, float):
            (low,) = [each.ge for each in field.metadata if isinstance(each, Ge)]
            assert any(isinstance(each, Le | Lt) for each in field.metadata), name
            values[name] = field.annotation(low)
    return values


# What the smallest values of all parameters lack, by study: the runs with them were
# made by hand.
LACKING = {
    "loss_metric": {"steps": 2},
    "mammogram_perturbations": {"pitch": 0.19},
    "bnn_verification": {
        **{"theta": 0.075, "gamma": 0.075, "alpha": 0.05},
        **{"tight_theta": 0.05, "tight_gamma": 0.01, "tight_alpha": 0.0067},
        "sign_second": 25,
    },
}


@pytest.mark.parametrize("study", NAMES)
def test_the_smallest_values_of_all_parameters_run_or_are_refused(study: str) -> None:
    model, values = studies.get(study).Parameters, smallest(study)
    lacking = LACKING.get(study, {})
    if lacking:
        with pytest.raises(ParameterError) as caught:
            parameters.validate(model, values)
        assert any(name in str(caught.value) for name in lacking)
        assert len(str(caught.value)) < 200
    for name, low in values.items():
        beyond = low - 1 if isinstance(low, int) else low / 2 or -0.1
        with pytest.raises(ParameterError, match=f"{name!r} must be"):
            parameters.validate(model, {name: beyond})
    parameters.validate(model, {**values, **lacking})


@pytest.mark.parametrize(
    ("study", "given", "named"),
    [
        ("loss_metric", {"steps": 5, "strong_steps": 1}, "steps and strong_steps"),
        ("mammogram_perturbations", {"height": 44, "pitch": 0.1}, "height times pitch"),
        ("bnn_verification", {"alpha": 0.075}, "alpha must be below gamma"),
        ("bnn_verification", {"tight_theta": 0.03}, "tight_theta .* need 2,944"),
    ],
)
def test_parameters_that_go_together_are_checked_together(study, given, named) -> None:
    with pytest.raises(ParameterError, match=named):
        parameters.validate(studies.get(study).Parameters, given)


@pytest.mark.parametrize("study", NAMES)
def test_the_page_explains_every_parameter_of_the_run(study: str) -> None:
    model = studies.get(study).Parameters
    shown = page.parameters(model()).data
    for entry in describe(model):
        assert f"<code>{entry.name}</code>" in shown
        assert page.inline(entry.help) in shown
        assert f"<code>{entry.default}</code>" in shown


@pytest.mark.parametrize("study", NAMES)
def test_every_study_has_the_same_rooms_and_no_other(study: str) -> None:
    folder = Path(studies.get(study).__file__ or "").parent
    found = {
        path.stem
        for path in folder.iterdir()
        if path.stem not in ("__init__", "__pycache__")
    }
    assert found == set(protocol.ROOMS)
    for name in ("TITLE", "CLAIMS", "ROWS", "Parameters"):
        assert hasattr(studies.get(study), name)


@pytest.mark.parametrize("study", RECORDED)
def test_a_record_holds_declared_rows_alone(study: str) -> None:
    rows = studies.get(study).ROWS
    assert len({row.name for row in rows}) == len(rows)
    metrics = records.load(ROOT / "book" / "studies" / f"{study}.json").metrics
    assert len(Results(metrics, rows=rows)) == len(metrics)
    renamed = metrics[0].model_copy(update={"name": f"{metrics[0].name} renamed"})
    with pytest.raises(UndeclaredRowError, match="renamed"):
        Results([renamed, *metrics[1:]], rows=rows)
    with pytest.raises(UndeclaredRowError, match="no factor"):
        Results(rows=rows).select(metrics[0].name, colour="red")


@pytest.mark.parametrize("study", RECORDED)
def test_a_record_with_a_renamed_row_is_damaged(study: str, tmp_path: Path) -> None:
    project, run = Project(tmp_path), RunId(study, REFERENCE)
    project.page(run).parent.mkdir(parents=True)
    project.page(run).write_bytes(b"a page")
    project.notebook(run.study).parent.mkdir()
    project.notebook(run.study).write_bytes(
        (ROOT / "notebooks" / f"{study}.py").read_bytes()
    )
    record = records.load(ROOT / "book" / "studies" / f"{study}.json").model_copy(
        update={"page_digest": records.sha256(b"a page")}
    )
    first, *others = record.metrics
    renamed = first.model_copy(update={"name": "renamed"})
    project.record(run).write_bytes(
        record.model_copy(update={"metrics": [renamed, *others]}).to_bytes()
    )
    found = status.of(project, run)
    assert found.state == "damaged"
    assert "declares no row 'renamed'" in str(found)

    sources = {**record.provenance.sources, f"studies/{study}/rows.py": "other rows"}
    older = record.provenance.model_copy(update={"sources": sources})
    project.record(run).write_bytes(
        record.model_copy(
            update={"metrics": [renamed, *others], "provenance": older}
        ).to_bytes()
    )
    assert status.of(project, run).state == "stale"
