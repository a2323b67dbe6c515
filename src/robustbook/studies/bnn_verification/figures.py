"""The figures of the page, drawn from the record's rows alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robustbook.plots.style import (
    BLUE,
    FIGURE_WIDTH,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    colour,
    label,
    marker,
)
from robustbook.results import Metric, Results
from robustbook.studies.bnn_verification.measure.boxes import DELTA
from robustbook.studies.bnn_verification.networks import METHODS
from robustbook.studies.bnn_verification.parameters import DELTAS, EPSILONS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE_LOOKS = {
    "Chernoff": (GREY, "X"),
    "Massart": (BLUE, "o"),
    "betting": (VERMILLION, "D"),
    "hedged betting": (ORANGE, "s"),
    "group-sequential": (GREEN, "^"),
}
BEYOND = ("betting", "hedged betting", "group-sequential")
"""The rules that the paper does not have."""
ORACLE_LOOKS = {
    "exact": (BLUE, "o", "-"),
    "PGD": (ORANGE, "s", "--"),
    "FGSM": (VERMILLION, "D", ":"),
}


def _axes(
    columns: int, height: float, rows: int = 1, share: bool = True
) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=(FIGURE_WIDTH, height), squeeze=False, sharey=share
    )
    return figure, list(axes.ravel())


def draw_costs(results: Results) -> Figure:
    """Mean samples to decision against p for each rule and the lower limit, one panel a
    pair of guarantees.
    """
    figure, axes = _axes(2, 4.3, share=False)
    for axis, pair in zip(axes, ("published", "tight"), strict=True):
        for rule, (shade, sign) in RULE_LOOKS.items():
            rows = results.select("mean samples", rule=rule, pair=pair)
            axis.plot(
                [row.factors["p"] for row in rows],
                [row.value for row in rows],
                color=shade,
                marker=sign,
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
            title=f"θ = {theta:g}, γ = {gamma:g}",
            xlabel="true probability p",
            ylim=(0, None),
        )
    axes[0].set_ylabel("mean posterior samples")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        fontsize=8.5,
    )
    return figure


def draw_heat_maps(results: Results) -> Figure:
    """Violation probability over the grid of budgets and thresholds, one map a
    posterior.
    """
    names = [
        name
        for name in METHODS
        if results.select("violation probability", posterior=name)
    ]
    figure, axes = _axes(len(names), 2.9)
    for axis, name in zip(axes, names, strict=True):
        grid = [
            [_grid_value(results, name, epsilon, delta) for epsilon in EPSILONS]
            for delta in DELTAS
        ]
        image = axis.imshow(
            grid, vmin=0, vmax=1, cmap="cividis", origin="lower", aspect="auto"
        )
        axis.set_title(label(name), fontsize=9.5)
        axis.set_xticks(
            range(len(EPSILONS)),
            [f"{epsilon:g}" for epsilon in EPSILONS],
            rotation=90,
            fontsize=8,
        )
        axis.set_yticks(
            range(len(DELTAS)), [f"{delta:g}" for delta in DELTAS], fontsize=8
        )
        axis.grid(False)
    axes[0].set_ylabel("threshold δ")
    figure.supxlabel("budget ε (pixel units)", fontsize=10)
    figure.colorbar(image, ax=axes, label="probability of a violation")
    return figure


def _grid_value(results: Results, name: str, epsilon: float, delta: float) -> float:
    return results.one(
        "violation probability", posterior=name, epsilon=epsilon, delta=delta, problem=1
    ).value


def draw_oracles(results: Results) -> Figure:
    """What exact search, PGD and FGSM find, against the budget, for both problems and
    the Bayesian posteriors.
    """
    names = METHODS[:3]
    figure, axes = _axes(3, 4.6, rows=2, share=False)
    for axis, (problem, name) in zip(
        axes, [(q, name) for q in (1, 2) for name in names], strict=True
    ):
        for oracle, (shade, sign, line) in ORACLE_LOOKS.items():
            rows = results.select(
                "probability by oracle", oracle=oracle, posterior=name, problem=problem
            )
            x, y = [row.factors["epsilon"] for row in rows], [row.value for row in rows]
            axis.plot(
                x,
                y,
                color=shade,
                marker=sign,
                linestyle=line,
                label=oracle,
                markersize=4.5,
            )
        what = f"> {DELTA:g}" if problem == 1 else "flips"
        axis.set_title(f"{label(name)}, {what}", fontsize=9.5)
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    figure.supxlabel("budget ε of five pixels (pixel units)", fontsize=10)
    figure.supylabel("probability of a violation", fontsize=10)
    return figure


def draw_images(results: Results) -> Figure:
    """Robustness of every test image by inference method: one dot an image, a bar at
    the mean.
    """
    figure, (axis,) = _axes(1, 3.2)
    jitter = np.random.default_rng(0)
    for position, name in enumerate(METHODS):
        values = [
            row.value
            for row in results.select("robustness of an image", posterior=name)
        ]
        x = position + jitter.uniform(-0.25, 0.25, len(values))
        axis.plot(
            x,
            values,
            linestyle="none",
            marker=marker(name),
            color=colour(name),
            markersize=4.5,
            alpha=0.75,
        )
        axis.hlines(
            np.mean(values),
            position - 0.35,
            position + 0.35,
            color=INK,
            linewidth=2,
        )
    axis.set_xticks(range(len(METHODS)), [label(name) for name in METHODS])
    axis.set(ylabel="share of samples\nthat keep their decision", ylim=(-0.03, 1.03))
    return figure


def draw_brackets(results: Results, task: str, problem: int = 2) -> Figure:
    """Attacked and certified ends of the violation probability against the budget, one
    panel a posterior.
    """
    from matplotlib.ticker import NullFormatter

    names = [
        name
        for name in METHODS
        if results.select("violation bracket", posterior=name, task=task)
    ]
    figure, axes = _axes(len(names), 2.9)
    for axis, name in zip(axes, names, strict=True):
        ends = {
            end: results.select(
                "violation bracket", end=end, posterior=name, task=task, problem=problem
            )
            for end in ("attacked", "certified")
        }
        x = [float(row.factors["epsilon"]) for row in ends["attacked"]]
        low, high = (
            [row.value for row in ends[end]] for end in ("attacked", "certified")
        )
        axis.fill_between(x, low, high, color=colour(name), alpha=0.25, linewidth=0)
        axis.plot(
            x, low, color=colour(name), marker="^", markersize=4.5, label="attacked"
        )
        axis.plot(
            x,
            high,
            color=colour(name),
            marker="v",
            linestyle="--",
            markersize=4.5,
            label="certified",
        )
        _draw_outer(axis, x, ends["attacked"], "low", colour(name))
        _draw_outer(axis, x, ends["certified"], "high", colour(name))
        axis.set_xscale("log")
        axis.set_xticks([0.002, 0.01, 0.05], ["0.002", "0.01", "0.05"], fontsize=8)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(label(name), fontsize=9.5)
        axis.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("probability of a violation")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
        fontsize=8.5,
    )
    figure.supxlabel("budget ε (pixel units)", fontsize=10)
    return figure


def _draw_outer(
    axis: Axes, x: list[float], rows: list[Metric], side: str, shade: str
) -> None:
    """The outer end of each interval as a thin line, where there is one."""
    values = [getattr(row, side) for row in rows]
    if all(value is not None for value in values):
        axis.plot(x, values, color=shade, linewidth=0.7, linestyle=":")


def draw_sweep(results: Results) -> Figure:
    """Accuracy against robustness of every posterior of the sweep."""
    figure, (axis,) = _axes(1, 3.8)
    for name in METHODS[:4]:
        rows = results.select("accuracy in the sweep", posterior=name)
        robust = [
            results.one(
                "robustness in the sweep",
                posterior=name,
                setting=row.factors["setting"],
            ).value
            for row in rows
        ]
        accuracy = [row.value for row in rows]
        axis.plot(
            accuracy,
            robust,
            linestyle="none",
            marker=marker(name),
            color=colour(name),
            label=label(name),
        )
    axis.axvline(0.2, color=GREY, linewidth=1, linestyle=":")
    axis.set(
        xlabel="accuracy of single samples",
        ylabel="robustness (decisions kept under PGD)",
        xlim=(0, 1.02),
    )
    figure.legend(loc="outside upper center", ncols=4, fontsize=9)
    return figure


COST_COLUMNS = {
    "Chernoff": "Chernoff",
    "Massart": "Massart",
    "betting": "betting",
    "hedged betting": "hedged",
    "group-sequential": "group",
}
"""Short names of the rules, for a table of many columns."""


def cost_table(results: Results, pair: str) -> pd.DataFrame:
    """Mean samples by p and rule, with the share of Massart's number that betting and
    the group-sequential rule need.
    """
    import pandas as pd

    rows = []
    for limit in results.select("lower limit of samples", pair=pair):
        p = limit.factors["p"]
        line = {"p": f"{p:g}", "limit": limit.value}
        line |= {
            short: results.one("mean samples", rule=rule, pair=pair, p=p).value
            for rule, short in COST_COLUMNS.items()
        }
        for rule in ("betting", "group-sequential"):
            share = results.one(
                "samples relative to Massart", rule=rule, pair=pair, p=p
            ).value
            line[f"{COST_COLUMNS[rule]}, share"] = f"{share:.2f}"
        rows.append(line)
    return pd.DataFrame(rows)


def failure_table(results: Results) -> pd.DataFrame:
    """Promised, worst exact and worst simulated failure by rule and pair, and the
    failure on a real posterior.
    """
    import pandas as pd

    rows = []
    for pair in ("published", "tight"):
        for rule in RULE_LOOKS:
            simulated = max(
                row.value
                for row in results.select("simulated failure", rule=rule, pair=pair)
            )
            real = (
                [
                    row.value
                    for row in results.select("failure on a posterior", rule=rule)
                ]
                if pair == "published"
                else []
            )
            rows.append(
                {
                    "guarantee": pair,
                    "rule": rule,
                    "promised": results.one("promised failure", pair=pair).value,
                    "exact bound": results.one(
                        "worst failure", rule=rule, pair=pair
                    ).value,
                    "simulated": simulated,
                    "posterior": real[0] if real else "–",
                }
            )
    return pd.DataFrame(rows)


def method_table(results: Results) -> pd.DataFrame:
    """Accuracy and robustness by method on ten classes, with their intervals."""
    import pandas as pd

    from robustbook.page import interval

    return pd.DataFrame(
        {
            "posterior": label(name),
            "accuracy, single sample": interval(
                _mean(results, "accuracy", name, of="single sample")
            ),
            "accuracy, predictive mean": interval(
                _mean(results, "accuracy", name, of="predictive mean")
            ),
            "robustness": interval(_mean(results, "robustness", name)),
            "robustness of right answers": interval(
                _mean(results, "robustness of right answers", name)
            ),
        }
        for name in METHODS
    )


def _mean(results: Results, metric: str, name: str, **factors: str) -> Metric:
    return results.one(metric, posterior=name, task="ten classes", **factors)


def rule_table(results: Results) -> pd.DataFrame:
    """Estimates of every rule on the same images, and the oracle calls they took."""
    import pandas as pd

    rows = []
    for rule in RULE_LOOKS:
        found = results.select("estimate", rule=rule)
        line: dict[str, object] = {
            "rule": rule,
            "oracle calls": int(results.one("oracle calls", rule=rule).value),
        }
        for row in found:
            line[f"image {int(row.factors['image']) + 1}"] = (
                f"{row.value:.3f} (n = {row.n})"
            )
        rows.append(line)
    return pd.DataFrame(rows)


def convergence_table(results: Results) -> pd.DataFrame:
    """What tells whether the deviations of variational posteriors have converged, one
    line a task.
    """
    import pandas as pd

    lines = []
    for bound in results.select("evidence lower bound"):
        task = bound.factors["task"]
        blank = results.select("deviation without information", task=task)
        balances = [
            f"{row.value:.2f}"
            for row in results.select("balance of deviations", task=task)
        ]
        lines.append(
            {
                "task": task,
                "bound, nats per image": bound.value,
                "balance, first to last layer": ", ".join(balances),
                "deviation without information": blank[0].value if blank else "–",
                "accuracy, single sample": results.one(
                    "accuracy", task=task, posterior="mean-field VI", of="single sample"
                ).value,
            }
        )
    return pd.DataFrame(lines)


def corner_table(results: Results) -> pd.DataFrame:
    """Violation probability in the four corners of the heat maps, one line a
    posterior.
    """
    import pandas as pd

    corners = [
        (epsilon, delta)
        for epsilon in (EPSILONS[0], EPSILONS[-1])
        for delta in (DELTAS[0], DELTAS[-1])
    ]
    return pd.DataFrame(
        {"posterior": label(name)}
        | {
            f"ε = {epsilon:g}, δ = {delta:g}": _grid_value(
                results, name, epsilon, delta
            )
            for epsilon, delta in corners
        }
        for name in METHODS
    )


def sweep_table(results: Results) -> pd.DataFrame:
    """Accuracy and robustness of every posterior of the sweep, with the diagnosis of
    its fit.
    """
    import pandas as pd

    lines = []
    for row in results.select("accuracy in the sweep"):
        name = row.factors["posterior"]
        worst, median = (
            results.select(f"{which} R-hat in the sweep", **row.factors)
            for which in ("worst", "median")
        )
        balances = results.select("balance in the sweep", **row.factors)
        lines.append(
            {
                "posterior": label(str(name)),
                "setting": row.factors["setting"] or "–",
                "accuracy": row.value,
                "robustness": results.one(
                    "robustness in the sweep", **row.factors
                ).value,
                "worst R-hat": f"{worst[0].value:.2f}" if worst else "–",
                "median R-hat": f"{median[0].value:.2f}" if median else "–",
                "balance": ", ".join(f"{each.value:.2f}" for each in balances) or "–",
            }
        )
    return pd.DataFrame(lines)


def mixing_table(results: Results) -> pd.DataFrame:
    """R-hat and effective sample sizes of the HMC runs."""
    import pandas as pd

    return pd.DataFrame(
        {
            "task": worst.factors["task"],
            "quantity": worst.factors["quantity"],
            "worst R-hat": worst.value,
            "median R-hat": results.one("median R-hat", **worst.factors).value,
            "least ESS": _effective(results, "least", worst),
            "median ESS": _effective(results, "median", worst),
        }
        for worst in results.select("worst R-hat")
    )


def _effective(results: Results, which: str, row: Metric) -> str:
    """The effective sample size that goes with an R-hat, as text."""
    found = results.select(f"{which} effective sample size", **row.factors)
    return f"{found[0].value:.1f}" if found else "too few draws"
