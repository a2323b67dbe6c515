"""Make an executed notebook a page: `clean` leaves only what is the same when the run
is repeated.

`refresh` gives a page new text around the outputs it has; `to_bytes` and `read` are the
page's file format.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from robustbook import files
from robustbook.errors import DamagedFileError, RunFailedError
from robustbook.run import notebook
from robustbook.run.notebook import Node
from robustbook.run.project import REFERENCE, RunId
from robustbook.run.records import LARGEST

_TEXT = ("text/", "image/svg+xml", "application/json")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PLACES = r"home|Users|root|tmp|private|var|usr|opt|mnt|media|srv"
_PATH = re.compile(
    rf"(?<![\w.<>/+:=~-])/(?:{_PLACES})/[^\s\"'<>)]+|(?<!\w)[A-Z]:\\\\?[A-Za-z][^\s\"'<>)]*"
)
_UPWARDS = re.compile(
    r"(?:(?<=\} )|(?<=\}`)|(?<=\]\()|(?<=<)|(?<=src=\")|(?<=href=\"))(?=\.\./)"
)
_LABELS = re.compile(
    r"^\((?P<target>[\w:.-]+)\)=\s*$|^\$\$\s*\((?P<equation>[\w:.-]+)\)\s*$|"
    r"(?<=[^\s$])\s*\$\$\s*\((?P<tail>[\w:.-]+)\)\s*$|^:(?:label|name):\s*(?P<option>[\w:.-]+)\s*$",
    re.MULTILINE,
)


def clean(executed: Node, run: RunId, root: Path) -> Node:
    """The page of an executed notebook: stable ids and counts, no times, stderr, widget
    state or paths.

    Raises RunFailedError where an output still shows a path of this machine.
    """
    masks = path_masks(root)
    cells = [_cell(cell, masks) for cell in executed.cells]
    _refuse_paths(cells, notebook.sections(executed))
    return _page(cells, executed, run)


def refresh(
    source: Node,
    page: Node,
    run: RunId,
    model: type[BaseModel],
    overrides: Mapping[str, Any],
) -> Node:
    """The page that `source` makes with the outputs of `page`; their code must be the
    same but for comments.
    """
    prepared = notebook.prepare(source, model, overrides)
    outputs = [cell.outputs for cell in page.cells if cell.cell_type == "code"]
    code = [cell for cell in prepared.cells if cell.cell_type == "code"]
    if len(outputs) != len(code):
        raise ValueError(
            f"the page has {len(outputs)} code cells, its notebook {len(code)}"
        )
    for cell, kept in zip(code, outputs, strict=True):
        cell.outputs = kept
    return _page([_cell(cell, []) for cell in prepared.cells], prepared, run)


def to_bytes(page: Node) -> bytes:
    """The page's file: JSON with sorted keys, one item a line."""
    import nbformat

    nbformat.validate(page)
    text = json.dumps(
        json.loads(nbformat.writes(page)), sort_keys=True, indent=1, ensure_ascii=False
    )
    return (text + "\n").encode()


def read(path: Path) -> Node:
    """The page in a file; DamagedFileError where it is none."""
    import nbformat

    try:
        page = nbformat.reads(files.read(path, LARGEST).decode(), as_version=4)
        nbformat.validate(page)
        return page
    except Exception as error:
        raise DamagedFileError(
            f"page {path.parent.name}/{path.name} is damaged: run it again"
        ) from error


def _page(cells: list[Node], source: Node, run: RunId) -> Node:
    from nbformat.v4 import new_notebook

    if run.run != REFERENCE:
        cells = _own_paths(_own_labels(cells, run))
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    _count(cells)
    default = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {
        "kernelspec": dict(source.metadata.get("kernelspec", default)),
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    page = new_notebook(cells=cells, metadata=metadata)
    page.nbformat_minor = 5
    return page


def _cell(cell: Node, masks: list[tuple[re.Pattern[str], str]]) -> Node:
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

    metadata = {
        key: cell.metadata[key]
        for key in ("exercise", "mystnb", "tags")
        if cell.metadata.get(key)
    }
    if cell.cell_type != "code":
        make = new_markdown_cell if cell.cell_type == "markdown" else new_raw_cell
        return make(cell.source, metadata=metadata)
    outputs = [
        cleaned
        for output in cell.outputs
        if (cleaned := _output(output, masks)) is not None
    ]
    return new_code_cell(cell.source, metadata=metadata, outputs=outputs)


def _output(output: Node, masks: list[tuple[re.Pattern[str], str]]) -> Node | None:
    """An output without what differs from run to run; None where nothing is left."""
    from nbformat.v4 import new_output

    if output.output_type == "stream":
        return (
            None
            if output.name == "stderr"
            else new_output("stream", name="stdout", text=_mask(output.text, masks))
        )
    data = {
        kind: _data(kind, value, masks)
        for kind, value in output.data.items()
        if "widget" not in kind
    }
    if not data:
        return None
    return new_output(
        output.output_type, data=data, metadata=dict(output.get("metadata", {}))
    )


def _data(kind: str, value: Any, masks: list[tuple[re.Pattern[str], str]]) -> Any:
    if not kind.startswith(_TEXT) or not isinstance(value, str):
        return value
    masked = _mask(value, masks)
    return _ADDRESS.sub("", masked) if kind == "text/plain" else masked


def path_masks(root: Path) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of this machine's own places with the names that a page shows for them,
    longest place first.
    """
    places = {
        str(Path.home()): "~",
        tempfile.gettempdir(): "<temporary>",
        sys.base_prefix: "<python>",
        sys.prefix: "<python>",
        os.environ.get("ROBUSTBOOK_CACHE", ""): "<cache>",
        os.environ.get("ROBUSTBOOK_DATA", ""): "<data>",
        str(root): "<project>",
    }
    ordered = sorted(
        (place for place in places if len(place) > 3), key=len, reverse=True
    )
    return [
        (re.compile(rf"(?<![\w+/.]){re.escape(place)}(?![\w+-])"), places[place])
        for place in ordered
    ]


def _mask(text: str, masks: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, shown in masks:
        text = pattern.sub(shown, text)
    return text


def _refuse_paths(cells: list[Node], sections: list[str]) -> None:
    for cell, section in zip(cells, sections, strict=True):
        for text in _texts(cell):
            found = _PATH.search(text)
            if found:
                raise RunFailedError(
                    f'shows a path of this machine in section "{section}", '
                    f"{found[0]!r}: print its name only"
                )


def _texts(cell: Node) -> list[str]:
    texts = []
    for output in cell.get("outputs", []):
        shown = (
            {"text/plain": output.text}
            if output.output_type == "stream"
            else output.data
        )
        texts += [
            value
            for kind, value in shown.items()
            if kind.startswith(_TEXT) and isinstance(value, str)
        ]
    return texts


def _own_labels(cells: list[Node], run: RunId) -> list[Node]:
    """Give every label that the page defines a name of its own, for the reference page
    defines the same ones.
    """
    texts = [cell for cell in cells if cell.cell_type == "markdown"]
    found = {
        name
        for cell in texts
        for match in _LABELS.finditer(cell.source)
        for name in match.groups()
        if name
    }
    for name in sorted(found, key=len, reverse=True):
        pattern = re.compile(rf"(?<![\w:./-]){re.escape(name)}(?![\w:.-]*[\w-])")
        for cell in texts:
            cell.source = _in_references(
                cell.source, pattern, f"{name}-{run.study}-{run.run}".replace("_", "-")
            )
    return cells


def _own_paths(cells: list[Node]) -> list[Node]:
    """Let relative paths, written for the reference page, start one folder deeper,
    where the pages of other runs lie.
    """
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = _UPWARDS.sub("../", cell.source)
    return cells


def _in_references(text: str, pattern: re.Pattern[str], new: str) -> str:
    """Rename a label where it is defined or referred to, and nowhere else."""
    places = re.compile(
        r"^\([\w:.-]+\)=|\$\$\s*\([\w:.-]+\)|^:(?:label|name):.*$|\{[a-z:]*(?:ref|eq)\}`[^`]*`|\]\(#?[\w:.-]+\)",
        re.MULTILINE,
    )
    return places.sub(lambda place: pattern.sub(new, place[0]), text)


def _count(cells: list[Node]) -> None:
    """Number the code cells from 1 in their order, and their results with them."""
    for number, cell in enumerate(
        (cell for cell in cells if cell.cell_type == "code"), start=1
    ):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
