"""The chapter's figures: each function draws one Matplotlib figure from measurements
and returns it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from robustbook.measure.surfaces import Surface
from robustbook.plots import ranking, style, surfaces
from robustbook.results import Results
from robustbook.stats import kendall
from robustbook.studies.loss_metric.measure.evaluation import Evaluation
from robustbook.studies.loss_metric.measure.landscape import LINE_POINTS, REACH
from robustbook.studies.loss_metric.networks import ARCHITECTURES, TRAININGS

Array = NDArray[np.float64]
QUANTITIES: tuple[surfaces.Quantity, ...] = ("cross_entropy", "decision")
ARCHITECTURE_MARKERS = dict(zip(ARCHITECTURES, ("o", "s", "^"), strict=True))
MEASURES = {
    "median psi": "psi",
    "robust accuracy": "adversarial accuracy",
    "1 / mean adversarial CE": "1 / adversarial CE",
}
MEASURE_COLOURS = {
    "median psi": style.VERMILLION,
    "robust accuracy": style.BLUE,
    "1 / mean adversarial CE": style.GREY,
}


def draw_surfaces(planes: dict[str, Surface], paths: dict[str, Array]) -> Figure:
    """Cross-entropy (top) and decision surface (bottom) of one image for every
    training, with boundary and attack path.
    """
    figure, axes = pyplot.subplots(
        2, len(planes), figsize=(style.FIGURE_WIDTH, 4.4), sharex=True, sharey=True
    )
    for row, quantity in zip(axes, QUANTITIES, strict=True):
        scale = surfaces.limits(list(planes.values()), quantity)
        for ax, (training, plane) in zip(row, planes.items(), strict=True):
            mesh = surfaces.contour(
                ax, plane, quantity, path=paths[training], scale=scale
            )
            ax.set(xlabel="", ylabel="")
            ax.set(
                xticks=[-_half(plane), _half(plane)],
                yticks=[-_half(plane), 0, _half(plane)],
            )
            if quantity == "cross_entropy":
                ax.set_title(
                    style.label(training).split(" (")[0].replace("-", "-\n"),
                    fontsize=10,
                )
        figure.colorbar(
            mesh, ax=row, label=surfaces.AXIS[quantity].replace(" (", "\n("), shrink=0.9
        )
    figure.supxlabel("adversarial direction α (pixel units)", fontsize=10.5)
    figure.supylabel("random direction β", fontsize=10.5)
    return figure


def _half(plane: Surface) -> float:
    """Half of how far a plane reaches, for ticks."""
    return round(float(plane.alphas[-1]) / 2, 3)


def draw_reliefs(
    planes: dict[str, Surface], trainings: Sequence[str] = ("natural", "minmax")
) -> Figure:
    """Reliefs of the cross-entropy (left) and the decision surface (right) for two
    trainings.
    """
    figure = pyplot.figure(figsize=(style.FIGURE_WIDTH, 6.0))
    for row, training in enumerate(trainings):
        for column, quantity in enumerate(QUANTITIES):
            ax = figure.add_subplot(
                len(trainings), 2, 2 * row + column + 1, projection="3d"
            )
            surfaces.relief(ax, planes[training], quantity)
            ax.set_title(style.label(training) if column == 0 else "", fontsize=11)
    return figure


def draw_lines(evaluations: Sequence[Evaluation]) -> Figure:
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
            ax.plot(
                positions,
                middle,
                color=style.colour(training),
                label=style.label(training),
            )
            ax.fill_between(
                positions,
                low,
                high,
                color=style.colour(training),
                alpha=0.15,
                linewidth=0,
            )
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set(xlabel="distance (pixel units)", title=f"{direction} direction")
    axes[0].set_ylabel("S, normalised logits")
    axes[0].legend(fontsize=9)
    return figure


def draw_agreement(
    evaluations: Sequence[Evaluation], scores: dict[str, Array]
) -> Figure:
    """Psi of every network against the minimal distance, and clean accuracy against the
    same.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.5), sharex=True)
    distance = np.array([each.distance.mean() for each in evaluations])
    for ax, name, label in zip(
        axes,
        ("median psi", "clean accuracy"),
        ("median psi (1/nats)", "clean accuracy (share)"),
        strict=True,
    ):
        for index, each in enumerate(evaluations):
            network = each.network
            ax.plot(
                distance[index],
                scores[name][index],
                ARCHITECTURE_MARKERS[network.architecture],
                color=style.colour(network.training),
                markersize=6,
                markeredgecolor=style.GROUND,
                markeredgewidth=0.5,
            )
        ax.set(xlabel="mean minimal distance (pixel units)", ylabel=label)
    handles = _training_handles("o") + [
        Line2D([], [], linestyle="", marker=marker, color=style.INK, label=name)
        for name, marker in ARCHITECTURE_MARKERS.items()
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=4, fontsize=9, frameon=False
    )
    return figure


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


def draw_rank_agreement(results: Results) -> Figure:
    """Rank correlation of every measure with both references, with intervals over kinds
    of network.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 4.0), sharey=True)
    order = results.table("rank agreement", reference="minimal distance").sort_values(
        "value"
    )["measure"]
    for ax, reference in zip(
        axes, ("strong robust accuracy", "minimal distance"), strict=True
    ):
        # The panels share their rows, so both tables must come in the same order.
        table = (
            results.table("rank agreement", reference=reference)
            .set_index("measure")
            .loc[order]
            .reset_index()
        )
        ranking.forest(ax, table, label="measure", axis_label="Spearman's ρ")
        ax.set_title(reference, fontsize=10.5)
        ax.axvline(0, color=style.INK, linewidth=1)
    return figure


def draw_stability(scores: dict[str, Array], strengths: int) -> Figure:
    """Kendall's tau between the rankings under every pair of settings, one panel per
    measure.
    """
    figure, axes = pyplot.subplots(1, len(scores), figsize=(style.FIGURE_WIDTH, 3.1))
    for ax, (name, table) in zip(axes, scores.items(), strict=True):
        mesh = ax.imshow(kendall(table), vmin=-1, vmax=1, cmap="PuOr", rasterized=True)
        edges = np.arange(1, 3) * strengths - 0.5
        ax.hlines(edges, -0.5, len(table) - 0.5, color=style.GROUND, linewidth=1.5)
        ax.vlines(edges, -0.5, len(table) - 0.5, color=style.GROUND, linewidth=1.5)
        ticks = np.arange(3) * strengths + (strengths - 1) / 2
        ax.set_xticks(ticks, ["½ε", "ε", "2ε"])
        ax.set_yticks(ticks, ["½ε", "ε", "2ε"])
        ax.grid(False)
        ax.set_title(MEASURES[name], fontsize=10)
    figure.colorbar(mesh, ax=axes, label="Kendall's τ", shrink=0.75)
    return figure


def draw_cost(results: Results) -> Figure:
    """Rank agreement with the minimal distance against passes per image, psi and
    adversarial accuracy.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.4))
    for name in ("robust accuracy", "median psi"):
        table = results.table("rank agreement at cost", measure=name).sort_values(
            "passes"
        )
        colour = MEASURE_COLOURS[name]
        ax.plot(
            table["passes"], table["value"], "o-", color=colour, label=MEASURES[name]
        )
        ax.fill_between(
            table["passes"],
            table["low"],
            table["high"],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    ax.set(
        xscale="log",
        xlabel="forward and backward passes per image",
        ylabel="Spearman's ρ",
    )
    _plain_ticks(ax, "x", (3, 5, 10, 20, 50, 100, 200))
    ax.legend(loc="lower right")
    return figure


def draw_search(evaluations: Sequence[Evaluation], steps: Sequence[int]) -> Figure:
    """Median psi against ascent steps, each network divided by its value at the longest
    ascent; band over networks.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    for training in TRAININGS:
        group = [each for each in evaluations if each.network.training == training]
        paths = np.array(
            [
                [1 / np.median(each.kl[f"{count} steps", 1.0]) for count in steps]
                for each in group
            ]
        )
        ratios = paths / paths[:, -1:]
        ax.plot(
            steps,
            ratios.mean(0),
            marker=style.marker(training),
            color=style.colour(training),
            label=style.label(training),
        )
        ax.fill_between(
            steps,
            ratios.min(0),
            ratios.max(0),
            color=style.colour(training),
            alpha=0.12,
            linewidth=0,
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="ascent steps",
        ylabel="median psi / psi at longest ascent",
    )
    _plain_ticks(ax, "x", steps)
    _plain_ticks(ax, "y", (1, 2, 5, 10, 20, 50, 100))
    ax.legend(fontsize=9)
    return figure


def draw_brackets(results: Results, dataset: str, budgets: Sequence[float]) -> Figure:
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
    figure.legend(
        handles=_training_handles(),
        loc="outside lower center",
        ncols=4,
        fontsize=9,
        frameon=False,
    )
    return figure


def _plain_ticks(ax: Axes, axis: str, ticks: Sequence[float]) -> None:
    """Label a logarithmic axis at these values alone, as far as they lie on it."""
    low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
    chosen = [tick for tick in ticks if low <= tick <= high]
    scale = ax.xaxis if axis == "x" else ax.yaxis
    scale.set_ticks(chosen, [f"{tick:g}" for tick in chosen])
    scale.set_minor_locator(NullLocator())


def bracket_table(results: Results, dataset: str, budget: float) -> pd.DataFrame:
    """Columns architecture, training, low (certified), high (attained): medians over
    the bounded images of the first seed.
    """
    rows = []
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
        rows.append({**kind, "low": low.value, "high": high.value})
    return pd.DataFrame(rows)


def draw_masked(results: Results) -> Figure:
    """Accuracy of natural and masked networks: clean, under white-box PGD, and under
    attacks that use no gradient of theirs.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    kinds = [
        str(row.factors["network"])
        for row in results.select("clean accuracy of masked")
    ]
    columns = {
        "clean": ("clean accuracy of masked", style.GREY),
        "white-box PGD": ("white-box robust accuracy", style.BLUE),
        "transfer or random search": (
            "robust accuracy without gradients",
            style.VERMILLION,
        ),
    }
    for offset, (label, (name, colour)) in enumerate(columns.items()):
        rows = [results.one(name, network=kind) for kind in kinds]
        values = np.array([row.value for row in rows])
        spread = np.array(
            [[row.value - (row.low or 0), (row.high or 0) - row.value] for row in rows]
        ).T
        ax.bar(
            np.arange(len(kinds)) + 0.27 * (offset - 1),
            values,
            0.25,
            color=colour,
            label=label,
            yerr=spread,
        )
    ax.set_xticks(range(len(kinds)), kinds)
    ax.set(ylabel="accuracy (share)", ylim=(0, 1.02))
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure
