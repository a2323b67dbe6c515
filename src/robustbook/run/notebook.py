"""The text notebook of a study: `read` it, `prepare` it for a run; which cell holds
what.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from robustbook.errors import UserError

PARAMETERS = "parameters"
INJECTED = "injected-parameters"
Node = Any


def read(path: Path) -> Node:
    """The notebook node of a py:percent file; UserError where it is missing or no
    notebook.
    """
    import jupytext

    if not path.is_file():
        raise UserError(f"there is no notebook {path.parent.name}/{path.name}")
    try:
        return jupytext.read(path)
    except Exception as error:
        raise UserError(
            f"notebook {path.parent.name}/{path.name} cannot be read: {error}"
        ) from error


def has_tag(cell: Node, tag: str) -> bool:
    """Whether a cell carries a tag."""
    return tag in cell.metadata.get("tags", [])


def code_cells(node: Node) -> list[Node]:
    """The code cells that the author wrote: all but the injected parameters."""
    return [
        cell
        for cell in node.cells
        if cell.cell_type == "code" and not has_tag(cell, INJECTED)
    ]


def computing_code(node: Node) -> list[str]:
    """Sources of the code cells but the parameters' own: those are accounted for by
    value.
    """
    return [cell.source for cell in code_cells(node) if not has_tag(cell, PARAMETERS)]


def parameter_defaults(node: Node) -> dict[str, Any]:
    """Names and literal values in the cell tagged `parameters`."""
    cells = [cell for cell in code_cells(node) if has_tag(cell, PARAMETERS)]
    if len(cells) != 1:
        raise UserError(
            f"a study's notebook has one cell tagged 'parameters', found {len(cells)}"
        )
    return dict(_assignments(ast.parse(cells[0].source)))


def _assignments(tree: ast.Module) -> Iterable[tuple[str, Any]]:
    for statement in tree.body:
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
        ):
            yield statement.target.id, ast.literal_eval(statement.value)
        else:
            raise UserError(
                "the parameters cell holds 'name: type = literal' only, got "
                f"{ast.unparse(statement)!r}"
            )


def check_agreement(node: Node, model: type[BaseModel], study: str) -> None:
    """UserError unless the notebook's parameters cell has the names and defaults of the
    study's model.
    """
    here = {name: _as_list(value) for name, value in parameter_defaults(node).items()}
    there = model().model_dump(mode="json")
    missing = object()
    differ = sorted(
        name
        for name in here.keys() | there.keys()
        if here.get(name, missing) != there.get(name, missing)
    )
    if differ:
        raise UserError(
            f"the parameters cell of notebooks/{study}.py and "
            f"robustbook.studies.{study}.Parameters differ in " + ", ".join(differ)
        )


def _as_list(value: Any) -> Any:
    """A literal as it would be in JSON, where tuples are lists."""
    return (
        [_as_list(item) for item in value] if isinstance(value, list | tuple) else value
    )


def prepare(node: Node, model: type[BaseModel], overrides: Mapping[str, Any]) -> Node:
    """A copy to execute, with `overrides` in a cell of their own after the parameters
    cell.

    Raises UserError unless they are parameters of `model`, each in its range: what a
    record holds is written into a cell that is executed.
    """
    from nbformat.v4 import new_code_cell

    from robustbook.run import parameters

    overrides = parameters.parsed(model, overrides)

    prepared = _copy(node)
    if overrides:
        source = "\n".join(
            f"{name} = {literal(value)}" for name, value in sorted(overrides.items())
        )
        cell = new_code_cell(source, metadata={"tags": [INJECTED, "hide-input"]})
        at = next(
            index
            for index, cell_ in enumerate(node.cells)
            if has_tag(cell_, PARAMETERS)
        )
        prepared.cells.insert(at + 1, cell)
    return prepared


def literal(value: Any) -> str:
    """A value of JSON as Python writes it; TypeError for anything else."""
    if value is None or type(value) in (bool, int, str):
        return repr(value)
    if type(value) is float and math.isfinite(value):
        return repr(value)
    if type(value) is list:
        return f"[{', '.join(map(literal, value))}]"
    if type(value) is dict and all(type(key) is str for key in value):
        return f"{{{', '.join(f'{k!r}: {literal(v)}' for k, v in value.items())}}}"
    raise TypeError(f"a cell's parameters are plain values, got {type(value).__name__}")


def _copy(node: Node) -> Node:
    from copy import deepcopy

    return deepcopy(node)


def sections(node: Node) -> list[str]:
    """For every cell, the text of the last heading of first or second level before or
    in it.
    """
    found, current = [], ""
    for cell in node.cells:
        if cell.cell_type == "markdown":
            headings = [
                line
                for line in cell.source.splitlines()
                if line.startswith(("# ", "## "))
            ]
            current = headings[-1].lstrip("# ").strip() if headings else current
        found.append(current)
    return found
