"""Every study has the shape that `studies.protocol` describes, and says things once."""

from pathlib import Path

import pytest

from robustbook import page, studies
from robustbook.run import notebook
from robustbook.run.parameters import describe
from robustbook.studies import protocol

ROOT = Path(__file__).parents[1]
NAMES = studies.names()


def cell_of(study: str) -> str:
    node = notebook.read(ROOT / "notebooks" / f"{study}.py")
    (cell,) = [
        cell
        for cell in notebook.code_cells(node)
        if notebook.has_tag(cell, notebook.PARAMETERS)
    ]
    return cell.source


@pytest.mark.parametrize("study", NAMES)
def test_a_parameter_s_meaning_is_said_once(study: str) -> None:
    source, model = cell_of(study), studies.get(study).Parameters
    assert issubclass(model, protocol.BaseParameters)
    assert "#" not in source
    assert len(source.splitlines()) == len(model.model_fields)
    for entry in describe(model):
        assert entry.help, entry.name
        assert entry.help not in source


@pytest.mark.parametrize("study", NAMES)
def test_the_page_explains_every_parameter_of_the_run(study: str) -> None:
    model = studies.get(study).Parameters
    shown = page.parameters(model()).data
    for entry in describe(model):
        assert f"<code>{entry.name}</code>" in shown
        assert page.inline(entry.help) in shown
        assert f"<code>{entry.default}</code>" in shown
