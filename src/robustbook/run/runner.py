"""One whole run, from parameters to the published page: `perform`; `rerun` computes the
same and publishes nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from robustbook import studies
from robustbook.errors import RunFailedError, UserError
from robustbook.run import (
    clean,
    execute,
    memory,
    notebook,
    provenance,
    publish,
    records,
    status,
)
from robustbook.run.execute import Reporter
from robustbook.run.project import Project, RunId
from robustbook.run.records import Record

Done = Literal["ran", "refreshed", "was fresh"]


@dataclass(frozen=True)
class Product:
    """A page and its record, computed and not yet published."""

    page: bytes
    record: Record


def perform(
    project: Project,
    run: RunId,
    overrides: Mapping[str, Any],
    progress: Reporter,
    *,
    force: bool = False,
    wait: bool = False,
) -> Done:
    """Publish the run, doing no more than is needed: nothing where it is fresh, its
    text where only that changed.

    `force` runs it in any case; `wait` until another process that has it is done.
    Raises UserError for what a user can mend, RunFailedError where the notebook fails;
    what was published before then stays as it is.
    """
    publish.recover(project)
    publish.check_writable(project, run)
    with publish.locked(project, run, wait=wait):
        found = status.of(project, run)
        if (
            found.record is not None
            and not force
            and found.record.overrides == records.rounded(dict(overrides))
        ):
            if found.state == "fresh":
                return "was fresh"
            if found.state == "prose differs":
                status.refresh(project, run, found.record)
                return "refreshed"
        with publish.staging(project, run) as folder:
            product = compute(project, run, overrides, folder, progress)
            publish.publish(
                project, run, folder, product.page, product.record.to_bytes()
            )
    return "ran"


def compute(
    project: Project,
    run: RunId,
    overrides: Mapping[str, Any],
    staging: Path,
    progress: Reporter,
) -> Product:
    """Execute the study's notebook with these parameters; its record passes through
    `staging`.
    """
    module = studies.get(run.study)
    source = notebook.read(project.notebook(run.study))
    notebook.check_agreement(source, module.Parameters, run.study)
    cells = notebook.computing_code(source)
    snapshot = provenance.of_cells(run.study, cells)
    handed = staging / "snapshot.json"
    handed.write_text(json.dumps(asdict(snapshot)), encoding="utf-8")
    node = notebook.prepare(source, module.Parameters, overrides)
    start = time.monotonic()
    with memory.watched() as watch:
        execute.execute(
            node,
            folder=project.notebooks,
            environment=kernel_environment(run, staging, handed),
            log=project.log(run),
            progress=progress,
            launcher=_launcher(snapshot),
        )
    measured = {
        "run_seconds": time.monotonic() - start,
        "peak_memory_bytes": watch.peak,
    }
    page = clean.to_bytes(clean.clean(node, run, project.root))
    return Product(
        page, completed(staging / publish.RECORD, run, overrides, page, measured)
    )


def _launcher(snapshot: provenance.Snapshot) -> str:
    """The module that starts the kernel: ours where work is done in pieces, else that
    of Jupyter, which is faster.
    """
    in_pieces = "workers.py" in snapshot.sources
    return "robustbook.run.kernel" if in_pieces else "ipykernel_launcher"


def kernel_environment(run: RunId, staging: Path, snapshot: Path) -> dict[str, str]:
    """What a kernel's environment has beside the user's own."""
    return {
        "IPYTHONDIR": str(staging / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")
        or str(min(2, os.cpu_count() or 1)),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
        "ROBUSTBOOK_RECORD": str(staging / publish.RECORD),
        "ROBUSTBOOK_RUN": run.run,
        "ROBUSTBOOK_SNAPSHOT": str(snapshot),
    }


def completed(
    path: Path,
    run: RunId,
    overrides: Mapping[str, Any],
    page: bytes,
    measured: Mapping[str, float],
) -> Record:
    """The record that the notebook wrote, with what only the runner knows."""
    if not path.exists():
        raise RunFailedError(
            "wrote no record: its last cell calls robustbook.run.finish"
        )
    record = records.load(path)
    if record.study != run.study:
        raise RunFailedError(f"finished as the study {record.study!r}")
    return record.model_copy(
        update={
            "overrides": dict(overrides),
            "page_digest": records.sha256(page),
            "timing": {**record.timing, **measured},
        }
    )


def rerun(project: Project, run: RunId, progress: Reporter) -> tuple[Record, Record]:
    """The committed record of a run and that of a new execution with the same
    parameters, which is not published: the project may be read-only.

    Raises UserError where there is no readable record to compare with.
    """
    committed = project.record(run)
    if not committed.exists():
        how = (
            f"-r {run.run}"
            if run.run in project.parameter_sets()
            else f"--name {run.run}"
        )
        raise UserError(
            f"run {run} has no record to compare with: robustbook run {run.study} "
            f"{how} makes one"
        )
    before = records.load(committed)
    with (
        publish.workplace(project) as here,
        publish.locked(here, run),
        publish.staging(here, run) as folder,
    ):
        return before, compute(here, run, before.overrides, folder, progress).record
