"""Cleaning a page, and giving it new text without a run."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from run_helpers import contents, edit

from robustbook.errors import RunFailedError
from robustbook.run import clean, status
from robustbook.run.project import RunId

REFERENCE = RunId("tiny", "reference")
QUICK = RunId("tiny", "quick")


def page_with(*outputs, text="# Title", run=REFERENCE, root="/nowhere/at/all"):
    code = new_code_cell(
        "1",
        outputs=list(outputs),
        execution_count=17,
        metadata={"papermill": {}, "tags": ["a"]},
    )
    node = new_notebook(
        cells=[new_markdown_cell(text), code],
        metadata={"papermill": {"x": 1}, "widgets": {}},
    )
    return clean.clean(node, run, root)


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def test_what_changes_from_run_to_run_is_dropped():
    page = page_with(
        stream("a warning", "stderr"),
        new_output(
            "execute_result",
            data={"text/plain": "<A object at 0x7f00aa11bb>"},
            execution_count=17,
        ),
        new_output(
            "display_data",
            data={"application/vnd.jupyter.widget-view+json": {"model_id": "abc"}},
        ),
    )
    (output,) = page.cells[1].outputs
    assert output.data["text/plain"] == "<A object>"
    assert (output.execution_count, page.cells[1].execution_count) == (1, 1)
    assert page.cells[1].metadata == {"tags": ["a"]}
    assert set(page.metadata) == {"kernelspec", "language_info"}


def test_a_page_is_a_valid_notebook_and_reads_back_the_same(tmp_path):
    content = clean.to_bytes(page_with(stream("one\ntwo\n")))
    path = tmp_path / "page.ipynb"
    path.write_bytes(content)
    nbformat.validate(clean.read(path))
    assert clean.to_bytes(clean.read(path)) == content


def test_own_places_are_masked_the_longest_first(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("ROBUSTBOOK_DATA", "/home/somebody/data")
    masks = clean.path_masks("/home/somebody/book")
    text = (
        "/home/somebody/book/x.py /home/somebody/data/mnist '/home/somebody' "
        "/home/somebody2"
    )
    for pattern, shown in masks:
        text = pattern.sub(shown, text)
    assert text == "<project>/x.py <data>/mnist '~' /home/somebody2"


@pytest.mark.parametrize(
    "text",
    ["see /usr/lib/x.py", "/home/other/data", 'File "/var/x/y"', "C:\\Users\\me"],
)
def test_a_path_that_remains_is_an_error(text):
    with pytest.raises(RunFailedError, match="shows a path of this machine"):
        page_with(stream(text))


@pytest.mark.parametrize(
    "text",
    [
        "https://a.org/home/page",
        "and/or",
        "<b>/usr</b>",
        "1/2",
        "/docs/x",
        "data:AA/usr/x",
    ],
)
def test_what_is_no_path_stays(text):
    assert page_with(stream(text)).cells[1].outputs[0].text == text


def test_the_reference_page_keeps_its_title_and_labels():
    text = "(a)=\n# Title\n\n{ref}`a`"
    assert page_with(text=text).cells[0].source == text


def test_other_pages_rename_the_labels_they_define_and_no_others():
    text = (
        "(a)=\n# Title\n\nSee {ref}`a`, {ref}`text <a>`, [x](#a), {ref}`ab`, "
        "{numref}`other`, a word (a).\n\n$$ x $$ (eq-x)\n\n$$\ny\n$$ "
        "(eq-y)\n\n{eq}`eq-x` and {eq}`eq-y`\n\n```{figure} a.png\n:name: "
        "fig-a\n```\n{ref}`fig-a`"
    )
    out = page_with(text=text, run=QUICK).cells[0].source
    assert out.startswith("(a-tiny-quick)=\n# Title\n")
    assert (
        "{ref}`a-tiny-quick`, {ref}`text <a-tiny-quick>`, [x](#a-tiny-quick), "
        "{ref}`ab`, {numref}`other`" in out
    )
    assert "a word (a)." in out
    assert "$$ x $$ (eq-x-tiny-quick)" in out
    assert "$$ (eq-y-tiny-quick)" in out
    assert "{eq}`eq-x-tiny-quick` and {eq}`eq-y-tiny-quick`" in out
    assert ":name: fig-a-tiny-quick" in out
    assert "{ref}`fig-a-tiny-quick`" in out


def test_relative_paths_of_other_pages_start_one_folder_deeper():
    text = (
        "# Title\n\n[x](../index.md) [y](#y) [z](https://a.org) {doc}`../index` "
        "{doc}`text <../index>`\n```{literalinclude} "
        "../../src/robustbook/measure/psi.py\n```\nfrom ../here, {x} ./y"
    )
    out = page_with(text=text, run=QUICK).cells[0].source
    assert out == (
        "# Title\n\n[x](../../index.md) [y](#y) [z](https://a.org) {doc}`../../index` "
        "{doc}`text <../../index>`\n```{literalinclude} "
        "../../../src/robustbook/measure/psi.py\n```\nfrom ../here, {x} ./y"
    )
    assert page_with(text=text).cells[0].source == text


def test_new_text_reaches_the_page_without_a_run(ran, monkeypatch):
    from robustbook.run import execute, runner

    monkeypatch.setattr(runner, "compute", None)
    before = status.of(ran, QUICK).record
    edit(ran.notebook("tiny"), "Does it run?", "Does it walk?")
    edit(
        ran.notebook("tiny"),
        "results = Results(rows=study.ROWS)",
        "results = Results(rows=study.ROWS)  # the rows",
    )
    assert status.of(ran, QUICK).state == "prose differs"
    old = clean.read(ran.page(QUICK))
    assert runner.perform(ran, QUICK, {}, execute.SilentReporter()) == "refreshed"
    new, after = clean.read(ran.page(QUICK)), status.of(ran, QUICK)
    assert "Does it walk?" in new.cells[0].source
    assert "# the rows" in new.cells[7].source
    assert [cell.get("outputs") for cell in new.cells] == [
        cell.get("outputs") for cell in old.cells
    ]
    assert after.state == "fresh"
    assert after.record.metrics == before.metrics
    assert after.record.page_digest != before.page_digest


def test_a_new_text_cell_does_not_shift_outputs(ran):
    edit(
        ran.notebook("tiny"),
        "# %% [markdown]\n# ## Results",
        "# %% [markdown]\n# More.\n\n# %% [markdown]\n# ## Results",
    )
    found = status.of(ran, QUICK)
    assert found.state == "prose differs"
    status.refresh(ran, QUICK, found.record)
    cells = clean.read(ran.page(QUICK)).cells
    assert "python: python" in cells[7].outputs[0].text
    assert cells[5].source == "More."
    assert len(contents(ran)) == 2
