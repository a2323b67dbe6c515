"""Notebooks in JupyterLab read as on their pages: what a page hides is collapsed, and
no directive shows as it is written.

The tests in a browser need the `lab` extra and a Chromium on PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

import read_book

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
HIDDEN = {"remove-input", "remove-cell", "hide-input", "hide-cell"}
COLLAPSED = '# %% jupyter={"source_hidden": true} tags=...'


def hidden(cell) -> bool:
    """Whether the page hides a cell's source."""
    return bool(HIDDEN & set(cell.metadata.get("tags", [])))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_page_hides_is_collapsed_and_stays_so(path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            collapsed = cell.metadata.get("jupyter", {}).get("source_hidden", False)
            assert collapsed == hidden(cell), f"{COLLAPSED}: {cell.source[:80]}"
    # Saved from JupyterLab, the headings of cells are what they were.
    saved = jupytext.writes(notebook, fmt="py:percent")
    assert re.findall("^# %%.*", saved, re.M) == re.findall("^# %%.*", text, re.M)


# In a browser
# --------------------------------------------------------------------------------------

SMALL = """# %% [markdown]
# # A title
#
# By {cite:t}`yu2019interpreting`.
#
# ```{note}
# A note on $\\epsilon$.
# ```

# %% jupyter={"source_hidden": true} tags=["remove-input"]
import altair, pandas
from matplotlib import pyplot
from robustbook.plots import interactive
epsilon = interactive.slider("epsilon", [0.0, 0.1])
chart = altair.Chart(pandas.DataFrame({"psi": [0.7]})).mark_bar().encode(x="psi")
interactive.show(chart.add_params(epsilon), fallback=pyplot.figure(), name="a",
                 alt="A bar.", caption="It is long.")
"""
SETTINGS = {
    "docmanager-extension/plugin": {"defaultViewers": {"python": "Jupytext Notebook"}},
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false"},
}
WRITTEN = re.compile(r"`{3}\{|:{3}\{|\{[a-z]+(:[a-z]+)?\}`")


def program() -> str | None:
    """JupyterLab beside this Python or on PATH."""
    beside = Path(sys.executable).with_name("jupyter-lab")
    return str(beside) if beside.is_file() else shutil.which("jupyter-lab")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab with copies of all notebooks and a small one."""
    if program() is None:
        pytest.skip('no JupyterLab: pip install -e ".[lab]"')
    folder = tmp_path_factory.mktemp("lab")
    work = folder / "notebooks"
    shutil.copytree(ROOT / "notebooks", work)
    (work / "small.py").write_text(SMALL, encoding="utf-8")
    for name, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    kernel = folder / "path" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    call = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    said = {"argv": call, "display_name": "Python 3", "language": "python"}
    kernel.write_text(json.dumps(said), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR", "PATH")
    server = subprocess.Popen(
        [
            str(program()),
            "--allow-root",
            "--no-browser",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            f"--ServerApp.root_dir={work}",
        ],
        env={
            **os.environ,
            **{f"JUPYTER_{name}": str(folder / name.lower()) for name in places},
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The server says on its log where it listens.
    assert any("is running at" in line for line in server.stderr)
    yield f"http://127.0.0.1:{port}/"
    server.terminate()
    server.communicate(timeout=30)


@pytest.fixture
def opened(browser, lab):
    """Opens a notebook and gives its page."""
    visits = []

    def visit(name: str):
        window = {"viewport": {"width": 1280, "height": 1200}}
        visits.append(
            read_book.Visit(browser, f"{lab}lab/tree/{name}?reset", lab, **window)
        )
        page = visits[-1].page
        page.wait_for_selector(".jp-Notebook .myst h1", timeout=60_000)
        return page

    yield visit
    for one in visits:
        one.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_folded_and_without_raw_directives(path, opened) -> None:
    page = opened(path.name)
    cells = jupytext.read(path).cells
    written = sum(cell.cell_type == "markdown" for cell in cells)
    shown = page.locator(".jp-Notebook .myst:visible")
    shown.nth(written - 1).wait_for()
    text = shown.all_inner_texts()
    assert len(text) == written
    assert not WRITTEN.search("\n".join(text))
    folded = page.locator(".jp-CodeCell .jp-Placeholder").count()
    assert folded == sum(cell.cell_type == "code" and hidden(cell) for cell in cells)


@pytest.mark.slow
def test_cells_run_and_show_the_chart_that_a_reader_moves(opened) -> None:
    page = opened("small.py")
    page.locator(".myst").get_by_text("A note on").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_selector(".jp-OutputArea-output .vega-embed svg", timeout=60_000)
    assert page.get_by_label("epsilon").input_value() == "0"
    assert page.get_by_text("It is long.").is_visible()
