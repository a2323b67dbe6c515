"""The chapter's figures: each function draws one from measurements or rows, and writes
its caption and alt text.

In the order of the page (`FIGURES`); `hero` and `in_short` stand above everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from torch import Tensor

from robustbook import page
from robustbook.models.prunable import Prunable
from robustbook.page import Kind
from robustbook.plots import interactive, style
from robustbook.results import Metric, Results
from robustbook.studies.taylor_pruning import claims
from robustbook.studies.taylor_pruning.measure.agreement import Agreement
from robustbook.studies.taylor_pruning.measure.tuning import WAYS
from robustbook.studies.taylor_pruning.measure.walks import (
    AGAIN,
    SUBSET_WAYS,
    Stage,
)

if TYPE_CHECKING:
    from IPython.display import HTML

FIGURES = (
    "one-network",
    "explore",
    "agreement",
    "scatter",
    "noise",
    "places",
    "curves",
    "subsets",
    "resnet-curves",
    "tuning",
    "cuts",
)
"""Names of the numbered figures, in the order of the page."""

LABELS = {
    "oracle": "oracle",
    "taylor-so": "second order",
    "taylor-so row": "second order, full Hessian row",
    "taylor-fo": "first order",
    "taylor-fo-fg": "first order per example (FG)",
    "taylor-fo whole set": "first order, one gradient of all",
    "taylor-fo by layer": "first order by layer",
    "weight taylor": "first order at the weights",
    "weight taylor sum": "in front of the batch-norm",
    "obd": "optimal brain damage",
    "bn taylor": "first order from the batch-norm",
    "bn-scale": "batch-norm scale",
    "taylor output": "Taylor of 2017",
    "taylor output by layer": "Taylor of 2017 by layer",
    "weight-norm": "weight norm",
    "weight-norm by layer": "weight norm by layer",
    "random": "random",
    "oracle, scores fixed": "oracle, scores fixed",
    "taylor-fo, scores fixed": "first order, scores fixed",
    AGAIN: "first order, measured again",
}
LAYERS = {
    "conv1": "first convolution",
    "conv2": "second convolution",
    "linear1": "first linear",
    "linear2": "second linear",
}
LOOKS: dict[str, tuple[str, str]] = {
    **{
        name: (style.colour(name), "-")
        for name in ("oracle", "taylor-fo", "taylor-fo-fg", "taylor-so", "obd")
    },
    "weight-norm": (style.colour("weight-norm"), "-"),
    "weight-norm by layer": (style.colour("weight-norm"), "--"),
    "taylor-fo by layer": (style.colour("taylor-fo"), "--"),
    "weight taylor": (style.OCHRE, "-"),
    "random": (style.colour("random"), "-"),
    "taylor-fo, scores fixed": (style.colour("taylor-fo"), ":"),
    "oracle, scores fixed": (style.colour("oracle"), ":"),
    AGAIN: (style.colour("taylor-fo"), "-"),
    "best subset": (style.INK, ":"),
    "greedy oracle": (style.colour("oracle"), "-"),
}
WAY_LOOKS = {
    claims.FULL: (style.INK, "-", "*"),
    claims.ITERATIVE: (style.VERMILLION, "-", "D"),
    claims.ONE_SHOT: (style.OCHRE, "-", "P"),
    claims.INNER: (style.VERMILLION, "--", "d"),
    claims.PRICED: (style.BLUE, "-", "o"),
    claims.PRICED_INNER: (style.BLUE, "--", "o"),
    claims.BY_LAYER: (style.GREEN, "-", "^"),
    claims.RANDOM: (style.GREY, "-", "X"),
    claims.RANDOM_INNER: (style.GREY, "--", "x"),
}
TUNED_LOOKS = {way: (WAY_LOOKS[way][0], WAY_LOOKS[way][2]) for way in WAYS}
"""Colour and marker of every way of pruning, for pages that draw without lines."""


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


def _said(row: Metric, scale: float = 1, digits: int = 2) -> str:
    text = f"{scale * row.value:.{digits}f}"
    return text.replace("-", "−")


# Above everything else
# --------------------------------------------------------------------------------------


def in_short(results: Results) -> list[str]:
    """What the chapter found, in four sentences."""
    first, norm, best = (
        results.one("units removed", network="lenet3", criterion=name)
        for name in ("taylor-fo", "weight-norm by layer", "oracle")
    )
    corrected = results.select(
        "corrected correlation",
        network="lenet3",
        criterion="taylor-fo",
        coefficient="spearman",
        scope="all layers",
        truth="training",
    )[0]
    return [
        "One backward pass scores every filter of a network at once. On a small "
        "network those scores rank units almost as removing each one does (ρ = "
        f"{corrected.value:.2f} after noise is taken out).",
        f"Going by them, {first.value:.0f} units can go before the loss is too high; "
        f"the oracle that tries every removal reaches {best.value:.0f}, the size of "
        f"the weights, normalised by layer, {norm.value:.0f}.",
        _tuned_in_short(results),
    ]


def _tuned_in_short(results: Results) -> str:
    length = max(int(row.factors["length"]) for row in results.select("tuned lead"))
    rival = results.one(
        "tuned lead", way=claims.ITERATIVE, rival=claims.RANDOM_INNER, length=length
    )
    if (rival.high or 0) < 0:
        return (
            "But once a network is tuned on and cost is what counts, the score alone "
            f"does worse than luck: {_said(rival, 100, 1)} points of accuracy against "
            "random removal that leaves the skip connections alone."
        )
    if (rival.low or 0) > 0:
        return (
            "After tuning, at a third of the multiply-adds, the score is "
            f"{_said(rival, 100, 1)} points of accuracy better than random removal "
            "that leaves the skip connections alone."
        )
    return (
        "After tuning, at a third of the multiply-adds, no difference to random "
        "removal that leaves the skip connections alone is left to see."
    )


def hero(stages: Sequence[Stage], layers: Mapping[str, int], criterion: str) -> HTML:
    """A network as bars of filters at three stages of its pruning: the ones that went
    are faded, the accuracy stands beside.
    """
    chosen = [stage for stage in stages if stage.criterion == criterion]
    shown = [chosen[0], chosen[len(chosen) // 2], chosen[-2]]
    figure, axes = pyplot.subplots(3, 1, figsize=(style.FIGURE_WIDTH, 2.5))
    for ax, stage in zip(axes, shown, strict=True):
        _bars(ax, stage.alive, layers)
        ax.set_title(
            f"{stage.share:.0%} of the units gone: {stage.accuracy:.0%} right, "
            f"{stage.multiply_adds:.0%} of the multiply-adds"
        )
    return page.figure(
        figure,
        alt="Three rows of bars, one bar a unit of a small network, layer by layer. "
        "More and more bars fade; the accuracy beside them falls late.",
        caption="One bar a filter or neuron; faded ones were removed, lowest Taylor "
        f"score first. With {shown[1].share:.0%} gone the network still gets "
        f"{shown[1].accuracy:.0%} right.",
        name="hero",
    )


def _bars(ax: Axes, alive: Tensor, layers: Mapping[str, int]) -> None:
    """One bar a unit, faded where it went, a gap and a name between layers."""
    left, ticks = 0.0, []
    places, colours = [], []
    for count, part in zip(
        layers.values(), alive.split(list(layers.values())), strict=True
    ):
        for unit in range(count):
            places.append(left + unit)
            colours.append(style.VERMILLION if bool(part[unit]) else "#9a9a9a40")
        ticks.append(left + count / 2)
        left += count + 6
    ax.bar(places, np.ones(len(places)), width=0.75, color=colours, linewidth=0)
    ax.set(xlim=(-2, left - 4), ylim=(0, 1), yticks=[])
    ax.set_xticks([])
    for edge in ("top", "right", "left", "bottom"):
        ax.spines[edge].set_visible(False)
    ax.grid(False)


# See it once
# --------------------------------------------------------------------------------------


def one_network(
    model: Prunable, scores: Tensor, accuracies: Mapping[str, float], *, gone: int
) -> HTML:
    """The score of every unit, layer by layer, and what is left of the accuracy after
    the lowest or the highest went.
    """
    figure, (ax, below) = pyplot.subplots(
        2, 1, figsize=(style.FIGURE_WIDTH, 3.6), height_ratios=(2, 1)
    )
    edges = scores.clamp_min(1e-12)
    border, start = float(edges.sort().values[gone - 1]), 0
    floor = float(edges[edges > 1e-12].min()) / 2
    for name, part in model.split(edges).items():
        ordered = part.sort(descending=True).values.tolist()
        colours = [
            style.VERMILLION if value > border else style.GREY for value in ordered
        ]
        places = range(start, start + len(part))
        ax.vlines(places, floor, ordered, colors=colours, linewidth=0.9)
        words = LAYERS.get(name, name).replace(" ", "\n")
        ax.text(start, float(edges.max()) * 2, words, va="bottom")
        start += len(part) + max(0, 70 - len(part)) + 6
    ax.set(yscale="log", xticks=[], ylabel="score (nats²)")
    ax.yaxis.set_minor_locator(NullLocator())
    below.barh(
        list(accuracies),
        list(accuracies.values()),
        color=[style.BLUE, style.GREY, style.VERMILLION],
    )
    below.invert_yaxis()
    below.set(xlim=(0, 1), xlabel="share right")
    before, lowest, highest = accuracies.values()
    return _shown(
        figure,
        "one-network",
        alt="Sorted bars of the scores of all units in four layers; three bars of "
        "accuracy: all units, without the lowest, without the highest.",
        caption=f"Grey: the {gone} units with the lowest score. Without them the "
        f"network gets {lowest:.0%} right instead of {before:.0%}; without as many of "
        f"the highest, {highest:.0%}.",
    )


# Agreement with the oracle
# --------------------------------------------------------------------------------------


def scatter(agreement: Agreement, criterion: str = "taylor-fo") -> HTML:
    """Predicted against true change of the loss for every unit of one network, one
    panel a layer.
    """
    rows = -(-len(agreement.layers) // 2)
    figure, axes = pyplot.subplots(
        rows,
        2,
        figsize=(style.FIGURE_WIDTH, 2.1 * rows + 0.4),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    floor, ratios = 1e-5, {}
    truth = agreement.truths["training"].together
    for ax, layer in zip(axes.flat, agreement.layers, strict=False):
        chosen = agreement.chosen(layer)
        predicted = agreement.scores[criterion][chosen].clamp_min(floor)
        true = truth[chosen].clamp_min(floor)
        ratios[layer] = float((true / predicted).median())
        ax.scatter(predicted, true, s=12, color=style.colour(criterion), alpha=0.7)
        ax.plot([floor, 10], [floor, 10], color=style.INK, linewidth=0.8, ls="--")
        ax.set(xscale="log", yscale="log")
        ax.set_title(LAYERS.get(layer, layer))
        ax.xaxis.set_major_locator(FixedLocator([1e-4, 1e-2, 1]))
        ax.xaxis.set_minor_formatter(NullFormatter())
    figure.supxlabel("predicted change of the loss (nats)")
    figure.supylabel("true change (nats)")
    far = max(ratios, key=ratios.__getitem__)
    return _shown(
        figure,
        "scatter",
        alt="Four panels, one a layer: predicted against true change of the loss for "
        "every unit, with the diagonal.",
        caption="First order against the truth, one network. In the "
        f"{LAYERS.get(far, far)} the truth is {ratios[far]:.1f} times the prediction "
        "in the median: taking a whole filter out is a large step there, and the loss "
        "curves upward on the way.",
    )


def _forest(
    ax: Axes, rows: Sequence[Metric], names: Sequence[str], colour: str, shift: float
) -> None:
    found = {str(row.factors["criterion"]): row for row in rows}
    for place, name in enumerate(names):
        row = found[name]
        low, high = (row.value if end is None else end for end in (row.low, row.high))
        ax.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.4)
        ax.plot(row.value, place + shift, "o", color=colour, markersize=4.5)


def agreement(results: Results) -> HTML:
    """Correlation of each criterion with the oracle, as measured and corrected for the
    oracle's noise, by data set; Spearman left, Pearson right.
    """
    common = {"network": "lenet3", "scope": "all layers", "truth": "training"}
    every = results.select("corrected correlation", coefficient="spearman", **common)
    titles = list(dict.fromkeys(str(row.factors["data"]) for row in every))
    names = [
        name
        for name in LABELS
        if any(row.factors["criterion"] == name for row in every)
    ]
    figure, axes = pyplot.subplots(
        1, 2, figsize=(style.FIGURE_WIDTH, 0.27 * len(names) + 1.3), sharey=True
    )
    colours = (style.BLUE, style.ORANGE)
    for ax, coefficient in zip(axes, claims.COEFFICIENTS, strict=True):
        for title, colour, shift in zip(titles, colours, (-0.15, 0.15), strict=False):
            rows = results.select(
                "corrected correlation", coefficient=coefficient, data=title, **common
            )
            _forest(ax, rows, names, colour, shift if len(titles) > 1 else 0)
            ax.plot([], [], "o", color=colour, label=title)
        ax.axvline(0, color=style.INK, linewidth=0.8)
        ax.axvline(claims.AGREEMENT, color=style.INK, linewidth=0.8, ls=":")
        ax.set(xlabel=f"{coefficient.capitalize()}", xlim=(-0.4, 1.1))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), [LABELS[name] for name in names])
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(titles),
    )
    reliable = results.select("reliability", coefficient="spearman", **common)
    best = max(
        (row for row in every if row.factors["data"] == titles[0]),
        key=lambda row: row.value,
    )
    return _shown(
        figure,
        "agreement",
        alt="Forest plot of the correlation of every criterion with the oracle on "
        "LeNet3, Spearman left and Pearson right.",
        caption=f"On {titles[0]} {LABELS[str(best.factors['criterion'])]} agrees best "
        f"(Spearman {_said(best)}). Corrected for the oracle's reliability ("
        + ", ".join(f"{_said(row)} on {row.factors['data']}" for row in reliable)
        + f"); dotted: {claims.AGREEMENT}. Intervals over {best.n} networks.",
    )


def noise(results: Results) -> HTML:
    """What decides a correlation: the level of the loss (left) and the mini-batch whose
    gradient is squared (right).
    """
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(style.FIGURE_WIDTH, 4.0), sharey=True
    )
    losses = {
        row.factors["epochs"]: row.value for row in results.select("loss after epochs")
    }
    order = sorted(losses, key=losses.__getitem__)
    for name in ("taylor-fo", "taylor-fo-fg", "taylor-so", "obd"):
        rows = {
            row.factors["epochs"]: row
            for row in results.select("correlation after epochs", criterion=name)
        }
        _line(
            left,
            [losses[each] for each in order],
            [rows[each] for each in order],
            style.colour(name),
            LABELS[name],
        )
    reliable = {
        row.factors["epochs"]: row for row in results.select("reliability after epochs")
    }
    _line(
        left,
        [losses[each] for each in order],
        [reliable[each] for each in order],
        style.INK,
        "oracle's reliability",
        "--",
    )
    left.set(xscale="log", xlabel="training loss (nats)", ylabel="Spearman / Pearson")
    ticks = [
        tick for tick in (0.01, 0.1, 0.3, 1, 2) if tick >= min(losses.values()) / 2
    ]
    left.xaxis.set_major_locator(FixedLocator(ticks))
    left.set_xticklabels([f"{tick:g}" for tick in ticks])
    left.xaxis.set_minor_locator(NullLocator())
    batches = results.select("correlation by batch", network="lenet3")
    for coefficient, colour in (
        ("spearman", style.VERMILLION),
        ("pearson", style.BLUE),
    ):
        rows_of = [row for row in batches if row.factors["coefficient"] == coefficient]
        sizes = [float(row.factors["batch"]) for row in rows_of]
        _line(right, sizes, rows_of, colour, coefficient.capitalize())
    right.set(xscale="log", xlabel="images of a mini-batch")
    right.xaxis.set_major_locator(FixedLocator(sizes))
    right.set_xticklabels([f"{size:.0f}" for size in sizes])
    right.xaxis.set_minor_locator(NullLocator())
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    right.legend()
    short, long = order[0], order[-1]

    def at(epochs: Any) -> str:
        row = results.one(
            "correlation after epochs", criterion="taylor-fo", epochs=epochs
        )
        return f"{_said(row)} at a loss of {losses[epochs]:.2f}"

    return _shown(
        figure,
        "noise",
        alt="Left: correlation of four scores and the reliability of the oracle "
        "against the training loss. Right: correlation of first order against the size "
        "of the mini-batch.",
        caption="Left: the same networks trained for longer and longer. First order "
        f"correlates at {at(long)} and at {at(short)}. Right: squares of larger "
        "mini-batches, measured on the same images. Bands over networks.",
    )


def _line(
    ax: Axes,
    x: Sequence[float],
    rows: Sequence[Metric],
    colour: str,
    label: str,
    dashes: str = "-",
) -> None:
    """Values with their intervals as a band."""
    ax.plot(
        x,
        [row.value for row in rows],
        dashes,
        color=colour,
        label=label,
        marker="o",
        markersize=3.5,
    )
    low, high = (
        [row.value if end is None else end for row, end in zip(rows, ends, strict=True)]
        for ends in ([row.low for row in rows], [row.high for row in rows])
    )
    ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)


def places(results: Results) -> HTML:
    """Correlation with the oracle over the units inside the blocks of the
    PreAct-ResNet18, by criterion.
    """
    common = {"network": "resnet18", "scope": "inner units", "truth": "training"}
    names = [
        name
        for name in LABELS
        if results.select(
            "correlation", criterion=name, coefficient="spearman", **common
        )
    ]
    figure, axes = pyplot.subplots(
        1, 2, figsize=(style.FIGURE_WIDTH, 0.27 * len(names) + 0.9), sharey=True
    )
    for ax, coefficient in zip(axes, claims.COEFFICIENTS, strict=True):
        rows = results.select("correlation", coefficient=coefficient, **common)
        _forest(ax, rows, names, style.BLUE, 0)
        reliable = results.one("reliability", coefficient=coefficient, **common)
        ceiling = max(reliable.value, 0) ** 0.5
        ax.axvline(ceiling, color=style.INK, linewidth=0.9, ls="--")
        ax.axvline(0, color=style.INK, linewidth=0.8)
        ax.set(xlabel=coefficient.capitalize(), xlim=(-0.4, 1.05))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), [LABELS[name] for name in names])
    axes[0].invert_yaxis()
    behind, before, weights = (
        results.one("correlation", criterion=name, coefficient="spearman", **common)
        for name in ("taylor-fo", "weight taylor sum", "weight taylor")
    )
    return _shown(
        figure,
        "places",
        alt="Forest plot of the correlation of criteria with the oracle over the inner "
        "units of a residual network.",
        caption="Behind the batch-norm first order correlates at "
        f"{_said(behind)}, in front of it at {_said(before)}, at the weights at "
        f"{_said(weights)} (Spearman). Dashed: the most that an oracle of this "
        f"reliability allows. Intervals over {behind.n} networks.",
    )


# Pruning without tuning
# --------------------------------------------------------------------------------------


def curves(results: Results, *, limit: float) -> HTML:
    """Mean loss of LeNet3 against the units removed, without tuning."""
    figure = _curves(results, "lenet3", limit)
    return _shown(
        figure,
        "curves",
        alt="Mean loss against units removed from LeNet3, one line a criterion.",
        caption=_reached(results, "lenet3", limit)
        + " Scores are measured again after every few removals.",
    )


def resnet_curves(results: Results, *, limit: float) -> HTML:
    """The same for the PreAct-ResNet18."""
    figure = _curves(results, "resnet18", limit)
    return _shown(
        figure,
        "resnet-curves",
        alt="Mean loss against units removed from a PreAct-ResNet18, one line a "
        "criterion; dotted lines are scores that were measured once.",
        caption=_reached(results, "resnet18", limit)
        + " Dotted: scores that were measured once.",
    )


def _curves(results: Results, network: str, limit: float) -> Figure:
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.6))
    drawn = results.select("units removed", network=network)
    ordered = sorted(drawn, key=lambda row: -row.value)
    for row in ordered:
        name = str(row.factors["criterion"])
        rows = results.select(
            "loss with units removed", network=network, criterion=name
        )
        colour, dashes = LOOKS[name]
        x = [int(each.factors["removed"]) for each in rows]
        ax.plot(
            x, [each.value for each in rows], dashes, color=colour, label=LABELS[name]
        )
        low = [each.value if each.low is None else each.low for each in rows]
        high = [each.value if each.high is None else each.high for each in rows]
        ax.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)
    ax.axhline(limit, color=style.INK, linewidth=0.8)
    ax.set(xlabel="units removed", ylabel="mean loss (nats)", ylim=(0, 1.6 * limit))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _reached(results: Results, network: str, limit: float) -> str:
    def of(name: str) -> str:
        row = results.one("units removed", network=network, criterion=name)
        return f"{row.value:.0f}"

    return (
        f"When the loss reaches {limit:g}, {of('taylor-fo')} units are gone by first "
        f"order, {of('oracle')} by the oracle."
    )


def subsets(results: Results) -> HTML:
    """Loss against filters removed from the first layer, for every way of choosing
    them, down to the best of all subsets.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.3))
    for way in SUBSET_WAYS:
        rows = results.select("subset loss", way=way)
        colour, dashes = LOOKS[way] if way != "taylor-fo" else (LOOKS[way][0], "--")
        ax.plot(
            [int(row.factors["removed"]) for row in rows],
            [row.value for row in rows],
            dashes,
            color=colour,
            marker="o",
            markersize=3.5,
            label="first order, measured once"
            if way == "taylor-fo"
            else LABELS.get(way, way),
        )
    ax.set(
        xlabel="filters removed from the first convolution, of 16",
        ylabel="mean loss (nats)",
        yscale="log",
    )
    ax.yaxis.set_minor_formatter(NullFormatter())
    ticks = [0.3, 0.5, 1, 2, 4]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)

    def loss(way: str, removed: int) -> float:
        return results.one("subset loss", way=way, removed=removed).value

    return _shown(
        figure,
        "subsets",
        alt="Mean loss against filters removed from the first layer, for six ways of "
        "choosing them.",
        caption="With 12 of 16 filters gone the greedy oracle has a loss of "
        f"{loss('greedy oracle', 12):.2f}, first order measured again "
        f"{loss(AGAIN, 12):.2f}, a random order {loss('random', 12):.2f}. The best of "
        "all subsets is the lowest line.",
    )


# Pruning with tuning
# --------------------------------------------------------------------------------------


def tuning(results: Results) -> HTML:
    """Test accuracy against the length of tuning, one line a way of pruning, all at the
    same multiply-adds.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.0))
    for way, (colour, dashes, marker) in WAY_LOOKS.items():
        rows = results.select("tuned accuracy", way=way)
        x = [int(row.factors["length"]) for row in rows]
        ax.plot(
            x,
            [row.value for row in rows],
            dashes,
            color=colour,
            marker=marker,
            markersize=5,
            label=way,
        )
    lengths = sorted(
        {int(row.factors["length"]) for row in results.select("tuned accuracy")}
    )
    ax.set(
        xscale="log", xlabel="mini-batches, pruning included", ylabel="test accuracy"
    )
    ax.xaxis.set_major_locator(FixedLocator(lengths))
    ax.set_xticklabels([str(length) for length in lengths])
    ax.xaxis.set_minor_locator(NullLocator())
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    last = lengths[-1]
    best = max(
        (
            row
            for row in results.select("tuned accuracy", length=last)
            if row.factors["way"] != claims.FULL
        ),
        key=lambda row: row.value,
    )
    taylor = results.one("tuned accuracy", way=claims.ITERATIVE, length=last)
    return _shown(
        figure,
        "tuning",
        alt="Test accuracy against mini-batches of tuning on a logarithmic axis, nine "
        "lines, one a way of pruning.",
        caption=f"After {last} mini-batches “{best.factors['way']}” is highest with "
        f"{_said(best, 100, 1)} %; the Taylor score has {_said(taylor, 100, 1)} %. All "
        "but the full network are at the same multiply-adds; means over "
        f"{best.n} networks.",
    )


def cuts(results: Results) -> HTML:
    """Where each way of pruning cuts: channels of the streams that are kept, against
    the accuracy after the shortest tuning.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.2))
    lengths = sorted(
        {int(row.factors["length"]) for row in results.select("tuned accuracy")}
    )
    ways = [way for way in WAYS if way != claims.FULL]
    for way in ways:
        kept = results.one("streams kept", way=way)
        right = results.one("tuned accuracy", way=way, length=lengths[0])
        colour, _, marker = WAY_LOOKS[way]
        ax.errorbar(
            100 * kept.value,
            right.value,
            yerr=[[right.value - (right.low or 0)], [(right.high or 1) - right.value]],
            color=colour,
            marker=marker,
            linestyle="",
            label=way,
        )
    ax.set(
        xlabel="channels of the streams that are kept (%)",
        ylabel=f"test accuracy\nafter {lengths[0]} mini-batches",
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    taylor, priced = (
        results.one("streams kept", way=way)
        for way in (claims.ITERATIVE, claims.PRICED)
    )
    return _shown(
        figure,
        "cuts",
        alt="Accuracy against the share of the streams' channels that are kept, one "
        "marker a way of pruning.",
        caption=f"The Taylor score keeps {_said(taylor, 100, 0)} % of the streams' "
        f"channels, the score per multiply-add {_said(priced, 100, 0)} %. A channel "
        "of a stream saves the most multiply-adds and is read by every later block.",
    )


# The view that a reader moves
# --------------------------------------------------------------------------------------


def explore(stages: Sequence[Stage], layers: Mapping[str, int]) -> interactive.View:
    """Units that live in each layer, accuracy and multiply-adds, for a share removed
    and a criterion that the reader chooses.
    """
    import altair as alt

    rows: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    for stage in stages:
        here = {
            "criterion": LABELS[stage.criterion],
            "removed": round(100 * stage.share),
        }
        words.append(
            {
                **here,
                "text": f"{stage.accuracy:.0%} right with "
                f"{stage.multiply_adds:.0%} of the multiply-adds",
            }
        )
        for name, part in zip(
            layers, stage.alive.split(list(layers.values())), strict=True
        ):
            rows.append(
                {
                    **here,
                    "layer": LAYERS.get(name, name),
                    "kept": round(float(part.float().mean()), 4),
                    "share": f"{int(part.sum())} of {len(part)}",
                }
            )
    removed = sorted({row["removed"] for row in rows})
    slider = interactive.slider(
        "removed", removed, label="Units removed, %", start=removed[len(removed) // 2]
    )
    names = list(dict.fromkeys(row["criterion"] for row in rows))
    chooser = interactive.chooser("criterion", names, label="Criterion")

    def chart(data: list[dict[str, Any]], **size: Any) -> Any:
        drawn = alt.Chart(pd.DataFrame(data), **size)
        for rule in (interactive.chosen(slider), interactive.chosen(chooser)):
            drawn = drawn.transform_filter(rule)
        return drawn

    order = [LAYERS.get(name, name) for name in layers]
    bars = (
        chart(rows, width=300, height=150)
        .mark_bar(color=style.VERMILLION)
        .encode(
            y=alt.Y("layer:N", sort=order, title=None),
            x=alt.X("kept:Q", title="share of the units kept").scale(domain=[0, 1]),
        )
    )
    counts = (
        chart(rows, width=300, height=150)
        .mark_text(align="left", dx=4)
        .encode(
            y=alt.Y("layer:N", sort=order, title=None),
            x=alt.X("kept:Q").scale(domain=[0, 1]),
            text="share:N",
        )
    )
    text = (
        chart(words, width=300, height=26).mark_text(fontSize=15).encode(text="text:N")
    )
    return interactive.show(
        alt.vconcat(text, bars + counts).add_params(slider, chooser),
        fallback=_still(stages),
        name="explore",
        number=FIGURES.index("explore") + 1,
        alt="Bars of the units kept in each layer, accuracy and multiply-adds, for a "
        "share removed and a criterion that the reader chooses.",
        caption="Move the share that is removed, change the criterion: which layers it "
        "takes units from, and what is left.",
    )


def _still(stages: Sequence[Stage]) -> Figure:
    """The same as a picture: accuracy against the share removed, a line a criterion."""
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.6))
    for name in dict.fromkeys(stage.criterion for stage in stages):
        chosen = [stage for stage in stages if stage.criterion == name]
        colour, dashes = LOOKS[name]
        ax.plot(
            [100 * stage.share for stage in chosen],
            [stage.accuracy for stage in chosen],
            dashes,
            color=colour,
            label=LABELS[name],
        )
    ax.set(xlabel="units removed (%)", ylabel="test accuracy")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


# Sentences of numbers
# --------------------------------------------------------------------------------------


def sanity(results: Results) -> str:
    """Whether the loss before tuning predicted the accuracy after it."""
    row = results.one("oracle sanity")
    told = (
        "the loss before tuning does predict the outcome here"
        if (row.low or 0) > 0
        else "the interval holds 0, and nothing is predicted reliably"
    )
    return (
        "Among our ways of pruning, low loss before tuning and high accuracy after it "
        f"go together at {_said(row)} ({_said_end(row.low)} to {_said_end(row.high)}; "
        f"Spearman, {row.n} networks): {told}."
    )


def _said_end(end: float | None) -> str:
    return f"{end or 0:.2f}".replace("-", "−")


def removal(results: Results) -> str:
    """In how many networks the smaller copy answered as the masked network."""
    rows = results.select("removal agrees")
    held = sum(round(row.value * (row.n or 0)) for row in rows)
    return (
        "With half of the units gone both differ by at most $10^{-5}$ of the largest "
        f"logit in {held} of {sum(row.n or 0 for row in rows)} networks."
    )
