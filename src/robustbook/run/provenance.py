"""What a run was computed from: `snapshot` of its code, `total` hashes it all."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbook import sources
from robustbook.run import notebook
from robustbook.run.records import Provenance, canonical, sha256


@dataclass(frozen=True)
class Snapshot:
    """The code of a study at one moment: `code` hashes the notebook's code cells,
    `sources` each computing module.
    """

    code: str
    sources: dict[str, str]


def code_digest(cells: Iterable[str]) -> str:
    """Hash of what code cells mean, in their order."""
    return sha256(canonical([sources.digest(cell, cell=True) for cell in cells]))


def closure(study: str, cells: Iterable[str] = ()) -> dict[str, str]:
    """Hash of every computing module that the study's module and its notebook's code
    reach, by path in the package.
    """
    from robustbook import studies

    start = [f"{sources.STUDIES}.{study}"]
    for cell in cells:
        start += [*sources.imports(cell, sources.PACKAGE), *sources.data_modules(cell)]
    return sources.closure(start, studies.__path__)


def of_cells(study: str, cells: Sequence[str]) -> Snapshot:
    """The code of a study now, `cells` being the code of its notebook."""
    return Snapshot(code_digest(cells), closure(study, cells))


def snapshot(study: str, path: Path) -> Snapshot:
    """The code of a study now, `path` being its notebook."""
    return of_cells(study, notebook.computing_code(notebook.read(path)))


def total(
    code: str,
    parameters: Mapping[str, Any],
    modules: Mapping[str, str],
    data: Mapping[str, str],
) -> str:
    """One hash over everything that a run's numbers depend on."""
    return sha256(
        canonical(
            {"code": code, "parameters": parameters, "sources": modules, "data": data}
        )
    )


def of_this_process(
    study: str,
    parameters: Mapping[str, Any],
    data: Mapping[str, str],
    device: str = "cpu",
) -> Provenance:
    """Provenance of a run in this kernel.

    The runner hands over the snapshot that it took before it started
    (ROBUSTBOOK_SNAPSHOT), so that an edit during the run cannot pass for what was run.
    The cells of a notebook that is run by hand are not known, and not hashed.
    """
    import torch

    handed = os.environ.get("ROBUSTBOOK_SNAPSHOT")
    if handed:
        taken = Snapshot(**json.loads(Path(handed).read_text(encoding="utf-8")))
    else:
        taken = of_cells(study, ())
    return Provenance(
        hash=total(taken.code, parameters, taken.sources, data),
        code=taken.code,
        sources=taken.sources,
        data=dict(data),
        versions=versions(),
        device=device,
        threads=torch.get_num_threads(),
    )


def versions() -> dict[str, str]:
    """Versions of what numbers can depend on."""
    from importlib.metadata import version

    import robustbook

    packages = {
        name: version(name) for name in ("numpy", "scipy", "scikit-learn", "torch")
    }
    return {
        "python": platform.python_version(),
        sources.PACKAGE: robustbook.__version__,
        **packages,
    }
