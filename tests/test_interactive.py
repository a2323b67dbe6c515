"""Interactive views: their HTML, their bytes, and how a browser draws them."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import altair as alt
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

import read_book
from robustbook.checks import ArgumentError
from robustbook.plots import interactive

ROOT = Path(__file__).parents[1]
BUDGETS = [0.0, 0.1, 0.2, 0.3]


def view(name: str = "see-it-once") -> interactive.View:
    """Image, prediction and psi over a slider of budgets, and a choice of networks."""
    rows, odds = [], []
    for training in ("natural", "minmax"):
        for budget in BUDGETS:
            picture = interactive.image_uri(np.full((8, 8), budget))
            psi = budget * (10 if training == "natural" else 1)
            rows.append((training, budget, psi, picture))
            odds += [(training, budget, "3", 1 - budget), (training, budget, "8", 0.1)]
    seen = pd.DataFrame(rows, columns=["training", "epsilon", "psi", "image"])
    shares = pd.DataFrame(odds, columns=["training", "epsilon", "class", "probability"])
    epsilon = interactive.slider("epsilon", BUDGETS, label="Budget epsilon", start=0.1)
    training = interactive.chooser("training", ["natural", "minmax"], label="Training")
    here, whose = interactive.chosen(epsilon), interactive.chosen(training)

    def chart(frame: pd.DataFrame, height: int) -> alt.Chart:
        one = alt.Chart(frame, width=250, height=height)
        return one.transform_filter(here).transform_filter(whose)

    image = interactive.pictures(chart(seen, 140), "image", size=140)
    psi = chart(seen, 20).mark_text().encode(text=alt.Text("psi:Q", format=".2f"))
    bars = chart(shares, 140).mark_bar().encode(y="class:N", x="probability:Q")
    both = alt.hconcat(alt.vconcat(image, psi), bars)
    return interactive.show(
        both.add_params(epsilon, training),
        fallback=pyplot.figure(figsize=(4, 2)),
        name=name,
        alt="A digit; the slider\nmoves its budget.",
        caption="The larger the budget, the *surer* the wrong answer.",
        number=3,
    )


def test_a_view_is_a_figure_with_its_chart_beside_it() -> None:
    shown = view()
    assert shown.data.startswith('<div class="pm-view" id="view-see-it-once">')
    assert 'aria-label="A digit; the slider moves its budget."' in shown.data
    assert 'id="figure-see-it-once"' in shown.data
    assert "<b>Figure 3.</b> " in shown.data
    assert "<em>surer</em> the wrong answer.</figcaption>" in shown.data
    (text,) = re.findall(r"<script type=.application/json.>(.*?)</script>", shown.data)
    assert json.loads(text) == shown.spec
    assert "<" not in text
    assert shown.spec["config"]["text"]["color"] == "currentColor"


def test_a_page_gets_the_html_and_a_notebook_program_the_chart(monkeypatch) -> None:
    shown = view()
    monkeypatch.setenv("ROBUSTBOOK_RECORD", "/tmp/record.json")
    bundle, _ = shown._repr_mimebundle_()
    assert bundle == {"text/html": shown.data, "text/plain": shown.alt}
    monkeypatch.delenv("ROBUSTBOOK_RECORD")
    bundle, options = shown._repr_mimebundle_()
    assert set(bundle) == {interactive.MEDIA, "text/plain"}
    assert bundle[interactive.MEDIA]["title"]["text"] == [
        "The larger the budget, the surer the wrong answer."
    ]
    assert options[interactive.MEDIA]["embed_options"]["actions"] is False


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(interactive).failed == 0


def test_equal_views_are_equal_bytes() -> None:
    pyplot.close("all")

    def brushed() -> str:
        rows = pd.DataFrame({"x": [1.0], "y": [2.0]})
        chart = alt.Chart(rows).mark_point().encode(x="x", y="y").interactive()
        first = alt.selection_point()
        both = alt.layer(chart, chart.add_params(first))
        options = {"name": "a", "alt": "A", "caption": "C", "fallback": pyplot.figure()}
        return interactive.show(both, **options).data

    assert brushed() == brushed()
    assert view().data == view().data
    assert pyplot.get_fignums() == []


def test_what_a_chart_says_of_its_look_stands() -> None:
    chart = alt.Chart(pd.DataFrame({"x": [1]})).mark_point().encode(x="x:Q")
    chart = chart.configure_axis(labelFontSize=20)
    options = {"name": "a", "alt": "A", "caption": "C", "fallback": pyplot.figure()}
    axis = interactive.show(chart, **options).spec["config"]["axis"]
    assert (axis["labelFontSize"], axis["labelColor"]) == (20, "currentColor")


@pytest.mark.parametrize(
    ("data", "options", "named"),
    [
        ("https://elsewhere.org/data.csv", {}, "chart"),
        (pd.DataFrame({"x": ["a" * interactive.LARGEST]}), {}, "chart"),
        (pd.DataFrame({"x": [1]}), {"name": "Two words"}, "name"),
    ],
)
def test_what_no_page_can_show_is_refused(data, options, named) -> None:
    chart = alt.Chart(data).mark_point().encode(x="x:Q")
    given = {"name": "a", "alt": "A", "caption": "C", "fallback": pyplot.figure()}
    with pytest.raises(ArgumentError, match=f"^{named} must be"):
        interactive.show(chart, **given | options)
    pyplot.close("all")


@pytest.mark.parametrize("values", [[0.1], [0.3, 0.1], [0.0, 0.1, 0.3]])
def test_a_slider_has_even_steps(values) -> None:
    with pytest.raises(ArgumentError, match="evenly spaced"):
        interactive.slider("epsilon", values)
    with pytest.raises(ArgumentError, match="start"):
        interactive.slider("epsilon", [0.0, 0.1], start=0.05)


def test_pictures_keep_their_values() -> None:
    import base64
    import io

    from PIL import Image

    for image in (
        np.arange(6).reshape(2, 3) / 5,
        np.linspace(0, 1, 12).reshape(3, 2, 2),
    ):
        text = interactive.image_uri(image).removeprefix("data:image/png;base64,")
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) / 255
        wanted = image if image.ndim == 2 else image.transpose(1, 2, 0)
        np.testing.assert_allclose(pixels, wanted, atol=0.5 / 255 + 1e-12)
    assert interactive.image_uri(np.zeros((1, 2, 2))) == interactive.image_uri(
        np.zeros((2, 2))
    )
    for bad in (np.full((2, 2), 1.1), np.full((2, 2), np.nan), np.zeros((2, 2, 2))):
        with pytest.raises(ArgumentError, match="image"):
            interactive.image_uri(bad)


# In a browser
# --------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html lang="en"><head><title>A view</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>body {{ margin: 16px; color: var(--pm-ink); }}
[data-theme=dark] body {{ background: #111; }}</style>
<link rel="stylesheet" href="book.css"><script>{}</script></head>
<body><main><h1>A view</h1>{}</main></body></html>"""


def test_only_a_page_with_a_view_loads_the_script(views, tmp_path) -> None:
    loaded: list[str] = []
    app = SimpleNamespace(
        outdir=tmp_path, add_js_file=lambda name, body: loaded.append(body)
    )

    def context(body: str) -> dict[str, object]:
        return {"body": body, "pathto": lambda path, resource: f"../{path}"}

    views.add_script(app, "a", "", context("<p>No view</p>"), None)
    assert loaded == list(tmp_path.iterdir()) == []
    for page in ("b", "c"):
        views.add_script(app, page, "", context(view().data), None)
    assert [body.count('"../_static/views.js"') for body in loaded] == [1, 1]
    # With the largest view a chapter stays within 1.5 MB.
    size = (tmp_path / "_static" / "views.js").stat().st_size
    assert 500_000 < size < 1_500_000 - interactive.LARGEST


@pytest.fixture(scope="module")
def views():
    """The book's extension of this name."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    return importlib.import_module("views")


@pytest.fixture(scope="module")
def address(views, tmp_path_factory):
    """A page with a view, served with its script and the book's style sheet."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "views.js").write_text(views.bundle(), encoding="utf-8")
    shutil.copy(ROOT / "book" / "_static" / "book.css", folder)
    loader = views.LOADER.replace("ADDRESS", '"views.js"')
    page = PAGE.format(loader, view().data)
    (folder / "page.html").write_text(page, encoding="utf-8")
    with read_book.served(folder) as base:
        yield base


SAYS = "text => document.querySelector('.pm-live svg').textContent.includes(text)"
COLOURS = """() => [
  getComputedStyle(document.querySelector("figcaption")).color,
  getComputedStyle(document.querySelector(".pm-live text")).fill,
]"""
FRAMED = ("image", "g:has(> g > .mark-image) > path.background")
LIVE = ".pm-live svg"
DRAWN = """document.querySelector(".pm-live svg")
  && !document.querySelector("figure > svg")"""


def test_the_slider_is_moved_by_keys_and_moves_the_chart(browser, address) -> None:
    visit = read_book.Visit(
        browser, f"{address}page.html", address, viewport=read_book.WIDE
    )
    page = visit.page
    page.wait_for_function(DRAWN)
    shown = page.locator(LIVE)
    slider = page.get_by_label("Budget epsilon")
    assert slider.input_value() == "0.1"
    assert "1.00" in shown.text_content()
    box, frame = (page.locator(f".pm-live {one}").first for one in FRAMED)
    assert box.bounding_box() == pytest.approx(frame.bounding_box(), abs=12)
    before = box.get_attribute("href")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(SAYS, arg="3.00")
    assert box.get_attribute("href") != before
    page.get_by_label("Training").select_option("minmax")
    page.wait_for_function(SAYS, arg="0.30")
    ink, drawn = page.evaluate(COLOURS)
    assert drawn == ink
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert page.evaluate(COLOURS) == [drawn := page.evaluate(COLOURS)[0]] * 2
    assert drawn != ink
    assert visit.errors == []
    assert visit.outside == []
    visit.close()


def test_a_view_is_accessible_and_fits_a_phone(browser, address) -> None:
    axe = pytest.importorskip("axe_playwright_python")
    visit = read_book.Visit(
        browser,
        f"{address}page.html",
        address,
        viewport=read_book.PHONE,
        is_mobile=True,
    )
    page = visit.page
    page.wait_for_function(DRAWN)
    assert page.evaluate(read_book.PHONE_VIEW) == {"overflow": 0, "cut": 0}
    size = page.locator(LIVE).bounding_box()
    assert size["width"] <= 358
    assert size["height"] > 330  # One below the other, not side by side and small.
    page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text())
    for scheme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{scheme}'")
        assert page.evaluate(read_book.AXE) == []
    visit.close()


def test_without_scripts_the_figure_stays(browser, address) -> None:
    visit = read_book.Visit(
        browser, f"{address}page.html", address, java_script_enabled=False
    )
    assert visit.page.locator("figure > svg").is_visible()
    assert visit.page.locator(".pm-live").count() == 0
    visit.close()
