"""The chapter's figures: each function draws one from measurements, and writes its
caption and alt text from the rows.

In the order of the page (`FIGURES`); `hero` and `in_short` stand above everything else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from robustbook import page
from robustbook.measure.surfaces import Surface
from robustbook.models.network import compute_logits
from robustbook.page import Kind
from robustbook.plots import interactive, ranking, style, surfaces
from robustbook.results import Metric, Results
from robustbook.stats import kendall
from robustbook.studies.loss_metric import claims
from robustbook.studies.loss_metric.measure.evaluation import Measurements
from robustbook.studies.loss_metric.measure.landscape import (
    LINE_POINTS,
    REACH,
    Attacked,
    Slice,
)
from robustbook.studies.loss_metric.networks import ARCHITECTURES, TRAININGS
from robustbook.studies.loss_metric.rows import setting_scores

if TYPE_CHECKING:
    from IPython.display import HTML

Array = NDArray[np.float64]
FIGURES = (
    "one-digit",
    "one-line",
    "surfaces",
    "lines",
    "explore",
    "agreement",
    "ranks",
    "stability",
    "cost",
    "searches",
    "masked",
    "bracket",
)
"""Names of the numbered figures, in the order of the page."""

QUANTITIES: tuple[surfaces.Quantity, ...] = ("cross_entropy", "decision")
ARCHITECTURE_MARKERS = dict(zip(ARCHITECTURES, ("o", "s", "^"), strict=True))
MEASURES = {
    "median psi": "psi",
    "robust accuracy": "adversarial accuracy",
    "1 / mean adversarial CE": "1 / adversarial loss",
    "CLEVER": "CLEVER",
    "minimal distance": "minimal distance",
    "strong robust accuracy": "strong testing",
}
MEASURE_COLOURS = {
    "median psi": style.VERMILLION,
    "robust accuracy": style.BLUE,
    "1 / mean adversarial CE": style.GREY,
    "CLEVER": style.PURPLE,
    "minimal distance": style.GREEN,
    "strong robust accuracy": style.INK,
}
SEARCH_COLOURS = {
    "gradient": style.VERMILLION,
    "BPDA": style.PURPLE,
    "transfer": style.BLUE,
    "random search": style.GREEN,
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


# Above everything else
# --------------------------------------------------------------------------------------


def in_short(results: Results, *, dataset: str) -> list[str]:
    """What the chapter found, in four sentences; the first is of `dataset`."""
    psi = {
        training: np.mean(
            [
                np.log(row.value)
                for row in results.select(
                    "kind: median psi", training=training, dataset=dataset
                )
            ]
        )
        for training in ("natural", "minmax")
    }
    times = float(np.exp(psi["minmax"] - psi["natural"]))
    gap = results.one("psi attained over its sound lower bound", budget=1.0)
    return [
        "An attacker who may change every pixel a little changes the prediction of a "
        f"naturally trained network {times:.0f} times as much (in divergence) as that "
        "of an adversarially trained one.",
        _ranks_in_short(results),
        _fooled_in_short(results),
        "What can be proved leaves room: the proved limit of the divergence is "
        f"{gap.value:.0f} times what any search found.",
    ]


def _ranks_in_short(results: Results) -> str:
    verdict = {claim.id: claim for claim in claims.CLAIMS}["Y3"].verdict(results)
    if verdict.verdict == "reproduced":
        return (
            "The metric *psi* says so in one number, and ranks networks better than "
            "any measure as cheap."
        )
    if verdict.verdict == "partly":
        return (
            "The metric *psi* says so in one number and ranks networks as the "
            "strongest attacks do; it shows no lead over simpler measures."
        )
    if verdict.verdict == "mixed":
        return (
            "The metric *psi* says so in one number and ranks networks as the "
            "strongest attacks do, as long as none of them hides its gradients."
        )
    return (
        "Whether the metric *psi* ranks networks as the strongest attacks do was not "
        "settled here."
    )


def _fooled_in_short(results: Results) -> str:
    rows = [
        row
        for row in results.select("psi by gradient over the best search")
        if row.factors["network"] != "natural"
    ]
    fooled = [row for row in rows if (row.low or 0) > claims.FOOLED_RATIO]
    if fooled:
        return (
            f"But it follows the gradient, and {len(fooled)} of {len(rows)} networks "
            "built to hide their gradients look far more robust to it than they are."
        )
    return f"None of {len(rows)} networks built to hide their gradients fooled it."


def hero(plane: Slice, series: Sequence[Attacked], names: Sequence[str]) -> HTML:
    """One image, its two surfaces with the decision boundary, and the image attacked at
    the full budget.
    """
    figure, axes = pyplot.subplots(
        1,
        4,
        figsize=(style.FIGURE_WIDTH, 2.0),
        gridspec_kw={"width_ratios": (0.8, 1, 1, 0.8)},
    )
    attacked = next(each for each in series if each.budget == 1.0)
    for ax, each in ((axes[0], series[0]), (axes[3], attacked)):
        _picture(ax, each.image)
        ax.set_title(_answer(each, names))
    for ax, quantity in zip(axes[1:3], QUANTITIES, strict=True):
        surfaces.contour(ax, plane.surface, quantity)
        ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
        ax.plot(0, 0, "o", color=style.INK, markersize=4)
    axes[1].set_title("cross-entropy")
    axes[2].set_title("decision surface")
    before, after = _answer(series[0], names), _answer(attacked, names)
    return page.figure(
        figure,
        alt=f"A picture read as {before}; two maps of the plane around it with the "
        f"decision boundary; the attacked picture, read as {after}.",
        caption="One image (dot), the plane around it, and where an attack takes it. "
        "On the black line the answer changes.",
        name="hero",
    )


def _answer(attacked: Attacked, names: Sequence[str]) -> str:
    best = int(np.argmax(attacked.probabilities))
    return f"“{names[best]}” ({attacked.probabilities[best]:.0%})"


def _picture(ax: Axes, image: Tensor | Array) -> None:
    """One image (C, H, W), without axes."""
    values = np.asarray(image)
    shown = values[0] if len(values) == 1 else values.transpose(1, 2, 0)
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()


# See it once
# --------------------------------------------------------------------------------------


def before_and_after(
    image: Tensor, attacked: Tensor, network: Module, *, budget: float
) -> HTML:
    """An image (1, C, H, W), what an attack added and the sum, with the network's
    answers.
    """
    added = (attacked - image) / (2 * budget) + 0.5
    figure, axes = pyplot.subplots(1, 3, figsize=(4.4, 1.75))
    answers = []
    for ax, picture, name in zip(
        axes, (image, added, attacked), ("before", "added", "after"), strict=True
    ):
        _picture(ax, picture[0].detach())
        if name != "added":
            sure, answer = compute_logits(network, picture).softmax(1).max(1)
            answers.append(f"{int(answer)} ({float(sure):.0%})")
            name = f"{name}: {answers[-1]}"
        ax.set_title(name)
    before, after = answers
    return _shown(
        figure,
        "one-digit",
        alt=f"A digit read as {before}, the perturbation in grey, and their sum, read "
        f"as {after}.",
        caption=f"The network reads {before}. Every pixel moves by at most {budget:g}, "
        f"and it reads {after}. In the middle grey means unchanged.",
    )


def one_line(line: Surface) -> HTML:
    """Cross-entropy and decision surface along one direction from an image."""
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(style.FIGURE_WIDTH, 3.4), sharex=True
    )
    above.plot(line.alphas, line.cross_entropy[:, 0], color=style.BLUE)
    above.set_ylabel("cross-entropy\n(nats)")
    below.plot(line.alphas, line.decision[:, 0], color=style.VERMILLION)
    below.axhline(0, color=style.INK, linewidth=1)
    below.set(xlabel="distance walked (pixel units)", ylabel="S\n(logit units)")
    wrong = line.wrong[:, 0]
    crossing = float(line.alphas[wrong.argmax()]) if wrong.any() else None
    if crossing is not None:
        for ax in (above, below):
            ax.axvline(crossing, color=style.INK, linestyle=":", linewidth=1)
    where = (
        f"The answer becomes wrong at {crossing:.2g}, where S crosses zero; the "
        "cross-entropy just goes on rising."
        if crossing is not None
        else "The answer stays right along the whole line: S stays above zero."
    )
    return _shown(
        figure,
        "one-line",
        alt="Two curves against the distance walked from a digit: the cross-entropy "
        "rises, S falls and crosses zero.",
        caption=where,
    )


# Surfaces
# --------------------------------------------------------------------------------------


def maps(planes: dict[str, Slice], paths: dict[str, Array]) -> HTML:
    """Cross-entropy (top) and decision surface (bottom) of one image for every
    training, with boundary and attack path.
    """
    figure, axes = pyplot.subplots(
        2, len(planes), figsize=(style.FIGURE_WIDTH, 4.4), sharex=True, sharey=True
    )
    drawn = {training: plane.surface for training, plane in planes.items()}
    for row, quantity in zip(axes, QUANTITIES, strict=True):
        scale = surfaces.limits(list(drawn.values()), quantity)
        for ax, (training, surface) in zip(row, drawn.items(), strict=True):
            mesh = surfaces.contour(
                ax, surface, quantity, path=paths[training], scale=scale
            )
            half = round(float(surface.alphas[-1]) / 2, 3)
            ax.set(xlabel="", ylabel="", xticks=[-half, half], yticks=[-half, 0, half])
            if quantity == "cross_entropy":
                ax.set_title(_short(training).replace("-", "-\n"), weight="normal")
        label = surfaces.AXIS[quantity].replace(" (", "\n(")
        figure.colorbar(mesh, ax=row, label=label, shrink=0.9)
    figure.supxlabel("adversarial direction α (pixel units)")
    figure.supylabel("random direction β")
    inside = {name: float((~surface.wrong).mean()) for name, surface in drawn.items()}
    return _shown(
        figure,
        "surfaces",
        alt="Eight maps of the plane through one image: cross-entropy above, decision "
        "surface below, one column per training. A black line marks the decision "
        "boundary, an orange line the path of an attack.",
        caption="One image, four trainings. Inside the black line the answer is right: "
        f"{inside['natural']:.0%} of the plane after natural training, "
        f"{inside['minmax']:.0%} after adversarial training (MinMax). Orange: "
        "the path of an attack, projected onto the plane.",
    )


def _short(training: str) -> str:
    return style.label(training).split(" (")[0]


def lines(evaluations: Sequence[Measurements], results: Results) -> HTML:
    """Normalised decision surface along both directions: median over images and seeds,
    band from quarter to three quarters.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.4), sharey=True)
    for ax, direction in zip(axes, ("adversarial", "random"), strict=True):
        for training in TRAININGS:
            group = [each for each in evaluations if each.network.training == training]
            profiles = np.concatenate(
                [each.profiles[f"{direction} normalised"] for each in group]
            )
            low, middle, high = np.quantile(profiles, [0.25, 0.5, 0.75], axis=0)
            positions = np.linspace(0, REACH * group[0].epsilon, LINE_POINTS)
            colour = style.colour(training)
            ax.plot(positions, middle, color=colour, label=style.label(training))
            ax.fill_between(positions, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set(xlabel="distance (pixel units)", title=f"{direction} direction")
    axes[0].set_ylabel("S, normalised logits")
    axes[1].legend(loc="lower left")
    reach = {
        training: np.mean(
            [
                row.value
                for row in results.select(
                    "distance to S = 0",
                    training=training,
                    direction="adversarial",
                    dataset=evaluations[0].network.dataset,
                )
            ]
        )
        for training in ("natural", "minmax")
    }
    return _shown(
        figure,
        "lines",
        alt="Two panels of S against distance, along the adversarial and along a "
        "random direction, one line per training.",
        caption="Along the sign of the loss gradient the boundary lies at "
        f"{reach['natural']:.2g} after natural and at {reach['minmax']:.2g} after "
        f"adversarial training; {_random_reach(evaluations, results)}. Bands: middle "
        "half of the images.",
    )


def _random_reach(evaluations: Sequence[Measurements], results: Results) -> str:
    """How many networks have a boundary within reach along a random direction."""
    dataset, reach = evaluations[0].network.dataset, REACH * evaluations[0].epsilon
    rows = results.select("distance to S = 0", direction="random", dataset=dataset)
    near = sum(row.value < reach * (1 - 1e-6) for row in rows)
    return (
        "in a random direction the median line reaches it within "
        f"{REACH:g} ε for {near} of {len(rows)} networks"
    )


# Ranks of networks
# --------------------------------------------------------------------------------------


def agreement(evaluations: Sequence[Measurements], results: Results) -> HTML:
    """Psi of every network against the minimal distance, and accuracy under FGSM
    against the same.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.5), sharex=True)
    distance = [each.distance.mean() for each in evaluations]
    columns = {
        "median psi (1/nats)": [
            np.median(1 / each.attained(1.0)) for each in evaluations
        ],
        "accuracy under FGSM (share)": [
            each.correct["FGSM", 1.0].mean() for each in evaluations
        ],
    }
    for ax, (label, values) in zip(axes, columns.items(), strict=True):
        for each, x, y in zip(evaluations, distance, values, strict=True):
            ax.plot(
                x,
                y,
                ARCHITECTURE_MARKERS[each.network.architecture],
                color=style.colour(each.network.training),
                markersize=6,
                markeredgecolor=style.GROUND,
                markeredgewidth=0.5,
            )
        ax.set_ylabel(label)
    figure.supxlabel("mean minimal distance (pixel units)")
    handles = _training_handles("o") + [
        Line2D([], [], linestyle="", marker=marker, color=style.INK, label=name)
        for name, marker in ARCHITECTURE_MARKERS.items()
    ]
    _legend_below(figure, handles, 3)
    rho = {
        measure: results.one(
            "rank agreement", measure=measure, reference="minimal distance"
        ).value
        for measure in ("median psi", "FGSM accuracy", "clean accuracy")
    }
    return _shown(
        figure,
        "agreement",
        alt="Two scatter plots of networks: psi against minimal distance, and accuracy "
        "under FGSM against minimal distance.",
        caption="Each mark is a network. Rank correlation with the smallest distance "
        f"at which an attack succeeds: psi {rho['median psi']:.2f}, accuracy under "
        f"FGSM {rho['FGSM accuracy']:.2f}, clean accuracy "
        f"{rho['clean accuracy']:.2f}.",
    )


def _legend_below(figure: Figure, handles: list[Line2D], columns: int) -> None:
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def _wrapped(name: str) -> str:
    """A title in lines that fit over a narrow panel."""
    return textwrap.fill(name, 14)


def _training_handles(marker: str | None = None) -> list[Line2D]:
    """Legend entries of the trainings, each with its own marker unless one is given."""
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker=marker or style.marker(name),
            color=style.colour(name),
            label=style.label(name),
        )
        for name in TRAININGS
    ]


def ranks(results: Results) -> HTML:
    """Rank correlation of every measure with both references, with intervals over kinds
    of network.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 4.0), sharey=True)
    tables = {
        reference: results.table("rank agreement", reference=reference)
        for reference in claims.REFERENCES
    }
    order = tables["minimal distance"].sort_values("value")["measure"]
    for ax, (reference, table) in zip(axes, tables.items(), strict=True):
        # The panels share their rows, so both tables must come in the same order.
        ordered = table.set_index("measure").loc[order].reset_index()
        ranking.forest(ax, ordered, label="measure", axis_label="Spearman's ρ")
        ax.set_title(_wrapped(reference))
        ax.axvline(0, color=style.INK, linewidth=1)
    kinds = int(tables["minimal distance"]["n"].iloc[0])
    return _shown(
        figure,
        "ranks",
        alt="Forest plot of the rank correlation of every measure with two references.",
        caption=f"{_best(results)} Intervals are over {kinds} kinds of network. "
        f"{_reliability(results)}",
    )


def _best(results: Results) -> str:
    """Which measures agree best with each reference."""
    best = {
        reference: max(
            results.select("rank agreement", reference=reference),
            key=lambda row: row.value,
        )
        for reference in claims.REFERENCES
    }
    agree = " and ".join(
        f"with the {reference} that of {row.factors['measure']} (ρ = {row.value:.2f})"
        for reference, row in best.items()
    )
    return f"The best agreement is {agree}."


def _reliability(results: Results) -> str:
    rows = results.select("split-half reliability")
    least = min(rows, key=lambda row: row.value)
    return (
        f"Two halves of the images agree at {least.value:.2f} or more (reliability; "
        f"least for {least.factors['measure']})."
    )


def stability(evaluations: Sequence[Measurements], results: Results) -> HTML:
    """Kendall's tau between the rankings under every pair of settings, one panel per
    measure.
    """
    scores = setting_scores(evaluations)
    figure, axes = pyplot.subplots(1, len(scores), figsize=(style.FIGURE_WIDTH, 2.3))
    for ax, (name, table) in zip(axes, scores.items(), strict=True):
        strengths = len(table) // 3
        mesh = ax.imshow(kendall(table), vmin=-1, vmax=1, cmap="PuOr", rasterized=True)
        edges = np.arange(1, 3) * strengths - 0.5
        ax.hlines(edges, -0.5, len(table) - 0.5, color=style.GROUND, linewidth=1.5)
        ax.vlines(edges, -0.5, len(table) - 0.5, color=style.GROUND, linewidth=1.5)
        ticks = np.arange(3) * strengths + (strengths - 1) / 2
        ax.set_xticks(ticks, ["½ε", "0.7ε", "ε"])
        ax.set_yticks(ticks, ["½ε", "0.7ε", "ε"])
        ax.grid(False)
        ax.set_title(_wrapped(MEASURES[name]), weight="normal")
    figure.colorbar(mesh, ax=axes, label="Kendall's τ", shrink=0.75)

    def means(part: str) -> str:
        return ", ".join(
            f"{MEASURES[name]} "
            f"{results.one('rank stability', measure=name, part=part).value:.2f}"
            for name in ("median psi", "robust accuracy", "1 / mean adversarial CE")
        )

    return _shown(
        figure,
        "stability",
        alt="Three maps of Kendall's tau between the rankings under all pairs of "
        "settings, for adversarial accuracy, its loss and psi.",
        caption="How alike two settings rank the networks (few to many steps within "
        f"each budget). Mean τ across budgets: {means('across budgets')}; within one: "
        f"{means('within one budget')}.",
    )


# Cost and searches
# --------------------------------------------------------------------------------------


def cost(results: Results) -> HTML:
    """Rank agreement with the strong reference against passes per image."""
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.4))
    found = results.table("rank agreement at cost")
    for name, table in found.groupby("measure", sort=False):
        table, colour = table.sort_values("passes"), MEASURE_COLOURS[str(name)]
        ax.plot(
            table["passes"],
            table["value"],
            "o-",
            color=colour,
            label=MEASURES[str(name)],
        )
        ax.fill_between(
            table["passes"],
            table["low"],
            table["high"],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    usual = results.one("passes of the usual setting", measure="strong robust accuracy")
    ax.axvline(usual.value, color=style.INK, linestyle=":", linewidth=1)
    ax.axhline(claims.RANK_QUALITY, color=style.INK, linewidth=0.8)
    ax.set(
        xscale="log",
        xlabel="forward and backward passes per image",
        ylabel="Spearman's ρ",
    )
    _plain_ticks(ax, "x", (3, 10, 30, 100, 300, 1000, 3000))
    ax.legend(loc="lower right")
    needed = results.one("passes to rank quality", measure="median psi")
    return _shown(
        figure,
        "cost",
        alt="Rank agreement against passes per image, a line and a band per measure.",
        caption=(
            f"psi reaches ρ = {claims.RANK_QUALITY} with {needed.value:.0f} passes an "
            "image."
            if needed.value < usual.value
            else f"psi does not reach ρ = {claims.RANK_QUALITY} here."
        )
        + f" Dotted: what strong adversarial testing takes, {usual.value:,.0f} passes. "
        "Bands: 95 % over kinds of network.",
    )


def _plain_ticks(ax: Axes, axis: str, ticks: Sequence[float]) -> None:
    """Label a logarithmic axis at these values alone, as far as they lie on it."""
    low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
    chosen = [tick for tick in ticks if low <= tick <= high]
    scale = ax.xaxis if axis == "x" else ax.yaxis
    scale.set_ticks(chosen, [f"{tick:g}" for tick in chosen])
    scale.set_minor_locator(NullLocator())


def searches(results: Results) -> HTML:
    """How much of psi other searches leave."""
    table = results.table("psi by other searches over the usual one")
    table["search"] = [
        f"all, over {starts} start{'s' * (starts > 1)}" if search == "all" else search
        for search, starts in zip(table["search"], table["starts"], strict=True)
    ]
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    ranking.forest(
        ax, table, label="search", axis_label="median psi over that of the usual ascent"
    )
    ax.axvline(1, color=style.INK, linewidth=1)
    ax.axvline(claims.CONVERGED_RATIO, color=style.INK, linestyle=":", linewidth=1)
    best = results.one(
        "psi by other searches over the usual one", search="all", starts=1
    )
    return _shown(
        figure,
        "searches",
        alt="Points with intervals: what is left of psi after more steps, more starts, "
        "adaptive steps, corner starts, and the best of all over one and more starts.",
        caption=f"The best of six harder searches leaves {best.value:.2f} of psi. "
        f"Dotted: {claims.CONVERGED_RATIO}, the rule's limit. Intervals over kinds of "
        "network.",
    )


def masked(results: Results) -> HTML:
    """Psi of networks with masked gradients by four searches, over that of the natural
    network by the best.
    """
    rows = results.select("clean accuracy of masked")
    names = [str(row.factors["network"]) for row in rows]

    def psi(network: str, search: str) -> Metric:
        return results.one("psi of masked", network=network, search=search)

    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.6))
    height = np.arange(len(names))
    for offset, (search, colour) in enumerate(SEARCH_COLOURS.items()):
        found = [psi(name, search) for name in names]
        ax.errorbar(
            [row.value for row in found],
            height + 0.2 * (offset - 1.5),
            xerr=np.abs(
                [
                    [row.value - (row.low or row.value) for row in found],
                    [(row.high or row.value) - row.value for row in found],
                ]
            ),
            fmt="o^sD"[offset],
            color=colour,
            label=search,
            markersize=5,
        )
    ax.set_yticks(height, names)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="median psi (1/nats): larger looks more robust")
    ax.grid(False, axis="y")
    ax.legend(title="searched by")
    return _shown(
        figure,
        "masked",
        alt="Median psi of the natural network and of six networks with masked "
        "gradients, by gradient, by BPDA, by transfer and by random search.",
        caption="Where the orange mark stands far to the right of the others, the "
        "gradient finds nothing and psi is fooled: "
        f"{_fooled_names(results) or 'nowhere here'}. Intervals over images.",
    )


def _fooled_names(results: Results) -> str:
    return ", ".join(
        str(row.factors["network"])
        for row in results.select("psi by gradient over the best search")
        if (row.low or 0) > claims.FOOLED_RATIO
    )


def bracket(results: Results, *, dataset: str, budgets: Sequence[float]) -> HTML:
    """The bracket of psi per kind of network at several budgets: sound lower end,
    attained upper end.
    """
    figure, axes = pyplot.subplots(
        1, len(budgets), figsize=(style.FIGURE_WIDTH, 4.4), sharey=True
    )
    for ax, budget in zip(np.atleast_1d(axes), budgets, strict=True):
        table = bracket_table(results, dataset, budget)
        ranking.brackets(
            ax, table, label="architecture", axis_label="psi (1/nats)", hue="training"
        )
        ax.set(xscale="log", title=f"radius {budget:g} ε")
        _plain_ticks(ax, "x", (0.3, 1, 3, 10, 30, 100))
        if legend := ax.get_legend():
            legend.remove()
    _legend_below(figure, _training_handles(), 2)
    gaps = [
        results.one("psi attained over its sound lower bound", budget=budget)
        for budget in budgets
    ]
    apart = " and ".join(
        f"{row.value:.0f}-fold at {row.factors['budget']:g} ε" for row in gaps
    )
    kinds = ", ".join(
        f"{_short(str(row.factors['training']))} {row.value:.0f}-fold"
        for row in results.select("bracket of psi by training", budget=max(budgets))
    )
    violated = sum(
        row.value for row in results.select("images whose bracket is violated")
    )
    return _shown(
        figure,
        "bracket",
        alt="Brackets of psi for twelve kinds of network at half and full budget: a "
        "wall at the proved lower end, a marker at the attained upper end.",
        caption="The true psi lies between a wall that is proved and a mark that was "
        f"attained. In the median the two are {apart} apart ({kinds} at full budget). "
        f"Images outside their bracket: {violated:.0f}.",
    )


def bracket_table(results: Results, dataset: str, budget: float) -> pd.DataFrame:
    """Columns architecture, training, low (certified), high (attained): medians over
    the bounded images of the first seed.
    """
    found = []
    for high in results.select(
        "psi attained (upper end)", dataset=dataset, budget=budget
    ):
        kind = {key: high.factors[key] for key in ("architecture", "training")}
        low = results.one(
            "psi certified (lower end)",
            dataset=dataset,
            budget=budget,
            method="best",
            **kind,
        )
        found.append({**kind, "low": low.value, "high": high.value})
    return pd.DataFrame(found)


# The view that a reader moves
# --------------------------------------------------------------------------------------


def explore(
    series: dict[str, Sequence[Attacked]], *, epsilon: float, names: Sequence[str]
) -> interactive.View:
    """One image under growing budgets, for each training: the image, the answer and
    psi.
    """
    import altair as alt

    rows: list[dict[str, Any]] = []
    odds: list[dict[str, Any]] = []
    for training, attacks in series.items():
        for each in attacks:
            here = {
                "training": _short(training),
                "budget": round(each.budget * epsilon, 6),
            }
            psi = "∞" if np.isinf(each.psi) else f"{each.psi:.2g}"
            picture = interactive.image_uri(np.asarray(each.image))
            rows.append({**here, "psi": f"psi = {psi}", "image": picture})
            odds += [
                {**here, "class": str(name), "probability": round(float(p), 4)}
                for name, p in zip(names, each.probabilities, strict=True)
            ]
    budgets = sorted({row["budget"] for row in rows})
    budget = interactive.slider("budget", budgets, label="Budget", start=budgets[0])
    names_of = [_short(name) for name in series]
    chooser = interactive.chooser("training", names_of, label="Training")
    picked = (interactive.chosen(budget), interactive.chosen(chooser))

    def chart(data: list[dict[str, Any]], **size: Any) -> Any:
        drawn = alt.Chart(pd.DataFrame(data), **size)
        for rule in picked:
            drawn = drawn.transform_filter(rule)
        return drawn

    image = interactive.pictures(chart(rows, width=150), "image", size=150)
    text = chart(rows, width=150, height=24).mark_text(fontSize=15).encode(text="psi:N")
    bars = (
        chart(odds, width=230, height=180)
        .mark_bar(color=style.BLUE)
        .encode(
            y=alt.Y("class:N", sort=[str(name) for name in names], title=None),
            x=alt.X("probability:Q").scale(domain=[0, 1]),
        )
    )
    return interactive.show(
        alt.hconcat(alt.vconcat(image, text), bars).add_params(budget, chooser),
        fallback=_still(series, epsilon),
        name="explore",
        number=FIGURES.index("explore") + 1,
        alt="An image, the probabilities of its classes and psi, for a budget and a "
        "training that the reader chooses; a larger budget lowers psi.",
        caption="Move the budget, change the training: psi's own search pushes the "
        "image. The bars are the network's own probabilities, not the normalised ones "
        "that psi compares.",
    )


def _still(series: dict[str, Sequence[Attacked]], epsilon: float) -> Figure:
    """The same as a picture: images at three budgets, a row a training."""
    figure, axes = pyplot.subplots(len(series), 3, figsize=(4.4, 1.6 * len(series)))
    for row, (training, attacks) in zip(axes, series.items(), strict=True):
        for ax, each in zip(
            row, (attacks[0], attacks[len(attacks) // 2], attacks[-1]), strict=True
        ):
            _picture(ax, each.image)
            title = f"{_short(training)}, {each.budget * epsilon:.2g}"
            ax.set_title(title)
    return figure
