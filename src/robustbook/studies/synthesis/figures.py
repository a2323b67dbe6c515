"""The chapter's figures: each function draws one from the record's rows (the first from
two networks of the page), and writes its caption and alt text.

In the order of the page (`FIGURES`); `hero` and `in_short` stand above everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import Module

from robustbook import page
from robustbook.models.network import compute_logits
from robustbook.page import Kind
from robustbook.plots import interactive, style
from robustbook.plots.style import Look
from robustbook.results import Metric, Results
from robustbook.studies.synthesis import claims, networks
from robustbook.studies.synthesis.claims import (
    ALIKE,
    BLACK_BOX,
    CERTIFIED,
    CLEAN,
    EVERY,
    LENSES,
    LOW_PASS,
    ONE_STEP,
    PRUNABLE,
    PSI,
    ROBUST,
    SOUND,
    STABILITY,
    WITHIN,
    pair,
    said,
)
from robustbook.studies.synthesis.rows import matrix

if TYPE_CHECKING:
    from IPython.display import HTML

Array = NDArray[np.float64]

FIGURES = (
    "one-digit",
    "zoo",
    "explore",
    "repeats",
    "psi",
    "proofs",
    "ties",
    "pruning",
)
"""Names of the numbered figures, in the order of the page."""

LOOKS: dict[str, Look] = {
    "natural": style.look("natural"),
    "natural, short": Look("natural, short", style.BLUE, "v"),
    "few images": Look("few images", style.BLUE, "<"),
    "narrow": Look("narrow", style.BLUE, "^"),
    "wide": Look("wide", style.BLUE, ">"),
    "noisy images": Look("noisy images", style.OCHRE, "o"),
    "blurred images": Look("blurred images", style.OCHRE, "s"),
    "shifted images": Look("shifted images", style.OCHRE, ">"),
    "covered images": Look("covered images", style.OCHRE, "X"),
    "wrong labels": Look("wrong labels", style.OCHRE, "*"),
    "penalised": Look("L2 penalty", style.GREEN, "v"),
    "gradient-regularised": style.look("gradient-regularised"),
    "FGSM": style.look("fgsm"),
    "MinMax, half budget": Look("MinMax, half budget", style.VERMILLION, "d"),
    "MinMax": Look("MinMax", style.VERMILLION, "D"),
    "mean-field VI": Look("mean-field VI", style.PURPLE, "P"),
    "natural, 25% pruned": Look("natural, 25 % pruned", style.BLUE, "h"),
    "natural, 50% pruned": Look("natural, 50 % pruned", style.BLUE, "p"),
    "natural, 75% pruned": Look("natural, 75 % pruned", style.BLUE, "*"),
    "MinMax, 50% pruned": Look("MinMax, 50 % pruned", style.VERMILLION, "p"),
}
"""Pruned networks have their parent's colour and a hollow marker; trainings of other
chapters are drawn as there.
"""


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


def kinds(results: Results) -> list[str]:
    """Kinds of network of the zoo, in the order of the chapter."""
    rows = results.select(CLEAN)
    return list(dict.fromkeys(str(row.factors["kind"]) for row in rows))


def _two(value: float) -> str:
    """Two decimals without the zero in front of them, for cells."""
    text = f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text[:-1]


# Above everything else
# --------------------------------------------------------------------------------------


def in_short(results: Results) -> list[str]:
    """What the chapter found, in four sentences."""
    count = {row.factors["count"]: row.value for row in results.select("networks")}
    rows = [
        pair(results, "rank correlation", PSI, name) for name in (BLACK_BOX, CERTIFIED)
    ]
    values = [f"{row.value:.2f}".replace("-", "−") for row in rows]
    alike = all(claims.side(row) == "above" for row in rows)
    return [
        f"We took nine measures of the same {count['kinds'] * count['seeds']:.0f} "
        f"networks, trained in {count['families']:.0f} ways, and asked which of them "
        "say the same.",
        (
            "psi, random search and proofs put networks in much the same order (ρ = "
            f"{values[0]} and {values[1]})."
            if alike
            else "Whether psi orders networks as random search and proofs do is not "
            f"settled (ρ = {values[0]} and {values[1]})."
        ),
        _ties_in_short(results),
    ]


def _ties_in_short(results: Results) -> str:
    """Which of three other lenses tell of robustness, by their verdicts."""
    names = {
        "S3": "the stability of saliency maps",
        "S4": "what a low-pass filter costs",
        "S5": "how much can be pruned",
    }
    ids = {claim.id: claim for claim in claims.CLAIMS}
    lenses = {"S3": STABILITY, "S4": LOW_PASS, "S5": PRUNABLE}
    clear = [
        names[each]
        for each, lens in lenses.items()
        if claims.side(pair(results, "rank correlation", ROBUST, lens), 0) == "above"
        or claims.side(pair(results, "rank correlation", ROBUST, lens), 0, -1)
        == "above"
    ]
    open_ = [
        names[each]
        for each in names
        if ids[each].verdict(results).verdict == "inconclusive"
    ]
    said_clear = (
        f"Of the other lenses, {_listed(clear)} goes with robustness."
        if clear
        else "No other lens clearly goes with robustness."
    )
    if not open_:
        return said_clear
    return (
        f"{said_clear} What {_listed(open_)} says of it is not settled: "
        f"{results.one('networks', count='families').value:.0f} ways of training are "
        "few."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if names[:-1] else "") + names[-1]


def hero(results: Results) -> HTML:
    """Rank correlations between all lenses; the framed diagonal is their
    reliability.
    """
    count = len(LENSES)
    found = matrix(results, LENSES)
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.5))
    for place, lens in enumerate(LENSES):
        for row in results.select("reliability", lens=lens, scope=EVERY):
            found[place, place] = (row.value, claims.low(row), claims.high(row))
    shown = np.where(np.tri(count, dtype=bool), found[:, :, 0], np.nan)
    ax.imshow(shown, vmin=-1, vmax=1, cmap="PuOr", rasterized=True)
    for row_place in range(count):
        for column in range(row_place + 1):
            _cell(ax, found[row_place, column], row_place, column)
    labels = list(LENSES)
    ax.set_yticks(range(count), labels)
    ax.set_xticks(range(count), labels, rotation=40, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    clear = [
        row
        for row in results.select("rank correlation")
        if {row.factors["first"], row.factors["second"]} <= set(LENSES)
    ]
    apart = sum(claims.low(row) > 0 or claims.high(row) < 0 for row in clear)
    return page.figure(
        figure,
        alt="Lower triangle of a matrix of rank correlations between nine measures; "
        "on the framed diagonal the reliability of each.",
        caption="How alike nine measures rank the same networks (Spearman's ρ). Bold: "
        f"{apart} of {len(clear)} pairs whose interval leaves out 0. Framed: how well "
        "a measure repeats itself on other images.",
        name="hero",
    )


def _cell(ax: Axes, cell: Array, row: int, column: int) -> None:
    """One number of the matrix, bold where its interval leaves out 0."""
    value, low, high = cell
    if not np.isfinite(value):
        return
    clear = row == column or low > 0 or high < 0
    ax.text(
        column,
        row,
        _two(value),
        ha="center",
        va="center",
        color="white" if abs(value) > 0.65 else "#111111",
        weight="bold" if clear and row != column else "normal",
    )
    if row == column:
        corner = (column - 0.46, row - 0.46)
        ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, color=style.INK))


# See it once
# --------------------------------------------------------------------------------------


def one_digit(
    views: Mapping[str, Mapping[str, Tensor]], models: Mapping[str, Module]
) -> HTML:
    """One image (1, C, H, W) as each lens shows it to each network, with the answers;
    networks by rows, lenses by columns.
    """
    names = list(next(iter(views.values())))
    figure, axes = pyplot.subplots(
        len(views), len(names), figsize=(style.FIGURE_WIDTH, 1.75 * len(views))
    )
    answers: dict[tuple[str, str], str] = {}
    for row, (network, seen) in zip(axes, views.items(), strict=True):
        for ax, (name, image) in zip(row, seen.items(), strict=True):
            sure, answer = compute_logits(models[network], image).softmax(1).max(1)
            answers[network, name] = f"{int(answer)} ({float(sure):.0%})"
            ax.imshow(image[0, 0].detach(), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            title = f"{name}\n“{int(answer)}” {float(sure):.0%}"
            ax.set_title(title, weight="normal")
        row[0].set_ylabel(network)
    first, second = views
    return _shown(
        figure,
        "one-digit",
        kind="picture",
        alt="One digit as it is, attacked, low-passed and covered, once for each of "
        "two networks, with their answers: "
        + "; ".join(
            f"{network}, {name}: {answer}"
            for (network, name), answer in answers.items()
        ),
        caption=f"The attacked digit is {answers[first, 'attacked']} to the {first} "
        f"network and {answers[second, 'attacked']} to the {second} one. Each lens "
        "perturbs something else.",
    )


# The zoo
# --------------------------------------------------------------------------------------


def zoo(results: Results) -> HTML:
    """Every kind of network under every lens: the mean over seeds, coloured by its rank
    among the kinds.
    """
    names = kinds(results)
    values = np.array(
        [
            [np.mean([row.value for row in results.select(lens, kind=kind)])]
            for kind in names
            for lens in LENSES
        ]
    ).reshape(len(names), len(LENSES))
    ranks = (rankdata(values, axis=0) - 1) / max(len(names) - 1, 1)
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.21 * len(names) + 1.2))
    ax.imshow(ranks, cmap="PuOr", vmin=0, vmax=1, aspect="auto", rasterized=True)
    for row, column in np.ndindex(*values.shape):
        value = float(values[row, column])
        text = _two(value) if LENSES[column] not in (PSI, SOUND) else _plain(value)
        dark = abs(ranks[row, column] - 0.5) > 0.38
        colour = "white" if dark else "#111111"
        ax.text(column, row, text, ha="center", va="center", color=colour)
    ax.set_yticks(range(len(names)), [LOOKS[kind].label for kind in names])
    labels = list(LENSES)
    ax.set_xticks(
        range(len(LENSES)), labels, rotation=40, ha="right", rotation_mode="anchor"
    )
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    edge = -0.5
    for group in networks.GROUPS.values():
        edge += sum(kind in group for kind in names)
        ax.axhline(edge, color=style.GROUND, linewidth=3)
    best = names[int(values[:, 0].argmax())]
    return _shown(
        figure,
        "zoo",
        alt="A table of kinds of network by nine measures, coloured by rank within "
        "each measure.",
        caption=f"Every kind under every lens (mean over seeds; psi in 1/nats). Dark "
        "purple is the highest of a column, dark orange the lowest. The most robust is "
        f"{LOOKS[best].label}; look along its row for other extremes.",
    )


def _plain(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


# The view that a reader moves
# --------------------------------------------------------------------------------------


ALL = "all ways of training"
SHAPES = {
    "o": "circle",
    "v": "triangle-down",
    "^": "triangle-up",
    "<": "triangle-left",
    ">": "triangle-right",
    "s": "square",
    "D": "diamond",
    "d": "diamond",
    "P": "cross",
    "X": "cross",
    "*": "stroke",
    "h": "circle",
    "p": "square",
}


def explore(results: Results) -> interactive.View:
    """Every network by its ranks under two lenses that the reader chooses, one family
    apart from the others if wanted.
    """
    import altair as alt

    data = _ranked(results)
    across = interactive.chooser(
        "across", list(LENSES), label="Across", start=STABILITY
    )
    upward = interactive.chooser("upward", list(LENSES), label="Up", start=ROBUST)
    families = list(dict.fromkeys(data["family"]))
    family = interactive.chooser("only", [ALL, *families], label="Show")
    last = len(data)
    scale = alt.Scale(domain=[0, last + 1])
    points = (
        alt.Chart(data, width=300, height=300)
        .transform_calculate(
            x="datum[across]",
            y="datum[upward]",
            one="datum[across + ' value']",
            other="datum[upward + ' value']",
            seen=f"only === '{ALL}' || datum.family === only ? 1 : 0.12",
        )
        .mark_point(size=55, strokeWidth=1.6)
        .encode(
            x=alt.X("x:Q", title="rank of the first lens").scale(scale),
            y=alt.Y("y:Q", title="rank of the second lens").scale(scale),
            stroke=alt.Stroke("group:N", title=None)
            .scale(domain=list(_GROUP_COLOURS), range=list(_GROUP_COLOURS.values()))
            .legend(orient="bottom", columns=3),
            fill=alt.Fill("fill:N", legend=None).scale(None),
            shape=alt.Shape("kind:N", legend=None).scale(
                domain=list(LOOKS),
                range=[SHAPES[look.marker] for look in LOOKS.values()],
            ),
            opacity=alt.Opacity("seen:Q", legend=None).scale(None),
            tooltip=[
                "kind:N",
                "seed:O",
                alt.Tooltip("one:Q", title="first", format=".3g"),
                alt.Tooltip("other:Q", title="second", format=".3g"),
            ],
        )
    )
    words = (
        alt.Chart(_pairs(results), width=300, height=22)
        .transform_filter(interactive.chosen(across))
        .transform_filter(interactive.chosen(upward))
        .mark_text(fontSize=14)
        .encode(text="text:N")
    )
    return interactive.show(
        alt.vconcat(words, points).add_params(across, upward, family),
        fallback=_still(results),
        name="explore",
        number=FIGURES.index("explore") + 1,
        alt="A scatter plot of all networks by their ranks under two lenses that the "
        "reader chooses, coloured by group of training, with the rank correlation.",
        caption="Choose two lenses. One marker a network, coloured by how it was "
        "trained; hollow ones were pruned. Show one way of training alone, and see "
        "whether the tie is made within it or between the others.",
    )


_GROUP_COLOURS = dict(
    zip(
        networks.GROUPS,
        (style.BLUE, style.OCHRE, style.GREEN, style.VERMILLION, style.PURPLE),
        strict=True,
    )
)


def _ranked(results: Results) -> pd.DataFrame:
    """One line a network: kind, family, group, seed, and the rank (1 is lowest) and the
    value of each lens.
    """
    base = results.select(CLEAN)
    data: dict[str, Any] = {
        "kind": [str(row.factors["kind"]) for row in base],
        "seed": [row.factors["seed"] for row in base],
    }
    data["family"] = [networks.family_of(kind) for kind in data["kind"]]
    group_of = {kind: name for name, group in networks.GROUPS.items() for kind in group}
    data["group"] = [group_of[family] for family in data["family"]]
    data["fill"] = [
        "transparent" if kind in networks.PRUNED else _GROUP_COLOURS[group]
        for kind, group in zip(data["kind"], data["group"], strict=True)
    ]
    for lens in LENSES:
        values = [row.value for row in results.select(lens)]
        data[lens] = rankdata(values).tolist()
        data[f"{lens} value"] = [float(f"{value:.4g}") for value in values]
    return pd.DataFrame(data)


def _pairs(results: Results) -> pd.DataFrame:
    """The rank correlation of each two lenses, in words."""
    lines = []
    for across, upward in permutations(LENSES, 2):
        try:
            text = f"ρ = {said(pair(results, 'rank correlation', across, upward))}"
        except KeyError:
            text = "no correlation: one of the two is the same for all"
        lines.append({"across": across, "upward": upward, "text": text})
    lines += [
        {"across": lens, "upward": lens, "text": "the same lens twice"}
        for lens in LENSES
    ]
    return pd.DataFrame(lines)


def _still(results: Results) -> Figure:
    """The same as a picture: four pairs of lenses."""
    figure, axes = pyplot.subplots(2, 2, figsize=(style.FIGURE_WIDTH, 7.0), sharey=True)
    data = _ranked(results)
    for ax, lens in zip(axes.flat, (PSI, CERTIFIED, STABILITY, PRUNABLE), strict=True):
        for kind, part in data.groupby("kind", sort=False):
            _points(ax, part[lens], part[ROBUST], str(kind))
        ax.set_xlabel(f"rank of {lens}")
    figure.supylabel("rank of robust accuracy")
    _legend(figure, list(dict.fromkeys(data["kind"])))
    return figure


def _points(ax: Axes, across: Sequence[float], up: Sequence[float], kind: str) -> None:
    look, hollow = LOOKS[kind], kind in networks.PRUNED
    ax.plot(
        across,
        up,
        look.marker,
        color=look.colour,
        markersize=5.5,
        markerfacecolor="none" if hollow else look.colour,
        markeredgecolor=look.colour if hollow else style.GROUND,
        markeredgewidth=1.3 if hollow else 0.5,
    )


def _legend(figure: Figure, names: Sequence[str]) -> None:
    handles = [
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
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


# Correlations with intervals
# --------------------------------------------------------------------------------------


def _forest(
    lines: Mapping[str, Mapping[str, Metric | None]],
    looks: Mapping[str, tuple[str, str]],
    *,
    label: str,
    low: float = -1.03,
    limits: Sequence[float] = (-ALIKE, ALIKE),
) -> Figure:
    """Rows with intervals, several series a line, and the smallest correlation that
    matters as a dotted line.
    """
    height = 0.2 * len(lines) * len(looks) + 1.5
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, height))
    for place, series in enumerate(lines.values()):
        for index, name in enumerate(looks):
            row = series.get(name)
            if row is None:
                continue
            at = place + 0.8 * (index - (len(looks) - 1) / 2) / len(looks)
            colour, marker = looks[name]
            ends = [claims.low(row), claims.high(row)]
            ax.plot(ends, [at, at], color=colour, solid_capstyle="butt")
            ax.plot(row.value, at, marker, color=colour)
    for name, (colour, marker) in looks.items():
        ax.plot([], [], marker=marker, color=colour, label=name)
    for limit in limits:
        ax.axvline(limit, color=style.INK, linewidth=0.9, linestyle=":")
    ax.axvline(0, color=style.INK, linewidth=0.9)
    ax.set_yticks(range(len(lines)), list(lines))
    ax.set(ylim=(len(lines) - 0.45, -0.55), xlim=(low, 1.03), xlabel=label)
    for edge in range(1, len(lines)):
        ax.axhline(edge - 0.5, color="#8a8a8a66", linewidth=0.7, zorder=0)
    ax.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _maybe(results: Results, name: str, *names: str, **factors: str) -> Metric | None:
    """A row of a pair (or of a lens), None where there is none."""
    if len(names) == 2:
        names = tuple(sorted(names, key=claims.MEASURES.index))
        factors |= {"first": names[0], "second": names[1]}
    else:
        factors |= {"lens": names[0]}
    found = results.select(name, **factors)
    return found[0] if found else None


def reliability(results: Results) -> HTML:
    """How well each lens repeats itself: on other images, in another training, and on
    other images among networks of one kind.
    """
    looks = {
        "other images, all networks": (style.BLUE, "o"),
        "another training": (style.OCHRE, "s"),
        "other images, within one kind": (style.GREY, "X"),
    }
    lines = {
        lens: dict(
            zip(
                looks,
                (
                    _maybe(results, "reliability", lens, scope=EVERY),
                    _maybe(results, "agreement of two seeds", lens),
                    _maybe(results, "reliability", lens, scope=WITHIN),
                ),
                strict=True,
            )
        )
        for lens in LENSES
    }
    figure = _forest(
        lines,
        looks,
        label="agreement with itself",
        low=-0.25,
        limits=[claims.RELIABLE],
    )
    rows = results.select("reliability", scope=EVERY)
    least = min(
        (row for row in rows if row.factors["lens"] in LENSES),
        key=lambda row: row.value,
    )
    steady = sum(
        claims.low(row) > claims.RELIABLE
        for row in results.select("reliability", scope=WITHIN)
        if row.factors["lens"] in LENSES
    )
    return _shown(
        figure,
        "repeats",
        alt="Forest plot: for nine measures, agreement of two halves of the images "
        "over all networks, of two trainings, and of two halves within kinds.",
        caption=f"The least reliable lens is {least.factors['lens']}, with "
        f"{said(least)}; dotted: what a verdict needs. Among networks that differ in "
        f"their seed alone {steady} of {len(LENSES)} lenses are that reliable. "
        f"Intervals draw {least.n} families and the seeds.",
    )


def psi_ties(results: Results) -> HTML:
    """Psi, and accuracy under one step, against random search and proofs: plain, at
    equal clean accuracy, within kinds.
    """
    looks = {
        "all networks": (style.BLUE, "o"),
        "at equal clean accuracy": (style.VERMILLION, "D"),
        "within one kind": (style.GREY, "X"),
    }
    wanted = (
        ("psi and\nSquare attack", PSI, BLACK_BOX),
        ("psi and\ncertified share", PSI, CERTIFIED),
        ("one step and\nSquare attack", ONE_STEP, BLACK_BOX),
        ("one step and\ncertified share", ONE_STEP, CERTIFIED),
    )
    lines = {
        label: dict(
            zip(
                looks,
                (
                    _maybe(results, "rank correlation", one, other),
                    _maybe(
                        results, "partial rank correlation", one, other, given=CLEAN
                    ),
                    _maybe(results, "within-kind rank correlation", one, other),
                ),
                strict=True,
            )
        )
        for label, one, other in wanted
    }
    figure = _forest(lines, looks, label="Spearman's ρ")
    leads = [
        results.one("lead over one step", first=PSI, second=name)
        for name in (BLACK_BOX, CERTIFIED)
    ]
    better = sum(claims.low(row) > 0 for row in leads)
    return _shown(
        figure,
        "psi",
        alt="Forest plot of rank correlations of psi and of accuracy under one step "
        "with accuracy under Square attack and with the certified share.",
        caption="psi against two references that follow no gradient. Against "
        + ("both" if better == 2 else "one" if better else "neither")
        + " is it ahead of accuracy under a single gradient step. Dotted: "
        f"{ALIKE:g}, the least that matters.",
    )


def proofs(results: Results) -> HTML:
    """Sound psi against the certified share, one marker a network."""
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 5.6))
    for kind in kinds(results):
        across, up = (
            [row.value for row in results.select(lens, kind=kind)]
            for lens in (CERTIFIED, SOUND)
        )
        _points(ax, across, up, kind)
    ax.set(xlabel=CERTIFIED, ylabel=f"{SOUND} (1/nats)", yscale="log")
    low, high = ax.get_ylim()
    ticks = [tick for tick in (0.1, 0.3, 1, 3, 10, 30, 100, 300) if low < tick < high]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    ax.yaxis.set_minor_locator(NullLocator())
    _legend(figure, kinds(results))
    row = pair(results, "rank correlation", SOUND, CERTIFIED)
    broken = sum(each.value for each in results.select("images that break a bracket"))
    return _shown(
        figure,
        "proofs",
        alt="Scatter plot of sound psi against the certified share, one marker a "
        "network, with a marker for every kind.",
        caption=f"Two things that bounds prove of each network: ρ = {row.value:.2f}. "
        f"Attacks broke {broken:.0f} of the proofs. Hollow: pruned.".replace("-", "−"),
    )


def ties(results: Results) -> HTML:
    """The three other lenses against robustness, attacked and proved, with controls."""
    looks = {
        "all networks": (style.BLUE, "o"),
        "certified share instead": (style.OCHRE, "s"),
        "at equal clean accuracy": (style.VERMILLION, "D"),
        "within one kind": (style.GREY, "X"),
    }
    lines = {
        lens.replace(" ", "\n"): dict(
            zip(
                looks,
                (
                    _maybe(results, "rank correlation", ROBUST, lens),
                    _maybe(results, "rank correlation", CERTIFIED, lens),
                    _maybe(
                        results, "partial rank correlation", ROBUST, lens, given=CLEAN
                    ),
                    _maybe(results, "within-kind rank correlation", ROBUST, lens),
                ),
                strict=True,
            )
        )
        for lens in (STABILITY, LOW_PASS, PRUNABLE)
    }
    figure = _forest(lines, looks, label="Spearman's ρ with robust accuracy")
    rows = [
        pair(results, "rank correlation", ROBUST, lens)
        for lens in (STABILITY, LOW_PASS, PRUNABLE)
    ]
    widest = max(rows, key=lambda row: claims.high(row) - claims.low(row))
    return _shown(
        figure,
        "ties",
        alt="Forest plot of rank correlations of saliency stability, low-pass loss and "
        "prunable share with robustness, and under three controls.",
        caption="Three lenses against robustness. The widest interval reaches from "
        f"{claims.low(widest):.2f} to {claims.high(widest):.2f}: {widest.n} ways of "
        "training leave much open. Dotted: what would matter.".replace("-", "−"),
    )


# Pruning
# --------------------------------------------------------------------------------------


def pruning(results: Results) -> HTML:
    """Psi after pruning over before, and the accuracies that pruning costs, by Taylor
    importance and at random.
    """
    names = (
        ("psi after pruning over before", "psi after / before", 1.0),
        ("accuracy lost by pruning", "clean accuracy\nlost (points)", 100.0),
        ("robust accuracy lost by pruning", "robust accuracy\nlost (points)", 100.0),
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(style.FIGURE_WIDTH, 3.6), sharey=True)
    rows = results.select(names[0][0])
    labels = [str(row.factors["kind"]) for row in rows]
    for ax, (name, label, scale) in zip(axes, names, strict=True):
        for place, kind in enumerate(labels):
            row = results.one(name, kind=kind)
            drawn = row.factors["order"] == "Taylor"
            colour = style.VERMILLION if drawn else style.GREY
            ends = [scale * claims.low(row), scale * claims.high(row)]
            ax.plot(ends, [place, place], color=colour, solid_capstyle="butt")
            ax.plot(scale * row.value, place, "D" if drawn else "X", color=colour)
        ax.set_xlabel(label)
        ax.grid(False, axis="y")
    axes[0].axvspan(
        1 / claims.PSI_UNCHANGED,
        claims.PSI_UNCHANGED,
        color=style.GREEN,
        alpha=0.15,
        linewidth=0,
    )
    axes[0].axvline(1, color=style.INK, linewidth=0.9)
    for ax, limit in zip(
        axes[1:], (claims.ACCURACY_KEPT, claims.ROBUSTNESS_KEPT), strict=True
    ):
        ax.axvline(0, color=style.INK, linewidth=0.9)
        ax.axvspan(
            min(ax.get_xlim()[0], 0), 100 * limit, color=style.GREEN, alpha=0.15, lw=0
        )
    axes[0].set_yticks(
        range(len(labels)), [kind.replace(", ", ",\n") for kind in labels]
    )
    axes[0].invert_yaxis()
    for name, colour, marker in (
        ("lowest Taylor score first", style.VERMILLION, "D"),
        ("at random", style.GREY, "X"),
    ):
        axes[0].plot([], [], marker=marker, color=colour, label=name)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2
    )
    kept = claims.kept_accuracy(results)
    return _shown(
        figure,
        "pruning",
        alt="Three panels with intervals for pruned kinds: psi after over before, "
        "clean accuracy lost, robust accuracy lost.",
        caption=f"{len(kept)} of {len(networks.PRUNED)} pruned kinds keep their clean "
        "accuracy. Green: what counts as unchanged. Each network is compared with its "
        f"own parent tuned as long; Student's t over {rows[0].n} seeds.",
    )


# Sentences of numbers
# --------------------------------------------------------------------------------------


def convergence(results: Results) -> str:
    """Whether variational inference lasted long enough, in a sentence."""
    balance = [row.value for row in results.select("balance of deviations")]
    return (
        "A posterior's deviations are balanced at 1 where training has brought them to "
        "rest; below 1 they are still too small. Here the layers of the Bayesian "
        f"networks lie between {min(balance):.2f} and {max(balance):.2f}."
    )


def influence(results: Results) -> str:
    """Which family decides most, of the ties that claims are about."""
    pairs = [(PSI, BLACK_BOX), (PSI, CERTIFIED), (SOUND, CERTIFIED)]
    pairs += [(ROBUST, lens) for lens in (STABILITY, LOW_PASS, PRUNABLE)]
    moved = []
    for one, other in pairs:
        whole = pair(results, "rank correlation", one, other).value
        for end in ("lowest", "highest"):
            row = pair(
                results, "rank correlation without one family", one, other, end=end
            )
            moved.append((abs(row.value - whole), row, whole))
    _, row, whole = max(moved, key=lambda each: each[0])
    return (
        "Leaving out one way of training at a time moves a correlation most where "
        f"“{row.factors['family']}” goes: {row.factors['first']} and "
        f"{row.factors['second']} then have ρ = {row.value:.2f} instead of "
        f"{whole:.2f}."
    ).replace("-", "−")
