"""Chapters in their final shape: code that teaches is shown, parameters work by name,
figures stand in their order, sentences are short.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from robustbook import studies
from robustbook.plots import style
from robustbook.run import notebook

ROOT = Path(__file__).parents[1]
CHAPTERS = (
    "bnn_attacks",
    "loss_metric",
    "saliency_baselines",
    "taylor_pruning",
    "mammogram_perturbations",
    "bnn_verification",
    "synthesis",
    "your_network",
)
HIDING = {"remove-input", "remove-cell", "hide-input", "hide-cell"}
LONGEST_SHOWN, LONGEST_HIDDEN, SHOWN_SHARE = 15, 12, 0.6

chapters = pytest.mark.parametrize("study", CHAPTERS)


def cells_of(study):
    return notebook.read(ROOT / "notebooks" / f"{study}.py").cells


def code_after_parameters(study):
    cells = cells_of(study)
    place = next(
        i for i, cell in enumerate(cells) if notebook.has_tag(cell, "parameters")
    )
    return [cell for cell in cells[place + 1 :] if cell.cell_type == "code"]


def is_exercise(cell):
    return any(notebook.has_tag(cell, tag) for tag in ("exercise", "solution"))


def lines_of(cell):
    lines = cell.source.splitlines()
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


def only_imports(cell):
    nodes = (ast.Import, ast.ImportFrom)
    return all(isinstance(node, nodes) for node in ast.parse(cell.source).body)


@chapters
def test_code_that_teaches_is_shown(study):
    shown, hidden = [], []
    for cell in cells_of(study):
        if cell.cell_type != "code" or is_exercise(cell):
            continue
        if notebook.has_tag(cell, "parameters") or only_imports(cell):
            continue
        tags = set(cell.metadata.get("tags", []))
        (hidden if tags & HIDING else shown).append(len(lines_of(cell)))
    assert max(shown) <= LONGEST_SHOWN
    assert max(hidden) <= LONGEST_HIDDEN
    assert sum(shown) / (sum(shown) + sum(hidden)) >= SHOWN_SHARE


@chapters
def test_jupyter_shows_what_the_page_shows(study):
    text = (ROOT / "notebooks" / f"{study}.py").read_text(encoding="utf-8")
    assert "{literalinclude}" not in text


@chapters
def test_a_parameter_that_is_edited_changes_what_later_cells_do(study):
    """As a student does it: change one in a cell of one's own, run all cells below.
    Every parameter is read by its name, and none is set again.
    """
    parameters = studies.get(study).Parameters
    reads = {
        name: [
            node
            for cell in code_after_parameters(study)
            for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, ast.Name)
            and node.id == name
            and isinstance(node.ctx, ast.Load)
        ]
        for name in parameters.model_fields
    }
    assert not [name for name, found in reads.items() if not found]
    written = {
        node.id
        for cell in code_after_parameters(study)
        if not is_exercise(cell)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert not written & set(parameters.model_fields), "a cell overwrites a parameter"


@chapters
def test_nothing_keeps_the_parameters_in_one_object(study):
    """Only what is shown of them or written into the record reads them together."""
    for cell in code_after_parameters(study):
        if "Parameters" in cell.source:
            assert "page.parameters" in cell.source or "finish(" in cell.source


@chapters
def test_figures_stand_in_their_order(study):
    figures = __import__(f"robustbook.studies.{study}.figures", fromlist=["figures"])
    called = [
        node.func.attr
        for cell in cells_of(study)
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "figures"
    ]
    tree = ast.parse(Path(figures.__file__).read_text(encoding="utf-8"))
    drawn = {
        function.name: name.value
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for name in ast.walk(function)
        if isinstance(name, ast.Constant) and name.value in figures.FIGURES
    }
    assert [drawn[name] for name in called if name in drawn] == list(figures.FIGURES)


@chapters
def test_a_phone_can_read_the_figures(study):
    """No figure is wider than a page (a phone shrinks it, text and all) and no text
    is set smaller than the book's smallest.
    """
    figures = __import__(f"robustbook.studies.{study}.figures", fromlist=["figures"])
    given = [
        (keyword.arg, value)
        for node in ast.walk(ast.parse(Path(figures.__file__).read_text("utf-8")))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg in ("figsize", "fontsize", "title_fontsize", "labelsize")
        for value in [keyword.value]
    ]
    sizes = {"width": [style.FIGURE_WIDTH], "text": [style.SMALLEST]}
    for name, value in given:
        node = value.elts[0] if isinstance(value, ast.Tuple) else value
        if isinstance(node, ast.Constant):
            sizes["width" if name == "figsize" else "text"].append(node.value)
    assert max(sizes["width"]) <= style.FIGURE_WIDTH
    assert min(sizes["text"]) >= style.SMALLEST
