"""nbgrader makes an assignment of a lesson and grades a right, an empty and a wrong
submission: full points, none, the expected part.

nbgrader lives in an environment of its own (`pip install nbgrader`); the test finds it
on PATH or by `ROBUSTBOOK_NBGRADER`, the path of its program.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from robustbook.run import lesson
from robustbook.run.project import Project

PROJECT = Project(Path(__file__).parents[1])
STUDY, TASK = "loss_metric", "psi"
REGION = re.compile(r"### BEGIN SOLUTION\n(.*)\n### END SOLUTION", re.S)
CONFIG = """
c = get_config()
c.ClearSolutions.code_stub = {"python": "# Your answer."}
c.ExecutePreprocessor.timeout = 600
"""
PART = {"full-swap": "answer_1 = 0.411", "invariance": "answer_2 = {'scale'}"}
PART["interval-linear"] = "def answer_5(layer, low, high):\n    return low + missing"


def program() -> str | None:
    """The program of nbgrader."""
    return os.environ.get("ROBUSTBOOK_NBGRADER") or shutil.which("nbgrader")


@pytest.fixture
def grader(tmp_path):
    """A course with one assignment, and a function that calls nbgrader there."""
    if program() is None:
        pytest.skip("no nbgrader: pip install it elsewhere and name its program")
    course = tmp_path / "course"
    lesson.write(PROJECT, STUDY, course / "source" / TASK, solutions=True)
    made = course / "source" / TASK / f"{STUDY}_solutions.ipynb"
    made.rename(made.with_name(f"{STUDY}.ipynb"))
    (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    kernel = tmp_path / "path" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    call = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    said = {"argv": call, "display_name": "Python 3", "language": "python"}
    kernel.write_text(json.dumps(said), encoding="utf-8")
    places = f"{Path(str(program())).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"JUPYTER_PATH": str(tmp_path / "path"), "HOME": str(tmp_path)}
    own["PATH"] = places  # nbgrader calls a program that is beside it.

    def call_grader(*words: str) -> Path:
        done = subprocess.run(
            [str(program()), *words],
            cwd=course,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return course

    return call_grader


def solved(source: Path, released: Path, answers: dict[str, str]):
    """The released notebook with answers in the place of its stubs."""
    node = nbformat.read(released, as_version=4)
    names = {
        cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in node.cells
    }
    for name, answer in answers.items():
        names[name].source += f"\n{answer}"
    return node


@pytest.mark.slow
def test_right_empty_and_wrong_submissions_get_their_points(grader):
    course = grader("generate_assignment", TASK, "--create")
    source = course / "source" / TASK / f"{STUDY}.ipynb"
    released = course / "release" / TASK / f"{STUDY}.ipynb"
    text = released.read_text(encoding="utf-8")
    assert "SOLUTION" not in text
    right = {
        cell.metadata["nbgrader"]["grade_id"]: found[1]
        for cell in nbformat.read(source, as_version=4).cells
        if (found := REGION.search(cell.source))
    }
    for student, answers in {"right": right, "empty": {}, "part": PART}.items():
        folder = course / "submitted" / student / TASK
        folder.mkdir(parents=True)
        nbformat.write(solved(source, released, answers), folder / f"{STUDY}.ipynb")
    grader("autograde", TASK, "--create")
    grader("generate_feedback", TASK)
    grader("export")
    with (course / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    points = {name: float(row["score"]) for name, row in rows.items()}
    assert float(rows["right"]["max_score"]) == 10
    assert points == {"right": 10, "empty": 0, "part": 1}
    said = (course / "feedback" / "part" / TASK / f"{STUDY}.html").read_text("utf-8")
    assert "NameError" in said and "Look at the mean and the deviation" in said
