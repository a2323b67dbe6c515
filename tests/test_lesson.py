"""Lessons out of chapters: they stand alone, their exercises are graded, and the
student's copy holds no solution.
"""

from __future__ import annotations
import __future__

import ast
import json
import re
import textwrap
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from robustbook import cli, exercises, grading
from robustbook.errors import UserError
from robustbook.measure.divergence import kl_divergence
from robustbook.measure.importance import first_order
from robustbook.run import clean, inlined, lesson
from robustbook.run.project import Project

PROJECT = Project(Path(__file__).parents[1])
SLOW = [pytest.mark.slow]
READY = (
    *("loss_metric", "saliency_baselines", "taylor_pruning"),
    *("bnn_attacks", "mammogram_perturbations", "bnn_verification", "synthesis"),
)
RUN = [
    pytest.param(name, marks=[] if name == "loss_metric" else SLOW) for name in READY
]
WRITTEN = re.compile(r"`{3}\{|:{3}\{|\{[a-z]+(:[a-z]+)?\}`|^\([\w-]+\)=", re.M)
REGION = re.compile(r"\n### BEGIN SOLUTION\n.*\n### END SOLUTION", re.S)


@cache
def made(study, *, solutions=False):
    """A lesson that no test changes."""
    return lesson.make(PROJECT, study, solutions=solutions)


def code(node):
    return [cell for cell in node.cells if cell.cell_type == "code"]


def run(cells):
    """What code cells show, each its last value, in one space as in a kernel."""
    space, shown = {"__name__": "__main__", "display": lambda *_: None}, []
    flags = __future__.annotations.compiler_flag
    for cell in cells:
        tree = ast.parse(cell.source)
        last = tree.body.pop() if tree.body else None
        if last is not None and not isinstance(last, ast.Expr):
            tree.body.append(last)
        exec(compile(tree, "cell", "exec", flags), space)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), space)
        shown.append(value)
    return shown


def graded(shown):
    return [value for value in shown if isinstance(value, grading.Graded)]


# Lessons of the chapters
# --------------------------------------------------------------------------------------


def test_every_chapter_in_the_new_shape_becomes_a_lesson():
    assert set(READY) <= set(lesson.ready(PROJECT))


@pytest.mark.parametrize("study", READY)
def test_a_lesson_stands_alone(study):
    student = made(study)
    assert clean.to_bytes(student) == clean.to_bytes(lesson.make(PROJECT, study))
    assert len(clean.to_bytes(student)) < 2_000_000
    texts = [cell.source for cell in student.cells if cell.cell_type == "markdown"]
    assert not any(WRITTEN.search(text) for text in texts)
    assert all(cell.outputs == [] for cell in code(student))
    assert "find_spec" in code(student)[0].source
    for name in ("page.source", "page.opening", "page.verdict", "finish("):
        assert not any(name in cell.source for cell in code(student))
    # No name is imported from two places, which a cell above would then not mean.
    found = [inlined.imports(ast.parse(cell.source)) for cell in code(student)]
    places = {}
    for name, line in (pair for imports in found for pair in imports.items()):
        assert places.setdefault(name, line) == line
    for cell in student.cells:
        for name in re.findall(r"\(attachment:([^)]+)\)", cell.source):
            (media,) = cell.attachments[name]
            assert media in ("image/png", "image/webp")  # JupyterLab shows no SVG.


@pytest.mark.parametrize("study", READY)
def test_the_students_copy_is_the_instructors_without_its_solutions(study):
    student = made(study)
    instructor = deepcopy(made(study, solutions=True))
    solved = [cell for cell in instructor.cells if REGION.search(cell.source)]
    cells = exercises.cells(PROJECT.notebook(study))
    assert len(solved) == len(cells)
    for cell in solved:
        cell.source = REGION.sub("", cell.source)
    assert clean.to_bytes(instructor) == clean.to_bytes(student)


@pytest.mark.parametrize("study", READY)
def test_exercises_carry_points_and_read_only_checks(study):
    node = made(study)
    of_nbgrader = [
        cell.metadata["nbgrader"] for cell in code(node) if "nbgrader" in cell.metadata
    ]
    answers, checks = of_nbgrader[::2], of_nbgrader[1::2]
    names = list(exercises.cells(PROJECT.notebook(study)))
    assert [each["grade_id"] for each in answers] == names
    assert [each["grade_id"] for each in checks] == [f"check-{name}" for name in names]
    assert all(each["solution"] and not each["locked"] for each in answers)
    assert all(each["grade"] and each["locked"] for each in checks)
    assert all(each["points"] in (1, 2, 3) for each in checks)
    said = [c.source for c in node.cells if " minutes, " in c.source]
    assert len(said) == len(names)


@pytest.mark.parametrize("study", READY)
def test_untouched_answers_earn_nothing_and_break_nothing(study):
    cells = code(made(study))
    needed = [cell for cell in cells if "nbgrader" in cell.metadata]
    named = [
        cell
        for cell in cells
        if "import exercises as checks" in cell.source and cell not in needed
    ]
    *shown, score = run([cells[1], *named, *needed, cells[-1]])
    assert len(graded(shown)) == len(needed) / 2
    assert not any(each.outcome.correct for each in graded(shown))
    assert not any("stopped" in each.outcome.message for each in graded(shown))
    assert str(score).startswith("0 of ")


@pytest.mark.parametrize("study", RUN)
def test_the_instructors_copy_runs_and_earns_all_points(study):
    cells = code(made(study, solutions=True))
    *shown, score = run(cells)
    assert all(each.outcome.correct for each in graded(shown))
    earned = sum(each.points for each in graded(shown))
    assert str(score) == f"{earned} of {earned} points"


def test_what_a_reader_changes_is_what_is_computed():
    cells = code(deepcopy(made("loss_metric")))
    idea = next(cell for cell in cells if "def kl_divergence" in cell.source)
    idea.source = idea.source.replace("(log_p - log_q)", "0 * (log_p - log_q)")
    walk = next(cell for cell in cells if "def largest_divergence" in cell.source)
    first = cells[: cells.index(walk) + 1]
    walk.source += "\nlargest_divergence(network, image, budget)"
    kept = [cell for cell in first if "psi_within" not in cell.source]
    assert run(kept)[-1] == 0


def project_with(folder, old, new):
    """A project of one chapter, with some words of its notebook replaced."""
    project = Project(folder)
    for name in ("notebooks/loss_metric.py", "book/references.bib", "_config.yml"):
        text = (PROJECT.root / name).read_text(encoding="utf-8")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    return project


def test_a_chapter_of_another_shape_is_refused(tmp_path):
    project = project_with(tmp_path, "## See it once", "## Set-up")
    with pytest.raises(UserError, match="no lesson yet"):
        lesson.make(project, "loss_metric")


def test_an_exercise_that_needs_the_whole_study_is_refused(tmp_path):
    project = project_with(tmp_path, "answer = None  # one", "answer = zoo  # one")
    with pytest.raises(UserError, match="computes: zoo"):
        lesson.make(project, "loss_metric")


def test_without_a_reference_run_a_lesson_says_so(tmp_path):
    node = lesson.make(project_with(tmp_path, "", ""), "loss_metric")
    texts = [cell.source for cell in node.cells if cell.cell_type == "markdown"]
    assert not any(text.startswith("## In short") for text in texts)
    assert any("reference run is being made" in text for text in texts)


# Code that is inlined
# --------------------------------------------------------------------------------------


def test_an_inlined_function_does_what_it_did():
    space = {}
    source = inlined.cell_of([kl_divergence, first_order])
    exec("from __future__ import annotations\n" + source, space)
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(space["kl_divergence"](*logits), kl_divergence(*logits))
    assert "checks" not in source
    assert torch.equal(space["first_order"](logits[0]), first_order(logits[0]))


def test_what_refuses_arguments_is_left_out():
    source = textwrap.dedent("""
        def f(x, n=None):
            checks.tensor(
                x, "x"
            )
            if n is not None:
                n = checks.whole(n, "n")
            y = checks.count(x)
            return y
    """).strip()
    kept = "def f(x, n=None):\n    y = gate.count(x)\n    return y"
    assert inlined.without_gate(source) == kept


def test_imports_of_one_module_stand_in_one_line():
    lines = ["from a import c", "import d", "from a import b", "from a import c"]
    assert inlined.merged(lines) == ["import d", "from a import b, c"]


# Points and codes
# --------------------------------------------------------------------------------------


def check_two(answer):
    print("noise")
    assert answer == 2.0, "One and one."


def test_text_of_a_grade_is_its_points_for_nbgrader(capfd):
    right = grading.graded("two", check_two, 2, points=3)
    wrong = grading.graded("two", check_two, 3, points=3)
    assert (repr(right), repr(wrong)) == ("3", "0")
    assert "One and one." in wrong._repr_html_()
    assert capfd.readouterr() == ("", "")


def test_a_score_is_read_from_its_code_and_a_changed_one_is_refused():
    grading.graded("two", check_two, 2, points=3)
    score = grading.score("tiny", {"two": 3, "other": 2}, "Ada: Lovelace")
    assert str(score) == "3 of 5 points"
    assert grading.read(f" {score.code}\n") == score
    assert score.student == "Ada Lovelace"
    with pytest.raises(ValueError, match="not whole"):
        grading.read(score.code.replace("other=0", "other=2"))
    with pytest.raises(ValueError, match="not whole"):
        grading.read(score.code[:-1])


def test_the_command_writes_lessons_and_reads_codes(tmp_path, monkeypatch):
    monkeypatch.chdir(PROJECT.root)
    runner = CliRunner()
    out = str(tmp_path / "out")
    done = runner.invoke(cli.app, ["lesson", "loss_metric", "--out", out])
    assert done.exit_code == 0
    node = json.loads((tmp_path / "out" / "loss_metric.ipynb").read_text("utf-8"))
    assert node["nbformat"] == 4
    code = grading.score("tiny", {"none": 2}, "Ada").code
    read = runner.invoke(cli.app, ["lesson", "--check", code])
    assert "Ada: 0 of 2 points in tiny" in read.stdout
    both = runner.invoke(cli.app, ["lesson", "loss_metric", "--all"])
    assert isinstance(both.exception, UserError)
