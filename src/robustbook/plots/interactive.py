"""Views that a reader moves: an Altair chart with sliders and choosers in a figure.

Read `show` first, then `slider`, `chooser` and `chosen` (what a reader moves and which
rows that picks), then `pictures` and `image_uri` (pictures as data). On a page of the
book the chart takes the place of a static figure once it stands, from files of the book
itself; in JupyterLab the cell shows the chart alone. Text and axes take the page's
colour in light and dark, and equal input gives equal bytes.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from robustbook import page
from robustbook.checks import ArgumentError
from robustbook.plots import style

if TYPE_CHECKING:
    from altair import Chart, Parameter
    from altair.vegalite.v6.api import ChartType
    from matplotlib.figure import Figure

LARGEST = 500_000
"""Bytes of the largest view: with the library's 900 kB a chapter stays light."""

MEDIA = "application/vnd.vegalite.v5+json"
"""What JupyterLab and other notebook programs draw as a chart; they know version 5."""

_NUMBERED = re.compile(r"(?:param|view)_\d+")
_PAGE: Any = "currentColor"
_WORDS = {"labelColor": _PAGE, "titleColor": _PAGE, "labelFontSize": 12}
CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **_WORDS,
        "titleFontSize": 12,
        "domainColor": _PAGE,
        "tickColor": _PAGE,
        "gridColor": _PAGE,
        "gridOpacity": 0.16,
        "labelLimit": 0,
    },
    "legend": {**_WORDS, "titleFontSize": 12},
    "header": {**_WORDS, "titleFontSize": 12},
    "title": {"color": _PAGE, "subtitleColor": _PAGE, "anchor": "start"},
    "text": {"color": _PAGE, "fontSize": 13},
    "rule": {"color": _PAGE},
    "mark": {"color": style.BLUE},
    "range": {
        "category": [
            style.BLUE,
            style.VERMILLION,
            style.GREEN,
            style.ORANGE,
            style.PURPLE,
            style.SKY,
            style.OCHRE,
            style.GREY,
        ]
    },
}
"""The look of a chart that says nothing else: the figures' colours, the page's ink."""


@dataclass(frozen=True)
class View:
    """A view as a notebook displays it: `data` is its HTML, `spec` its chart."""

    data: str
    spec: dict[str, Any]
    caption: str
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # A page needs the HTML; a notebook program would prefer it to the chart.
        if page.by_runner():
            return {"text/html": self.data, "text/plain": self.alt}, {}
        lines = textwrap.wrap(re.sub(r"[*_`$]", "", self.caption), 90)
        changed = {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {"text": lines, "orient": "bottom", "fontWeight": "normal"},
        }
        options = {"actions": False, "renderer": "svg"}
        return (
            {MEDIA: self.spec | changed, "text/plain": self.alt},
            {MEDIA: {"embed_options": options}},
        )


def show(
    chart: ChartType,
    *,
    fallback: Figure,
    name: str,
    alt: str,
    caption: str,
    number: int | None = None,
    kind: page.Kind = "plot",
) -> View:
    """A chart as a figure of the page, and `fallback` where scripts do not run.

    `name` (a-z, 0-9, -) makes the address `#figure-NAME`; `alt` says what the view
    shows and what moving it changes, `caption` states the finding; these, `number` and
    `kind` (of the fallback, which is closed) are those of `page.figure`. A chart wider
    than its room is scaled down; parts side by side (`alt.hconcat`) go below one
    another first, so keep each at most 320 pixels wide. This is a slider over epsilon
    with an image, its prediction and psi:

    >>> import altair as alt, pandas as pd
    >>> from matplotlib import pyplot
    >>> from robustbook.plots import interactive
    >>> seen = pd.DataFrame({"epsilon": [0.0, 0.1], "psi": [0.0, 0.7], "image": [
    ...     interactive.image_uri(np.full((8, 8), grey)) for grey in (0.2, 0.6)]})
    >>> odds = pd.DataFrame({"epsilon": [0.0, 0.0, 0.1, 0.1],
    ...     "class": ["3", "8"] * 2, "probability": [0.9, 0.1, 0.3, 0.7]})
    >>> epsilon = interactive.slider("epsilon", [0.0, 0.1], label="Budget epsilon")
    >>> here = interactive.chosen(epsilon)
    >>> one = alt.Chart(seen, width=140).transform_filter(here)
    >>> image = interactive.pictures(one, "image", size=140)
    >>> psi = one.properties(height=20).mark_text().encode(
    ...     text=alt.Text("psi:Q", format=".2f"))
    >>> bars = alt.Chart(odds, width=180, height=140).transform_filter(here).mark_bar(
    ...     ).encode(y="class:N", x=alt.X("probability:Q").scale(domain=[0, 1]))
    >>> view = interactive.show(
    ...     alt.hconcat(alt.vconcat(image, psi), bars).add_params(epsilon),
    ...     fallback=pyplot.figure(), name="see-it-once", alt="A digit, ...",
    ...     caption="The larger the budget, the surer the wrong answer.")
    >>> list(view.spec["params"][0])
    ['name', 'bind', 'value']

    Raises ArgumentError if the name is none, a text is empty, the view is larger than
    `LARGEST` or the chart would fetch something.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ArgumentError("name", "of a-z, 0-9 and -", name)
    spec = _specification(chart, alt)
    still = page.figure(
        fallback, alt=alt, caption=caption, kind=kind, name=name, number=number
    ).data
    # "</" would end the script, and HTML comments change how it is read.
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")
    if len(text) > LARGEST:
        raise ArgumentError("chart", f"at most {LARGEST} bytes", f"{len(text)} bytes")
    data = (
        f'<div class="pm-view" id="view-{name}">\n{still}\n'
        f'<script type="application/json">{text}</script>\n</div>'
    )
    return View(data, spec, caption, alt)


def _specification(chart: ChartType, alt: str) -> dict[str, Any]:
    """The chart in Vega-Lite, with the book's look and names that do not count up."""
    spec: dict[str, Any] = copy.deepcopy(chart.to_dict())
    own = spec.pop("config", {})
    own.get("view", {}).pop("continuousWidth", None)
    own.get("view", {}).pop("continuousHeight", None)
    spec["config"] = _merged(CONFIG, own)
    spec["description"] = " ".join(alt.split())
    names: dict[str, str] = {}
    for text in _texts(spec):
        for found in _NUMBERED.findall(text):
            names.setdefault(found, f"{found.split('_')[0]}_{len(names) + 1}")
    spec = _renamed(spec, names)
    fetched = [text for key, text in _keyed(spec) if key == "url" and "//" in text[:9]]
    if fetched:
        raise ArgumentError("chart", "made of its own data alone", fetched[0])
    return spec


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def _keyed(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a specification with the key under which it stands."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _keyed(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _keyed(value, key)


def _texts(node: Any) -> Iterator[str]:
    return (text for _, text in _keyed(node) if not text.startswith("data:"))


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, str) and not node.startswith("data:"):
        return _NUMBERED.sub(lambda found: names.get(found[0], found[0]), node)
    if isinstance(node, dict):
        return {key: _renamed(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, names) for value in node]
    return node


# What a reader moves
# --------------------------------------------------------------------------------------


def slider(
    name: str,
    values: Sequence[float],
    *,
    label: str | None = None,
    start: float | None = None,
) -> Parameter:
    """A slider over evenly spaced values of the column `name`; it starts at `start`.

    Add it to the chart (`add_params`) and pick its rows by `chosen`. Raises
    ArgumentError unless there are two values or more, evenly spaced and increasing,
    and `start` is one of them.
    """
    import altair as alt

    gaps = np.diff(np.asarray(values, dtype=float))
    if len(gaps) < 1 or gaps[0] <= 0 or not np.allclose(gaps, gaps[0], rtol=1e-6):
        raise ArgumentError("values", "two or more, evenly spaced, increasing", values)
    step = float(f"{gaps.mean():.9g}")
    bind = alt.binding_range(
        min=float(values[0]),
        max=float(values[-1]),
        step=step,
        name=f"{label or name} ",
    )
    return alt.param(name=name, value=float(_start(values, start)), bind=bind)


def chooser(
    name: str,
    options: Sequence[str],
    *,
    label: str | None = None,
    start: str | None = None,
) -> Parameter:
    """A list of the options of the column `name`, used like a `slider`."""
    import altair as alt

    bind = alt.binding_select(options=list(options), name=f"{label or name} ")
    return alt.param(name=name, value=_start(options, start), bind=bind)


def _start(values: Sequence[Any], start: Any) -> Any:
    if start is not None and start not in values:
        raise ArgumentError("start", f"one of {list(values)}", start)
    return values[0] if start is None else start


def chosen(moved: Parameter) -> str:
    """The rows that a slider or chooser picks, for `transform_filter`."""
    name, declared = moved.name, cast(Any, moved.param).to_dict()
    step = declared["bind"].get("step")
    # Steps of 0.1 do not add up to 0.3 exactly.
    return (
        f"abs(datum['{name}'] - {name}) < {step / 2:.9g}"
        if step
        else f"datum['{name}'] === {name}"
    )


def pictures(chart: Chart, column: str, *, size: int) -> Chart:
    """The chart as a picture, `size` pixels wide and high, from a column of
    `image_uri`.
    """
    import altair as alt

    middle = alt.value(size / 2)
    frame = alt.ViewBackground(stroke=_PAGE, strokeOpacity=0.3)
    # Without `aria=False` a screen reader would read out the picture's bytes.
    return (
        chart.mark_image(width=size, height=size, smooth=False, aria=False)
        .encode(url=f"{column}:N", x=middle, y=middle)
        .properties(width=size, height=size, view=frame)
    )


def image_uri(image: npt.ArrayLike) -> str:
    """A small picture as text, for a column that `pictures` shows.

    `image` (H, W), (1, H, W) or (3, H, W) in [0, 1]. Raises ArgumentError if it is
    anything else.
    """
    from PIL import Image

    values = np.asarray(image, dtype=float)
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = values[0] if values.shape[0] == 1 else values.transpose(1, 2, 0)
    elif values.ndim != 2:
        raise ArgumentError("image", "(H, W), (1, H, W) or (3, H, W)", values)
    if not (values.size and values.min() >= 0 and values.max() <= 1):
        raise ArgumentError("image", "in [0, 1]", values)
    buffer = io.BytesIO()
    pixels = np.round(values * 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
