"""What a run was computed from: `closure` finds the modules, `strip` leaves what
computes, `total` hashes it all.

Comments, docstrings and blank lines are left out by their places in the text, so every
Python version gives one hash.
"""

from __future__ import annotations

import ast
import io
import json
import os
import platform
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from robustbook.run import notebook, project
from robustbook.run.records import Provenance, canonical, sha256

PACKAGE = "robustbook"
ROOMS = ("data", "models", "bayes", "perturb", "measure", "stats", "results")
_QUIET = {
    tokenize.NL,
    tokenize.COMMENT,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.NEWLINE,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Snapshot:
    """The code of a study at one moment: `code` hashes the notebook's code cells,
    `sources` each computing module.
    """

    code: str
    sources: dict[str, str]


@cache
def strip(source: str) -> str:
    """Python source without comments, strings that stand alone (docstrings) and blank
    lines.

    What Python cannot read (a cell with a magic) stays as it is.
    """
    try:
        ast.parse(source)
        spans = sorted(_silent_spans(source))
    except (tokenize.TokenError, SyntaxError):
        return source
    lines = source.splitlines(keepends=True)
    for (first, start), (last, end) in reversed(spans):
        kept = lines[first - 1][:start] + lines[last - 1][end:]
        lines[first - 1 : last] = [kept] + ["\n"] * (last - first)
    return "\n".join(
        line.rstrip() for line in "".join(lines).splitlines() if line.strip()
    )


def _silent_spans(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end (line, column) of every comment and of every statement that is only
    a string.
    """
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start, token.end
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if statement and all(part.type == tokenize.STRING for part in statement):
                yield from ((part.start, part.end) for part in statement)
            statement = []
        elif token.type not in _QUIET:
            statement.append(token)


def code_digest(sources: Iterable[str]) -> str:
    """Hash of code cells in their order, comments left out."""
    return sha256(canonical([strip(source) for source in sources]))


def closure(study: str, code: Iterable[str] = ()) -> dict[str, str]:
    """Hash of every module that the study's module and its notebook's code reach by
    imports, by path in the package.

    Only rooms that compute are followed: how runs, pages and plots are made changes no
    number.
    """
    found: dict[str, str] = {}
    waiting = [f"{PACKAGE}.studies.{study}"]
    for cell in code:
        waiting += [name for name in _imports(cell, PACKAGE) if _computes(name, study)]
    while waiting:
        for name, path in _files(waiting.pop()):
            key = _key(name, path)
            if key in found or not _computes(name, study):
                continue
            source = path.read_text(encoding="utf-8")
            found[key] = sha256(strip(source).encode())
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += [
                target
                for target in _imports(source, package)
                if _computes(target, study)
            ]
    return dict(sorted(found.items()))


def reaches(module: str, sources: Iterable[str], code: Iterable[str]) -> bool:
    """Whether one of the computing modules of a `closure`, or the notebook's code,
    names `module`.
    """
    import robustbook

    folders = [Path(entry) for entry in robustbook.__path__]
    files = [
        folder / name
        for name in sources
        for folder in folders
        if (folder / name).is_file()
    ]
    return any(
        module in text
        for text in (*code, *(path.read_text(encoding="utf-8") for path in files))
    )


def _computes(name: str, study: str) -> bool:
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) < 2:
        return False
    return parts[1] in ROOMS or (
        parts[1] == "studies" and parts[2:3] in (["protocol"], ["shared"], [study])
    )


@cache
def _imports(source: str, package: str) -> tuple[str, ...]:
    """Absolute names of all modules, or names in them, that some source imports."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ()
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parents = (
        package.split(".")[: len(package.split(".")) - node.level + 1]
        if node.level
        else []
    )
    return ".".join([*parents, *([node.module] if node.module else [])])


def _files(name: str) -> Iterator[tuple[str, Path]]:
    """The module's file and those of the packages around it, as (name, path); names
    that are no modules give fewer.
    """
    import robustbook

    folders, parts = [Path(entry) for entry in robustbook.__path__], name.split(".")
    for depth in range(2, len(parts) + 1):
        part, here = parts[depth - 1], ".".join(parts[:depth])
        if here == f"{PACKAGE}.studies":
            from robustbook import studies

            folders = [Path(entry) for entry in studies.__path__]
            continue
        packages = [
            folder / part
            for folder in folders
            if (folder / part / "__init__.py").is_file()
        ]
        modules = [
            folder / f"{part}.py"
            for folder in folders
            if (folder / f"{part}.py").is_file()
        ]
        if packages:
            yield here, packages[0] / "__init__.py"
            folders = packages[:1]
        elif modules:
            yield here, modules[0]
            return
        else:
            return


def _key(name: str, path: Path) -> str:
    inside = name.split(".")[1:]
    return (
        "/".join([*inside, "__init__.py"])
        if path.name == "__init__.py"
        else "/".join(inside) + ".py"
    )


def snapshot(study: str, path: Path) -> Snapshot:
    """The code of a study now, `path` being its notebook."""
    cells = notebook.computing_code(notebook.read(path))
    return Snapshot(code=code_digest(cells), sources=closure(study, cells))


def total(
    code: str,
    parameters: Mapping[str, Any],
    sources: Mapping[str, str],
    data: Mapping[str, str],
) -> str:
    """One hash over everything that a run's numbers depend on."""
    return sha256(
        canonical(
            {"code": code, "parameters": parameters, "sources": sources, "data": data}
        )
    )


def of_this_process(
    study: str, parameters: Mapping[str, Any], data: Mapping[str, str]
) -> Provenance:
    """Provenance of a run in this kernel.

    The runner hands over the snapshot that it took before it started
    (ROBUSTBOOK_SNAPSHOT), so that an edit during the run cannot pass for what was run;
    a notebook opened by hand looks at the files as they are.
    """
    import torch

    handed = os.environ.get("ROBUSTBOOK_SNAPSHOT")
    if handed:
        taken = Snapshot(**json.loads(Path(handed).read_text(encoding="utf-8")))
    else:
        taken = snapshot(study, project.find().notebook(study))
    return Provenance(
        hash=total(taken.code, parameters, taken.sources, data),
        code=taken.code,
        sources=taken.sources,
        data=dict(data),
        versions=versions(),
        device="cpu",  # Studies compute there; what they import takes any device.
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
        PACKAGE: robustbook.__version__,
        **packages,
    }
