"""The chapter's figures: each function draws one from measurements or rows, and writes
its caption and alt text.

In the order of the page (`FIGURES`); `hero` and `in_short` stand above everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from robustbook import page
from robustbook.measure.similarity import stretch
from robustbook.page import Kind
from robustbook.plots import interactive, style
from robustbook.results import Metric, Results
from robustbook.studies.saliency_baselines import claims
from robustbook.studies.saliency_baselines.claims import short
from robustbook.studies.saliency_baselines.measure.examples import (
    CHOICES,
    METHODS,
    Example,
)
from robustbook.studies.saliency_baselines.measure.maps import Maps
from robustbook.studies.saliency_baselines.measure.shift import Shift

if TYPE_CHECKING:
    from IPython.display import HTML

FIGURES = (
    "window",
    "two-draws",
    "passes",
    "gaps",
    "neutrality",
    "distance",
    "explore",
    "patch",
    "ranking",
    "matrix",
    "agreement",
    "settings",
)
"""Names of the numbered figures, in the order of the page."""

LOOKS = (
    (style.BLUE, "o"),
    (style.VERMILLION, "s"),
    (style.GREEN, "^"),
    (style.ORANGE, "D"),
    (style.PURPLE, "v"),
    (style.SKY, "P"),
)
ESTIMATOR_LOOKS = {
    ("independent", "plain"): ("plain RISE", style.GREY, "X"),
    ("independent", "centred"): ("centred", style.BLUE, "o"),
    ("balanced", "centred"): ("centred, balanced masks", style.SKY, "P"),
    ("antithetic", "centred"): ("centred, paired masks", style.ORANGE, "s"),
    ("independent", "adjusted"): ("adjusted", style.VERMILLION, "D"),
    ("antithetic", "adjusted"): ("adjusted, paired masks", style.GREEN, "^"),
}


def _shown(
    figure: Figure, name: str, *, alt: str, caption: str, kind: Kind = "plot"
) -> HTML:
    return page.figure(
        figure,
        alt=alt,
        caption=caption,
        kind=kind,
        name=name,
        number=FIGURES.index(name) + 1,
    )


def _picture(ax: Axes, values: Tensor, *, kind: str = "image") -> None:
    """An image (C, H, W) or a map (H, W), without axes."""
    if kind == "map":
        ax.imshow(stretch(values[None].detach())[0].numpy(), cmap="viridis")
    else:
        shown = values.detach().permute(1, 2, 0).numpy().squeeze()
        ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)


def _titles(results: Results, name: str, **factors: Any) -> list[str]:
    rows = results.select(name, **factors)
    return list(dict.fromkeys(str(row.factors["data"]) for row in rows))


def _point(ax: Axes, row: Metric, place: float, colour: str, marker: str) -> None:
    low, high = (row.value if end is None else end for end in (row.low, row.high))
    ax.plot([low, high], [place, place], color=colour, linewidth=1.4)
    ax.plot(row.value, place, marker, color=colour, markersize=5)


def _handles(pairs: Sequence[tuple[str, str, str]]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=label)
        for label, colour, marker in pairs
    ]


# Above everything else
# --------------------------------------------------------------------------------------


def in_short(results: Results) -> list[str]:
    """What the chapter found, in four sentences."""
    gaps = results.select("baseline gap", estimator="adjusted", measure="spearman")
    widest, least = (choose(gaps, key=lambda row: row.value) for choose in (max, min))
    found = {claim.id: claim.verdict(results) for claim in claims.CLAIMS}
    plain = [
        results.one(
            "ceiling", data=row.factors["data"], estimator=name, measure="spearman"
        )
        for row in (widest,)
        for name in ("plain", "adjusted")
    ]
    return [
        "Cover parts of an image, watch the prediction, and you get a map of what it "
        "rests on. What you cover with changes the map: agreement of two maps "
        f"falls {least.value:.2f} to {widest.value:.2f} below what chance alone does.",
        f"Most of what plain RISE shows is chance: on {short(widest.factors['data'])} "
        f"two draws of masks agree to {plain[0].value:.2f}, and, from the same passes, "
        f"to {plain[1].value:.2f} once the avoidable noise is taken off.",
        _verdict_in_short(
            found["C4.4"].verdict,
            "A map scores best when judged with its own baseline, so a score says "
            "little without its baseline.",
            "Whether a map gains from being judged with its own baseline depends on "
            "the data.",
        ),
        _verdict_in_short(
            found["C4.8"].verdict,
            "The more the covered image differs from real ones, the more two maps "
            "diverge.",
            "That covered images look unlike real ones does not, by itself, explain "
            "the differences everywhere.",
        ),
    ]


def _verdict_in_short(verdict: str, held: str, other: str) -> str:
    return held if verdict in ("reproduced", "partly") else other


def hero(shown: Sequence[Example]) -> HTML:
    """One image under eight baselines, and the map that each gives."""
    columns = -(-len(shown) // 2)
    size = (style.FIGURE_WIDTH, 4.3)
    figure, axes = pyplot.subplots(4, columns + 1, figsize=size)
    for ax in axes.flat:
        ax.set_axis_off()
    _picture(axes[0, 0], shown[0].image)
    axes[0, 0].set_title("image", loc="center", weight="normal")
    for place, each in enumerate(shown):
        band, column = divmod(place, columns)
        above, below = axes[2 * band : 2 * band + 2, column + 1]
        _picture(above, each.covering)
        name = each.baseline.replace("training ", "").replace("uniform ", "")
        above.set_title(name, loc="center", weight="normal")
        _picture(below, each.saliency, kind="map")
    agreed = [each.ceiling for each in shown if each.ceiling is not None]
    return page.figure(
        figure,
        kind="picture",
        alt="One image, eight images to cover it with, and the saliency map that each "
        "of them gives.",
        caption="One image, one network, the same masks: only what covers "
        "differs, and so do the maps (below each). Two draws of masks agree to "
        f"{min(agreed):.2f} or more, for each.",
        name="hero",
    )


# See it once
# --------------------------------------------------------------------------------------


def windows(image: Tensor, maps: dict[str, Tensor]) -> HTML:
    """An image (C, H, W) and its occlusion maps (H, W) by what the window shows."""
    figure, axes = pyplot.subplots(1, 1 + len(maps), figsize=(style.FIGURE_WIDTH, 2.0))
    _picture(axes[0], image)
    axes[0].set_title("image")
    for ax, (name, each) in zip(axes[1:], maps.items(), strict=True):
        _picture(ax, each, kind="map")
        ax.set_title(name)
    return _shown(
        figure,
        "window",
        kind="picture",
        alt="A drawn shape and the maps of a sliding window of different colours.",
        caption="Bright: where covering hurts the answer most. The window is the "
        "same, its colour is not.",
    )


def two_draws(maps: dict[str, Sequence[Tensor]]) -> HTML:
    """Maps (H, W) of two draws of masks by estimator."""
    from robustbook.measure.similarity import spearman

    figure, axes = pyplot.subplots(1, 2 * len(maps), figsize=(style.FIGURE_WIDTH, 1.9))
    agreed = {
        name: float(spearman(pair[0][None], pair[1][None]))
        for name, pair in maps.items()
    }
    places = iter(axes)
    for name, pair in maps.items():
        for draw, each in enumerate(pair, start=1):
            ax = next(places)
            _picture(ax, each, kind="map")
            ax.set_title(f"{name}, {draw}")
    said = " and ".join(f"{value:.2f} ({name})" for name, value in agreed.items())
    return _shown(
        figure,
        "two-draws",
        kind="picture",
        alt="Two RISE maps of one image from two draws of masks, as they are and "
        "adjusted.",
        caption="One image, one baseline, two draws of masks. The maps of the two "
        f"draws correlate to {said}.",
    )


# Maps of two baselines
# --------------------------------------------------------------------------------------


def passes(results: Results) -> HTML:
    """Agreement of two draws of masks against the number of masks, by estimator."""
    titles = _titles(results, "ceiling at passes")
    columns = min(2, len(titles))
    rows = -(-len(titles) // columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(style.FIGURE_WIDTH, 2.1 * rows + 1.2),
        sharey=True,
        squeeze=False,
    )
    for ax in axes.flat[len(titles) :]:
        ax.set_axis_off()
    for ax, title in zip(axes.flat, titles, strict=False):
        for (design, estimator), (_, colour, marker) in ESTIMATOR_LOOKS.items():
            table = results.table(
                "ceiling at passes", data=title, design=design, estimator=estimator
            )
            if len(table):
                style_of = {"color": colour, "marker": marker, "markersize": 4}
                ax.plot(table["masks"], table["value"], linewidth=1.4, **style_of)
        ax.axhline(claims.ceiling_limit(title), color=style.INK, linewidth=0.8)
        ax.set(xscale="log", ylim=(0, 1.02))
        ax.set_title(short(title))
    figure.supxlabel("masks, one pass each")
    figure.supylabel("agreement of two draws (ρ)")
    figure.legend(
        handles=_handles(list(ESTIMATOR_LOOKS.values())),
        loc="outside lower center",
        ncols=2,
    )
    best = results.select(
        "passes to the plain ceiling", design="independent", estimator="adjusted"
    )
    said = ", ".join(f"{row.value:.0%} ({short(row.factors['data'])})" for row in best)
    return _shown(
        figure,
        "passes",
        alt="Curves of the agreement of two draws of masks against the number of "
        "masks, one panel a data set, one curve an estimator.",
        caption="To repeat itself as well as plain RISE does with all its masks, the "
        f"adjusted map takes this share of them, or less: {said}. Line: what the rule "
        "asks for.",
    )


def gaps(results: Results) -> HTML:
    """Similarity of maps of two baselines beside the ceiling, for two measures."""
    titles = _titles(results, "ceiling")
    figure, axes = pyplot.subplots(
        1, 2, figsize=(style.FIGURE_WIDTH, 0.5 * len(titles) + 1.4), sharey=True
    )
    kinds = (
        ("one baseline, two draws (ceiling)", "ceiling", style.BLUE, "o", -0.15),
        ("two baselines", "similarity", style.VERMILLION, "D", 0.15),
    )
    for ax, measure in zip(axes, claims.DECIDING, strict=True):
        for _, name, colour, marker, shift in kinds:
            factors = {"masks": "other"} if name == "similarity" else {}
            for place, title in enumerate(titles):
                row = results.one(
                    name, data=title, measure=measure, estimator="adjusted", **factors
                )
                _point(ax, row, place + shift, colour, marker)
        ax.set(xlabel=claims.MEASURES[measure], xlim=(min(0, ax.get_xlim()[0]), 1.02))
        ax.grid(visible=False, axis="y")
    axes[0].set_yticks(range(len(titles)), [short(title) for title in titles])
    axes[0].invert_yaxis()
    figure.legend(
        handles=_handles([(kind[0], kind[2], kind[3]) for kind in kinds]),
        loc="outside lower center",
        ncols=2,
    )
    rows = results.select("baseline gap", estimator="adjusted", measure="spearman")
    widest = max(rows, key=lambda row: row.value)
    retrained = results.select("retraining gap", data=widest.factors["data"])
    than = (
        f" Another training makes a gap of {retrained[0].value:.2f} there."
        if retrained
        else ""
    )
    return _shown(
        figure,
        "gaps",
        alt="Points with intervals, a row a data set: similarity of maps of one "
        "baseline and of two, by two measures.",
        caption="What lies between blue and orange is due to the baseline. It is most "
        f"on {short(widest.factors['data'])}: {widest.value:.2f}.{than}",
    )


def neutrality(results: Results) -> HTML:
    """Gap of neutral pairs beside that of all pairs, in both readings of neutral."""
    titles = _titles(results, "neutral gap")
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.5 * len(titles) + 1.4))
    looks = {
        "all pairs": (style.GREY, "X", -0.22),
        "near-uniform": (style.GREEN, "^", 0.0),
        "low for the class": (style.PURPLE, "v", 0.22),
    }
    for place, title in enumerate(titles):
        every = results.one(
            "baseline gap", data=title, estimator="adjusted", measure="spearman"
        )
        rows = [("all pairs", every)]
        rows += [
            (str(row.factors["reading"]), row)
            for row in results.select("neutral gap", data=title)
        ]
        for name, row in rows:
            colour, marker, shift = looks[name]
            _point(ax, row, place + shift, colour, marker)
    ax.axvline(claims.GAP, color=style.INK, linestyle=":", linewidth=1)
    ax.axvline(0, color=style.INK, linewidth=0.8)
    ax.set_yticks(range(len(titles)), [short(title) for title in titles])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("ceiling minus similarity (Spearman)")
    figure.legend(
        handles=_handles([(name, *look[:2]) for name, look in looks.items()]),
        loc="outside lower center",
        ncols=2,
    )
    return _shown(
        figure,
        "neutrality",
        alt="Points with intervals: the gap of all pairs of baselines and of neutral "
        "pairs in two readings, a row a data set.",
        caption="If neutral baselines did not matter, green and purple would lie at "
        "zero. Dotted: the smallest gap that matters. Intervals over seeds.",
    )


def distance(
    results: Results, measured: Sequence[Maps], shifts: Sequence[Shift]
) -> HTML:
    """Gap of each pair of baselines against the distance of both from the data."""
    titles = _titles(results, "divergence explained")
    rows = -(-len(titles) // 2)
    size = (style.FIGURE_WIDTH, 2.1 * rows + 0.4)
    figure, axes = pyplot.subplots(rows, 2, figsize=size, sharey=True, squeeze=False)
    for ax in axes.flat[len(titles) :]:
        ax.set_axis_off()
    for ax, title in zip(axes.flat, titles, strict=False):
        group = [
            (one, shift)
            for one, shift in zip(measured, shifts, strict=True)
            if one.title == title
        ]
        first, second = np.triu_indices(len(group[0][0].names), 1)
        far = np.mean([shift.distance.mean(1) for _, shift in group], axis=0)
        found = np.mean(
            [one.gaps("adjusted", "spearman").mean(1) for one, _ in group], axis=0
        )
        x = far[first] + far[second]
        ax.plot(x, found, "o", color=style.BLUE, markersize=3, alpha=0.6)
        ax.set_title(short(title))
    figure.supxlabel("distance of both from the data (unseen images: 2)")
    figure.supylabel("gap (Spearman)")
    best = max(
        results.select("divergence explained", by="distance"),
        key=lambda row: row.value,
    )
    return _shown(
        figure,
        "distance",
        alt="Scatter plots, one a data set, a point a pair of baselines: the gap "
        "between their maps against the distance of covered images from the data.",
        caption="A point is a pair of baselines. Distance predicts most of the gap's "
        f"variance on {short(best.factors['data'])}: {best.value:.2f} "
        f"({best.low:.2f} to {best.high:.2f}).",
    )


# The view that a reader moves
# --------------------------------------------------------------------------------------


def explore(shown: Sequence[Example]) -> interactive.View:
    """Map and removal curve of an image for a baseline and a method."""
    import altair as alt

    titles = list(dict.fromkeys(short(each.title) for each in shown))
    clean: dict[str, dict[str, Any]] = {}
    covers: dict[tuple[str, str], dict[str, Any]] = {}
    found: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for each in shown:
        title, where = short(each.title), {"image": short(each.title)}
        clean[title] = {**where, "clean": interactive.image_uri(each.image)}
        where["baseline"] = each.baseline
        cover = interactive.image_uri(each.covering)
        covers[title, each.baseline] = {**where, "cover": cover}
        where["method"] = each.method
        said = (
            f"two draws of masks agree to {each.ceiling:.2f}"
            if each.ceiling is not None
            else "no random masks"
        )
        map_uri = interactive.image_uri(_coloured(each.saliency))
        found.append({**where, "said": said, "map": map_uri})
        removed = np.linspace(0, 1, len(each.curve))
        points += [
            {**where, "removed": round(float(x), 3), "probability": round(float(y), 3)}
            for x, y in zip(removed, each.curve, strict=True)
        ]
    choosers = [
        interactive.chooser("image", titles, label="Image"),
        interactive.chooser("baseline", CHOICES, label="Baseline"),
        interactive.chooser("method", METHODS, label="Method"),
    ]
    picked = [interactive.chosen(each) for each in choosers]

    def chart(rows: Sequence[dict[str, Any]], rules: int = 3, **size: Any) -> Any:
        drawn = alt.Chart(pd.DataFrame(rows), **size)
        for rule in picked[:rules]:
            drawn = drawn.transform_filter(rule)
        return drawn

    columns = [
        interactive.pictures(chart(rows, rules, title=title), name, size=105)
        for rows, rules, name, title in (
            (list(clean.values()), 1, "clean", "image"),
            (list(covers.values()), 2, "cover", "cover"),
            (found, 3, "map", "map"),
        )
    ]
    text = chart(found, width=210, height=22).mark_text(fontSize=13)
    curve = (
        chart(points, width=300, height=130)
        .mark_line(color=style.VERMILLION)
        .encode(
            x=alt.X("removed:Q", title="share removed, most salient first"),
            y=alt.Y("probability:Q", title="probability").scale(domain=[0, 1]),
        )
    )
    whole = alt.vconcat(alt.hconcat(*columns), text.encode(text="said:N"), curve)
    return interactive.show(
        whole.add_params(*choosers),
        fallback=_still(shown),
        name="explore",
        number=FIGURES.index("explore") + 1,
        alt="An image, what covers it, the saliency map and the curve of the "
        "probability while pixels are removed, for choices of the reader.",
        caption="Choose what is explained, what covers, and how. Both the map and the "
        "curve that judges it use the chosen baseline. Differences smaller than what "
        "two draws of masks leave are noise.",
    )


def _coloured(saliency: Tensor) -> np.ndarray:
    values = stretch(saliency[None].detach())[0].numpy()
    found: np.ndarray = colormaps["viridis"](values)[..., :3].transpose(2, 0, 1)
    return found


def _still(shown: Sequence[Example]) -> Figure:
    """The same as a picture: maps of the first image, a row a method."""
    mine = [each for each in shown if each.title == shown[0].title]
    size = (style.FIGURE_WIDTH, 3.2)
    figure, axes = pyplot.subplots(len(METHODS), len(CHOICES), figsize=size)
    for row, method in zip(axes, METHODS, strict=True):
        for ax, name in zip(row, CHOICES, strict=True):
            each = next(
                one for one in mine if (one.method, one.baseline) == (method, name)
            )
            _picture(ax, each.saliency, kind="map")
            if method == METHODS[0]:
                ax.set_title(name.replace(" ", "\n"), loc="center", weight="normal")
    return figure


# Truth and judges
# --------------------------------------------------------------------------------------


def patch(results: Results) -> HTML:
    """Overlap with the planted patch by baseline, for RISE and occlusion, and that of
    random maps.
    """
    title = next(
        str(row.factors["data"])
        for row in results.select("recovery", generator="random")
        if "planted" in str(row.factors["data"])
    )
    rows = results.select("recovery", data=title, generator="RISE")
    names = [
        str(row.factors["baseline"]) for row in sorted(rows, key=lambda row: -row.value)
    ]
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.25 * len(names) + 1.3))
    looks = {"RISE": ("rise", -0.13), "occlusion": ("occlusion", 0.13)}
    for generator, (method, shift) in looks.items():
        for place, name in enumerate(names):
            row = results.one(
                "recovery", data=title, generator=generator, baseline=name
            )
            _point(ax, row, place + shift, style.colour(method), style.marker(method))
    random = results.one("recovery", data=title, generator="random")
    ax.axvline(random.value, color=style.GREY, linestyle="--")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="intersection over union with the patch", xlim=(0, 1))
    figure.legend(
        handles=_handles(
            [
                (style.label(method), style.colour(method), style.marker(method))
                for method, _ in looks.values()
            ]
        ),
        loc="outside lower center",
        ncols=2,
    )
    best, worst = (
        results.one("recovery", data=title, generator="RISE", baseline=name)
        for name in (names[0], names[-1])
    )
    return _shown(
        figure,
        "patch",
        alt="Overlap of maps with the planted patch, a row a baseline, with the level "
        "of random maps.",
        caption=f"RISE finds the patch best with {names[0]} ({best.value:.2f}) and "
        f"worst with {names[-1]} ({worst.value:.2f}). Dashed: random maps. “Another” "
        "shows a patch itself and is left out of the rule.",
    )


def ranking(results: Results) -> HTML:
    """Rank of every method under every metric baseline, and by ROAD."""
    title = _titles(results, "method score")[0]
    figure, axes = pyplot.subplots(2, 1, figsize=(style.FIGURE_WIDTH, 8.2), sharex=True)
    order: list[str] = []
    for ax, metric in zip(axes, ("MoRF", "LeRF"), strict=True):
        table = results.table("method score", data=title, metric=metric)
        scores = table.pivot(index="method", columns="baseline", values="value")
        places = scores.rank(ascending=False)
        order = order or list(places.mean(1).sort_values().index)
        columns = [name for name in dict.fromkeys(table["baseline"])]
        drawn = ax.imshow(
            places.loc[order, columns].to_numpy(),
            cmap="viridis_r",
            aspect="auto",
            vmin=1,
        )
        ax.set_xticks(range(len(columns)), columns, rotation=90)
        ax.set_yticks(range(len(order)), order)
        ax.grid(visible=False)
        ax.set_title(metric)
    figure.colorbar(drawn, ax=axes, label="rank (1 is best)", shrink=0.75)
    flips = {
        metric: results.one(
            "best method differs", data=title, metric=metric, pairs="all"
        ).value
        for metric in ("MoRF", "LeRF")
    }
    return _shown(
        figure,
        "ranking",
        alt="Two colour tables of ranks: a row a saliency method, a column a baseline "
        "of the metric, ROAD last.",
        caption=f"Ranks on {short(title)}. Rows of one colour would mean that the "
        "metric's baseline does not matter. The best method differs in "
        f"{flips['MoRF']:.0%} (MoRF) and {flips['LeRF']:.0%} (LeRF) of the pairs of "
        "baselines.",
    )


def matrix(results: Results) -> HTML:
    """LeRF minus MoRF area by generator and metric baseline, less the means of rows and
    columns.
    """
    title = max(
        _titles(results, "matrix"),
        key=lambda title: len(results.select("matrix", data=title)),
    )
    table = results.table("matrix", data=title)
    names = list(dict.fromkeys(table["generator"]))
    values = table.pivot(index="generator", columns="metric", values="value")
    values = values.loc[names, names].to_numpy()
    means = values.mean(0, keepdims=True) + values.mean(1, keepdims=True)
    values = values - means + values.mean()
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 5.0))
    limit = float(np.abs(values).max())
    drawn = ax.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="baseline of the metric", ylabel="baseline of the map")
    ax.set_title(short(title))
    ax.grid(visible=False)
    figure.colorbar(drawn, ax=ax, shrink=0.6, label="advantage")
    rows = results.select("diagonal advantage", maps="RISE")
    least = min(rows, key=lambda row: row.value)
    chance = results.one(
        "diagonal advantage", maps="random", data=least.factors["data"]
    )
    return _shown(
        figure,
        "matrix",
        alt="A colour table: baseline of the map by baseline of the metric; the "
        "diagonal stands out.",
        caption="Orange on the diagonal: a map does best with its own baseline. The "
        f"advantage is {least.value:.2f} or more, that of random maps "
        f"{chance.value:.2f}.",
    )


def agreement(results: Results) -> HTML:
    """How far metrics agree on the methods of an image, beside repetitions of one."""
    titles = _titles(results, "metric agreement")
    table = results.table("metric agreement")
    kinds = list(dict.fromkeys(table["comparison"]))
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.5 * len(kinds) + 1.4))
    for number, title in enumerate(titles):
        colour, marker = LOOKS[number]
        for place, kind in enumerate(kinds):
            row = results.one("metric agreement", data=title, comparison=kind)
            shift = 0.16 * (number - (len(titles) - 1) / 2)
            _point(ax, row, place + shift, colour, marker)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.invert_yaxis()
    ax.axvline(0, color=style.INK, linewidth=0.8)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Spearman's ρ over methods, mean over images")
    figure.legend(
        handles=_handles(
            [(short(title), *LOOKS[place]) for place, title in enumerate(titles)]
        ),
        loc="outside lower center",
        ncols=2,
    )
    own, road = (
        np.mean(
            [row.value for row in results.select("metric agreement", comparison=name)]
        )
        for name in ("MoRF and LeRF", "MoRF and LeRF by ROAD")
    )
    return _shown(
        figure,
        "agreement",
        alt="Agreement of pairs of metrics and of repetitions of a metric over "
        "methods, with intervals.",
        caption=f"MoRF and LeRF agree to {own:.2f} with one baseline and to "
        f"{road:.2f} by ROAD (means over data sets); the two lower rows say how far "
        "one metric agrees with itself."
        if kinds[-1] in ("other step sizes", "another draw of noise")
        else f"MoRF and LeRF agree to {own:.2f} with one baseline and to {road:.2f} by "
        "ROAD (means over data sets).",
    )


def settings(results: Results) -> HTML:
    """Gap of maps of two settings against the number of masks."""
    table = results.table("setting gap")
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    groups = list(table.groupby(["data", "varied"], sort=False))
    for (colour, marker), ((title, varied), rows) in zip(LOOKS, groups, strict=False):
        label = f"{short(title)}, other {varied}"
        ax.plot(rows["masks"], rows["value"], marker=marker, color=colour, label=label)
        ends = rows["low"], rows["high"]
        ax.fill_between(rows["masks"], *ends, color=colour, alpha=0.13, linewidth=0)
    ax.axhline(claims.GAP, color=style.INK, linestyle=":", linewidth=1)
    ax.axhline(0, color=style.INK, linewidth=0.8)
    ax.set(xscale="log", xlabel="masks N", ylabel="ceiling minus similarity")
    ax.legend()
    last = table[table["masks"] == table["masks"].max()]
    low, high = last["value"].min(), last["value"].max()
    return _shown(
        figure,
        "settings",
        alt="Curves of the gap between maps of two settings against the number of "
        "masks, with bands.",
        caption="A gap that were noise would sink to zero. With all masks it is "
        f"{low:.2f} to {high:.2f}. Dotted: the smallest that matters; bands over "
        "seeds.",
    )


# Tables
# --------------------------------------------------------------------------------------


def overview(results: Results) -> pd.DataFrame:
    """One line a data set: accuracy, and ceilings and gaps by estimator."""
    lines = []
    for title in _titles(results, "accuracy"):
        accuracy = results.one("accuracy", data=title)
        line = {"data": short(title), "accuracy": f"{accuracy.value:.2f}"}
        for name in ("ceiling", "baseline gap"):
            for estimator in ("plain", "centred", "adjusted"):
                row = results.one(
                    name, data=title, estimator=estimator, measure="spearman"
                )
                line[f"{name.replace('baseline ', '')}, {estimator}"] = (
                    f"{row.value:.2f}"
                )
        lines.append(line)
    return pd.DataFrame(lines)


def checks(results: Results) -> pd.DataFrame:
    """One line a method: infidelity by baseline, sensitivity, and similarity after the
    last and after all layers were randomised, on the first data set.
    """
    title = _titles(results, "sensitivity")[0]
    lines = []
    for row in results.select("sensitivity", data=title):
        method = row.factors["method"]
        wrong = results.select("infidelity", data=title, method=method)
        kept = results.select("similarity after randomising", data=title, method=method)
        line = {"method": str(method)}
        for each in wrong:
            line[f"infidelity, {each.factors['baseline']}"] = f"{each.value:.3f}"
        line["sensitivity"] = f"{row.value:.2f}"
        line["last layer"] = f"{kept[0].value:.2f}"
        line["all layers"] = f"{kept[-1].value:.2f}"
        lines.append(line)
    return pd.DataFrame(lines)
