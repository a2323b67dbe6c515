"""What notebooks show: equal bytes for equal input, nothing unescaped, verdicts by
rule, exercises that check.
"""

import base64
import re
from types import SimpleNamespace

import matplotlib as mpl

mpl.use("agg")

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot

from robustbook import exercises, page
from robustbook.plots import style
from robustbook.results import VERDICTS, Claim, Judgement, Metric, Results

HOSTILE = '<script>alert("x")</script> & "quotes"'


def soup(shown):
    return BeautifulSoup(shown.data, "html.parser")


def drawn(kind="plot", cells=40):
    style.use_style()
    fig, ax = pyplot.subplots(figsize=(7, 3))
    ax.plot([0, 1, 2], [2, 0, 1], label="natural")
    ax.pcolormesh(
        np.random.default_rng(0).random((cells, cells)), rasterized=kind == "plot"
    )
    ax.legend()
    return fig


def image_of(shown):
    media, data = re.fullmatch(
        r"data:(.+);base64,(.+)", soup(shown).img["src"]
    ).groups()
    return media, base64.b64decode(data)


def test_the_same_figure_has_the_same_bytes():
    first, second = (page.figure(drawn(), alt="a", caption="b").data for _ in range(2))
    assert first == second


def test_a_figure_is_closed_and_says_what_it_shows():
    shown = page.figure(
        drawn(), alt='Two "lines"', caption="Accuracy *falls* at $\\epsilon = 0.1$."
    )
    assert pyplot.get_fignums() == []
    assert soup(shown).figure["class"] == ["pm-figure", "pm-plot"]
    assert soup(shown).svg["aria-label"] == 'Two "lines"'
    assert soup(shown).svg["role"] == "img"
    assert soup(shown).figcaption.em.text == "falls"
    assert soup(shown).select_one("figcaption .math").text == r"\(\epsilon = 0.1\)"


def test_a_plot_is_transparent_vector_graphics_without_a_date_or_fonts():
    svg = str(soup(page.figure(drawn(), alt="a", caption="b")).svg)
    for absent in ("<text", "dc:date", "Matplotlib v", "<?xml", "#ffffff"):
        assert absent not in svg


def test_text_and_axes_of_a_plot_take_the_pages_colour_and_data_do_not():
    fig, ax = pyplot.subplots()
    ax.plot([0, 1], color=style.BLUE)
    ax.plot([0, 1], "o", markeredgecolor=style.GROUND)
    svg = page.figure(fig, alt="a", caption="b").data
    assert svg.count("currentColor") > 20
    assert style.INK not in svg and style.GROUND not in svg
    assert style.BLUE.lower() in svg
    for ink in ("#262626", "#000000", "#333333"):
        assert ink not in svg


def test_two_figures_of_a_page_share_no_id_and_use_their_own():
    trees = [
        soup(page.figure(drawn(cells=cells), alt="a", caption="b")) for cells in (4, 5)
    ]
    ids = [{tag["id"] for tag in tree.find_all(id=True)} for tree in trees]
    assert ids[0] and not ids[0] & ids[1]
    for tree, own in zip(trees, ids, strict=True):
        text = str(tree)
        used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
        assert used and {first or second for first, second in used} <= own


def test_a_heavy_picture_becomes_webp():
    assert (
        image_of(page.figure(drawn("picture"), alt="a", caption="b", kind="picture"))[0]
        == "image/svg+xml"
    )
    media, webp = image_of(
        page.figure(drawn("picture", cells=90), alt="a", caption="b", kind="picture")
    )
    assert media == "image/webp"
    assert webp[:4] == b"RIFF" and webp[8:12] == b"WEBP"


@pytest.mark.parametrize("wrong", [{"alt": " "}, {"caption": ""}, {"kind": "movie"}])
def test_a_figure_without_words_is_refused(wrong):
    with pytest.raises(ValueError, match=r"figure needs|kind must"):
        page.figure(drawn(), **{"alt": "a", "caption": "b", **wrong})
    pyplot.close("all")


def test_nothing_that_is_shown_can_be_markup_of_its_own():
    fig = page.figure(drawn(), alt=HOSTILE, caption=HOSTILE)
    table = page.table(pd.DataFrame({HOSTILE: [HOSTILE]}), caption=HOSTILE)
    claims = page.claims_box([claim(statement=HOSTILE, rule=HOSTILE)])
    for shown in (fig, table, claims, exercises.Outcome(False, HOSTILE)):
        text = shown.data if hasattr(shown, "data") else shown._repr_html_()
        assert "<script" not in text
        assert "alert" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.81234, "0.812"),
        (0.5, "0.500"),
        (1234.5, "1\u202f234"),
        (120_000, "120\u202f000"),
        (-3, "−3"),
        (-0.25, "−0.250"),
        (1e-7, "1.00·10⁻⁷"),
        (9.999, "10.0"),
        (0.0, "0"),
        (np.float32(0.5), "0.500"),
        (np.int64(4), "4"),
        (np.bool_(True), "yes"),
        (False, "no"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
        ("LeNet", "LeNet"),
    ],
)
def test_numbers_for_the_eye(value, text):
    assert page.number(value) == text


@given(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False), st.integers(2, 6))
def test_a_shown_number_is_the_number_to_its_digits(value, digits):
    shown = page.number(value, digits).replace("\u202f", "").replace("−", "-")
    if "·10" in shown:
        mantissa, power = shown.split("·10")
        shown = (
            f"{mantissa}e{power.translate(str.maketrans('⁻⁰¹²³⁴⁵⁶⁷⁸⁹', '-0123456789'))}"
        )
    assert float(shown) == pytest.approx(
        value, rel=0.5000001 * 10 ** (1 - digits), abs=1e-300
    )


def test_an_interval_in_a_sentence():
    assert (
        page.interval(Metric(name="psi", value=0.8, low=0.75, high=0.85))
        == "0.800 [0.750, 0.850]"
    )
    assert page.interval(Metric(name="psi", value=0.8)) == "0.800"


def test_a_table_has_scopes_a_caption_and_right_aligned_numbers():
    frame = pd.DataFrame(
        {"network": ["MLP", "LeNet"], "psi": [0.5, 1.25], "share": [0.5, None]}
    ).set_index("network")
    shown = soup(
        page.table(
            frame,
            caption="Psi.",
            index=True,
            formats={"share": lambda value: f"{value:.0%}"},
        )
    )
    assert [head["scope"] for head in shown.thead.find_all("th")] == ["col"] * 3
    assert [head.text for head in shown.tbody.find_all("th", scope="row")] == [
        "MLP",
        "LeNet",
    ]
    assert [cell.text for cell in shown.tbody.find_all("td")] == [
        "0.500",
        "50%",
        "1.25",
        "–",
    ]
    assert shown.tbody.td["class"] == ["pm-number"]
    assert shown.figcaption.text == "Psi."
    assert "pm-scroll" in shown.table.parent["class"]
    with pytest.raises(ValueError, match="caption"):
        page.table(frame, caption="")


def claim(
    identity="Y1",
    judge=lambda results: Judgement("reproduced", "0.8 [0.7, 0.9]"),
    **changes,
):
    words = {
        "statement": "It holds.",
        "source": "abstract",
        "measure": "rho",
        "rule": "rho > 0.5",
        "control": "clean",
    }
    return Claim(id=identity, judge=judge, **{**words, **changes})


def test_the_claims_box_declares_rule_and_control_but_no_result():
    box = soup(page.claims_box([claim(), claim("Y2", published="93 %")]))
    assert [entry.text for entry in box.select(".pm-id")] == ["Y1", "Y2"]
    assert "rho > 0.5" in box.text
    assert "93 %" in box.text
    assert not any(verdict in box.text for verdict in VERDICTS)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_is_that_of_the_rule_in_words(verdict):
    judged = claim(judge=lambda results: Judgement(verdict, "because", "It is so."))
    shown = soup(page.verdict(judged, Results()))
    assert shown.select_one(".pm-badge").text.split(maxsplit=1)[1] == verdict
    assert "It is so." in shown.text
    assert "because" not in shown.text, "the evidence stands once, in the fold"
    assert not shown.select("[id]"), "so does the place that others link to"
    assert shown.select_one("a")["href"] == "#verdict-y1"


def test_the_answer_stands_before_the_fold_and_all_else_in_it():
    judged = claim(judge=lambda results: Judgement("partly", "because", "Half."))
    shown = soup(page.verdicts([judged], Results()))
    item = shown.select_one("#verdict-y1")
    fold = item.select_one("details").extract()
    assert "Half." in item.text and "because" not in item.text
    assert all(text in fold.text for text in ("because", "rho > 0.5", "clean", "rho"))
    assert not fold.has_attr("open")


def test_the_place_at_the_top_is_filled_at_the_end():
    """As a kernel's client sees it: one output, whose content is replaced."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    code = (
        "from robustbook import page\npage.opening()",
        "from robustbook.results import Claim, Judgement, Results\n"
        "judge = lambda results: Judgement('mixed', 'because', 'On half of them.')\n"
        "claim = Claim('Y1', 'It holds.', 'abstract', 'm', 'r', 'c', judge)\n"
        "page.in_short(['It is *five*.'], [claim], Results())",
    )
    notebook = new_notebook(cells=[new_code_cell(text) for text in code])
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    shown = BeautifulSoup(output.data["text/html"], "html.parser")
    assert "It is five." in shown.text
    assert "Run all cells" not in shown.text
    assert shown.select_one("a[href='#verdict-y1'] .pm-badge").text.endswith("mixed")
    assert not notebook.cells[1].outputs


def test_code_that_a_page_shows_is_the_code_that_runs():
    shown = page.source(page.inline, page.badge).data
    assert shown.startswith("```python\ndef inline(text: str) -> str:\n")
    assert "\n\n\ndef badge(" in shown and shown.endswith("\n```")


def test_a_named_figure_can_be_linked_to():
    shown = soup(page.figure(drawn(), alt="A line", caption="Up.", name="up", number=4))
    assert shown.select_one("figure#figure-up figcaption").text == "Figure 4. Up."


def test_a_claim_whose_rows_are_missing_is_not_tested():
    shown = soup(
        page.verdict(
            claim(
                judge=lambda results: Judgement("reproduced", results.one("psi").name)
            ),
            Results(),
        )
    )
    assert "not tested at this scale" in shown.text


def test_verdicts_are_counted():
    claims = [
        claim("A"),
        claim("B"),
        claim("C", judge=lambda results: Judgement("partly", "half")),
    ]
    counts = soup(page.verdicts(claims, Results())).select_one(".pm-counts").text
    assert " ".join(counts.split()) == "2 × ✓ reproduced 1 × ◐ partly"


def record():
    return SimpleNamespace(
        study="loss_metric",
        run="wide",
        parameters={"epsilon": 0.2, "data": ["mnist"]},
        timing={"seconds": 12.3456},
        provenance=SimpleNamespace(
            hash="ab" * 32,
            sources={"robustbook.data.mnist": "cd" * 32},
            data={"MNIST": "ef" * 32},
            versions={"torch": "2.15.0"},
            device="cpu",
            threads=2,
        ),
    )


def test_provenance_says_what_decides_the_numbers_but_not_how_long_it_took(monkeypatch):
    monkeypatch.setenv("ROBUSTBOOK_RECORD", "record.json")
    text = soup(page.provenance(record())).text
    for expected in (
        "loss_metric",
        "wide",
        "epsilon",
        "0.2",
        "MNIST",
        "ef" * 6,
        "ab" * 6,
        "torch 2.15.0",
        "cpu",
    ):
        assert expected in text
    assert "12.3" not in text


def test_provenance_says_that_a_notebook_was_not_run_by_robustbook(monkeypatch):
    monkeypatch.delenv("ROBUSTBOOK_RECORD", raising=False)
    text = soup(page.provenance(record())).text
    assert "not run by robustbook" in text
    assert "wide" not in text


# Exercises


def check_swap(answer):
    assert isinstance(answer, float), "Give a number."
    assert answer == pytest.approx(0.411, abs=1e-3), "Divide 1 by the divergence."


@pytest.mark.parametrize(
    ("answer", "correct", "message"),
    [
        (None, False, "Give a number."),
        (2.433, False, "Divide 1 by the divergence."),
        (0.4110, True, ""),
    ],
)
def test_a_report_tells_the_hint_and_never_raises(answer, correct, message):
    outcome = exercises.report(check_swap, answer)
    assert (outcome.correct, outcome.message) == (correct, message)


def test_an_unfinished_function_is_not_solved():
    outcome = exercises.report(lambda answer: answer(1) + 1, lambda value: ...)
    assert not outcome.correct
    assert "TypeError" in outcome.message


NOTEBOOK = """# %%
x = 1

# %% tags=["exercise"] exercise="swap"
answer = None

# %% tags=["solution", "hide-cell"] exercise="swap"
answer = x
"""


def test_exercises_are_read_from_a_percent_notebook(tmp_path):
    path = tmp_path / "study.py"
    path.write_text(NOTEBOOK)
    assert exercises.cells(path) == {
        "swap": exercises.Exercise("answer = None", "answer = x")
    }


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (' exercise="swap"\nanswer = x', "\nanswer = x", "does not say which"),
        ('tags=["solution", "hide-cell"]', 'tags=["exercise"]', "more than one"),
        ('tags=["solution", "hide-cell"]', 'tags=["other"]', "needs one cell"),
    ],
)
def test_an_incomplete_exercise_is_named(tmp_path, old, new, complaint):
    path = tmp_path / "study.py"
    path.write_text(NOTEBOOK.replace(old, new))
    with pytest.raises(ValueError, match=complaint):
        exercises.cells(path)


def executed(stub, solution):
    def cell(tag, outcome):
        outputs = (
            [
                {
                    "output_type": "execute_result",
                    "data": {"text/html": outcome._repr_html_()},
                }
            ]
            if outcome
            else []
        )
        return {
            "cell_type": "code",
            "metadata": {"tags": [tag], "exercise": "swap"},
            "source": "",
            "outputs": outputs,
        }

    return {"cells": [cell("exercise", stub), cell("solution", solution)]}


def test_outcomes_are_read_from_an_executed_notebook():
    right, wrong = exercises.Outcome(True, ""), exercises.Outcome(False, "hint")
    assert exercises.outcomes(executed(wrong, right)) == {"swap": (False, True)}
    assert exercises.outcomes(executed(right, wrong)) == {"swap": (True, False)}
    with pytest.raises(ValueError, match="report"):
        exercises.outcomes(executed(None, right))


def test_equal_pictures_in_one_figure_have_no_id_twice():
    fig, axes = pyplot.subplots(1, 2)
    for ax in axes:
        ax.imshow(np.eye(8), cmap="gray")
    shown = soup(page.figure(fig, alt="Two equal pictures", caption="Equal."))
    ids = [tag["id"] for tag in shown.select("[id]")]
    assert len(shown.select("image")) == 2
    assert len(ids) == len(set(ids))


def test_a_curve_is_drawn_to_a_hundredth_of_a_point():
    shown = soup(page.figure(drawn("plot"), alt="A line", caption="Up."))
    paths = " ".join(tag["d"] for tag in shown.select("path[d]"))
    assert re.search(r"\.\d\d\b", paths) and not re.search(r"\.\d{3}", paths)
