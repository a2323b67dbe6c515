"""What a run was computed from, and when it no longer fits: sources, code cells,
parameters, files.
"""

import pytest
from run_helpers import edit

import robustbook
from robustbook import studies
from robustbook.errors import UnknownNameError, UserError
from robustbook.run import project as projects
from robustbook.run import provenance, records, scoreboard, status
from robustbook.run.project import Project, RunId

QUICK = RunId("tiny", "quick")


def test_cells_are_hashed_in_their_order():
    assert provenance.code_digest(["a", "b"]) != provenance.code_digest(["ab"])
    assert provenance.code_digest(["a", "b"]) != provenance.code_digest(["b", "a"])
    assert provenance.code_digest(["a # 1"]) == provenance.code_digest(["(a)"])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the same name with a few modules that import each other."""
    files = {
        "measure/__init__.py": "",
        "measure/psi.py": "from ..perturb import gradient\nfrom robustbook.plots "
        "import style\n",
        "measure/unused.py": "",
        "perturb/__init__.py": "from .noise import add\n",
        "perturb/noise.py": "def add(): pass\n",
        "perturb/gradient.py": "import robustbook.stats\nfrom robustbook.measure "
        "import psi\n",
        "stats.py": "from robustbook import page, run\n",
        "plots/style.py": "",
        "page.py": "",
        "run/__init__.py": "",
        "studies/mine/__init__.py": "from robustbook.studies.mine import steps\n",
        "studies/mine/steps.py": "def f():\n    from robustbook.measure.psi import "
        "Psi\n    from robustbook.studies import shared\n",
        "studies/mine/other.py": "",
        "studies/shared.py": "",
        "data/__init__.py": "",
        "data/digits.py": "SOURCES = {'digits': ()}\n",
        "data/signs.py": "SOURCES = {'signs': ()}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(robustbook, "__path__", [str(tmp_path)])
    monkeypatch.setattr(studies, "__path__", [str(tmp_path / "studies")])
    return tmp_path


def test_the_closure_follows_imports_through_the_rooms_that_compute(package):
    assert list(provenance.closure("mine")) == [
        "measure/__init__.py",
        "measure/psi.py",
        "perturb/__init__.py",
        "perturb/gradient.py",
        "perturb/noise.py",
        "stats.py",
        "studies/mine/__init__.py",
        "studies/mine/steps.py",
        "studies/shared.py",
    ]


def test_the_closure_starts_at_the_notebook_too(package):
    cells = ["from robustbook.data import digits", "from robustbook import page"]
    found = provenance.closure("mine", cells)
    assert {"data/__init__.py", "data/digits.py"} <= set(found)
    assert "page.py" not in found


def test_a_data_set_named_in_quotes_brings_its_module(package):
    assert "data/signs.py" in provenance.closure("mine", ["load('signs', 'test')"])
    assert "data/signs.py" not in provenance.closure("mine", ["load('digits', 'test')"])
    steps = package / "studies" / "mine" / "steps.py"
    steps.write_text("Data = Literal['digits', 'none']\n")
    found = set(provenance.closure("mine"))
    assert "data/digits.py" in found
    assert "data/signs.py" not in found


def test_a_changed_module_changes_its_hash_alone(package):
    before = provenance.closure("mine")
    (package / "perturb" / "noise.py").write_text("def add(): return 1\n")
    after = provenance.closure("mine")
    assert [name for name in before if before[name] != after[name]] == [
        "perturb/noise.py"
    ]


def reasons(project):
    found = status.of(project, QUICK)
    assert found.state == "stale"
    return list(found.reasons)


def test_a_run_that_nothing_changed_is_fresh(ran):
    assert str(status.of(ran, QUICK)) == "fresh"


def test_changed_code_cells_are_told(ran):
    edit(ran.notebook("tiny"), "1 - budget", "2 - budget")
    assert reasons(ran) == ["code cells changed"]


def test_changed_modules_are_told_by_name(ran, monkeypatch):
    now = provenance.closure("tiny", ["from robustbook.results import Results"])
    changed = {**now, "results.py": "x", "measure/new.py": "y"}
    changed.pop("studies/tiny.py")
    monkeypatch.setattr(provenance, "closure", lambda *_: changed)
    told = reasons(ran)
    assert "results.py changed" in told
    assert "measure/new.py is new" in told
    assert "studies/tiny.py is gone" in told


def test_changed_defaults_and_parameter_sets_are_told(ran):
    (ran.notebooks / "runs" / "quick.yml").write_text("tiny: {steps: 4}\n")
    assert reasons(ran) == ["parameter steps changed"]


def test_a_changed_default_is_told(ran, monkeypatch):
    from robustbook.studies import get

    class Changed(get("tiny").Parameters):
        epsilon: float = 0.3

    monkeypatch.setattr(get("tiny"), "Parameters", Changed)
    assert reasons(ran) == ["default of parameter epsilon changed"]


def test_parameters_that_the_study_no_longer_takes_are_told(ran):
    (ran.notebooks / "runs" / "quick.yml").write_text("tiny: {stepz: 4}\n")
    assert reasons(ran) == ["unknown parameter 'stepz': did you mean 'steps'?"]


def test_missing_and_damaged_runs(ran):
    assert status.of(ran, RunId("tiny", "wide")).state == "missing"
    page, record = ran.page(QUICK), ran.record(QUICK)
    content = page.read_bytes()
    page.write_bytes(content.replace(b"python: python", b"python: snakes"))
    assert (
        str(status.of(ran, QUICK))
        == "damaged: the page is not the one its record belongs to"
    )
    page.unlink()
    assert str(status.of(ran, QUICK)) == "damaged: page is missing"
    page.write_bytes(content)
    record.write_text("{")
    assert status.of(ran, QUICK).state == "damaged"
    assert status.of(ran, QUICK).record is None


def test_a_record_in_the_wrong_place_is_damaged(ran):
    other = RunId("tiny", "other")
    ran.page(QUICK).rename(ran.page(other))
    ran.record(QUICK).rename(ran.record(other))
    assert "the record is that of tiny quick" in str(status.of(ran, other))


def test_a_record_that_lost_rows_of_a_verdict_is_damaged_and_claims_say_so(ran):
    record = records.load(ran.record(QUICK))
    left = [metric for metric in record.metrics if metric.name != "mean"]
    assert len(left) < len(record.metrics)
    ran.record(QUICK).write_bytes(
        record.model_copy(update={"metrics": left}).to_bytes()
    )
    said = "damaged: the record lost a row of claim T1: expected one metric 'mean'"
    assert said in str(status.of(ran, QUICK))
    (entry,) = scoreboard.entries(ran)
    assert (entry.verdict, entry.state) == ("in preparation", "damaged")
    assert said in entry.evidence


def test_a_record_whose_hash_was_altered_is_stale(ran):
    record = records.load(ran.record(QUICK))
    forged = record.model_copy(
        update={"provenance": record.provenance.model_copy(update={"hash": "0" * 64})}
    )
    ran.record(QUICK).write_bytes(forged.to_bytes())
    assert reasons(ran) == ["the record's hash fits nothing"]


def test_unknown_studies_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'tiny'"):
        studies.get("tinny")


def test_a_project_is_found_from_below_and_by_its_variable(ran, monkeypatch, tmp_path):
    assert projects.find(ran.notebooks / "runs") == ran
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(UserError, match="no book project in"):
        projects.find(outside)
    monkeypatch.setenv("ROBUSTBOOK_ROOT", str(ran.root))
    assert projects.find(outside) == Project(ran.root)
    monkeypatch.setenv("ROBUSTBOOK_ROOT", str(outside))
    with pytest.raises(UserError, match="ROBUSTBOOK_ROOT"):
        projects.find(outside)
