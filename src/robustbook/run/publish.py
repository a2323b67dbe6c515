"""Publish a page and its record together or not at all: `staging` collects them,
`publish` commits, `recover` mends.

A staging folder ends in `.tmp` while a run fills it. Renaming it to `.ready` is the
commit; the two files are then moved into place, by this process or, if it was killed in
between, by whichever command comes next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from robustbook import files
from robustbook.errors import BusyError, UserError
from robustbook.run.project import Project, RunId

PAGE, RECORD = "page.ipynb", "record.json"


def locked(
    project: Project, run: RunId, *, wait: bool = False
) -> AbstractContextManager[int]:
    """Hold a run's lock; `wait` for it, or BusyError, naming the other process, where
    somebody has it. A killed process holds none.
    """
    return only_one(project, run.stem, f"run {run}", wait=wait)


@contextmanager
def only_one(
    project: Project, name: str, what: str, *, wait: bool = False
) -> Iterator[int]:
    """Hold the project's lock `name` while `what` goes on; `wait` for it, or BusyError
    where another process holds it.

    Gives the lock's file descriptor: a process that inherits it holds the lock too, as
    long as it lives.
    """
    folder = project.work / "locks"
    _writable(project, folder)
    owner = folder / f"{name}.pid"
    lock = FileLock(folder / f"{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        try:
            who = owner.read_text(encoding="utf-8").strip()
        except OSError:  # It ended in between.
            who = "unknown"
        said = f"{what} is going on already (process {who}): "
        if not wait:
            raise BusyError(f"{said}wait for it or stop it") from None
        print(f"{said}waiting for it", file=sys.stderr, flush=True)
        lock.acquire(timeout=-1, poll_interval=0.2)
    try:
        owner.write_text(f"{os.getpid()}\n", encoding="utf-8")
        handle = lock._context.lock_file_fd
        assert handle is not None
        yield handle
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


@contextmanager
def staging(project: Project, run: RunId) -> Iterator[Path]:
    """An empty staging folder of the run, whose lock the caller holds; gone afterwards
    unless it was published.
    """
    folder = project.work / "staging" / f"{run.stem}.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_writable(project: Project, run: RunId) -> None:
    """UserError unless the run's output, log and staging folders can be written; tried,
    not guessed from modes.
    """
    for folder in (
        project.page(run).parent,
        project.work / "staging",
        project.log(run).parent,
    ):
        _writable(project, folder)


def _writable(project: Project, folder: Path) -> None:
    """Make a folder where it is missing; UserError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(
            f"cannot write to {project.relative(folder)} ({reason}): nothing "
            "was started"
        ) from error


@dataclass(frozen=True)
class ReadOnlyProject(Project):
    """A project in which nothing can be written: it works in another folder."""

    folder: Path

    @property
    def work(self) -> Path:
        """Logs, locks and staging."""
        return self.folder


@contextmanager
def workplace(project: Project) -> Iterator[Project]:
    """The project, mended by `recover`; where nothing can be written in it, the same
    with a temporary folder for logs, locks and staging.
    """
    try:
        _writable(project, project.work / "staging")
    except UserError:
        with tempfile.TemporaryDirectory() as folder:
            yield ReadOnlyProject(project.root, Path(folder))
    else:
        recover(project)
        yield project


def publish(
    project: Project, run: RunId, folder: Path, page: bytes, record: bytes
) -> None:
    """Put page and record in their places as one step, by way of a staging folder; the
    caller holds the run's lock.
    """
    _write(folder / PAGE, page)
    _write(folder / RECORD, record)
    for other in set(folder.iterdir()) - {folder / PAGE, folder / RECORD}:
        shutil.rmtree(other) if other.is_dir() else other.unlink()
    _sync(folder)
    ready = folder.with_suffix(".ready")
    folder.rename(ready)
    _sync(ready.parent)
    _complete(project, run, ready)


def recover(project: Project) -> list[RunId]:
    """Finish what a killed command had committed and throw away what it had not;
    returns the runs it finished.

    Runs that a living process holds are left alone.
    """
    finished = []
    for folder in sorted((project.work / "staging").glob("*")):
        try:
            run = RunId(*folder.stem.split(".", 1))
            with locked(project, run):
                if folder.suffix == ".ready" and folder.exists():
                    _complete(project, run, folder)
                    finished.append(run)
                elif folder.suffix == ".tmp":
                    shutil.rmtree(folder, ignore_errors=True)
        except (UserError, TypeError, OSError):
            continue
    return finished


def _complete(project: Project, run: RunId, ready: Path) -> None:
    places = ((ready / PAGE, project.page(run)), (ready / RECORD, project.record(run)))
    moves = [(source, target) for source, target in places if source.exists()]
    for _, target in moves:
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        for source, target in moves:
            os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _carry(moves)
    _sync(project.page(run).parent)
    shutil.rmtree(ready)


def _carry(moves: list[tuple[Path, Path]]) -> None:
    """Replace files by those of another file system: all are copied there before the
    first one is replaced.

    A disk that is full then leaves what was published as it was, and the next command
    tries again.
    """
    for folder in {target.parent for _, target in moves}:
        files.remove_unfinished(folder)
    with contextlib.ExitStack() as ready:
        for source, target in moves:
            ready.enter_context(files.unfinished(target, source.read_bytes()))


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a folder's entries last, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
