"""Members of a sweep run side by side by Snakemake, here or on a cluster: `perform`
starts it and tells how far it is.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from robustbook.errors import UserError, quoted
from robustbook.run import sweep
from robustbook.run.execute import stopped_by_signals
from robustbook.run.project import Project
from robustbook.run.sweep import Member, SweepPlan

LOG = "snakemake.log"
PATIENCE = 20.0
"""Seconds that stopped runs have to end their kernels."""


class Progress(Protocol):
    """What is told while members run."""

    def tell(self, done: int, total: int) -> None:
        """`done` of `total` members are over."""

    def close(self) -> None:
        """All are over, or it was stopped."""


class PlainProgress:
    """A line whenever another member is over, with the time passed and the time that is
    left at this pace.
    """

    def __init__(self, title: str) -> None:
        self.title, self.start, self.told = title, time.monotonic(), -1

    def tell(self, done: int, total: int) -> None:
        """Say so where something changed."""
        if done == self.told:
            return
        self.told, passed = done, time.monotonic() - self.start
        left = (
            f", about {passed / done * (total - done):.0f} s left"
            if 0 < done < total
            else ""
        )
        print(f"{self.title}: {done} of {total} runs, {passed:.0f} s{left}", flush=True)

    def close(self) -> None:
        """Nothing is left on the screen."""


class LiveProgress:
    """One line of a terminal, kept up to date."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
        )
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, *times, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(title, total=None)
        self.bar.start()

    def tell(self, done: int, total: int) -> None:
        """Move the line on."""
        self.bar.update(self.task, completed=done, total=total)

    def close(self) -> None:
        """Remove the line."""
        self.bar.stop()


def progress(title: str) -> Progress:
    """A live line on a terminal, plain lines otherwise."""
    return LiveProgress(title) if sys.stderr.isatty() else PlainProgress(title)


def command(
    project: Project,
    plan: SweepPlan,
    *,
    workers: int,
    executor: str = "local",
    extra: str = "",
) -> list[str]:
    """The Snakemake command that runs what is left of a sweep; `extra` are further
    words for Snakemake.

    Raises UserError where the executor's plugin is not installed.
    """
    if (
        executor != "local"
        and importlib.util.find_spec(f"snakemake_executor_plugin_{executor}") is None
    ):
        raise UserError(
            f"--executor {executor} needs a plugin: pip install "
            f"snakemake-executor-plugin-{executor}"
        )
    words = [
        sys.executable,
        "-m",
        "snakemake",
        "sweep",
        "--snakefile",
        str(project.root / "Snakefile"),
    ]
    words += ["--directory", str(project.root), "--config", f"sweep={plan.place}"]
    words += [
        "--nolock",
        "--rerun-incomplete",
        "--keep-going",
        "--rerun-triggers",
        "mtime",
    ]
    if executor == "local":
        words += ["--cores", str(workers)]
    else:
        words += ["--executor", executor, "--jobs", str(workers)]
    if executor == "slurm":
        # A cluster without accounting answers nothing to sacct, the default, which is
        # then asked for ever.
        words += [
            "--slurm-status-command",
            "squeue",
            "--slurm-no-account",
            "--latency-wait",
            "60",
        ]
    try:
        return words + shlex.split(extra)
    except ValueError as error:
        raise UserError(
            f"--snakemake {quoted(extra)} cannot be read: {error}"
        ) from error


def perform(
    project: Project,
    plan: SweepPlan,
    left: Sequence[Member],
    words: Sequence[str],
    told: Progress,
) -> int:
    """Run the members that are left with the command `words`; returns Snakemake's exit
    status.

    A stop by SIGINT or SIGTERM is passed on to every run and goes on as
    KeyboardInterrupt.
    """
    sweep.write(project, plan, left)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    with (
        (sweep.folder_of(project, plan.place) / LOG).open("wb") as log,
        stopped_by_signals(),
    ):
        running = subprocess.Popen(
            list(words),
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while running.poll() is None:
                told.tell(sweep.marked(project, plan, left), len(left))
                time.sleep(0.2)
            told.tell(sweep.marked(project, plan, left), len(left))
        finally:
            told.close()
            if running.poll() is None:
                stop(running)
    return running.returncode


def finished(words: Sequence[str]) -> int:
    """Run a command that prints for itself and return its exit status; SIGINT and
    SIGTERM end all that it started.
    """
    with stopped_by_signals():
        running = subprocess.Popen(
            list(words),
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            start_new_session=True,
        )
        try:
            return running.wait()
        finally:
            if running.poll() is None:
                stop(running)


def stop(running: subprocess.Popen[bytes]) -> None:
    """End Snakemake and all that it started: kindly, so that kernels end too, then by
    force.
    """
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            running.wait(PATIENCE)
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
