"""The chapter's figures: each function draws one Matplotlib figure from measurements or
rows and returns it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from robustbook.plots import style
from robustbook.results import Metric, Results
from robustbook.studies.taylor_pruning.measure.agreement import ELSEWHERE, Agreement
from robustbook.studies.taylor_pruning.measure.curves import AGAIN, SUBSET_WAYS
from robustbook.studies.taylor_pruning.measure.tuning import STREAM_WAYS

LABELS = {
    "taylor-fo": "Taylor, first order",
    "taylor-fo whole set": "… gradient of all images",
    "taylor-fo-fg": "… per example (FG)",
    "taylor-fo by layer": "… normalised by layer",
    "taylor-so": "Taylor, second order",
    "taylor-so row": "… full Hessian row",
    "obd": "optimal brain damage",
    "weight taylor": "weights, sum of squares",
    "weight taylor sum": "weights, square of sum",
    "taylor output": "Taylor output (2017)",
    "taylor output by layer": "… normalised by layer ",
    "bn taylor": "Taylor at the batch-norm",
    "bn-scale": "batch-norm scale",
    "weight-norm": "weight norm",
    "weight-norm by layer": "weight norm by layer",
    "random": "random",
    AGAIN: "Taylor, measured again",
    ELSEWHERE: "oracle, other images",
}
LAYERS = {
    "conv1": "first convolution",
    "conv2": "second convolution",
    "linear1": "first linear",
    "linear2": "second linear",
}
CURVE_LOOKS = {
    "taylor-fo by layer": ("taylor-fo", "--"),
    "weight-norm by layer": ("weight-norm", "--"),
}
SUBSET_LOOKS = {
    "best subset": (style.INK, ":", None),
    "greedy oracle": (style.colour("oracle"), "-", style.marker("oracle")),
    AGAIN: (style.colour("taylor-fo"), "-", style.marker("taylor-fo")),
    "taylor-fo": (style.colour("taylor-fo"), "--", style.marker("taylor-fo")),
    "weight-norm": (style.colour("weight-norm"), "-", style.marker("weight-norm")),
    "random": (style.colour("random"), "-", style.marker("random")),
}


def draw_scatter(agreement: Agreement, criterion: str = "taylor-fo") -> Figure:
    """Predicted against true importance of every unit of one network, one panel a
    layer, both on logarithmic axes.
    """
    figure, axes = pyplot.subplots(
        1,
        len(agreement.layers),
        figsize=(style.FIGURE_WIDTH, 2.5),
        sharex=True,
        sharey=True,
    )
    floor = 1e-12
    for ax, layer in zip(axes, agreement.layers, strict=True):
        chosen = agreement.chosen(layer)
        predicted = agreement.scores[criterion][chosen].clamp_min(floor)
        true = agreement.oracle[chosen].clamp_min(floor)
        ax.scatter(
            predicted,
            true,
            s=12,
            color=style.colour(criterion),
            alpha=0.7,
            linewidths=0,
        )
        ax.plot(
            [floor, 10], [floor, 10], color=style.INK, linewidth=0.8, linestyle="--"
        )
        ax.set(xscale="log", yscale="log")
        ax.set_title(
            f"{LAYERS.get(layer, layer)}\n({agreement.layers[layer]} units)",
            fontsize=9.5,
        )
        ax.tick_params(labelsize=8)
    figure.supxlabel("predicted importance (nats²)", fontsize=10)
    axes[0].set_ylabel("true importance (nats²)")
    return figure


def draw_correlations(
    results: Results, network: str, data: Sequence[str], scope: str = "all layers"
) -> Figure:
    """Forest plot of each criterion's correlation with the oracle: Spearman left,
    Pearson right, one colour a data set.
    """
    names = [
        str(row.factors["criterion"])
        for row in _rows(results, network, data[0], "spearman", scope)
    ]
    names = [name for name in LABELS if name in names]
    figure, axes = pyplot.subplots(
        1,
        2,
        figsize=(style.FIGURE_WIDTH, 0.27 * len(names) + 1.1 + 0.3 * (len(data) > 1)),
        sharey=True,
    )
    looks = list(
        zip(data, (style.BLUE, style.ORANGE), ("o", "s"), (-0.14, 0.14), strict=False)
    )
    for ax, coefficient in zip(axes, ("spearman", "pearson"), strict=True):
        for name, colour, marker, shift in looks:
            rows = {
                row.factors["criterion"]: row
                for row in _rows(results, network, name, coefficient, scope)
            }
            for place, criterion in enumerate(names):
                _point(
                    ax,
                    rows[criterion],
                    place + (shift if len(data) > 1 else 0),
                    colour,
                    marker,
                )
            ax.plot([], [], marker, color=colour, label=name)
        ax.axvline(0, color=style.INK, linewidth=0.8)
        ax.set(xlabel=f"{coefficient.capitalize()}'s correlation", xlim=(-0.45, 1.05))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), [LABELS[name] for name in names])
    axes[0].invert_yaxis()
    if len(data) > 1:
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=len(data),
        )
    return figure


def _rows(
    results: Results, network: str, data: str, coefficient: str, scope: str
) -> list[Metric]:
    return results.select(
        "correlation", network=network, data=data, coefficient=coefficient, scope=scope
    )


def _point(ax: Axes, row: Metric, place: float, colour: str, marker: str) -> None:
    low, high = (
        (row.value if row.low is None else row.low),
        (row.value if row.high is None else row.high),
    )
    ax.plot([max(low, -1), min(high, 1)], [place, place], color=colour, linewidth=1.4)
    ax.plot(row.value, place, marker, color=colour, markersize=5)


def draw_curves(results: Results, criteria: Sequence[str]) -> Figure:
    """Mean loss against units removed without fine-tuning, on the images that were
    scored (left) and on test images.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.6), sharey=True)
    for ax, images, title in zip(
        axes, ("scored", "test"), ("images scored", "test images"), strict=True
    ):
        for name in criteria:
            rows = results.select("pruned loss", criterion=name, images=images)
            look, dashes = CURVE_LOOKS.get(name, (name, "-"))
            x = [int(row.factors["removed"]) for row in rows]
            ax.plot(
                x,
                [row.value for row in rows],
                dashes,
                color=style.colour(look),
                label=_label(name),
            )
            if name in ("oracle", "taylor-fo", "weight-norm", "random"):
                low, high = (
                    [max(row.low or 0, 1e-4) for row in rows],
                    [row.high or 0 for row in rows],
                )
                ax.fill_between(
                    x, low, high, color=style.colour(look), alpha=0.13, linewidth=0
                )
        ax.set(title=title, xlabel="units removed")
        _plain_logarithmic(ax)
    axes[0].set_ylim(
        bottom=0.5
        * min(row.value for row in results.select("pruned loss", images="scored"))
    )
    axes[0].set_ylabel("mean loss (nats)")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    return figure


def _plain_logarithmic(ax: Axes) -> None:
    """A logarithmic axis of losses whose labels are plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _label(name: str) -> str:
    if name in CURVE_LOOKS:
        return f"{style.label(CURVE_LOOKS[name][0])}, by layer"
    return style.label(name)


def draw_subsets(results: Results) -> Figure:
    """Loss against units removed from the first layer, for every way of choosing them,
    down to the best of all subsets.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.4))
    for way in SUBSET_WAYS:
        rows = results.select("subset loss", way=way)
        colour, dashes, marker = SUBSET_LOOKS[way]
        x = [row.factors["removed"] for row in rows]
        label = (
            "Taylor, scores taken once" if way == "taylor-fo" else LABELS.get(way, way)
        )
        ax.plot(
            x,
            [row.value for row in rows],
            dashes,
            color=colour,
            marker=marker,
            markersize=4,
            label=label,
        )
    ax.set(
        xlabel="filters removed from the first convolution, of 16",
        ylabel="mean loss (nats)",
    )
    _plain_logarithmic(ax)
    ax.legend()
    return figure


def draw_tuned(results: Results) -> Figure:
    """Test accuracy after pruning and tuning, one row a way of pruning, with 95 %
    intervals over networks.
    """
    rows = results.select("tuned accuracy")
    return _ways(
        rows, "test accuracy at equal units (and mini-batches, but for “from scratch”)"
    )


def _ways(rows: Sequence[Metric], label: str) -> Figure:
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.32 * len(rows) + 1.0))
    for place, row in enumerate(rows):
        _point(
            ax,
            row,
            place,
            style.GREY if "random" in str(row.factors["way"]) else style.BLUE,
            "o",
        )
    ax.set_yticks(range(len(rows)), [str(row.factors["way"]) for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(label)
    ax.grid(axis="y", visible=False)
    return figure


COLOURS = (style.VERMILLION, style.BLUE, style.GREY, style.OCHRE)
STREAM_LOOKS = {
    "full": (style.INK, "*"),
    **dict(zip(STREAM_WAYS, zip(COLOURS, "DoXs", strict=True), strict=True)),
}
VGG_LOOKS = {
    "full": (style.INK, "*"),
    "half, Taylor": (style.VERMILLION, "D"),
    "half, random": (style.GREY, "X"),
    "quarter, Taylor": (style.VERMILLION, "d"),
    "quarter, random": (style.GREY, "x"),
}


def draw_trade_off(results: Results) -> Figure:
    """Test accuracy against multiply-adds of the PreAct-ResNet (left) and the VGG-like
    net (right), by way of pruning.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 4.3), sharey=True)
    networks = (
        ("PreAct-ResNet", "stream", STREAM_LOOKS),
        ("VGG-like net", "vgg", VGG_LOOKS),
    )
    for ax, (title, network, looks) in zip(axes, networks, strict=True):
        for shift, (way, (colour, marker)) in enumerate(looks.items()):
            accuracy, adds = (
                results.one(f"{network} {name}", way=way)
                for name in ("accuracy", "multiply-adds")
            )
            x = adds.value / 1e6 * (1 + 0.02 * (shift - 2) * (way != "full"))
            ax.plot(
                [x, x],
                [accuracy.low or 0, accuracy.high or 0],
                color=colour,
                linewidth=1.4,
            )
            ax.plot(
                x,
                accuracy.value,
                marker,
                color=colour,
                label=way,
                markersize=9 if way == "full" else 6,
            )
        ax.set(
            xlabel="multiply-adds of one image (millions)", title=title, xlim=(0, None)
        )
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=9)
    axes[0].set_ylabel("test accuracy")
    return figure


CELLS = 8
"""Units on top of each other where a layer is drawn."""


def draw_removed(layers: dict[str, int], alive: dict[str, Tensor]) -> Figure:
    """The network from left to right, one row a way of pruning: each square is one
    unit, filled if it stayed.
    """
    figure, axes = pyplot.subplots(
        len(alive), 1, figsize=(style.FIGURE_WIDTH, 1.85 * len(alive)), sharex=True
    )
    for ax, (way, living) in zip(np.atleast_1d(axes), alive.items(), strict=True):
        colour = style.colour("random" if "random" in way else "taylor-fo")
        left = 0.0
        for name, part in zip(layers, living.split(list(layers.values())), strict=True):
            if left:
                ax.plot(
                    [left + 0.8, left + 3.2],
                    [CELLS / 2] * 2,
                    color=style.INK,
                    linewidth=1,
                    marker=">",
                    markevery=[1],
                )
                left += 4
            columns = -(-len(part) // CELLS)
            label = "\n".join(
                [*LAYERS.get(name, name).split(), f"{int(part.sum())} of {len(part)}"]
            )
            ax.text(
                left + columns / 2,
                CELLS + 0.4,
                label,
                ha="center",
                va="top",
                fontsize=8,
            )
            _draw_units(ax, part, left, colour)
            left += columns
        ax.set(xlim=(-1.5, left + 1.5), ylim=(CELLS + 4, -0.3), aspect="equal")
        ax.set_title(way, loc="left", fontsize=10)
        ax.axis("off")
    return figure


def _draw_units(ax: Axes, alive: Tensor, left: float, colour: str) -> None:
    """Squares of one layer in the order of its units, from the top down, then to the
    right.
    """
    corners = [
        (left + unit // CELLS + 0.1, unit % CELLS + 0.1) for unit in range(len(alive))
    ]
    squares = [Rectangle(corner, 0.8, 0.8) for corner in corners]
    filled = [colour if stays else "none" for stays in alive.tolist()]
    ax.add_collection(
        PatchCollection(
            squares, facecolors=filled, edgecolors="#999999", linewidths=0.5
        )
    )


def draw_sanity(networks: Sequence[tuple[list[float], list[float]]]) -> Figure:
    """Test accuracy after fine-tuning against loss before it, one marker a pruning, one
    colour a network.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    for number, (before, after) in enumerate(networks):
        ax.plot(
            before,
            after,
            "osD^vPX<>"[number % 9],
            markersize=5,
            alpha=0.85,
            label=f"network {number + 1}",
        )
    ax.set(
        xlabel="loss after removal, before fine-tuning (nats)",
        ylabel="test accuracy after it",
    )
    ax.legend(ncols=2)
    return figure
