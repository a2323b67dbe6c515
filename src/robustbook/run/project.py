"""Where the files of a project lie: find it with `find`, then ask the `Project` for a
notebook, page, record or log.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from robustbook.errors import UserError, quoted

REFERENCE = "reference"
QUICK = "quick"
_RUN_NAME = re.compile(r"[a-z0-9-]{1,60}")
_STUDY_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


@dataclass(frozen=True, order=True)
class RunId:
    """A study and the name of one of its runs; both are checked, so that they can be
    parts of a path.
    """

    study: str
    run: str

    def __post_init__(self) -> None:
        if not _STUDY_NAME.fullmatch(self.study):
            raise UserError(
                "a study's name has lower-case letters, digits and '_' only, got "
                f"{quoted(self.study)}"
            )
        if not _RUN_NAME.fullmatch(self.run):
            raise UserError(
                "a run's name has at most 60 lower-case letters, digits and '-', "
                f"got {quoted(self.run)}"
            )

    def __str__(self) -> str:
        return f"{self.study} {self.run}"

    @property
    def stem(self) -> str:
        """Name for this run's files in folders that all runs share."""
        return f"{self.study}.{self.run}"


@dataclass(frozen=True)
class Project:
    """The folder that holds `notebooks/` and `_config.yml`, and the places of
    everything in it.
    """

    root: Path

    @property
    def notebooks(self) -> Path:
        """The text notebooks, the source of all pages."""
        return self.root / "notebooks"

    @property
    def work(self) -> Path:
        """Logs, locks and staging; ignored by git, on the same file system as
        the book.
        """
        return self.root / ".robustbook"

    def notebook(self, study: str) -> Path:
        """The text notebook of a study."""
        return self.notebooks / f"{study}.py"

    def parameter_set(self, name: str) -> Path:
        """The file that holds the parameter set `name`, one mapping a study."""
        return self.notebooks / "runs" / f"{name}.yml"

    def parameter_sets(self) -> list[str]:
        """Names of all parameter sets, sorted."""
        return sorted(path.stem for path in (self.notebooks / "runs").glob("*.yml"))

    def page(self, run: RunId) -> Path:
        """The published page of a run."""
        if run.run == REFERENCE:
            return self.root / "book" / "studies" / f"{run.study}.ipynb"
        return self.root / "book" / "runs" / run.study / f"{run.run}.ipynb"

    def record(self, run: RunId) -> Path:
        """The published record of a run, beside its page."""
        return self.page(run).with_suffix(".json")

    def log(self, run: RunId) -> Path:
        """The log of a run's last execution."""
        return self.work / "logs" / f"{run.stem}.log"

    def runs(self, study: str) -> list[RunId]:
        """Published runs of a study: `reference` first, then the others by name."""
        reference = RunId(study, REFERENCE)
        folder = self.root / "book" / "runs" / study
        others = sorted(
            {
                path.stem
                for path in folder.glob("*")
                if path.suffix in (".json", ".ipynb")
            }
        )
        published = [RunId(study, name) for name in others if _RUN_NAME.fullmatch(name)]
        first = (
            [reference]
            if self.record(reference).exists() or self.page(reference).exists()
            else []
        )
        return first + published

    def relative(self, path: Path) -> str:
        """The path as a user of this project would type it."""
        return (
            str(path.relative_to(self.root))
            if path.is_relative_to(self.root)
            else str(path)
        )


def is_project(folder: Path) -> bool:
    """Whether a folder holds notebooks and a book configuration."""
    return os.path.isdir(folder / "notebooks") and os.path.isfile(
        folder / "_config.yml"
    )


def find(start: Path | None = None) -> Project:
    """The project around `start` (the current folder unless given), else the one that
    ROBUSTBOOK_ROOT names.

    Raises UserError where there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if is_project(folder):
            return Project(folder)
    named = os.environ.get("ROBUSTBOOK_ROOT")
    if named and is_project(Path(named)):
        return Project(Path(named).resolve())
    where = f" and ROBUSTBOOK_ROOT={quoted(named)} is none" if named else ""
    raise UserError(
        f"no book project in {here} or above it{where}: change to the folder that "
        "has notebooks/ and _config.yml"
    )
