"""What the tests of the runner and the command line share: a project with one tiny
study, made, changed and read.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import robustbook
from robustbook.run.project import Project

FIXTURES = Path(__file__).parent / "fixtures"
PATH = os.pathsep.join([str(FIXTURES), str(Path(robustbook.__file__).parent.parent)])
COMMAND = [sys.executable, "-m", "robustbook"]


def new_project(folder: Path) -> Project:
    """A copy of the tiny project, without runs."""
    shutil.copytree(
        FIXTURES / "project", folder, ignore=shutil.ignore_patterns("__pycache__")
    )
    return Project(folder)


def edit(path: Path, old: str, new: str) -> None:
    """Replace a piece of a file that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def contents(project: Project) -> dict[str, bytes]:
    """Everything published, by path."""
    return {
        str(path.relative_to(project.root)): path.read_bytes()
        for path in project.root.glob("book/**/*.*")
    }


def wait_until(condition, seconds: float = 60) -> None:
    """Wait for something that another process does; fails where it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
