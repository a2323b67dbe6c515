"""The front page shows the first answer and the picture of each chapter."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from robustbook.run.answers import Entry

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import front_page  # noqa: E402
import scoreboard_page  # noqa: E402

SHORT = """<section class="pm-box pm-short" aria-label="In short">
<p class="pm-box-title">In short</p>
<p>One pixel (e.g. the first) moves it by 0.5 nats. More follows.</p>
<p class="pm-counts"></p>
<figure class="pm-figure pm-plot" id="figure-hero">
<svg aria-label="a digit"><path/></svg>
<figcaption>Not this.</figcaption>
</figure>
</section>"""


def written(path, text):
    output = new_output("display_data", data={"text/html": text})
    nbformat.write(new_notebook(cells=[new_code_cell("", outputs=[output])]), path)
    return path


def test_a_card_has_the_first_sentence_and_the_picture_of_its_chapter(tmp_path):
    found = front_page.in_short(written(tmp_path / "a.ipynb", SHORT))
    assert found.answer == "One pixel (e.g. the first) moves it by 0.5 nats."
    assert found.picture == '<svg aria-label="a digit"><path/></svg>'


@pytest.mark.parametrize("text", ["", "<p>nothing</p>", SHORT.split("</p>")[0]])
def test_a_page_without_the_box_gives_a_card_without_either(tmp_path, text):
    found = front_page.in_short(written(tmp_path / "a.ipynb", text))
    assert found == front_page.InShort()
    assert front_page.in_short(tmp_path / "none.ipynb") == front_page.InShort()


def entry(verdict, paper="me2020"):
    names = ("title", "statement", "source", "measure", "rule", "control", "published")
    return Entry(
        study="s", paper=paper, claim="A1", verdict=verdict, **dict.fromkeys(names, "")
    )


@pytest.mark.parametrize(
    ("verdict", "paper", "words"),
    [
        ("reproduced", "me2020", "reproduced"),
        ("not reproduced", "", "did not hold"),
        ("not tested at this scale", "me2020", "not tested"),
        ("in preparation", "me2020", "in preparation"),
    ],
)
def test_a_cell_has_a_sign_and_a_word(verdict, paper, words):
    sign, style, found = front_page.sign_of(entry(verdict, paper))
    assert found == words
    assert sign
    assert style.startswith("pm-")


def test_markdown_becomes_text():
    assert scoreboard_page.plain("*psi* is < 1 & `x`") == "psi is < 1 & x"
