"""The chapter's figures: each function draws one Matplotlib figure from measurements or
rows and returns it.

Before them, helpers that word rows: `by_data`, `listed`, `tabled` and
`tabled_dependence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robustbook import page
from robustbook.measure.similarity import stretch
from robustbook.plots import style
from robustbook.results import Metric, Results
from robustbook.studies.saliency_baselines.claims import NEUTRAL
from robustbook.studies.saliency_baselines.measure.judging import METHODS
from robustbook.studies.saliency_baselines.measure.maps import Maps
from robustbook.studies.saliency_baselines.networks import baseline_images, gather

DATA_LOOKS = (
    (style.BLUE, "o"),
    (style.VERMILLION, "s"),
    (style.GREEN, "^"),
    (style.ORANGE, "D"),
    (style.PURPLE, "v"),
)
# Methods without a colour of the book's own share a grey and differ by their dashes.
OTHER_METHODS = {
    "superpixels": "--",
    "meaningful": ":",
    "extremal": "-.",
    "gradient SHAP": (0, (1, 1)),
    "centre": (0, (5, 1)),
}
MEASURE_LABELS = {
    "spearman": "Spearman",
    "ssim": "SSIM",
    "top pixels": "overlap of top pixels",
}
SHORT = {
    "CIFAR-10 (JPEG copy)": "CIFAR-10 (JPEG)",
    "Shapes with a planted patch (drawn)": "Planted patch (drawn)",
}


def short(title: str) -> str:
    """A data set's title where space is scarce."""
    return SHORT.get(title, title)


def by_data(results: Results, name: str, **factors: str) -> dict[str, Metric]:
    """Rows `name`, one a data set, by its title."""
    return {str(row.factors["data"]): row for row in results.select(name, **factors)}


def listed(rows: dict[str, Metric]) -> str:
    """Values with their intervals, each followed by its data set."""
    return ", ".join(f"{page.interval(row)} ({title})" for title, row in rows.items())


def tabled(results: Results, name: str, **factors: str) -> pd.DataFrame:
    """Rows `name` with a column `shown`: the value and its interval."""
    rows = results.select(name, **factors)
    return pd.DataFrame([{**row.factors, "shown": page.interval(row)} for row in rows])


def tabled_dependence(results: Results, titles: Sequence[str]) -> pd.DataFrame:
    """How far maps of two baselines fall below the ceiling, one line a data set: by
    measure, by seed, and how far below 1 they would seem from the same masks.
    """
    lines = []
    for title in titles:
        gaps = {
            MEASURE_LABELS[name]: results.one("baseline gap", data=title, measure=name)
            for name in MEASURE_LABELS
        }
        own = [row.value for row in results.select("network gap", data=title)]
        same = results.one("similarity", data=title, measure="spearman", masks="same")
        ends = (
            " to ".join(page.number(choose(own)) for choose in (min, max))
            if len(own) > 1
            else "one seed"
        )
        shown = {label: page.interval(row) for label, row in gaps.items()}
        lines.append(
            {
                "data": title,
                **shown,
                "Spearman, by seed": ends,
                "1 minus Spearman, same masks": 1 - same.value,
            }
        )
    return pd.DataFrame(lines)


def draw_grid(measured: Maps, image: int = 0, columns: int = 8) -> Figure:
    """One image, its baselines (upper row of a band) and the RISE map that each gives
    (lower row).
    """
    made = baseline_images(measured.task)[:, image]
    tiles = [("image", gather(measured.task).images[image], None)]
    maps = stretch(measured.maps[0, :, image])
    tiles += list(zip(measured.names, made, maps, strict=True))
    bands = -(-len(tiles) // columns)
    figure, axes = pyplot.subplots(
        2 * bands, columns, figsize=(style.FIGURE_WIDTH * 1.15, 2.15 * bands)
    )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    for place in range(len(tiles), bands * columns):
        for ax in axes[
            2 * (place // columns) : 2 * (place // columns) + 2, place % columns
        ]:
            ax.set_axis_off()
    axes[1, 0].set_axis_off()
    for place, (name, pixels, saliency) in enumerate(tiles):
        band, column = divmod(place, columns)
        picture = pixels.permute(1, 2, 0).numpy()
        axes[2 * band, column].imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1)
        axes[2 * band, column].set_title(
            name.replace("neutral from", "neutral,"),
            fontsize=7,
            weight="normal",
            loc="center",
        )
        if saliency is not None:
            axes[2 * band + 1, column].imshow(saliency.numpy(), cmap="viridis")
    return figure


def draw_similarity_matrices(results: Results, titles: Sequence[str]) -> Figure:
    """Spearman's correlation of RISE maps of every pair of baselines; the diagonal is
    the seed-to-seed ceiling.
    """
    figure, axes = pyplot.subplots(
        1,
        len(titles),
        figsize=(style.FIGURE_WIDTH * 1.15, 4.3),
        sharey=True,
        squeeze=False,
    )
    for ax, title in zip(axes[0], titles, strict=True):
        rows = results.select("pair similarity", data=title)
        names = list(dict.fromkeys(str(row.factors["first"]) for row in rows))
        matrix = np.full((len(names), len(names)), np.nan)
        for row in rows:
            place = (
                names.index(str(row.factors["first"])),
                names.index(str(row.factors["second"])),
            )
            matrix[place] = matrix[place[::-1]] = row.value
        drawn = ax.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
        for own in range(len(names)):
            ax.add_patch(
                Rectangle(
                    (own - 0.5, own - 0.5),
                    1,
                    1,
                    fill=False,
                    edgecolor=style.GROUND,
                    linewidth=1.2,
                )
            )
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set_title(short(title), fontsize=10)
        ax.grid(visible=False)
    figure.colorbar(drawn, ax=axes, shrink=0.75, label="Spearman's correlation")
    return figure


def draw_ceilings(results: Results, titles: Sequence[str]) -> Figure:
    """Forest plot of similarity between baselines, from other and from the same masks,
    beside the ceiling.
    """
    figure, axes = pyplot.subplots(
        1, 3, figsize=(style.FIGURE_WIDTH, 0.55 * len(titles) + 1.5), sharey=True
    )
    kinds: tuple[tuple[str, str, dict[str, Any], str, str, float], ...] = (
        ("ceiling: one baseline, other masks", "ceiling", {}, style.BLUE, "o", -0.22),
        (
            "two baselines, other masks",
            "similarity",
            {"masks": "other"},
            style.VERMILLION,
            "D",
            0.0,
        ),
        (
            "two baselines, same masks",
            "similarity",
            {"masks": "same"},
            style.GREY,
            "X",
            0.22,
        ),
    )
    for ax, measure in zip(axes, MEASURE_LABELS, strict=True):
        for label, name, factors, colour, marker, shift in kinds:
            for place, title in enumerate(titles):
                _point(
                    ax,
                    results.one(name, data=title, measure=measure, **factors),
                    place + shift,
                    colour,
                    marker,
                )
            ax.plot([], [], marker, color=colour, label=label)
        ax.set(xlabel=MEASURE_LABELS[measure], xlim=(min(0, ax.get_xlim()[0]), 1))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(titles)), [short(title) for title in titles])
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=9,
    )
    return figure


def _point(
    ax: Axes,
    row: Metric,
    place: float,
    colour: str,
    marker: str,
    *,
    upright: bool = False,
) -> None:
    low, high = (
        (row.value if row.low is None else row.low),
        (row.value if row.high is None else row.high),
    )
    ends, where = [low, high], [place, place]
    ax.plot(*((where, ends) if upright else (ends, where)), color=colour, linewidth=1.4)
    ax.plot(
        *((place, row.value) if upright else (row.value, place)),
        marker,
        color=colour,
        markersize=5,
    )


def draw_neutrality(results: Results, titles: Sequence[str]) -> Figure:
    """How far from uniform a network's answer to each baseline is, one marker a data
    set, logarithmic.
    """
    names = list(
        dict.fromkeys(
            str(row.factors["baseline"]) for row in results.select("neutrality")
        )
    )
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.25 * len(names) + 1.4))
    for (colour, marker), title in zip(DATA_LOOKS, titles, strict=False):
        rows = {
            str(row.factors["baseline"]): row
            for row in results.select("neutrality", data=title)
        }
        places = [names.index(name) for name in rows]
        values = [max(row.value, 1e-5) for row in rows.values()]
        ax.plot(
            values,
            places,
            marker,
            color=colour,
            markersize=5,
            alpha=0.85,
            label=short(title),
        )
    ax.axvline(NEUTRAL, color=style.INK, linestyle="--", linewidth=0.9)
    ax.set(xscale="log", xlabel="KL from the uniform distribution (share of log K)")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    return figure


def draw_bumps(results: Results, title: str) -> Figure:
    """Rank of every method under every metric baseline, MoRF left and LeRF right."""
    figure, axes = pyplot.subplots(
        1, 2, figsize=(style.FIGURE_WIDTH * 1.15, 4.6), sharey=True
    )
    for ax, metric in zip(axes, ("MoRF", "LeRF"), strict=True):
        rows = results.select("method score", data=title, metric=metric)
        names = list(dict.fromkeys(str(row.factors["baseline"]) for row in rows))
        scores = np.array(
            [
                [row.value for row in rows if row.factors["method"] == method]
                for method in METHODS
            ]
        )
        places = (-scores).argsort(0).argsort(0) + 1
        for method, line in zip(METHODS, places, strict=True):
            colour, dashes = _look(method)
            ax.plot(
                range(len(names)),
                line,
                marker="o",
                markersize=3.5,
                linewidth=1.5,
                color=colour,
                linestyle=dashes,
                label=method,
            )
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        ax.set_title(
            f"{metric} "
            f"({'removes the most' if metric == 'MoRF' else 'keeps the most'} "
            "relevant)",
            fontsize=10,
        )
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("rank (1 is best)")
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        fontsize=8,
    )
    return figure


def _look(method: str):  # type: ignore[no-untyped-def]
    if method in OTHER_METHODS:
        return "#8a8a8a", OTHER_METHODS[method]
    return style.colour(method), "-"


def draw_matrices(results: Results, titles: Sequence[str]) -> Figure:
    """LeRF minus MoRF area by generator and metric baseline, less the means of rows and
    columns.
    """
    figure, axes = pyplot.subplots(
        1,
        len(titles),
        figsize=(style.FIGURE_WIDTH * 1.15, 4.3),
        sharey=True,
        squeeze=False,
    )
    found = []
    for title in titles:
        rows = results.select("matrix", data=title)
        names = list(dict.fromkeys(str(row.factors["generator"]) for row in rows))
        values = np.array([row.value for row in rows]).reshape(len(names), len(names))
        values = (
            values
            - values.mean(0, keepdims=True)
            - values.mean(1, keepdims=True)
            + values.mean()
        )
        found.append((title, names, values))
    limit = max(np.abs(values).max() for _, _, values in found)
    for ax, (title, names, values) in zip(axes[0], found, strict=True):
        drawn = ax.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set_title(short(title), fontsize=10)
        ax.set_xlabel("baseline of the metric")
        ax.grid(visible=False)
    axes[0, 0].set_ylabel("baseline of the map")
    figure.colorbar(drawn, ax=axes, shrink=0.75, label="advantage (probability)")
    return figure


def draw_curves(
    results: Results, titles: Sequence[str], pairs: dict[str, Sequence[str]]
) -> Figure:
    """Similarity of maps of two settings against N, with the fitted curves (lines) and
    plateaus (right edge).
    """
    figure, axes = pyplot.subplots(
        1, len(titles), figsize=(style.FIGURE_WIDTH, 3.7), sharey=True, squeeze=False
    )
    for ax, title in zip(axes[0], titles, strict=True):
        for (colour, marker), pair in zip(DATA_LOOKS, pairs[title], strict=False):
            rows = results.select("setting similarity", data=title, pair=pair)
            counts = np.array([float(row.factors["masks"]) for row in rows])
            plateau = results.one("plateau", data=title, pair=pair)
            noise = results.one("noise", data=title, pair=pair).value
            line = np.geomspace(counts[0], 300 * counts[-1], 80)
            equal = " / " not in pair
            ax.plot(
                line,
                plateau.value / (1 + noise / line),
                "-" if equal else "--",
                color=colour,
                linewidth=1.2,
            )
            ax.plot(
                counts,
                [row.value for row in rows],
                marker,
                color=colour,
                markersize=5,
                label=pair,
            )
            _point(ax, plateau, line[-1], colour, marker, upright=True)
        ax.set(xscale="log", xlabel="masks N (right end: plateau)", ylim=(-0.45, 1.08))
        ax.set_title(short(title), fontsize=10)
        ax.legend(fontsize=7.5, loc="lower right")
    axes[0, 0].set_ylabel("Spearman's correlation")
    return figure


def draw_agreement(results: Results, titles: Sequence[str]) -> Figure:
    """Forest plot of how far metrics agree on the methods of an image, beside
    repetitions of one metric.
    """
    kinds = list(
        dict.fromkeys(
            str(row.factors["comparison"]) for row in results.select("metric agreement")
        )
    )
    figure, ax = pyplot.subplots(
        figsize=(style.FIGURE_WIDTH, 0.42 * len(kinds) * max(1, len(titles) / 2) + 1.3)
    )
    for number, ((colour, marker), title) in enumerate(
        zip(DATA_LOOKS, titles, strict=False)
    ):
        for place, kind in enumerate(kinds):
            row = results.one("metric agreement", data=title, comparison=kind)
            _point(
                ax, row, place + 0.2 * (number - (len(titles) - 1) / 2), colour, marker
            )
        ax.plot([], [], marker, color=colour, label=short(title))
    ax.set_yticks(range(len(kinds)), kinds)
    ax.invert_yaxis()
    ax.set(
        xlabel="Spearman's correlation over methods, mean over images",
        xlim=(min(-0.1, ax.get_xlim()[0]), 1.02),
    )
    ax.axvline(0, color=style.INK, linewidth=0.8)
    ax.grid(axis="y", visible=False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_recovery(results: Results, title: str) -> Figure:
    """Overlap with the planted patch by baseline, for RISE and occlusion, and that of
    random maps.
    """
    rows = results.select("recovery", data=title, generator="RISE")
    names = [
        str(row.factors["baseline"]) for row in sorted(rows, key=lambda row: -row.value)
    ]
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.27 * len(names) + 1.3))
    for generator, method, shift in (
        ("RISE", "rise", -0.13),
        ("occlusion", "occlusion", 0.13),
    ):
        for place, name in enumerate(names):
            row = results.one(
                "recovery", data=title, generator=generator, baseline=name
            )
            _point(ax, row, place + shift, style.colour(method), style.marker(method))
        ax.plot(
            [],
            [],
            style.marker(method),
            color=style.colour(method),
            label=style.label(method),
        )
    random = results.one("recovery", data=title, generator="random")
    ax.axvline(
        random.value, color=style.colour("random"), linestyle="--", label="random maps"
    )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="intersection over union with the patch", xlim=(0, 1))
    ax.grid(axis="y", visible=False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
