"""The chapter's figures: each function draws one Matplotlib figure from the record's
rows and returns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from robustbook.plots import ranking, style
from robustbook.plots.style import Look
from robustbook.results import Results, UnmeasuredError
from robustbook.studies.synthesis import networks
from robustbook.studies.synthesis.claims import (
    ACCURACY_KEPT,
    CERTIFIED,
    CLEAN,
    LENSES,
    LOW_PASS,
    PRUNABLE,
    PSI,
    PSI_UNCHANGED,
    ROBUST,
    SOUND,
    STABILITY,
    within,
)
from robustbook.studies.synthesis.rows import WITHOUT_POSTERIOR, matrix

LOOKS: dict[str, Look] = {
    "natural": style.look("natural"),
    "natural, short": Look("natural, short", style.SKY, "v"),
    "penalised": Look("penalised (MAP)", style.OCHRE, "<"),
    "FGSM": style.look("fgsm"),
    "gradient-regularised": style.look("gradient-regularised"),
    "MinMax, half budget": Look("MinMax, half budget", style.VERMILLION, "d"),
    "MinMax": style.look("minmax"),
    "mean-field VI": Look("mean-field VI", style.PURPLE, "P"),
    "natural, 25% pruned": Look("natural, 25 % pruned", style.BLUE, "h"),
    "natural, 50% pruned": Look("natural, 50 % pruned", style.BLUE, "p"),
    "natural, 75% pruned": Look("natural, 75 % pruned", style.BLUE, "*"),
    "MinMax, 50% pruned": Look("MinMax, 50 % pruned", style.VERMILLION, "p"),
}
"""Pruned networks have their parent's colour and a hollow marker; trainings are drawn
as in the other chapters.
"""
AXES = {
    ROBUST: "robust accuracy (share)",
    PSI: "psi, attained (1/nats)",
    SOUND: "psi, proved (1/nats)",
    CERTIFIED: "certified share",
    STABILITY: "saliency stability (ρ)",
    LOW_PASS: "low-pass loss (share)",
    PRUNABLE: "prunable share",
    CLEAN: "clean accuracy (share)",
}
SHORT = {
    ROBUST: "robust\naccuracy",
    PSI: "psi",
    SOUND: "sound\npsi",
    CERTIFIED: "certified\nshare",
    STABILITY: "saliency\nstability",
    LOW_PASS: "low-pass\nloss",
    PRUNABLE: "prunable\nshare",
    CLEAN: "clean\naccuracy",
}
LOGARITHMIC = (PSI, SOUND)


def draw_matrix(results: Results) -> Figure:
    """Rank correlations between all lenses with their intervals; on the diagonal the
    agreement of two seeds.
    """
    found, count = matrix(results), len(LENSES)
    for place, lens in enumerate(LENSES):
        for seen in results.select("agreement of two seeds", lens=lens):
            found[place, place] = (seen.value, seen.low, seen.high)
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 5.9))
    shown = np.where(np.tri(count, dtype=bool), found[:, :, 0], np.nan)
    mesh = ax.imshow(shown, vmin=-1, vmax=1, cmap="PuOr", rasterized=True)
    for column, row in combinations_with_replacement(range(count), 2):
        value, low, high = found[row, column]
        if np.isfinite(value):
            text = f"{value:.2f}\n[{low:.2f},\n{high:.2f}]".replace("-", "−")
            colour = "white" if abs(value) > 0.65 else "#111111"
            ax.text(
                column, row, text, ha="center", va="center", fontsize=7.6, color=colour
            )
            if row == column:
                ax.add_patch(
                    Rectangle(
                        (column - 0.46, row - 0.46),
                        0.92,
                        0.92,
                        fill=False,
                        color=style.INK,
                    )
                )
    ax.set_xticks(range(count), [SHORT[lens] for lens in LENSES], fontsize=8.5)
    ax.set_yticks(range(count), [SHORT[lens] for lens in LENSES], fontsize=8.5)
    ax.grid(False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.colorbar(mesh, ax=ax, label="Spearman's ρ", shrink=0.6)
    return figure


def draw_pairs(
    results: Results,
    lenses: Sequence[str] = (PSI, CERTIFIED, STABILITY, LOW_PASS, PRUNABLE, CLEAN),
) -> Figure:
    """Robust accuracy of every network against each other lens."""
    figure, axes = pyplot.subplots(2, 3, figsize=(style.FIGURE_WIDTH, 5.6), sharex=True)
    for ax, lens in zip(axes.flat, lenses, strict=True):
        for kind in kinds(results):
            across = [row.value for row in results.select(ROBUST, kind=kind)]
            up = [row.value for row in results.select(lens, kind=kind)]
            _points(ax, across, up, kind)
        if lens in LOGARITHMIC:
            ax.set_yscale("log")
            _plain_ticks(ax, (0.3, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500))
        ax.set_ylabel(AXES[lens], fontsize=10)
    axes[1, 1].set_xlabel(AXES[ROBUST])
    figure.legend(
        handles=_handles(kinds(results)),
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    return figure


def kinds(results: Results) -> list[str]:
    """Kinds of network of the zoo, in the order of the chapter."""
    return list(
        dict.fromkeys(str(row.factors["kind"]) for row in results.select(CLEAN))
    )


def _points(ax: Axes, across: Sequence[float], up: Sequence[float], kind: str) -> None:
    hollow = kind in networks.PRUNED
    ax.plot(
        across,
        up,
        LOOKS[kind].marker,
        color=LOOKS[kind].colour,
        markersize=6,
        markerfacecolor="none" if hollow else LOOKS[kind].colour,
        markeredgecolor=LOOKS[kind].colour if hollow else style.GROUND,
        markeredgewidth=1.3 if hollow else 0.5,
    )


def _handles(names: Sequence[str]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker=LOOKS[name].marker,
            color=LOOKS[name].colour,
            markerfacecolor="none" if name in networks.PRUNED else LOOKS[name].colour,
            label=LOOKS[name].label,
        )
        for name in names
    ]


def _plain_ticks(ax: Axes, ticks: Sequence[float]) -> None:
    """Label a logarithmic y axis at these values alone, as far as they lie on it."""
    low, high = ax.get_ylim()
    chosen = [tick for tick in ticks if low <= tick <= high]
    ax.yaxis.set_ticks(chosen, [f"{tick:g}" for tick in chosen])
    ax.yaxis.set_minor_locator(NullLocator())


def bracket_table(results: Results, radius: float) -> pd.DataFrame:
    """Columns kind, low (proved), high (attained): medians over images, means over
    seeds.
    """
    rows = []
    for kind in kinds(results):
        low, high = (
            np.mean(
                [row.value for row in results.select(name, kind=kind, radius=radius)]
            )
            for name in ("psi, proved end", "psi, attained end")
        )
        rows.append({"kind": LOOKS[kind].label, "low": low, "high": high})
    return pd.DataFrame(rows)


def draw_brackets(results: Results, radii: Sequence[float]) -> Figure:
    """The bracket of psi of each kind at several radii: from the proved to the attained
    end.
    """
    figure, axes = pyplot.subplots(
        1, len(radii), figsize=(style.FIGURE_WIDTH, 4.4), sharey=True
    )
    for ax, radius in zip(np.atleast_1d(axes), radii, strict=True):
        ranking.brackets(
            ax, bracket_table(results, radius), label="kind", axis_label="psi (1/nats)"
        )
        ax.set(xscale="log", title=f"radius {radius:g} ε")
        low, high = ax.get_xlim()
        chosen = [
            tick for tick in (0.3, 1, 3, 10, 30, 100, 300, 1000) if low <= tick <= high
        ]
        ax.xaxis.set_ticks(chosen, [f"{tick:g}" for tick in chosen])
        ax.xaxis.set_minor_locator(NullLocator())
    return figure


CONTROLS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "all networks": ("rank correlation", {}, style.BLUE, "o"),
    "families drawn": ("rank correlation over families", {}, style.SKY, "v"),
    "given clean accuracy": (
        "partial rank correlation",
        {"given": CLEAN},
        style.VERMILLION,
        "D",
    ),
    "within one kind": ("within-kind rank correlation", {}, style.GREY, "X"),
}
"""A correlation and its three controls: rows of the record, colour and marker."""


def draw_controls(results: Results) -> Figure:
    """How each lens ranks with robust accuracy: plain, over families, at equal clean
    accuracy, and within kinds.
    """
    lenses = [lens for lens in LENSES if lens not in (ROBUST, CLEAN)]
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.3))
    for index, (label, (name, factors, colour, marker)) in enumerate(CONTROLS.items()):
        for height, lens in enumerate(lenses):
            place = height + 0.19 * (index - 1.5)
            for row in results.select(name, first=ROBUST, second=lens, **factors):
                ax.plot(
                    [row.low or 0, row.high or 0],
                    [place, place],
                    color=colour,
                    linewidth=2,
                    solid_capstyle="butt",
                )
                ax.plot(
                    row.value,
                    place,
                    marker=marker,
                    color=colour,
                    markeredgecolor=style.GROUND,
                    markeredgewidth=0.8,
                )
        ax.plot([], [], marker=marker, color=colour, label=label)
    ax.axvline(0, color=style.INK, linewidth=1)
    ax.set_yticks(range(len(lenses)), lenses)
    ax.set(
        ylim=(len(lenses) - 0.5, -0.5),
        xlim=(-1.02, 1.02),
        xlabel="Spearman's ρ with robust accuracy",
    )
    for edge in range(1, len(lenses)):
        ax.axhline(edge - 0.5, color="#8a8a8a66", linewidth=0.7, zorder=0)
    ax.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def draw_pruning(results: Results) -> Figure:
    """Psi after pruning over before (left) and the accuracy that pruning costs (right),
    with intervals.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.0), sharey=True)
    names = ("psi after pruning over before", "accuracy lost by pruning")
    labels = ("psi after / before", "accuracy lost (share)")
    for ax, name, label in zip(axes, names, labels, strict=True):
        frame = results.table(name)
        frame["label"] = [LOOKS[kind].label for kind in frame["kind"]]
        ranking.forest(ax, frame, label="label", axis_label=label)
    axes[0].axvspan(
        1 / PSI_UNCHANGED, PSI_UNCHANGED, color=style.GREEN, alpha=0.15, linewidth=0
    )
    axes[0].set_xscale("log")
    low, high = axes[0].get_xlim()
    chosen = [
        tick for tick in (0.25, 0.5, 0.8, 1, 1.25, 2, 3, 4, 8) if low <= tick <= high
    ]
    axes[0].xaxis.set_ticks(chosen, [f"{tick:g}" for tick in chosen])
    axes[0].xaxis.set_minor_locator(NullLocator())
    axes[1].axvspan(
        axes[1].get_xlim()[0], ACCURACY_KEPT, color=style.GREEN, alpha=0.15, linewidth=0
    )
    return figure


PAIRS = (
    (ROBUST, PSI),
    (SOUND, CERTIFIED),
    (ROBUST, STABILITY),
    (ROBUST, LOW_PASS),
    (ROBUST, PRUNABLE),
)
"""The pairs that claims S1 to S5 are about."""


def without_posterior(results: Results) -> str:
    """What is left of the agreement of the two kinds of proof without the Bayesian
    kind, in a sentence.
    """
    try:
        bare, left = (
            results.one(f"{part}{WITHOUT_POSTERIOR}", first=SOUND, second=CERTIFIED)
            for part in ("", "partial ")
        )
    except UnmeasuredError:
        return (
            "Without the Bayesian kind, sound psi or certified share is the same for "
            "all networks: they have no rank correlation."
        )
    return (
        "Without the Bayesian kind, sound psi and certified share have ρ = "
        f"{within(bare)}, and {within(left)} given robust accuracy: "
        + (
            "the two kinds of proof then agree beyond what attacks tell."
            if (left.low or 0) > 0
            else "no clear agreement beyond what attacks tell."
        )
    )


def sensitivity_table(results: Results) -> pd.DataFrame:
    """Of each claim's pair the correlation, over families, without the Bayesian kind,
    and what two seeds share of both; a dash where a measure is the same for all.
    """
    own = {
        str(row.factors["lens"]): max(row.value, 0.0)
        for row in results.select("agreement of two seeds")
    }
    names = {
        "kinds": "rank correlation",
        "families": "rank correlation over families",
        "no VI": WITHOUT_POSTERIOR,
    }
    rows = []
    for number, (first, second) in enumerate(PAIRS, start=1):
        found = {
            head: ", ".join(
                within(row) for row in results.select(name, first=first, second=second)
            )
            or "–"
            for head, name in names.items()
        }
        both = (
            float(np.sqrt(own[first] * own[second]))
            if {first, second} <= own.keys()
            else None
        )
        rows.append(
            {
                "claim": f"S{number}",
                "pair": f"{first}, {second}",
                **found,
                "two seeds": both,
            }
        )
    return pd.DataFrame(rows)
