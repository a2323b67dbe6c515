"""The chapter's figures: each function draws one from measurements, and writes its
caption and alt text from the rows.

In the order of the page (`FIGURES`); `hero` and `in_short` stand above everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter
from torch import Tensor

from robustbook import page
from robustbook.measure import sequential
from robustbook.measure.branch_and_bound import Exact
from robustbook.page import Kind
from robustbook.plots import interactive, style
from robustbook.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION
from robustbook.results import Metric, Results
from robustbook.studies.bnn_verification import claims
from robustbook.studies.bnn_verification.measure.boxes import DELTA, Trace
from robustbook.studies.bnn_verification.measure.guarantees import all_rules
from robustbook.studies.bnn_verification.networks import ACCURATE, METHODS
from robustbook.studies.bnn_verification.parameters import DELTAS, EPSILONS

if TYPE_CHECKING:
    from IPython.display import HTML

FIGURES = (
    "twenty",
    "explore",
    "costs",
    "heat-maps",
    "oracles",
    "means",
    "comparison",
    "sweep",
    "brackets",
    "traffic-signs",
    "proofs",
)
"""Names of the numbered figures, in the order of the page."""

RULE_LOOKS = {
    "Chernoff": (GREY, "X"),
    "exact binomial": (PURPLE, "P"),
    "Massart": (BLUE, "o"),
    "betting": (VERMILLION, "D"),
    "hedged betting": (ORANGE, "s"),
    "group-sequential": (GREEN, "^"),
}
ORACLE_LOOKS = {
    "exact": (BLUE, "o", "-"),
    "corners": (GREEN, "^", "-."),
    "PGD": (ORANGE, "s", "--"),
    "FGSM": (VERMILLION, "D", ":"),
}
THETAS, GAMMAS = (0.075, 0.1, 0.125, 0.15), (0.025, 0.05, 0.075, 0.1)
SHARES = tuple(np.round(np.arange(0, 1.001, 0.05), 2).tolist())


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


def _axes(
    columns: int, height: float, rows: int = 1, share: Literal["row"] | bool = True
) -> tuple[Figure, list[Axes]]:
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(style.FIGURE_WIDTH, height), squeeze=False, sharey=share
    )
    return figure, list(axes.ravel())


def _legend(figure: Figure, axis: Axes, columns: int) -> None:
    figure.legend(
        *axis.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=columns,
    )


def _by_method(names: Sequence[str], height: float) -> tuple[Figure, list[Axes]]:
    """Two rows of three panels, one a posterior and those that are left over empty."""
    figure, axes = pyplot.subplots(
        2, 3, figsize=(style.FIGURE_WIDTH, height), sharex=True, sharey=True
    )
    every = list(axes.ravel())
    for axis in every[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(every, names, strict=False):
        _title(axis, style.label(name))
    for above in every[len(names) - 3 : 3]:  # nothing stands below these
        above.xaxis.set_tick_params(labelbottom=True)
    return figure, every


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=10, fontweight="normal")


# Above everything else
# --------------------------------------------------------------------------------------


def in_short(results: Results) -> list[str]:
    """What the chapter found, in five sentences."""
    at = {
        rule: results.one("mean samples", rule=rule, pair="published", p=0.05).value
        for rule in ("Chernoff", "exact binomial", "Massart", "group-sequential")
    }
    states = [state for state, _ in claims.cells(results)]
    compared = sum(states.count(each) for each in ("ahead", "behind", "open"))
    missed = results.one("worst failure", rule="Massart", pair="published").value
    proved = results.select("proved robust probability")
    return [
        "A Bayesian network is a crowd of networks; its robustness is the share that "
        "an attacker cannot change. That share can be estimated with a guarantee given "
        f"in advance; it was broken in {missed:.0%} of runs at most, of "
        f"{results.one('promised failure', pair='published').value:.1%} allowed.",
        f"The paper's rule draws {at['Massart']:.0f} networks where few can be changed "
        f"(p = 0.05), against Chernoff's {at['Chernoff']:.0f}. Exact probabilities "
        f"need {at['exact binomial']:.0f} fixed in advance, and "
        f"{at['group-sequential']:.0f} with early stopping.",
        f"HMC and variational inference are more robust than equally accurate dropout "
        f"in {states.count('ahead')} of {compared} comparisons; which answer one "
        "gets depends on how large a move counts.",
        "Proofs without sampling work for tiny networks only: with "
        f"{proved[0].factors['hidden']} hidden units they cover "
        f"{proved[0].value:.0%} of the posterior, with "
        f"{proved[-1].factors['hidden']} only {proved[-1].value:.0%}.",
    ]


def hero(trace: Trace, *, theta: float) -> HTML:
    """One digit with its five pixels, and the estimate closing in while networks are
    drawn.
    """
    figure, (left, right) = pyplot.subplots(
        1,
        2,
        figsize=(style.FIGURE_WIDTH, 2.5),
        gridspec_kw={"width_ratios": (0.8, 2)},
    )
    _digit(left, trace.image, trace.pixels)
    _title(left, f"five pixels,\nε = {trace.epsilon:g}")
    n = np.arange(1, len(trace.outcomes) + 1)
    share = np.cumsum(trace.outcomes) / n
    low, high = sequential.clopper_pearson(np.cumsum(trace.outcomes), n)
    right.fill_between(n, low, high, color=BLUE, alpha=0.2, linewidth=0)
    right.plot(n, share, color=BLUE)
    right.axhline(trace.reference, color=INK, linestyle=":", linewidth=1.2)
    right.set(xlabel="networks drawn", ylabel="share that changes", ylim=(0, 1))
    right.set_xlim(1, len(n))
    return page.figure(
        figure,
        alt="A digit with five marked pixels; a curve of the share of networks that "
        "change their answer, closing in on a dotted line as networks are drawn.",
        caption="Can these five pixels change a network's answer? The share of "
        f"networks for which they can closes in on the truth (dotted, "
        f"{trace.reference:.2f}); after {len(n)} networks it is {share[-1]:.2f}, and "
        f"±{theta:g} was promised. Band: 95 % intervals.",
        name="hero",
    )


def _digit(ax: Axes, image: Tensor, pixels: Sequence[tuple[int, int]]) -> None:
    """One grey image (1, H, W) with a frame around some pixels."""
    ax.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for row, column in pixels:
        frame = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=1.6
        )
        ax.add_patch(frame)
    ax.set_axis_off()


# See it once
# --------------------------------------------------------------------------------------


def twenty(
    image: Tensor, pixels: Sequence[tuple[int, int]], budget: float, found: Exact
) -> HTML:
    """A digit with its pixels, and for each drawn network how far the wrong answer gets
    ahead at worst.
    """
    figure, (left, right) = pyplot.subplots(
        1,
        2,
        figsize=(style.FIGURE_WIDTH, 2.4),
        gridspec_kw={"width_ratios": (0.8, 2)},
    )
    _digit(left, image[0], pixels)
    margin = found.low.margin[:, 0].numpy()
    colours = [VERMILLION if each > 0 else BLUE for each in margin]
    right.bar(np.arange(1, len(margin) + 1), margin, color=colours)
    right.axhline(0, color=INK, linewidth=1)
    right.set(xlabel="network", ylabel="other answer ahead by\n(logits, at worst)")
    count = int((margin > 0).sum())
    return _shown(
        figure,
        "twenty",
        alt="A digit with five marked pixels, and a bar for each network; bars above "
        "zero are networks that can be made to change their answer.",
        caption=f"{count} of {len(margin)} networks can be made to change their answer "
        f"by moving the framed pixels by at most {budget:g} (orange bars).",
    )


# How many samples
# --------------------------------------------------------------------------------------


def explore(*, theta: float, gamma: float) -> interactive.View:
    """Mean samples of every rule for a share p, a half-width theta and a failure gamma
    that the reader chooses.
    """
    import altair as alt

    rows = []
    for one_theta in THETAS:
        for one_gamma in GAMMAS:
            rules = all_rules(one_theta, one_gamma, one_gamma * 2 / 3)
            for name, rule in rules.items():
                counts = sequential.operating(rule, SHARES).mean_count
                rows += [
                    {"θ": one_theta, "γ": one_gamma, "p": p, "rule": name, "n": int(n)}
                    for p, n in zip(SHARES, counts.round(), strict=True)
                ]
    table = pd.DataFrame(rows).rename(columns={"θ": "theta", "γ": "gamma"})
    start_theta = theta if theta in THETAS else THETAS[0]
    start_gamma = gamma if gamma in GAMMAS else GAMMAS[0]
    sliders = [
        interactive.slider("p", SHARES, label="Share p", start=0.05),
        interactive.slider("theta", THETAS, label="Error θ", start=start_theta),
        interactive.slider("gamma", GAMMAS, label="Failure γ", start=start_gamma),
    ]
    chart = alt.Chart(table, width=300, height=190)
    for each in sliders:
        chart = chart.transform_filter(interactive.chosen(each))
    names = list(RULE_LOOKS)
    base = chart.encode(
        y=alt.Y("rule:N", sort=names, title=None),
        x=alt.X("n:Q", title="mean networks drawn").scale(domain=[0, 460], clamp=True),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("rule:N", legend=None).scale(
            domain=names, range=[RULE_LOOKS[name][0] for name in names]
        )
    )
    text = base.mark_text(align="left", dx=4).encode(text="n:Q")
    here = table[
        (table["p"] == 0.05)
        & (table["theta"] == start_theta)
        & (table["gamma"] == start_gamma)
    ]
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 2.4))
    ax.barh(here["rule"], here["n"], color=[RULE_LOOKS[n][0] for n in here["rule"]])
    ax.invert_yaxis()
    ax.set_xlabel("mean networks drawn")
    few = {row["rule"]: row["n"] for _, row in here.iterrows()}
    return interactive.show(
        (bars + text).add_params(*sliders),
        fallback=figure,
        name="explore",
        number=FIGURES.index("explore") + 1,
        alt="Bars of the mean number of networks that six rules draw, for a share p, "
        "an error θ and a failure γ that the reader chooses.",
        caption=f"Move p, θ and γ. At p = 0.05 (θ = {start_theta:g}, γ = "
        f"{start_gamma:g}) the rules draw from {min(few.values())} to "
        f"{max(few.values())} networks for the same promise. A smaller θ costs most.",
    )


def costs(results: Results) -> HTML:
    """Mean samples against p for each rule and the lower limit, one panel a pair."""
    figure, axes = _axes(2, 4.3, share=False)
    for axis, pair in zip(axes, ("published", "tight"), strict=True):
        for rule, (shade, sign) in RULE_LOOKS.items():
            rows = results.select("mean samples", rule=rule, pair=pair)
            axis.plot(
                [row.factors["p"] for row in rows],
                [row.value for row in rows],
                color=shade,
                marker=sign,
                markersize=5,
                label=rule,
            )
        limit = results.select("lower limit of samples", pair=pair)
        axis.plot(
            [row.factors["p"] for row in limit],
            [row.value for row in limit],
            color=INK,
            linestyle=":",
            label="lower limit (Wald)",
        )
        theta = results.one("promised half-width", pair=pair).value
        gamma = results.one("promised failure", pair=pair).value
        axis.set(
            title=f"θ = {theta:g}, γ = {gamma:g}", xlabel="true share p", ylim=(0, None)
        )
    axes[0].set_ylabel("mean networks drawn")
    _legend(figure, axes[0], 3)
    saved = {
        rule: (
            results.one(
                "samples saved by the inequality", rule=rule, pair="published"
            ).value,
            results.one(
                "samples saved by stopping", rule=rule, pair="published", p=0.05
            ).value,
        )
        for rule in ("Massart", "group-sequential")
    }
    return _shown(
        figure,
        "costs",
        alt="Two panels of mean networks drawn against the true share for six rules "
        "and Wald's lower limit.",
        caption="Two sources of gain at p = 0.05: Massart's rule saves "
        f"{round(saved['Massart'][1])} by stopping early and "
        f"{round(saved['Massart'][0])} by its inequality; the group-sequential rule "
        f"saves {round(saved['group-sequential'][1])} and "
        f"{round(saved['group-sequential'][0])}. "
        "Exact expectations, no simulation.",
    )


# Five pixels
# --------------------------------------------------------------------------------------


def heat_maps(results: Results) -> HTML:
    """Violation probability over the grid of budgets and thresholds, one map a
    posterior.
    """
    figure, axes = _by_method(METHODS, 4.4)
    for axis, name in zip(axes, METHODS, strict=False):
        grid = [
            [_cell(results, name, epsilon, delta) for epsilon in EPSILONS]
            for delta in DELTAS
        ]
        image = axis.imshow(
            grid, vmin=0, vmax=1, cmap="cividis", origin="lower", aspect="auto"
        )
        axis.set_xticks(range(len(EPSILONS)), [f"{e:g}" for e in EPSILONS], rotation=90)
        axis.set_yticks(range(len(DELTAS)), [f"{d:g}" for d in DELTAS])
        axis.grid(False)
    figure.supylabel("move that counts", fontsize=10)
    figure.supxlabel("budget ε (pixel units)", fontsize=10)
    figure.colorbar(image, ax=axes[-1], label="share of networks", fraction=0.5)
    small = {name: _mean(results, name, DELTAS[0]) for name in METHODS[:3]}
    large = {name: _mean(results, name, DELTAS[-1]) for name in METHODS[:3]}
    return _shown(
        figure,
        "heat-maps",
        alt="Five heat maps, one per posterior, of the exact violation probability "
        "over budget and threshold.",
        caption="Share of networks that five pixels can move. Where a move of "
        f"{DELTAS[0]:g} counts (bottom row) dropout is moved in "
        f"{small['MC dropout']:.0%} and HMC in {small['HMC']:.0%} of cases; where only "
        f"{DELTAS[-1]:g} counts (top row), in {large['MC dropout']:.0%} and "
        f"{large['HMC']:.0%}.",
    )


def _cell(results: Results, name: str, epsilon: float, delta: float) -> float:
    return results.one(
        "violation probability", posterior=name, epsilon=epsilon, delta=delta, problem=1
    ).value


def _mean(results: Results, name: str, delta: float) -> float:
    return float(np.mean([_cell(results, name, e, delta) for e in EPSILONS]))


def oracles(results: Results) -> HTML:
    """What exact search, all corners, PGD and FGSM find, against the budget."""
    names = METHODS[:3]
    figure, axes = _axes(3, 4.8, rows=2, share="row")
    places = [(problem, name) for problem in (1, 2) for name in names]
    for axis, (problem, name) in zip(axes, places, strict=True):
        for oracle, (shade, sign, line) in ORACLE_LOOKS.items():
            rows = results.select(
                "probability by oracle", oracle=oracle, posterior=name, problem=problem
            )
            axis.plot(
                [row.factors["epsilon"] for row in rows],
                [row.value for row in rows],
                color=shade,
                marker=sign,
                linestyle=line,
                label=oracle,
                markersize=4.5,
            )
        what = f"move > {DELTA:g}" if problem == 1 else "flip"
        _title(axis, f"{style.label(name)},\n{what}")
    for axis in axes:
        axis.set_ylim(bottom=0)
    _legend(figure, axes[0], 4)
    figure.supxlabel("budget ε of five pixels (pixel units)", fontsize=10)
    figure.supylabel("share of networks", fontsize=10)
    missed = {
        oracle: results.one("share of violations overlooked", oracle=oracle, problem=2)
        for oracle in ("FGSM", "PGD", "corners")
    }
    return _shown(
        figure,
        "oracles",
        alt="Six panels of the share of violated networks against budget, as exact "
        "search, all corners, PGD and FGSM find it; above: probabilities move, below: "
        "decisions flip.",
        caption="Of the flips that exist FGSM overlooks "
        f"{missed['FGSM'].value:.1%}, PGD with restarts {missed['PGD'].value:.1%} and "
        f"a try of all 32 corners {missed['corners'].value:.1%}.",
    )


def means(results: Results) -> HTML:
    """Share of networks that can be flipped, and the bracket of the share of images
    whose mean prediction can be.
    """
    figure, axes = _axes(3, 2.9)
    for axis, name in zip(axes, METHODS[:3], strict=True):
        ends = [
            [
                results.one(
                    "mean prediction bracket",
                    posterior=name,
                    epsilon=epsilon,
                    end=end,
                ).value
                for epsilon in EPSILONS
            ]
            for end in ("attacked", "certified")
        ]
        single = [
            results.one(
                "violation probability", posterior=name, epsilon=e, problem=2
            ).value
            for e in EPSILONS
        ]
        shade = style.colour(name)
        axis.fill_between(
            EPSILONS, ends[0], ends[1], color=shade, alpha=0.3, linewidth=0
        )
        axis.plot(EPSILONS, ends[0], color=shade, label="mean (bracket)")
        axis.plot(EPSILONS, ends[1], color=shade, linestyle="--")
        axis.plot(EPSILONS, single, color=INK, linestyle=":", label="single networks")
        _title(axis, style.label(name))
    axes[0].set_ylabel("share that flips")
    _legend(figure, axes[0], 2)
    figure.supxlabel("budget ε of five pixels (pixel units)", fontsize=10)
    last = EPSILONS[-1]
    hmc = [
        results.one(
            "mean prediction bracket",
            posterior="HMC",
            epsilon=last,
            end=end,
        ).value
        for end in ("attacked", "certified")
    ]
    one = results.one(
        "violation probability", posterior="HMC", epsilon=last, problem=2
    ).value
    return _shown(
        figure,
        "means",
        alt="Three panels against budget: the share of single networks that flip, and "
        "a band that holds the share of images whose mean prediction flips.",
        caption=f"At ε = {last:g}, {one:.0%} of HMC's networks can be flipped, each by "
        "pixels of its own. The mean prediction flips for "
        f"{_between(*hmc)} of the images.",
    )


def _between(low: float, high: float) -> str:
    """Both ends of a bracket, or one where they agree."""
    ends = f"{low:.0%}", f"{high:.0%}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


# Methods compared
# --------------------------------------------------------------------------------------

_RIVAL_LOOKS = {
    "published rate": ("o", GREY),
    "same accuracy": ("s", BLUE),
    "same accuracy and logits": ("D", VERMILLION),
}


def comparison(results: Results) -> HTML:
    """Lead over dropout in every comparison: as published, at equal accuracy, and with
    logits of equal size.
    """
    figure, axes = _axes(2, 4.4)
    for axis, method in zip(axes, claims.METHODS, strict=True):
        rows = results.select("robustness difference", posterior=method)
        keys = list(dict.fromkeys(_comparison(row) for row in rows))
        for offset, (rival, (sign, shade)) in enumerate(_RIVAL_LOOKS.items()):
            found = [row for row in rows if row.factors["rival"] == rival]
            axis.errorbar(
                [row.value for row in found],
                [keys.index(_comparison(row)) + 0.22 * (offset - 1) for row in found],
                xerr=[
                    [row.value - (row.low or 0) for row in found],
                    [(row.high or 0) - row.value for row in found],
                ],
                fmt=sign,
                color=shade,
                markersize=4.5,
                label=rival,
            )
        axis.axvline(0, color=INK, linewidth=1)
        axis.axvline(claims.AHEAD, color=INK, linestyle=":", linewidth=1)
        axis.set_yticks(range(len(keys)), keys)
        _title(axis, style.label(method))
        axis.grid(False, axis="y")
    axes[0].invert_yaxis()
    figure.supxlabel("robustness less that of dropout", fontsize=10)
    _legend(figure, axes[0], 3)
    states = [state for state, _ in claims.cells(results)]
    return _shown(
        figure,
        "comparison",
        alt="Leads over dropout with intervals, a row for each task and threshold, for "
        "HMC and variational inference.",
        caption="Right of the dotted line the method is more robust than dropout. "
        f"Blue compares at equal accuracy, orange with logits of equal size too: "
        f"{states.count('ahead')} comparisons stay ahead, "
        f"{states.count('behind')} do not. Intervals over seeds.",
    )


def _comparison(row: Metric) -> str:
    task = "1/7" if row.factors["task"] == "1 against 7" else "ten"
    delta = row.factors.get("delta")
    return f"{task}: flip" if delta is None else f"{task}: > {delta:g}"


def brackets(results: Results) -> HTML:
    """Attacked and certified ends on ten classes against the budget."""
    name = "ten classes"
    figure, gaps = _brackets(results, name)
    broken = sum(row.value for row in results.select("brackets broken", task=name))
    return _shown(
        figure,
        "brackets",
        alt="Brackets of the share of violated networks against the budget on ten "
        "classes, one panel per posterior.",
        caption="The share of networks whose decision an attacker can change lies in "
        f"the band. {_widths(gaps)} Attacked in spite of a certificate: {broken:.0f}.",
    )


def signs(results: Results) -> HTML:
    """The same on traffic signs."""
    figure, gaps = _brackets(results, "signs")
    worst = results.one("worst R-hat", task="signs", quantity="predictions")
    chains = results.one("chains", task="signs").value
    draws = results.one("draws of each chain", task="signs").value
    return _shown(
        figure,
        "traffic-signs",
        alt="Brackets of the share of violated networks against the budget on traffic "
        "signs, one panel per posterior.",
        caption=f"Two traffic signs. HMC: {chains:.0f} chains of {draws:.0f} draws, "
        f"R-hat of predictions {worst.value:.2f}. {_widths(gaps)}",
    )


def _widths(gaps: dict[str, float]) -> str:
    """How wide the bands of HMC and dropout are; without HMC where it is not shown."""
    dropout = f"{gaps['MC dropout']:.2f}"
    if "HMC" not in gaps:
        return f"At ε = 0.01 that of dropout is {dropout} wide; HMC has not mixed."
    return (
        f"At ε = 0.01 it is {gaps['HMC']:.2f} wide for HMC and {dropout} for dropout."
    )


def _brackets(
    results: Results, task: str, problem: int = 2
) -> tuple[Figure, dict[str, float]]:
    names = [
        name
        for name in METHODS
        if results.select("violation bracket", posterior=name, task=task)
        and _is_sampled(results, name, task)
    ]
    figure, axes = _by_method(names, 4.4)
    gaps = {}
    for axis, name in zip(axes, names, strict=False):
        rows = {
            end: results.select(
                "violation bracket", end=end, posterior=name, task=task, problem=problem
            )
            for end in ("attacked", "certified")
        }
        x = [float(row.factors["epsilon"]) for row in rows["attacked"]]
        low, high = (
            [row.value for row in rows[end]] for end in ("attacked", "certified")
        )
        shade = style.colour(name)
        axis.fill_between(x, low, high, color=shade, alpha=0.25, linewidth=0)
        axis.plot(x, low, color=shade, marker="^", markersize=4.5, label="attacked")
        axis.plot(
            x, high, color=shade, marker="v", linestyle="--", markersize=4.5,
            label="not certified",
        )  # fmt: skip
        axis.set_xscale("log")
        axis.set_xticks([0.002, 0.01, 0.05], ["0.002", "0.01", "0.05"])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(-0.03, 1.03)
        gaps[name] = high[x.index(0.01)] - low[x.index(0.01)]
    figure.supylabel("share of networks", fontsize=10)
    figure.supxlabel("budget ε (pixel units)", fontsize=10)
    _legend(figure, axes[0], 2)
    return figure, gaps


def _is_sampled(results: Results, name: str, task: str) -> bool:
    """HMC is shown only where its chains have mixed."""
    if name != "HMC":
        return True
    worst = results.one("worst R-hat", task=task, quantity="predictions")
    return worst.value <= 2 * claims.MIXED_R_HAT - 1


# Accuracy against robustness, proofs
# --------------------------------------------------------------------------------------


def sweep(results: Results) -> HTML:
    """Accuracy against robustness of every posterior of the sweep."""
    figure, (axis,) = _axes(1, 3.8)
    for name in METHODS:
        rows = results.select("accuracy in the sweep", posterior=name)
        robust = [
            results.one("robustness in the sweep", **row.factors).value for row in rows
        ]
        axis.plot(
            [row.value for row in rows],
            robust,
            linestyle="none",
            marker=style.marker(name),
            color=style.colour(name),
            label=style.label(name),
        )
    axis.axvline(0.2, color=GREY, linewidth=1, linestyle=":")
    axis.set(
        xlabel="accuracy of single networks", ylabel="robustness under PGD", xlim=(0, 1)
    )
    _legend(figure, axis, 3)
    rho = results.one("rank correlation of accuracy and robustness", family="all")
    return _shown(
        figure,
        "sweep",
        alt="Scatter plot of robustness against accuracy for posteriors of five "
        "methods at many settings.",
        caption="Each mark is a posterior: another prior, temperature or dropout rate. "
        f"Rank correlation ρ = {rho.value:.2f} over {rho.n} posteriors right of the "
        "dotted line (twice the accuracy of chance).",
    )


def proofs(results: Results) -> HTML:
    """Proved and sampled share of the posterior that keeps its decision, by hidden
    units.
    """
    figure, (axis,) = _axes(1, 3.0)
    names = {
        "sampled robust probability": (BLUE, "o", "sampled"),
        "largest proved robust probability": (GREEN, "^", "proved, best image"),
        "proved robust probability": (VERMILLION, "D", "proved, mean"),
    }
    for name, (shade, sign, label) in names.items():
        rows = results.select(name)
        axis.plot(
            [str(row.factors["hidden"]) for row in rows],
            [row.value for row in rows],
            color=shade,
            marker=sign,
            label=label,
        )
    axis.set(
        xlabel="hidden units", ylabel="share of the posterior\nthat keeps its decision"
    )
    axis.set_yscale("log")
    axis.set_ylim(1e-12, 5)
    axis.legend()
    variables = results.select("variables of a box")
    return _shown(
        figure,
        "proofs",
        alt="Lines of the sampled and of the proved share of robust networks against "
        "the number of hidden units; the proved one falls to zero.",
        caption="Boxes of weights prove a share of the posterior robust, sampling or "
        f"not; with {variables[-1].value:.0f} weights in a box in place of "
        f"{variables[0].value:.0f}, next to nothing is left.",
    )


# Tables
# --------------------------------------------------------------------------------------


def failure_table(results: Results) -> pd.DataFrame:
    """What the rules fail and err, as published."""
    rows = []
    for rule in RULE_LOOKS:
        common = {"rule": rule, "pair": "published"}
        error = results.one("largest error of the estimate", of="any p", **common)
        robust = results.one("declared robust", of="p = 0", eta=0.1, **common)
        rows.append(
            {
                "rule": rule,
                "misses, any p": f"{results.one('worst failure', **common).value:.1%}",
                "misses, posterior": f"{_real(results, rule):.1%}",
                "error (RMSE), worst p": error.value,
                "error at p = 0": results.one(
                    "largest error of the estimate", of="p = 0", **common
                ).value,
                "declared below 0.1 at p = 0": f"{robust.value:.0%}",
            }
        )
    return pd.DataFrame(rows)


def _real(results: Results, rule: str) -> float:
    return results.one("failure on a posterior", rule=rule).value


def rule_table(results: Results) -> pd.DataFrame:
    """Networks drawn and violations found by every rule on the same images."""
    rows = []
    for rule in RULE_LOOKS:
        line: dict[str, object] = {"rule": rule}
        for row in results.select("violations found", rule=rule):
            found = round(row.value * (row.n or 0))
            line[f"image {int(row.factors['image']) + 1}"] = f"{found} of {row.n}"
        rows.append(line)
    return pd.DataFrame(rows)


def fit_table(results: Results) -> pd.DataFrame:
    """Accuracy of single samples and of the mean, by task and posterior."""
    lines: list[dict[str, Any]] = []
    for row in results.select("accuracy", of="single sample"):
        name, task = str(row.factors["posterior"]), row.factors["task"]
        mean = results.one("accuracy", of="predictive mean", posterior=name, task=task)
        title = (
            name.replace(ACCURATE, "dropout, accuracy of ")
            if name not in METHODS
            else style.label(name)
        )
        if name in METHODS:
            lines.append(
                {
                    "task": task,
                    "posterior": title,
                    "single networks": row.value,
                    "mean prediction": mean.value,
                }
            )
    return pd.DataFrame(lines)


def trusted(results: Results) -> str:
    """What both tests say of the samplers, as a paragraph."""
    chances = results.select("p-value of uniform ranks")
    least = min(chances, key=lambda row: row.value)
    text = (
        f"Calibration on a tiny network, {least.n} replicates: the smallest of "
        f"{len(chances)} p-values for uniform ranks is {least.value:.2g} "
        f"({least.factors['sampler']}, {least.factors['quantity']})."
    )
    for row in results.select("worst R-hat", task="signs", quantity="predictions"):
        agree = "agree" if row.value <= claims.MIXED_R_HAT else "do not agree yet"
        text += f" The chains on signs {agree}: R-hat {row.value:.3f} at worst."
    return text


def mixing_table(results: Results) -> pd.DataFrame:
    """R-hat and effective sample sizes of the HMC runs."""
    return pd.DataFrame(
        {
            "task": worst.factors["task"],
            "of": worst.factors["quantity"],
            "worst R-hat": worst.value,
            "least effective samples": _effective(results, worst),
        }
        for worst in results.select("worst R-hat")
    )


def _effective(results: Results, row: Metric) -> str:
    found = results.select("least effective sample size", **row.factors)
    return f"{found[0].value:.0f}" if found else "too few draws"
