"""Fixtures of the tests of runner and command line: the tiny study alone, projects with
and without its run.
"""

import shutil

import pytest
from run_helpers import FIXTURES, PATH, new_project

from robustbook import studies
from robustbook.run.project import Project


@pytest.fixture(autouse=True)
def tiny_study(monkeypatch):
    """The tiny study is the only one, here and in every process that a test starts."""
    monkeypatch.setattr(studies, "__path__", [str(FIXTURES / "studies")])
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.delenv("ROBUSTBOOK_ROOT", raising=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project without runs, as the current folder."""
    made = new_project(tmp_path / "project")
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture(scope="session")
def ran_once(tmp_path_factory):
    """A project whose quick run was made; not to be changed."""
    from robustbook.run import execute, runner
    from robustbook.run.project import RunId

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "__path__", [str(FIXTURES / "studies")])
        patch.setenv("PYTHONPATH", PATH)
        made = new_project(tmp_path_factory.mktemp("ran") / "project")
        runner.perform(made, RunId("tiny", "quick"), {}, execute.SilentReporter())
    return made


@pytest.fixture
def ran(ran_once, tmp_path, monkeypatch):
    """A project of its own whose quick run was made, as the current folder."""
    shutil.copytree(ran_once.root, tmp_path / "ran")
    monkeypatch.chdir(tmp_path / "ran")
    return Project(tmp_path / "ran")
