"""What a notebook shows on its page: figures, sentences, tables, claims with their
verdicts, and provenance.

Read `opening` and `in_short` first (what stands above everything else), then `figure`,
`source`, `prose` and `table` (the body of a page), then `verdicts` (its argument), then
`provenance` (its last box). Most functions return an object that Jupyter displays when
it is the last value of a cell (use `display(...)` for several); equal input gives equal
bytes, and nothing here computes a result.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import inspect
import io
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from robustbook.results import VERDICTS, Claim, Metric, Results, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML, Markdown
    from markdown_it import MarkdownIt
    from matplotlib.figure import Figure
    from pydantic import BaseModel

Kind = Literal["plot", "picture"]
INK, GROUND = "#1f2831", "#fefdfe"
"""Colours in figures that stand for the page's: text and axes, and the edge around
markers.
"""

_REFERENCE = re.compile(r'(\bid="|url\(#|href="#)')
_PATH = re.compile(r'(?<= d=")[^"]*')
_LONG = re.compile(r"(\.\d\d)\d+")
# Equal images of one figure have one id, to which nothing refers.
_IMAGE_ID = re.compile(r'(<image\b[^>]*?) id="[^"]*"')
_PREAMBLE = re.compile(
    r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL
)
RASTER_DPI = 190
SHOWN_DPI = 112
"""Pixels on a wide screen for an inch of a figure: its text is as large as ours."""
HEAVY_SVG = 400_000
"""A picture whose SVG has more bytes than this is shown as WebP."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

BADGES: dict[Verdict, tuple[str, str]] = {
    "reproduced": ("✓", "pm-reproduced"),
    "partly": ("◐", "pm-partly"),
    "mixed": ("◑", "pm-partly"),
    "not reproduced": ("✗", "pm-not-reproduced"),
    "inconclusive": ("?", "pm-not-tested"),
    "not tested at this scale": ("–", "pm-not-tested"),
}
"""Sign and CSS class of each verdict; the words are always written beside the sign."""

OWN_WORDS: dict[Verdict, str] = {
    "reproduced": "held",
    "partly": "partly held",
    "mixed": "held on some",
    "not reproduced": "did not hold",
    "inconclusive": "inconclusive",
    "not tested at this scale": "not tested at this scale",
}
"""The verdicts in the words of a question of our own, where there is no paper to
reproduce.
"""


# Text
# --------------------------------------------------------------------------------------


@functools.cache
def _markdown() -> MarkdownIt:
    """A Markdown parser without raw HTML, whose dollar math becomes what MathJax looks
    for.
    """
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def delimited(content: str, options: Mapping[str, Any]) -> str:
        return rf"\({html.escape(content)}\)"

    return MarkdownIt("commonmark", {"html": False}).use(
        dollarmath_plugin, renderer=delimited, allow_digits=False
    )


def inline(text: str) -> str:
    """HTML of one line of Markdown (emphasis, code, links, `$math$`); HTML in it is
    escaped.
    """
    return str(_markdown().renderInline(" ".join(text.split())))


def number(value: object, digits: int = 3) -> str:
    """A number for the eye: `digits` significant figures, thousands apart, a true
    minus; other values as text.
    """
    if _is_missing(value):
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}".replace(",", "\u202f").replace("-", "−")
    if isinstance(value, Real):
        return _real(float(value), digits)
    return str(value)


def _real(value: float, digits: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -4 <= magnitude < 6:
        text = f"{value:,.{max(digits - 1 - magnitude, 0)}f}".replace(",", "\u202f")
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return text.replace("-", "−")


def interval(metric: Metric, digits: int = 3) -> str:
    """A metric in a sentence: `0.812 [0.790, 0.834]`, without the bracket where it has
    no interval.
    """
    if metric.low is None or metric.high is None:
        return number(metric.value, digits)
    return (
        f"{number(metric.value, digits)} [{number(metric.low, digits)}, "
        f"{number(metric.high, digits)}]"
    )


def prose(markdown: str) -> Markdown:
    """A paragraph whose numbers were computed: the Markdown text, shown as text of the
    page.
    """
    from IPython.display import Markdown

    return Markdown(markdown)


# Figures
# --------------------------------------------------------------------------------------


def figure(
    fig: Figure,
    *,
    alt: str,
    caption: str,
    kind: Kind = "plot",
    name: str = "",
    number: int | None = None,
) -> HTML:
    """Show a Matplotlib figure with a caption that states its finding, and close it.

    `alt` describes the figure to a reader who cannot see it (plain text); `caption` is
    one line of Markdown. A "plot" (lines, points, maps of values) is part of the page,
    whose colours its text and axes take; a "picture" (data images, saliency maps) keeps
    its colours on a white card. A figure with a `name` can be linked to as
    `#figure-NAME`; its `number` stands in front of the caption.

    Raises ValueError if `alt` or `caption` is empty or `kind` is unknown.
    """
    from matplotlib import pyplot

    if not alt.strip() or not caption.strip():
        raise ValueError("a figure needs an alt text and a caption")
    if kind not in ("plot", "picture"):
        raise ValueError(f"kind must be 'plot' or 'picture', got {kind!r}")
    width = round(fig.get_size_inches()[0] * SHOWN_DPI)
    if kind == "plot":
        svg = _saved(fig, "svg", "none").decode()
        shown = _themed(svg, alt, width)
    else:
        shown = _picture(fig, alt, width)
    pyplot.close(fig)
    anchor = f' id="figure-{html.escape(name)}"' if name else ""
    numbered = f"<b>Figure {number}.</b> " if number is not None else ""
    return _html(
        f'<figure class="pm-figure pm-{kind}"{anchor}>\n{shown}\n'
        f"<figcaption>{numbered}{inline(caption)}</figcaption>\n</figure>"
    )


def _themed(svg: str, alt: str, width: int) -> str:
    """An SVG of Matplotlib as part of a page: text and axes take the page's colours.

    `INK` becomes the colour of the page's text and `GROUND` that of its ground; all
    other colours stay. Ids get a prefix of their own, so that two figures can stand on
    one page. `alt` is plain text; `width` the largest width in pixels.
    """
    body = _IMAGE_ID.sub(r"\1", _PREAMBLE.sub("", svg)).strip()
    # A hundredth of a point is less than any screen shows.
    body = _PATH.sub(lambda path: _LONG.sub(r"\1", path[0]), body)
    prefix = f"f{hashlib.sha256(body.encode()).hexdigest()[:8]}-"
    body = _REFERENCE.sub(rf"\g<1>{prefix}", body)
    body = body.replace(INK, "currentColor").replace(GROUND, "var(--pm-ground, #fff)")
    head = re.search(r"<svg\b[^>]*>", body)
    box = re.search(r'viewBox="[^"]*"', head[0]) if head else None
    if head is None or box is None:
        raise ValueError("the figure's SVG has no size")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" '
        f'aria-label="{html.escape(" ".join(alt.split()))}" '
        f'style="--pm-width: {width}px; width: {width}px">{body[head.end() :]}'
    )


def _picture(fig: Figure, alt: str, width: int) -> str:
    """A figure as an image of its own: SVG, or WebP where that would be heavy."""
    media, data = "svg+xml", _saved(fig, "svg", "white")
    if len(data) > HEAVY_SVG:
        media, data = "webp", _webp(_saved(fig, "png", "white"))
    return (
        f'<img style="--pm-width: {width}px" '
        f'alt="{html.escape(" ".join(alt.split()))}" '
        f'src="data:image/{media};base64,{base64.b64encode(data).decode("ascii")}">'
    )


def _webp(png: bytes) -> bytes:
    """The same picture in about a seventh of the bytes, alike to the eye."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.save(buffer, "WEBP", quality=90, method=6)
    return buffer.getvalue()


def _saved(fig: Figure, form: Literal["svg", "png"], ground: str) -> bytes:
    import matplotlib as mpl

    metadata: dict[str, None] = (
        {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    )
    buffer = io.BytesIO()
    with mpl.rc_context(
        {"svg.hashsalt": "perturb-and-measure", "svg.fonttype": "path"}
    ):
        fig.savefig(
            buffer,
            format=form,
            dpi=RASTER_DPI,
            metadata=metadata,
            facecolor=ground,
            edgecolor="none",
        )
    return buffer.getvalue()


def _html(text: str) -> HTML:
    from IPython.display import HTML

    return HTML(text)


# Code
# --------------------------------------------------------------------------------------


def source(*functions: Callable[..., Any]) -> Markdown:
    """The source of functions of the package, as highlighted code: the page shows what
    runs, and so does Jupyter.
    """
    texts = (textwrap.dedent(inspect.getsource(each)).strip() for each in functions)
    return prose("```python\n" + "\n\n\n".join(texts) + "\n```")


# Tables
# --------------------------------------------------------------------------------------


def table(
    frame: pd.DataFrame,
    *,
    caption: str,
    digits: int = 3,
    formats: Mapping[str, Callable[[Any], str]] | None = None,
    index: bool = False,
) -> HTML:
    """Show a table that a screen reader can walk and that scrolls sideways on a phone.

    Numbers have `digits` significant figures unless `formats` gives the column a
    function of its own; `index` shows the row index as row headings. Texts, column
    names and `caption` are one line of Markdown each.

    Raises ValueError if the caption is empty.
    """
    if not caption.strip():
        raise ValueError("a table needs a caption")
    shown = frame.reset_index() if index else frame
    columns = [str(name) for name in shown.columns]
    heads = "".join(
        f'<th scope="col"{_side(shown[name])}>{inline(str(name))}</th>'
        for name in shown.columns
    )
    formatters = [
        (formats or {}).get(name, lambda value: number(value, digits))
        for name in columns
    ]
    headings = frame.index.nlevels if index else 0
    rows = "\n".join(
        _row(values, formatters, headings)
        for values in shown.itertuples(index=False, name=None)
    )
    return _html(
        '<figure class="pm-tabular">\n<div class="pm-scroll" tabindex="0"><table '
        'class="pm-table">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n"
        f"<figcaption>{inline(caption)}</figcaption>\n</figure>"
    )


def _side(column: pd.Series[Any]) -> str:
    """Numbers stand flush right, and so does the head of their column."""
    return ' class="pm-number"' if all(_is_number(value) for value in column) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, Real) and math.isnan(value))


def _row(
    values: Iterable[object], formatters: Iterable[Callable[[Any], str]], headings: int
) -> str:
    cells = []
    for position, (value, write) in enumerate(zip(values, formatters, strict=True)):
        shown = write(value) if not _is_missing(value) else number(None)
        text = html.escape(shown) if _is_number(value) else inline(shown)
        side = ' class="pm-number"' if _is_number(value) else ""
        cells.append(
            f'<th scope="row">{text}</th>'
            if position < headings
            else f"<td{side}>{text}</td>"
        )
    return f"<tr>{''.join(cells)}</tr>"


# Claims
# --------------------------------------------------------------------------------------


def badge(verdict: Verdict, *, own: bool = False) -> str:
    """HTML of a verdict: its sign and its words, those of a question of our own with
    `own`.
    """
    sign, style = BADGES[verdict]
    words = OWN_WORDS[verdict] if own else verdict
    return (
        f'<span class="pm-badge {style}"><span aria-hidden="true">{sign}</span> '
        f"{words}</span>"
    )


def terms(pairs: Iterable[tuple[str, str | None]]) -> str:
    """HTML list of the names (HTML) and texts (one line of Markdown) of the pairs that
    have a text.
    """
    items = "".join(
        f"<div><dt>{name}</dt><dd>{inline(text)}</dd></div>"
        for name, text in pairs
        if text
    )
    return f'<dl class="pm-terms simple">{items}</dl>'


def claims_box(claims: Iterable[Claim], *, own: bool = False) -> HTML:
    """What the paper claims and, declared before any result, the rule and the control
    that decide each claim.

    With `own` the claims are questions of this book, and the box says so.
    """
    whose = "What we ask" if own else "What the paper claims"
    label = "Our questions" if own else "Claims of the paper"
    items = "\n".join(
        f'<li class="pm-claim" id="claim-{html.escape(claim.id.lower())}">'
        f"{_statement(claim)}{terms(_declared(claim))}</li>"
        for claim in claims
    )
    return _html(
        f'<section class="pm-box pm-claims" aria-label="{label}">\n'
        f'<p class="pm-box-title">{whose}, and what decides it here</p>\n'
        f"<ol>\n{items}\n</ol>\n</section>"
    )


def _statement(claim: Claim) -> str:
    return (
        f'<p class="pm-statement"><span class="pm-id">{html.escape(claim.id)}</span> '
        f"{inline(claim.statement)} "
        f'<span class="pm-source">{inline(claim.source)}</span></p>'
    )


def _declared(claim: Claim) -> list[tuple[str, str | None]]:
    """What was said of a claim before its result was known."""
    return [
        ("Measured", claim.measure),
        ("Rule", claim.rule),
        ("Control", claim.control),
        ("Published", claim.published),
    ]


def verdict(claim: Claim, results: Results, *, own: bool = False) -> HTML:
    """The verdict on one claim where its evidence stands: the badge, the answer in a
    sentence, and a link to the rule and the numbers in `verdicts`.
    """
    judgement = claim.verdict(results)
    return _html(
        f'<p class="pm-verdict"><a href="#{_anchor(claim)}" class="pm-id">'
        f"{html.escape(claim.id)}</a> {badge(judgement.verdict, own=own)} "
        f"{inline(judgement.answer)}</p>"
    )


def verdicts(claims: Iterable[Claim], results: Results, *, own: bool = False) -> HTML:
    """The verdicts on all claims of a study, each computed by its rule from the
    measured rows: the answer in a sentence, and rule, control and evidence in a fold.
    """
    claims = tuple(claims)
    found = [claim.verdict(results).verdict for claim in claims]
    counts = " ".join(
        f'<span class="pm-count">{found.count(name)} × {badge(name, own=own)}</span>'
        for name in VERDICTS
        if name in found
    )
    items = "\n".join(_verdict_item(claim, results, own) for claim in claims)
    return _html(
        '<section class="pm-box pm-verdicts" aria-label="Verdicts">\n'
        f'<p class="pm-counts">{counts}</p>\n<ol>\n{items}\n</ol>\n</section>'
    )


def _anchor(claim: Claim) -> str:
    return f"verdict-{html.escape(claim.id.lower())}"


def _verdict_item(claim: Claim, results: Results, own: bool) -> str:
    judgement = claim.verdict(results)
    evidence = [*_declared(claim), ("Found", judgement.evidence)]
    return (
        f'<li class="pm-claim" id="{_anchor(claim)}">{_statement(claim)}'
        f'<p class="pm-verdict">{badge(judgement.verdict, own=own)} '
        f"{inline(judgement.answer)}</p>"
        f'<details class="pm-fold"><summary>Rule, control and evidence of '
        f"{html.escape(claim.id)}</summary>{terms(evidence)}</details></li>"
    )


# What stands above everything else
# --------------------------------------------------------------------------------------

IN_SHORT = "in-short"


def opening() -> None:
    """Keep the place at the top of a chapter that `in_short` fills when all is
    measured.
    """
    from IPython.display import display

    waiting = "Run all cells: the answer in short will stand here."
    display(_html(_short(f"<p>{waiting}</p>")), display_id=IN_SHORT)


def in_short(
    sentences: Iterable[str],
    claims: Iterable[Claim],
    results: Results,
    *,
    picture: HTML | None = None,
    own: bool = False,
) -> None:
    """Fill the place of `opening`: a few sentences (one line of Markdown each), a badge
    a claim that leads to its verdict, and the picture that carries the chapter.
    """
    from IPython.display import update_display

    text = " ".join(inline(sentence) for sentence in sentences)
    badges = " ".join(
        f'<a class="pm-short-badge" href="#{_anchor(claim)}">'
        f"{html.escape(claim.id)} "
        f"{badge(claim.verdict(results).verdict, own=own)}</a>"
        for claim in claims
    )
    shown = f"\n{picture.data}" if picture is not None else ""
    body = f'<p>{text}</p>\n<p class="pm-counts">{badges}</p>{shown}'
    update_display(_html(_short(body)), display_id=IN_SHORT)


def _short(body: str) -> str:
    return (
        '<section class="pm-box pm-short" aria-label="In short">\n'
        f'<p class="pm-box-title">In short</p>\n{body}\n</section>'
    )


# Parameters
# --------------------------------------------------------------------------------------


def parameters(values: BaseModel) -> HTML:
    """What each parameter of a run means, which values it can take and which it has
    here, folded away.
    """
    import pandas as pd

    from robustbook.fields import describe, to_text

    rows = [
        {
            "Parameter": f"`{entry.name}`",
            "Here": f"`{to_text(getattr(values, entry.name))}`",
            "Values": ", ".join(part for part in (entry.kind, entry.range) if part),
            "Meaning": entry.help,
        }
        for entry in describe(type(values))
    ]
    listed = table(pd.DataFrame(rows), caption="Parameters of this run")
    return _html(
        '<details class="pm-parameters"><summary>What the parameters mean</summary>\n'
        f"{listed.data}</details>"
    )


# Provenance
# --------------------------------------------------------------------------------------


def by_runner() -> bool:
    """Whether `robustbook` runs this notebook and publishes what it shows."""
    return bool(os.environ.get("ROBUSTBOOK_RECORD"))


def provenance(record: Any) -> HTML:
    """Where the page's numbers come from: a record's parameters, data, code hash,
    versions and device.

    Shows neither times nor paths: they differ from run to run. They are in the record's
    `timing`, or nowhere.
    """
    source = record.provenance
    study, run = html.escape(record.study), html.escape(record.run)
    parameters = [
        (f"<code>{html.escape(name)}</code>", f"`{value}`")
        for name, value in record.parameters.items()
    ]
    data = [
        (html.escape(title), f"`{digest[:12]}`")
        for title, digest in source.data.items()
    ]
    versions = ", ".join(
        f"{name} {version}" for name, version in sorted(source.versions.items())
    )
    machine = [
        ("Hash", f"`{source.hash[:12]}`"),
        ("Versions", versions),
        ("Device", f"{source.device}, {source.threads} threads"),
    ]
    again = study if record.run == "reference" else f"{study} -r {run}"
    said = (
        f"run <code>{run}</code>. The hash covers the code cells, the parameters, the "
        "modules that compute and the data; <code>robustbook status</code> tells "
        f"whether any of them changed since, and <code>robustbook check {again}</code> "
        "runs the study again and compares."
        if by_runner()
        else "<strong>not run by <code>robustbook</code></strong>: cells may differ "
        "from the book's, and nothing was published. The hash covers the parameters, "
        "the modules that compute and the data; "
        f"<code>robustbook run {study}</code> makes a page of the book."
    )
    return _html(
        '<section class="pm-box pm-provenance" aria-label="Provenance">\n'
        '<p class="pm-box-title">Where these numbers come from</p>\n'
        f"<p>Study <code>{study}</code>, {said}</p>\n"
        + _fold("Parameters", parameters)
        + _fold("Data (start of its SHA-256 digest)", data)
        + _fold("Software and machine", machine)
        + "</section>"
    )


def _fold(title: str, pairs: list[tuple[str, str]]) -> str:
    return (
        f"<details><summary>{title}</summary>{terms(pairs)}</details>\n"
        if pairs
        else ""
    )
