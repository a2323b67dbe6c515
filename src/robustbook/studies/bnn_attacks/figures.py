"""The figures of the chapter, one function each, in the order of the page; they draw
what was measured and compute nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustbook.perturb.interference import KINDS as INTERFERENCES
from robustbook.plots import style
from robustbook.results import Metric, Results
from robustbook.studies.bnn_attacks.claims import BNN, CNN, PENALISED, SECOND
from robustbook.studies.bnn_attacks.measure.evaluation import BUDGETS, Measured
from robustbook.studies.bnn_attacks.networks import DESIGN_KINDS, KINDS
from robustbook.studies.bnn_attacks.rows import NAMES

LOOKS = {
    CNN: (style.GREY, "o"),
    SECOND: (style.colour("deterministic"), style.marker("deterministic")),
    PENALISED: (style.SKY, "v"),
    BNN: (style.colour("mean-field vi"), style.marker("mean-field vi")),
    "det+stoch": (style.OCHRE, "<"),
    "stoch+det": (style.SKY, ">"),
    "MC dropout": (style.colour("mc dropout"), style.marker("mc dropout")),
    "ensemble": (style.colour("ensemble"), style.marker("ensemble")),
    "Laplace": (style.colour("laplace"), style.marker("laplace")),
    "weight noise": (style.colour("weight noise"), style.marker("weight noise")),
}
"""Colour and marker of each kind."""
WAY_TITLES = {"transfer": "crafted on the CNN", "EOT": "crafted on each network (EOT)"}
INPUT_LOOKS = {
    "transfer": (style.BLUE, "-", "crafted on the CNN"),
    "EOT": (style.ORANGE, "--", "crafted on the BNN (EOT)"),
    "uncertainty-aware": (style.VERMILLION, ":", "uncertainty-aware"),
}


def _band(
    ax: Axes, positions: Sequence[float], rows: Sequence[Metric], kind: str, label: str
) -> None:
    colour, marker = LOOKS[kind]
    ax.plot(
        positions,
        [row.value for row in rows],
        color=colour,
        marker=marker,
        label=label,
        markersize=5,
    )
    low, high = [row.low or 0.0 for row in rows], [row.high or 0.0 for row in rows]
    ax.fill_between(positions, low, high, color=colour, alpha=0.12, linewidth=0)


def _shares(ax: Axes) -> None:
    ax.set_ylim(-0.02, 1.02)


def draw_budgets(results: Results, datasets: dict[str, tuple[str, float]]) -> Figure:
    """Accuracy against budget of the four designs, crafted on the CNN and on each
    design; one row a data set.
    """
    figure, grid = pyplot.subplots(
        len(datasets),
        2,
        figsize=(style.FIGURE_WIDTH, 0.7 + 2.6 * len(datasets)),
        sharey=True,
        squeeze=False,
    )
    for axes, (dataset, (title, epsilon)) in zip(grid, datasets.items(), strict=True):
        for ax, (way, words) in zip(axes, WAY_TITLES.items(), strict=True):
            for kind, design in DESIGN_KINDS.items():
                rows = [results.one("clean accuracy", dataset=dataset, network=kind)]
                rows += [
                    results.one(
                        "accuracy under attack",
                        dataset=dataset,
                        network=kind,
                        way=way,
                        attack="PGD",
                        budget=budget,
                    )
                    for budget in BUDGETS
                ]
                _band(
                    ax,
                    [0.0, *(budget * epsilon for budget in BUDGETS)],
                    rows,
                    kind,
                    design,
                )
            if ax in grid[0]:
                ax.set_title(words, fontsize=10)
            ax.set_xlabel("budget (pixel units)")
            _shares(ax)
        axes[0].set_ylabel(f"{title}\naccuracy (share)", fontsize=10)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_ways(results: Results, dataset: str) -> Figure:
    """Accuracy of every kind under PGD at the full budget: transferred, one sample,
    averaged.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.3))
    ways = {
        "transfer": (style.BLUE, "o"),
        "one sample": (style.ORANGE, "s"),
        "EOT": (style.VERMILLION, "D"),
    }
    kinds = [kind for kind in KINDS if kind != CNN]
    for offset, (way, (colour, marker)) in zip(
        (-0.2, 0, 0.2), ways.items(), strict=True
    ):
        for place, kind in enumerate(kinds):
            for row in results.select(
                "accuracy under attack",
                dataset=dataset,
                network=kind,
                way=way,
                attack="PGD",
                budget=1.0,
            ):
                ax.plot(
                    [row.low or 0, row.high or 0],
                    [place + offset] * 2,
                    color=colour,
                    linewidth=1.4,
                )
                ax.plot(row.value, place + offset, marker, color=colour, markersize=5.5)
    ax.set_yticks(range(len(kinds)), [NAMES[kind] for kind in kinds])
    ax.invert_yaxis()
    ax.set_xlabel("accuracy under PGD at ε (share)")
    names = {
        "transfer": "crafted on the CNN",
        "one sample": "on one sample at a time",
        "EOT": "averaged (EOT)",
    }
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=names[way])
        for way, (colour, marker) in ways.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_attacks(results: Results, datasets: dict[str, tuple[str, float]]) -> Figure:
    """The BNN and the second CNN under every attack that was crafted on the CNN, and
    the BNN under EOT.
    """
    figure, axes = pyplot.subplots(
        1, len(datasets), figsize=(style.FIGURE_WIDTH, 3.6), sharey=True, squeeze=False
    )
    for ax, (dataset, (title, _)) in zip(axes[0], datasets.items(), strict=True):
        names = [
            str(row.factors["attack"])
            for row in results.select(
                "accuracy under attack",
                dataset=dataset,
                network=SECOND,
                way="transfer",
                budget=1.0,
            )
        ]
        series = [
            (SECOND, "transfer", style.GROUND, "second CNN, transferred"),
            (BNN, "transfer", None, "BNN, transferred"),
        ]
        for place, attack in enumerate(names):
            for shift, (kind, way, face, _) in zip(
                (-0.2, 0, 0.2), [*series, (BNN, "EOT", style.GROUND, "")], strict=True
            ):
                for row in results.select(
                    "accuracy under attack",
                    dataset=dataset,
                    network=kind,
                    way=way,
                    attack=attack,
                    budget=1.0,
                ):
                    colour, marker = LOOKS[kind]
                    ax.plot(
                        [row.low or 0, row.high or 0],
                        [place + shift] * 2,
                        color=colour,
                        linewidth=1.3,
                    )
                    ax.plot(
                        row.value,
                        place + shift,
                        marker,
                        color=colour,
                        markerfacecolor=face or colour,
                    )
        ax.set_yticks(range(len(names)), names)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("accuracy (share)")
    axes[0, 0].invert_yaxis()
    handles = [
        Line2D(
            [],
            [],
            color=LOOKS[kind][0],
            marker=LOOKS[kind][1],
            markerfacecolor=face,
            linestyle="",
            label=words,
        )
        for kind, face, words in (
            (SECOND, style.GROUND, "second CNN, transferred"),
            (BNN, None, "BNN, transferred"),
            (BNN, style.GROUND, "BNN, averaged (EOT)"),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_samples(results: Results, datasets: dict[str, tuple[str, float]]) -> Figure:
    """Accuracy that is left against the number of posterior samples in the attack's
    gradient.
    """
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.0))
    for (dataset, (title, _)), (colour, marker) in zip(
        datasets.items(), ((style.VERMILLION, "D"), (style.BLUE, "o")), strict=False
    ):
        rows = results.select("accuracy by samples in the gradient", dataset=dataset)
        counts = np.array([row.factors["samples"] for row in rows], dtype=float)
        ax.plot(
            counts,
            [row.value for row in rows],
            color=colour,
            marker=marker,
            label=title,
        )
        ax.fill_between(
            counts,
            [row.low or 0 for row in rows],
            [row.high or 0 for row in rows],
            color=colour,
            alpha=0.12,
        )
        ax.set_xscale("log")
        ax.set_xticks(counts, [f"{count:.0f}" for count in counts])
        ax.minorticks_off()
    ax.set(
        xlabel="posterior samples in the gradient",
        ylabel="accuracy of the BNN (share)",
        ylim=(0, None),
    )
    ax.legend(fontsize=9)
    return figure


def draw_histograms(measured: Measured, image: int, epsilon: float) -> Figure:
    """Probability of the true class by posterior sample, one panel a budget, for one
    image under EOT.
    """
    budgets = sorted(measured.truth)
    figure, axes = pyplot.subplots(
        1, len(budgets), figsize=(style.FIGURE_WIDTH, 2.5), sharey=True, sharex=True
    )
    for ax, budget in zip(axes, budgets, strict=True):
        values = measured.truth[budget][:, image]
        ax.hist(
            values,
            bins=list(np.linspace(0, 1, 11)),
            color=style.colour("mean-field vi"),
            alpha=0.8,
        )
        ax.axvline(float(values.mean()), color=style.INK, linewidth=1.4)
        ax.set_title(f"ε = {budget * epsilon:.3g}", fontsize=10)
    axes[0].set_ylabel("posterior samples")
    figure.supxlabel("probability of the true class", fontsize=10.5)
    return figure


def draw_alarm(
    measured: Sequence[Measured], datasets: dict[str, tuple[str, float]]
) -> Figure:
    """ROC of mutual information for three kinds of attacked input, and of the CNN's
    max-softmax; seeds averaged.
    """
    figure, axes = pyplot.subplots(
        1, len(datasets), figsize=(style.FIGURE_WIDTH, 3.9), sharey=True, squeeze=False
    )
    for ax, (dataset, (title, _)) in zip(axes[0], datasets.items(), strict=True):
        rows = [
            each for each in measured if each.kind == BNN and each.dataset == dataset
        ]
        for inputs, (colour, line, words) in INPUT_LOOKS.items():
            pairs = [
                (
                    row.scores["clean", "mutual information"],
                    row.scores[inputs, "mutual information"],
                )
                for row in rows
            ]
            rates, caught = _roc(pairs)
            ax.plot(rates, caught, color=colour, linestyle=line, label=words)
        rates, caught = _roc(
            [(row.baseline["clean"], row.baseline["transfer"]) for row in rows]
        )
        ax.plot(
            rates,
            caught,
            color=style.GREY,
            linestyle="-.",
            label="CNN's max-softmax, crafted on the CNN",
        )
        ax.plot([0, 1], [0, 1], color=style.GREY, linewidth=1)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("false alarms (share of clean)")
    axes[0, 0].set_ylabel("alarms (share of attacked)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _roc(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Share of attacked inputs above each threshold against that of clean ones, mean
    over seeds.
    """
    rates = np.linspace(0, 1, 51)
    curves = []
    for clean, attacked in pairs:
        levels = np.r_[np.inf, np.unique(np.r_[clean, attacked])[::-1]]
        false = [(clean >= level).mean() for level in levels]
        true = [(attacked >= level).mean() for level in levels]
        curves.append(np.interp(rates, false, true))
    return rates, np.mean(curves, axis=0)


def draw_interference(results: Results, dataset: str) -> Figure:
    """Accuracy against severity for each kind of interference."""
    figure, axes = pyplot.subplots(
        1, len(INTERFERENCES), figsize=(style.FIGURE_WIDTH, 2.9), sharey=True
    )
    for ax, name in zip(axes, INTERFERENCES, strict=True):
        for kind in (CNN, PENALISED, "ensemble", BNN):
            rows = results.select(
                "accuracy under interference",
                dataset=dataset,
                network=kind,
                interference=name,
            )
            _band(
                ax,
                [float(row.factors["severity"]) for row in rows],
                rows,
                kind,
                NAMES[kind].split(" (")[0],
            )
        ax.set_title(name, fontsize=9)
        ax.set_xticks([1, 3, 5])
        _shares(ax)
    axes[0].set_ylabel("accuracy (share)")
    axes[len(axes) // 2].set_xlabel("severity")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure
