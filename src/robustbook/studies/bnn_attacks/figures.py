"""The chapter's figures: each function draws one from measurements, and writes its
caption and alt text from the rows.

In the order of the page (`FIGURES`); `hero` and `in_short` stand above everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from robustbook import page
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.weights import WeightSamples
from robustbook.page import Kind
from robustbook.plots import interactive, style
from robustbook.results import Metric, Results
from robustbook.studies.bnn_attacks import claims
from robustbook.studies.bnn_attacks.claims import BNN, CNN, CONTROL, LEAD, PENALISED
from robustbook.studies.bnn_attacks.measure.series import WAYS, Shown

if TYPE_CHECKING:
    from IPython.display import HTML

FIGURES = (
    "five-networks",
    "explore",
    "leads",
    "effort",
    "sweep",
    "interference",
    "alarm",
)
"""Names of the numbered figures, in the order of the page."""

LABELS = {
    CONTROL: "matched control",
    PENALISED: "L2 network",
    BNN: "Bayesian",
    "det+stoch": "Bayesian classifier",
    "stoch+det": "Bayesian extractor",
    "Bayes by Backprop": "by Backprop",
    "Flipout": "by Flipout",
    CNN: "CNN",
}
COLOURS = {
    CONTROL: style.BLUE,
    PENALISED: style.SKY,
    BNN: style.VERMILLION,
    "det+stoch": style.OCHRE,
    CNN: style.GREY,
}
WORTH_ATTACKING = 0.5
"""Clean accuracy below which a network of the sweep is not drawn."""
INPUTS = {
    "transfer": "made on the CNN",
    "EOT": "made on itself",
    "quiet": "kept quiet",
    "matching": "matched to clean",
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


def label(kind: object) -> str:
    """A network in a figure."""
    return LABELS.get(str(kind), str(kind))


# Above everything else
# --------------------------------------------------------------------------------------


def in_short(results: Results) -> list[str]:
    """What the chapter found, in four sentences."""
    main = claims.datasets(results)[0]
    own = claims.bayesian(results, main)
    area = {
        inputs: results.one(
            "AUROC",
            dataset=main,
            network=own,
            score="mutual information",
            inputs=inputs,
        ).value
        for inputs in ("transfer", "matching")
    }
    return [
        "Attacks made on an ordinary network do less to any other network. Compared "
        "with one trained in the same way but without a posterior, the Bayesian "
        f"network is {_compared(results, 'transfer')} under such attacks.",
        "Attacked itself, with gradients averaged over its samples, it is "
        f"{_compared(results, 'EOT')}.",
        "As an alarm, the disagreement of its samples ranks "
        f"{area['transfer']:.0%} of pairs of a clean and a transferred image rightly, "
        f"and {area['matching']:.0%} once an attacker copies the usual disagreement.",
    ]


def _compared(results: Results, way: str) -> str:
    """How the Bayesian network compares with its control on each data set."""
    found: dict[str, list[str]] = {}
    for dataset in claims.datasets(results):
        own = claims.bayesian(results, dataset)
        row = claims.lead(results, dataset, own, CONTROL, way)
        found.setdefault(_more(row), []).append(claims.name(dataset))
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{said} on {' and '.join(on)}" for said, on in found.items())


def _more(metric: Metric) -> str:
    low, high = metric.low or 0, metric.high or 0
    if low <= 0 <= high:
        return "neither more nor less robust beyond chance"
    size = abs(round(100 * metric.value))
    unit = "point" if size == 1 else "points"
    return f"{size} {unit} {'more' if metric.value > 0 else 'less'} robust"


def hero(series: Sequence[Shown], names: Sequence[str]) -> HTML:
    """One digit under the transferred and under the averaged attack, and what each of
    20 sampled networks says.
    """
    picked = [each for each in series if each.kind == BNN]
    clean = next(each for each in picked if each.budget == 0)
    ends = [
        next(each for each in picked if each.way == way and each.budget == 1.0)
        for way in WAYS
    ]
    figure, axes = pyplot.subplots(
        2, 3, figsize=(style.FIGURE_WIDTH, 3.0), height_ratios=(1.5, 1)
    )
    titles = ("before", *WAYS)
    for column, (each, title) in enumerate(zip((clean, *ends), titles, strict=True)):
        _picture(axes[0, column], each.image)
        axes[0, column].set_title(title, weight="normal")
        _bars(axes[1, column], each.truth)
    axes[1, 0].set_ylabel("probability")
    axes[1, 1].set_xlabel("twenty sampled networks")
    said = [f"{each.probabilities[each.label]:.0%}" for each in (clean, *ends)]
    return page.figure(
        figure,
        alt="A digit before and after two attacks; below each, twenty bars with the "
        "probability that each sampled network gives to the true class.",
        caption=f"“{names[clean.label]}” and the probability that twenty networks from "
        f"the posterior give it: {said[0]} on average before, {said[1]} after an "
        f"attack made on another network, {said[2]} after one made on their average.",
        name="hero",
    )


def _bars(ax: Axes, truth: Any) -> None:
    ax.bar(range(len(truth)), np.sort(truth), color=style.VERMILLION)
    ax.set(ylim=(0, 1), xticks=[], yticks=[0, 1])


def _picture(ax: Axes, image: Any) -> None:
    """One image (C, H, W), without axes."""
    values = np.asarray(image)
    shown = values[0] if len(values) == 1 else values.transpose(1, 2, 0)
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()


# See it once
# --------------------------------------------------------------------------------------


def five_networks(five: WeightSamples, pictures: dict[str, Tensor], label: int) -> HTML:
    """Pictures (1, C, H, W) by name, and the probability of the true class that each of
    five networks gives.
    """
    figure, axes = pyplot.subplots(
        2,
        len(pictures),
        figsize=(style.FIGURE_WIDTH, 3.0),
        height_ratios=(1.5, 1),
    )
    found = {}
    for column, (name, picture) in enumerate(pictures.items()):
        truth = sampled_probabilities(five, picture)[:, 0, label].numpy()
        found[name] = float(truth.mean())
        _picture(axes[0, column], picture[0])
        axes[0, column].set_title(name, weight="normal")
        axes[1, column].bar(range(1, len(truth) + 1), truth, color=style.VERMILLION)
        axes[1, column].set(ylim=(0, 1), xticks=range(1, len(truth) + 1))
        axes[1, column].set_yticks([0, 1])
    axes[1, 0].set_ylabel("probability")
    axes[1, 1].set_xlabel("sampled network")
    means = ", ".join(f"{value:.0%} {name}" for name, value in found.items())
    return _shown(
        figure,
        "five-networks",
        alt="A digit before and after two attacks, and bars of the probability that "
        "five networks give to its class.",
        caption=f"Mean probability of the true class: {means}. An attack on the first "
        "network need not fool the other four; one on their average is made for all.",
    )


def explore(
    series: Sequence[Shown], *, epsilon: float, names: Sequence[str]
) -> interactive.View:
    """One image under a budget, a way of attack and a network that the reader
    chooses.
    """
    import altair as alt

    rows: list[dict[str, Any]] = []
    odds: list[dict[str, Any]] = []
    for each in series:
        here = {
            "network": label(each.kind),
            "way": each.way,
            "budget": round(each.budget * epsilon, 6),
        }
        text = f"entropy {each.entropy:.2f}, information {each.information:.2f}"
        picture = interactive.image_uri(each.image.clip(0, 1))
        rows.append({**here, "text": text, "image": picture})
        odds += [
            {**here, "class": str(name), "probability": round(float(p), 4)}
            for name, p in zip(names, each.probabilities, strict=True)
        ]
    budgets = sorted({row["budget"] for row in rows})
    kinds = list(dict.fromkeys(row["network"] for row in rows))
    budget = interactive.slider("budget", budgets, label="Budget", start=budgets[0])
    way = interactive.chooser("way", list(WAYS), label="Attack")
    network = interactive.chooser("network", kinds, label="Network", start=kinds[-1])
    moved = (budget, way, network)

    def chart(data: list[dict[str, Any]], **size: Any) -> Any:
        drawn = alt.Chart(pd.DataFrame(data), **size)
        for each in moved:
            drawn = drawn.transform_filter(interactive.chosen(each))
        return drawn

    image = interactive.pictures(chart(rows, width=150), "image", size=150)
    words = chart(rows, width=150, height=24).mark_text(fontSize=13).encode(text="text")
    bars = (
        chart(odds, width=220, height=180)
        .mark_bar(color=style.VERMILLION)
        .encode(
            y=alt.Y("class:N", sort=[str(name) for name in names], title=None),
            x=alt.X("probability:Q").scale(domain=[0, 1]),
        )
    )
    drawn = alt.hconcat(alt.vconcat(image, words), bars).add_params(*moved)
    return interactive.show(
        drawn,
        fallback=_still(series, epsilon),
        name="explore",
        number=FIGURES.index("explore") + 1,
        alt="An image, the mean prediction of a network and how unsure it is, for a "
        "budget, a way of attack and a network that the reader chooses.",
        caption="Move the budget; change the attack and the network. *Information* is "
        "how much the samples disagree, in nats.",
    )


def _still(series: Sequence[Shown], epsilon: float) -> Figure:
    """The same as lines: probability of the true class against the budget."""
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 2.8), sharey=True)
    for ax, way in zip(axes, WAYS, strict=True):
        for kind in dict.fromkeys(each.kind for each in series):
            found = [each for each in series if (each.kind, each.way) == (kind, way)]
            ax.plot(
                [each.budget * epsilon for each in found],
                [each.probabilities[each.label] for each in found],
                "o-",
                color=COLOURS[kind],
                label=label(kind),
            )
        ax.set(title=way, xlabel="budget", ylim=(0, 1))
    axes[0].set_ylabel("probability of its class")
    axes[0].legend(loc="lower left")
    return figure


# Leads
# --------------------------------------------------------------------------------------


def leads(results: Results) -> HTML:
    """The lead of every network over the matched control, under both ways."""
    found = [
        row
        for row in results.select("lead under attack", over_network=CONTROL)
        if row.factors["way"] in ("transfer", "EOT")
    ]
    pairs = list(
        dict.fromkeys((row.factors["dataset"], row.factors["first"]) for row in found)
    )
    several = len(claims.datasets(results)) > 1
    figure, axes = pyplot.subplots(
        1, 2, figsize=(style.FIGURE_WIDTH, 0.9 + 0.27 * len(pairs)), sharey=True
    )
    for ax, way in zip(axes, ("transfer", "EOT"), strict=True):
        for row in (each for each in found if each.factors["way"] == way):
            kind = str(row.factors["first"])
            place = -pairs.index((row.factors["dataset"], kind))
            ours = kind == claims.bayesian(results, str(row.factors["dataset"]))
            _point(ax, row, place, style.VERMILLION if ours else style.GREY)
        ax.axvline(0, color=style.INK, linewidth=1)
        ax.axvline(LEAD, color=style.INK, linestyle=":", linewidth=1)
        ax.set_title(INPUTS[way].replace("made on ", "made on\n"), weight="normal")
        ax.set(xlabel="lead (points)")
    names = [
        f"{label(kind)}, {claims.name(str(dataset))}" if several else label(kind)
        for dataset, kind in pairs
    ]
    axes[0].set_yticks([-place for place in range(len(pairs))], names)
    main = claims.datasets(results)[0]
    own = claims.bayesian(results, main)
    said = {
        way: claims.points(claims.lead(results, main, own, CONTROL, way))
        for way in ("transfer", "EOT")
    }
    return _shown(
        figure,
        "leads",
        alt="Leads in accuracy over the matched control with intervals, one line a "
        "network; left under transferred, right under averaged attacks.",
        caption=f"Lead over the matched control. The Bayesian network (coloured) on "
        f"{claims.name(main)}: {said['transfer']} under attacks made on the CNN, "
        f"{said['EOT']} under attacks made on itself. Dotted: the smallest lead that "
        "matters.",
    )


def _point(ax: Axes, row: Metric, place: float, colour: str) -> None:
    low, high = (row.value if end is None else end for end in (row.low, row.high))
    ax.plot([100 * low, 100 * high], [place, place], color=colour)
    ax.plot(100 * row.value, place, "o", color=colour)


def effort(results: Results) -> HTML:
    """Accuracy of the Bayesian network and its control against steps and samples."""
    dataset = claims.datasets(results)[0]
    own = claims.bayesian(results, dataset)
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.2), sharey=True)
    usual = _usual(results.select("accuracy by effort", dataset=dataset, network=own))
    for kind in (CONTROL, own):
        rows = results.select("accuracy by effort", dataset=dataset, network=kind)
        for ax, name in zip(axes, ("steps", "samples"), strict=True):
            other = "samples" if name == "steps" else "steps"
            line = [row for row in rows if row.factors[other] == usual[other]]
            line.sort(key=lambda row, by=name: row.factors[by])  # type: ignore[misc]
            at = [row.factors[name] for row in line]
            ax.plot(
                at,
                [row.value for row in line],
                "o-",
                color=COLOURS[kind],
                label=label(kind),
            )
            ax.fill_between(
                at,
                [row.value if row.low is None else row.low for row in line],
                [row.value if row.high is None else row.high for row in line],
                color=COLOURS[kind],
                alpha=0.15,
                linewidth=0,
            )
            ax.set(xlabel=f"{name} of the attack", xscale="log")
            ax.set_xticks(at, [str(each) for each in at])
            ax.minorticks_off()
    axes[0].set(ylabel="accuracy", ylim=(0, 1))
    axes[0].legend(loc="best")
    drops = results.select("drop with twice the effort", dataset=dataset)
    worst = max(drops, key=lambda row: row.value)
    return _shown(
        figure,
        "effort",
        alt="Accuracy of the Bayesian network and of its control against the steps and "
        "the samples of the attack.",
        caption="The attack grows stronger from left to right. Doubling steps or "
        f"samples takes at most another {100 * max(worst.value, 0):.0f} points "
        f"({label(worst.factors['network'])}, {worst.factors['effort']}).",
    )


def _usual(rows: Sequence[Metric]) -> dict[str, Any]:
    """Steps and samples that most rows have: those of the usual attack."""
    names = ("steps", "samples")
    counts = {name: [row.factors[name] for row in rows] for name in names}
    return {name: max(set(each), key=each.count) for name, each in counts.items()}


def sweep(results: Results) -> HTML:
    """The Bayesian network's lead and clean accuracy against temperature and prior."""
    dataset = claims.datasets(results)[0]
    clean = results.select("sweep: clean accuracy", dataset=dataset)
    guessing = {_place(row) for row in clean if row.value < WORTH_ATTACKING}
    rows = results.select("sweep: lead under attack", dataset=dataset)
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.4), sharey=True)
    heats = sorted({row.factors["temperature"] for row in rows})
    priors = sorted({row.factors["prior_sd"] for row in rows})
    middle = priors[len(priors) // 2]
    plans: tuple[tuple[str, dict[str, Any], list[Any]], ...] = (
        ("temperature", {"prior_sd": middle}, heats),
        ("prior_sd", {"temperature": 1.0}, priors),
    )
    colours = {"transfer": style.BLUE, "EOT": style.VERMILLION}
    for ax, (name, fixed, places) in zip(axes, plans, strict=True):
        for way, colour in colours.items():
            line = [
                row
                for row in results.select("sweep: lead under attack", way=way, **fixed)
                if row.factors["dataset"] == dataset and _place(row) not in guessing
            ]
            line.sort(key=lambda row, by=name: row.factors[by])  # type: ignore[misc]
            ax.plot(
                [row.factors[name] for row in line],
                [100 * row.value for row in line],
                "o-",
                color=colour,
                label=INPUTS[way],
            )
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set(xscale="log")
        ax.set_xticks(places, [f"{each:g}" for each in places])
        ax.minorticks_off()
    axes[0].set(xlabel="temperature", ylabel="lead (points)")
    axes[1].set_xlabel("deviation of the prior")
    axes[0].legend(loc="best")
    shown = [row for row in clean if _place(row) not in guessing] or clean
    worst, best = (choose(shown, key=lambda row: row.value) for choose in (min, max))
    missing = ", ".join(f"temperature {t:g} and prior {sd:g}" for t, sd in guessing)
    return _shown(
        figure,
        "sweep",
        alt="The Bayesian network's lead over its control against temperature, and "
        "against the deviation of the prior, for two ways of attack.",
        caption="Temperature 1 is variational Bayes. Clean accuracy lies between "
        f"{worst.value:.0%} (temperature {worst.factors['temperature']:g}, prior "
        f"{worst.factors['prior_sd']:g}) and {best.value:.0%}."
        + (f" Left out, since it guesses: {missing}." if missing else ""),
    )


def _place(row: Metric) -> tuple[float, float]:
    """Temperature and prior of a row of the sweep."""
    return float(row.factors["temperature"]), float(row.factors["prior_sd"])


def interference(results: Results) -> HTML:
    """Accuracy against severity for five kinds of interference."""
    dataset = claims.datasets(results)[0]
    own = claims.bayesian(results, dataset)
    rows = results.select("accuracy under interference", dataset=dataset)
    names = list(dict.fromkeys(str(row.factors["interference"]) for row in rows))
    figure, axes = pyplot.subplots(
        2, 3, figsize=(style.FIGURE_WIDTH, 4.2), sharex=True, sharey=True
    )
    for ax, name in zip(axes.flat, names, strict=False):
        for kind in (CONTROL, PENALISED, own):
            line = [
                row
                for row in rows
                if (row.factors["interference"], row.factors["network"]) == (name, kind)
            ]
            ax.plot(
                [row.factors["severity"] for row in line],
                [row.value for row in line],
                "o-",
                color=COLOURS[kind],
                label=label(kind),
                markersize=3,
            )
        ax.set_title(name.replace(" and ", "\nand "), weight="normal")
    axes[1, 2].set_axis_off()
    axes[1, 2].legend(*axes[0, 0].get_legend_handles_labels(), loc="center")
    figure.supxlabel("severity")
    figure.supylabel("accuracy")
    leads = {
        kind: results.one(
            "lead under interference",
            dataset=dataset,
            over_network=kind,
            interference="all",
        )
        for kind in (CONTROL, PENALISED)
    }
    return _shown(
        figure,
        "interference",
        alt="Accuracy against severity, five panels, three networks.",
        caption=f"{claims.name(dataset)}: over all kinds and severities the Bayesian "
        f"network leads its control by {claims.points(leads[CONTROL])}, the L2 network "
        f"by {claims.points(leads[PENALISED])}.",
    )


def alarm(results: Results) -> HTML:
    """AUROC of both alarms and of the CNN's max-softmax, by attacker."""
    dataset = claims.datasets(results)[0]
    own = claims.bayesian(results, dataset)
    scores = {
        (own, "mutual information"): ("too much", style.VERMILLION, -0.2),
        (own, "two-sided"): ("unusual", style.OCHRE, 0.0),
        (CNN, "max-softmax"): ("CNN's confidence", style.GREY, 0.2),
    }
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.3))
    for (network, score), (name, colour, shift) in scores.items():
        for place, inputs in enumerate(INPUTS):
            row = results.one(
                "AUROC", dataset=dataset, network=network, score=score, inputs=inputs
            )
            low, high = (
                row.value if end is None else end for end in (row.low, row.high)
            )
            ax.plot([place + shift] * 2, [low, high], color=colour)
            ax.plot(
                place + shift,
                row.value,
                "o",
                color=colour,
                label=name if place == 0 else None,
            )
    ax.axhline(0.5, color=style.INK, linewidth=1)
    names = [each.replace(" ", "\n", 1) for each in INPUTS.values()]
    ax.set_xticks(range(len(INPUTS)), names)
    ax.set(ylabel="AUROC", ylim=(0, 1.05))
    ax.legend(loc="lower left", ncols=3)
    area = {
        inputs: results.one(
            "AUROC",
            dataset=dataset,
            network=own,
            score="mutual information",
            inputs=inputs,
        ).value
        for inputs in INPUTS
    }
    return _shown(
        figure,
        "alarm",
        alt="AUROC of three alarms against four attackers, with intervals; 0.5 is "
        "chance.",
        caption=f"{claims.name(dataset)}: disagreement of the samples separates clean "
        f"from transferred images with an AUROC of {area['transfer']:.2f}, and of "
        f"{area['matching']:.2f} where the attacker copies what is usual (chance is "
        "0.5).",
    )
