"""The notebook behind the download button runs by itself, and says that nobody else
ran it.
"""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from run_helpers import new_project

from robustbook.run import clean, notebook, plain

ROOT = Path(__file__).parents[2]
WRITTEN = re.compile(r"`{3}\{|:{3}\{|\{[a-z]+(:[a-z]+)?\}`|^\([\w-]+\)=", re.M)


@pytest.fixture(scope="module")
def extension():
    """The book's extension."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    return importlib.import_module("plain_notebooks")


@pytest.fixture
def references():
    return plain.References(ROOT / "book" / "references.bib")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("By {cite:t}`yu2019interpreting`.", "By Yu et al. (2019)."),
        (
            "So {cite:p}`yu2019interpreting,ross2018improving`.",
            "So (Yu et al. 2019; Ross and Doshi-Velez 2018).",
        ),
        ("See {doc}`/speed` and {ref}`all <labels>`.", "See speed and all."),
        ("Is {math}`x` in {term}`the ball <ball>`?", "Is $x$ in the ball?"),
        ("(here)=\n# Title", "# Title"),
        ("$$ x = 1 $$ (one)\n\nBy {eq}`one`.", "$$ x = 1 $$\n\nBy above."),
        ("```{note}\nOne\ntwo.\n```\nEnd.", "> **Note.** One\n> two.\nEnd."),
        (":::{admonition} Try\n:class: tip\nThis.\n:::", "> **Try.** This."),
        ("```{math}\n:label: a\nx\n```", "$$\nx\n$$"),
        ("```{some-table}\n```", "*(See the page of the book: some table.)*"),
        (
            "[a](../b.md) [c](#d) [e](https://f.g) ![h](i)",
            "a [c](#d) [e](https://f.g) ",
        ),
        ("```python\nx[1](2)\n```", "```python\nx[1](2)\n```"),
    ],
)
def test_markdown_of_the_book_becomes_plain(text, wanted, references) -> None:
    assert plain.plain(text, references).startswith(wanted)


def test_included_code_is_shown(references) -> None:
    for path in ("/../src/robustbook/checks.py", "../../src/robustbook/checks.py"):
        text = f"```{{literalinclude}} {path}\n:pyobject: ArgumentError.__init__\n```"
        shown = plain.plain(text, references)
        assert shown.startswith("```python\ndef __init__(self, name")
        assert shown.endswith('got {told(given)}")\n```')


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.py")))
def test_every_notebook_is_plain_folded_and_without_outputs(path) -> None:
    def made():
        references = plain.References(ROOT / "book" / "references.bib")
        return plain.standalone(notebook.read(path), references)

    node = made()
    assert clean.to_bytes(node) == clean.to_bytes(made())
    for cell in node.cells:
        if cell.cell_type == "markdown":
            assert not WRITTEN.search(cell.source)
        else:
            assert cell.outputs == []
            tags = set(cell.metadata.get("tags", []))
            hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
            assert hidden == bool(tags & plain.HIDDEN)
    defaults = notebook.parameter_defaults(notebook.read(path))
    assert notebook.parameter_defaults(node) == defaults
    cites = "{cite" in path.read_text(encoding="utf-8")
    assert node.cells[-1].source.startswith("## References") == cites


def test_without_the_package_its_first_cell_says_what_to_install(
    monkeypatch,
) -> None:
    code = plain.CHECK.format(version="1")
    exec(code, {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^Install .*pip install.*$"):
        exec(code, {})


def test_papermill_alone_runs_it_and_the_page_says_so(tmp_path) -> None:
    project = new_project(tmp_path / "project")
    node = notebook.read(project.notebook("tiny"))
    node.cells.append(
        new_code_cell("from robustbook import page\npage.provenance(record)")
    )
    alone = tmp_path / "alone"
    alone.mkdir()
    references = plain.References(ROOT / "book" / "references.bib")
    made = plain.standalone(node, references)
    (alone / "tiny.ipynb").write_bytes(clean.to_bytes(made))
    command = ["papermill", "tiny.ipynb", "out.ipynb", "-p", "epsilon", "0.2"]
    subprocess.run(
        [sys.executable, "-m", *command, "--no-progress-bar", "-k", "python3"],
        cwd=alone,
        check=True,
        capture_output=True,
    )
    done = nbformat.read(alone / "out.ipynb", as_version=4)
    said = done.cells[-1].outputs[0]["data"]["text/html"]
    assert "not run by <code>robustbook</code>" in said
    assert "robustbook check" not in said
    assert "<dt><code>epsilon</code></dt><dd><code>0.2</code></dd>" in said


def test_the_download_of_a_page_is_replaced_and_others_are_left(
    extension, tmp_path
) -> None:
    project = new_project(tmp_path / "project")
    source, out = project.root / "book", tmp_path / "html"
    source.mkdir()
    (source / "references.bib").write_bytes((ROOT / "book/references.bib").read_bytes())
    names = ("studies/tiny", "runs/tiny/wide", "studies/other", "index")
    for name in names:
        target = out / "_sources" / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("{}", encoding="utf-8")
    app = SimpleNamespace(
        srcdir=source,
        outdir=out,
        builder=SimpleNamespace(format="html"),
        env=SimpleNamespace(found_docs=set(names)),
        config=SimpleNamespace(html_theme_options={}),
    )
    extension.write(app, None)
    found = [json.loads((out / "_sources" / f"{n}.ipynb").read_text()) for n in names]
    assert [bool(one) for one in found] == [True, True, False, False]
