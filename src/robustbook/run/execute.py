"""Execute a notebook in a kernel of this very interpreter: `execute` is the entry,
`Reporter` shows how far it is.

Papermill's client runs the cells; the kernel is described here and not looked up, so no
installed kernel is used.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from robustbook.errors import RunFailedError, UserError
from robustbook.progress import last_line
from robustbook.run import notebook
from robustbook.run.notebook import Node

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_HEAD = 8


@dataclass(frozen=True)
class Failure:
    """Where a run stopped: the cell, its section, and what it said."""

    cell: int
    cells: int
    section: str
    source: str
    error: str
    user_error: bool


class Reporter(Protocol):
    """What is told while a notebook runs."""

    def cell(self, done: int, total: int, section: str) -> None:
        """A cell starts: `done` of `total` cells are behind it, it belongs to
        `section`.
        """

    def piece(self, line: str) -> None:
        """The cell that runs says how far it is (`robustbook.progress`)."""

    def close(self) -> None:
        """The notebook is over, well or badly."""


class SilentReporter:
    """Tells nothing."""

    def cell(self, done: int, total: int, section: str) -> None:
        """Nothing to say."""

    def piece(self, line: str) -> None:
        """Nothing to say."""

    def close(self) -> None:
        """Nothing to say."""


class PlainReporter:
    """One line for every section, for logs and pipes."""

    def __init__(self, title: str) -> None:
        self.title, self.section, self.start = title, "", time.monotonic()

    def cell(self, done: int, total: int, section: str) -> None:
        """Say so when a new section begins."""
        if section != self.section:
            self.section = section
            print(
                f"{self.title}: {done}/{total} cells, "
                f"{time.monotonic() - self.start:.0f} s, {section}",
                flush=True,
            )

    def piece(self, line: str) -> None:
        """Say so."""
        print(f"{self.title}: {line}", flush=True)

    def close(self) -> None:
        """Nothing is left on the screen."""


class LiveReporter:
    """One line of a terminal, kept up to date: cells done, section, elapsed time."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            TextColumn("{task.fields[title]}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
        )
        self.section = ""
        self.progress = Progress(
            *columns,
            TimeElapsedColumn(),
            TextColumn("{task.fields[section]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.progress.add_task(
            "run", total=None, title=title, section="starting"
        )
        self.progress.start()

    def cell(self, done: int, total: int, section: str) -> None:
        """Move the line on."""
        self.section = section
        self.progress.update(self.task, completed=done, total=total, section=section)

    def piece(self, line: str) -> None:
        """Show it behind the section."""
        self.progress.update(self.task, section=f"{self.section} ({line})")

    def close(self) -> None:
        """Remove the line."""
        self.progress.stop()


def reporter(title: str) -> Reporter:
    """A live line on a terminal, plain lines otherwise."""
    return LiveReporter(title) if sys.stderr.isatty() else PlainReporter(title)


def execute(
    node: Node,
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    progress: Reporter,
    launcher: str = "ipykernel_launcher",
) -> None:
    """Run all cells of `node` in place, in a new kernel that starts in `folder`; the
    module `launcher` starts it.

    Raises UserError where a cell did (its line is the message), RunFailedError for any
    other failure. All output is written to `log`. A stop by SIGINT or SIGTERM shuts the
    kernel down and goes on as KeyboardInterrupt.
    """
    broken = ""
    try:
        with stopped_by_signals():
            _run_cells(node, folder, environment, progress, launcher)
    except (RuntimeError, OSError) as error:
        broken = str(error)
    finally:
        progress.close()
        write_log(node, log, broken)
    failure = find_failure(node, broken)
    if failure is not None:
        raise (
            UserError(failure.error)
            if failure.user_error
            else RunFailedError(explain(failure))
        )


def _run_cells(
    node: Node,
    folder: Path,
    environment: Mapping[str, str],
    progress: Reporter,
    launcher: str,
) -> None:
    manager = _manager(node, progress)
    kernel = _kernel_manager(launcher)
    client = _client_class(progress)(
        manager,
        km=kernel,
        kernel_name=kernel.kernel_name,
        shutdown_kernel="immediate",
        timeout=None,
        startup_timeout=120,
        resources={"metadata": {"path": str(folder)}},
    )
    manager.notebook_start()
    try:
        client.execute(env={**os.environ, **environment})
    finally:
        _end(kernel)


def _client_class(progress: Reporter) -> Any:
    """Papermill's client, telling `progress` what a cell says of how far it is."""
    from papermill.clientwrap import PapermillNotebookClient

    class Client(PapermillNotebookClient):
        told = ""

        def process_message(self, *args: Any, **kwargs: Any) -> Any:
            found = super().process_message(*args, **kwargs)
            if found and found.output_type == "stream" and found.name == "stderr":
                line = last_line(found.text)
                if line and line != self.told:
                    self.told = line
                    progress.piece(line)
            return found

    return Client


def _manager(node: Node, progress: Reporter) -> Any:
    """Papermill's manager of a running notebook, telling `progress` of every cell."""
    from papermill.engines import NotebookExecutionManager

    sections = notebook.sections(node)

    class Manager(NotebookExecutionManager):
        def cell_start(
            self, cell: Node, cell_index: int | None = None, **kwargs: Any
        ) -> None:
            super().cell_start(cell, cell_index, **kwargs)
            progress.cell(cell_index or 0, len(sections), sections[cell_index or 0])

    node.metadata["papermill"] = {}
    for cell in node.cells:
        cell.metadata["papermill"] = {}
    return Manager(node, progress_bar=False)


def _kernel_manager(launcher: str) -> Any:
    """A manager whose one kernel is this interpreter, without the user's IPython
    configuration.
    """
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OnlyThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            """The same for every name."""
            quiet = ["--HistoryManager.enabled=False", "--log-level=ERROR"]
            argv = [sys.executable, "-m", launcher, "-f", "{connection_file}", *quiet]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    class KilledAtOnce(AsyncKernelManager):
        async def _async_interrupt_kernel(self) -> None:
            """Send nothing: to be told before it is killed makes a process that is just
            starting print a traceback.
            """

    return KilledAtOnce(
        kernel_name="python3", kernel_spec_manager=OnlyThisInterpreter()
    )


def _end(kernel: Any) -> None:
    """Shut the kernel down whatever state it is in, and the processes that it
    started.
    """
    from jupyter_core.utils import run_sync

    group = getattr(kernel.provisioner, "pgid", None)

    async def shut_down() -> None:
        if await kernel.is_alive():
            await kernel.shutdown_kernel(now=True)
        await kernel.cleanup_resources()

    run_sync(shut_down)()
    if group and group != os.getpgrp():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM stops what runs inside the way Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def find_failure(node: Node, broken: str = "") -> Failure | None:
    """The first cell that raised, or the one that was running when the kernel was lost;
    None where all went well.
    """
    last = 0
    for index, cell in enumerate(node.cells):
        errors = [
            output
            for output in cell.get("outputs", [])
            if output.output_type == "error"
        ]
        if errors:
            return _failure(node, index, errors[0], broken)
        if cell.metadata.get("papermill", {}).get("duration") is not None:
            last = index
    return _failure(node, last, None, broken) if broken else None


def _failure(node: Node, index: int, output: Node | None, broken: str) -> Failure:
    shown = "\n".join(output.traceback) if output else ""
    message = (
        _COLOUR.sub("", f"{output.ename}: {output.evalue}")
        if output
        else f"the kernel was lost: {broken}"
    )
    user_error = shown.startswith("error: ")
    return Failure(
        cell=index + 1,
        cells=len(node.cells),
        section=notebook.sections(node)[index],
        source=node.cells[index].source,
        error=shown.removeprefix("error: ") if user_error else message,
        user_error=user_error,
    )


def explain(failure: Failure) -> str:
    """A failure as a block for the terminal."""
    lines = failure.source.splitlines()
    head = [f"    {line}" for line in lines[:_HEAD]] + (
        ["    ..."] if len(lines) > _HEAD else []
    )
    where = (
        f'failed in section "{failure.section}", cell {failure.cell} of '
        f"{failure.cells}:"
    )
    return "\n".join([where, *head, failure.error])


def write_log(node: Node, log: Path, broken: str) -> None:
    """Every cell with all it printed, warned and raised, as plain text."""
    parts = []
    for index, cell in enumerate(node.cells):
        if cell.cell_type == "code":
            parts += [
                f"--- cell {index + 1}",
                cell.source,
                *(_plain(output) for output in cell.get("outputs", [])),
            ]
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join([*parts, broken]), encoding="utf-8")


def _plain(output: Node) -> str:
    if output.output_type == "stream":
        return f"[{output.name}] {output.text}"
    if output.output_type == "error":
        return "[error] " + _COLOUR.sub("", "\n".join(output.traceback))
    return "[shown] " + str(output.data.get("text/plain", ", ".join(output.data)))
