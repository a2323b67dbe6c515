"""From per-image measurements to metric rows: one network, one kind of network, and
rankings of all networks.

Read `record_networks` and `record_kinds` first, then `record_slices` (claim Y1) and
`record_lines` (Y2), `record_rankings` (Y3, Y4, Y6), `record_readings` and
`record_search` (Y7a); tables of text come last. A kind is an architecture with a
training; its networks differ by seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbook.plots import style
from robustbook.results import Metric, Results
from robustbook.stats import (
    Interval,
    bootstrap,
    bootstrap_mean,
    bootstrap_median,
    crossed,
    draw,
    kendall,
    mean_interval_t,
    rank_correlation,
)
from robustbook.studies.loss_metric.claims import (
    CHEAP_RIVALS,
    MANY_STARTS,
    RANK_QUALITY,
    REFERENCES,
    STABILITY_RIVALS,
)
from robustbook.studies.loss_metric.measure.evaluation import (
    BOUND_BUDGETS,
    BUDGETS,
    OTHER_PSI_STEPS,
    READINGS,
    Measurements,
    attack_name,
)
from robustbook.studies.loss_metric.measure.landscape import (
    Slice,
    boundary_distance,
    mean_slope,
    slope_to_boundary,
)

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
RESAMPLES = 1000
SMALLEST_KL = 1e-12
MATCHED_IMAGES = 8
HALVES = 20
REPLACED = ("strong robust accuracy", "minimal distance", "CLEVER")


def psi_of(kl: Array) -> Array:
    """Psi per image; a divergence of zero (no change at all was found) counts as the
    smallest one that can be told apart.
    """
    result: Array = 1 / np.maximum(kl, SMALLEST_KL)
    return result


def factors_of(evaluation: Measurements) -> dict[str, Any]:
    """The factors that name a network in a metric row."""
    network = evaluation.network
    return {
        "dataset": network.dataset,
        "architecture": network.architecture,
        "training": network.training,
        "seed": network.seed,
    }


def record_networks(results: Results, evaluations: Sequence[Measurements]) -> None:
    """One row per network, measure and setting; the spread over images is in the rows
    of `record_kinds`.
    """
    for evaluation in evaluations:
        factors = factors_of(evaluation)
        whole: dict[str, tuple[Array, str]] = {
            "clean accuracy": (evaluation.clean, "share"),
            "clean accuracy, whole test set": (evaluation.clean_whole, "share"),
            "strong robust accuracy": (evaluation.strong, "share"),
            "minimal distance": (evaluation.distance, "pixel units"),
        }
        for name, (values, unit) in whole.items():
            results.add(name, values.mean(), n=len(values), unit=unit, **factors)
        scores = evaluation.clever
        results.add(
            "CLEVER", np.median(scores), n=len(scores), unit="pixel units", **factors
        )
        for (attack, budget), correct in evaluation.correct.items():
            results.add(
                "robust accuracy",
                correct.mean(),
                n=len(correct),
                unit="share",
                attack=attack,
                budget=budget,
                **factors,
            )
        for (steps, budget), kl in evaluation.kl.items():
            results.add(
                "median psi",
                np.median(psi_of(kl)),
                n=len(kl),
                unit="1/nats",
                steps=steps,
                budget=budget,
                **factors,
            )


def by_kind(
    evaluations: Sequence[Measurements],
) -> dict[tuple[str, str, str], list[Measurements]]:
    """Evaluations grouped by data set, architecture and training, in the order in which
    they come.
    """

    def kind(evaluation: Measurements) -> tuple[str, str, str]:
        network = evaluation.network
        return network.dataset, network.architecture, network.training

    return {key: list(group) for key, group in groupby(evaluations, kind)}


def record_kinds(results: Results, evaluations: Sequence[Measurements]) -> None:
    """One row per kind of network and headline measure: mean over seeds, with a
    bootstrap interval over images.
    """
    for (dataset, architecture, training), group in by_kind(evaluations).items():
        factors: dict[str, Any] = {
            "dataset": dataset,
            "architecture": architecture,
            "training": training,
        }
        columns: dict[str, tuple[list[Array], str]] = {
            "kind: clean accuracy": ([each.clean for each in group], "share"),
            "kind: clean accuracy, whole test set": (
                [each.clean_whole for each in group],
                "share",
            ),
            "kind: strong robust accuracy": ([each.strong for each in group], "share"),
            "kind: minimal distance": (
                [each.distance for each in group],
                "pixel units",
            ),
            "kind: attained divergence": (
                [each.attained(1.0) for each in group],
                "nats",
            ),
        }
        for name, (arrays, unit) in columns.items():
            interval = bootstrap_mean(np.mean(arrays, axis=0), seed=0)
            results.add(
                name, interval, over="images, mean of seeds", unit=unit, **factors
            )
        _record_psi(results, group, factors)
        _record_bracket(results, group, factors)


def _record_psi(
    results: Results, group: Sequence[Measurements], factors: dict[str, Any]
) -> None:
    """Median and mean psi of a kind (mean over seeds), with an interval over images."""
    psi = np.stack([psi_of(each.attained(1.0)) for each in group])
    for name, statistic in (("median", np.median), ("mean", np.mean)):

        def mean_over_seeds(
            rows: Rows, statistic: Callable[..., Array] = statistic
        ) -> float:
            return float(statistic(psi[:, rows], axis=1).mean())

        interval = over_rows(mean_over_seeds, psi.shape[1])
        results.add(
            f"kind: {name} psi",
            interval,
            over="images, mean of seeds",
            unit="1/nats",
            **factors,
        )


def _record_bracket(
    results: Results, group: Sequence[Measurements], factors: dict[str, Any]
) -> None:
    """The bracket of psi: median over images of the sound lower end (per method) and of
    the attained upper end.
    """
    bounded = [each for each in group if each.bound]
    for budget in BOUND_BUDGETS:
        bounds = {
            method: np.concatenate([each.bound[method, budget] for each in bounded])
            for method in ("ibp", "crown")
        }
        if ("tight", budget) in bounded[0].bound:
            bounds["tight"] = np.concatenate(
                [each.bound["tight", budget] for each in bounded]
            )
        bounds["best"] = np.min(list(bounds.values()), axis=0)
        attained = np.concatenate(
            [
                each.attained(budget)[: len(each.bound["ibp", budget])]
                for each in bounded
            ]
        )
        row: dict[str, Any] = {
            "over": "images",
            "unit": "1/nats",
            "budget": budget,
            **factors,
        }
        results.add(
            "psi attained (upper end)",
            bootstrap_median(psi_of(attained), seed=0),
            **row,
        )
        for method, bound in bounds.items():
            results.add(
                "psi certified (lower end)",
                bootstrap_median(psi_of(bound), seed=0),
                method=method,
                **row,
            )
        violated = int(np.sum(bounds["best"] < attained * (1 - 1e-5)))
        results.add(
            "images whose bracket is violated",
            violated,
            n=len(attained),
            unit="images",
            budget=budget,
            **factors,
        )


def over_rows(
    statistic: Callable[[Rows], float], count: int, groups: Sequence[str] | None = None
) -> Interval:
    """`statistic(rows)` on rows 0..count-1 with its 95 % bootstrap interval; with
    `groups` whole groups are drawn.
    """
    level = count if groups is None else groups
    return bootstrap(statistic, level, seed=0, resamples=RESAMPLES).interval()


def record_gaps(results: Results, evaluations: Sequence[Measurements]) -> None:
    """How many times the proved end of psi's bracket goes into the attained one: median
    over images, then over networks.
    """
    bounded = [each for each in evaluations if each.bound]
    for budget in BOUND_BUDGETS:
        gaps, trainings = [], [each.network.training for each in bounded]
        for each in bounded:
            bound = np.min(
                [found for (_, at), found in each.bound.items() if at == budget], axis=0
            )
            gaps.append(
                float(
                    np.median(
                        bound
                        / np.maximum(each.attained(budget)[: len(bound)], SMALLEST_KL)
                    )
                )
            )
        results.add(
            "psi attained over its sound lower bound",
            bootstrap_median(gaps, seed=0),
            over="kinds of network, first seed",
            budget=budget,
            images=len(bound),
        )
        for training in dict.fromkeys(trainings):
            own = [
                gap
                for gap, kind in zip(gaps, trainings, strict=True)
                if kind == training
            ]
            results.add(
                "bracket of psi by training",
                float(np.median(own)),
                n=len(own),
                budget=budget,
                images=len(bound),
                training=training,
            )


# Surfaces
# --------------------------------------------------------------------------------------


def record_slices(results: Results, slices: Sequence[Slice]) -> None:
    """Rows of Y1 over planes that have right and wrong cells: flat ones and cut ones,
    of networks with all classes and with two.
    """
    for clip, two in product((False, True), repeat=2):
        group = [
            each
            for each in slices
            if each.mixed and (each.clip, bool(each.network.classes)) == (clip, two)
        ]
        if len(group) >= 2:
            factors: dict[str, Any] = {
                "classes": "two" if two else "all",
                "plane": "cut" if clip else "flat",
            }
            _record_planes(results, group, factors)


def _record_planes(
    results: Results, slices: Sequence[Slice], factors: dict[str, Any]
) -> None:
    networks = [repr(each.network) for each in slices]
    images = [str(each.image) for each in slices]

    def over_both(values: Sequence[float]) -> Interval:
        return over_two_ways(np.array(values), networks, images)

    common: dict[str, Any] = {"over": "networks and images, both drawn", **factors}
    results.add(
        "decision surface agreement",
        min(each.decision_agreement for each in slices),
        n=len(slices),
        unit="share of cells",
        **factors,
    )
    results.add(
        "smallest cross-entropy threshold error",
        over_both([each.threshold_error for each in slices]),
        unit="share of cells",
        **common,
    )
    distances = {
        "best": [each.boundary_distance for each in slices],
        "log 2": [each.known_distance for each in slices],
    }
    for level, found in distances.items():
        results.add(
            "distance from the boundary to a level",
            over_both(found),
            unit="epsilon",
            level=level,
            networks=len(set(networks)),
            images=len(set(images)),
            **common,
        )


def over_two_ways(
    values: Array, first: Sequence[str], second: Sequence[str]
) -> Interval:
    """Mean of `values` (n,) with a 95 % interval that draws the units of two crossed
    factors, each on its own.

    Planes of one image are alike and so are planes of one network, so neither planes
    nor one of the two may be drawn alone.
    """

    def mean(one: Array, other: Array) -> Array:
        weights = one * other
        result: Array = weights @ values / weights.sum(axis=1)
        return result

    return crossed(mean, *draw(first, second, seed=0, resamples=RESAMPLES)).interval()


def record_lines(results: Results, evaluations: Sequence[Measurements]) -> None:
    """Rows of Y2: distance to the boundary and slope of every network (median over
    images), and of defended against natural networks of the same seed.
    """
    for each in evaluations:
        for profile in each.profiles:
            direction, logits = profile.split(" ")
            results.add(
                "slope of S",
                np.median(_slopes(each, profile)),
                unit="per pixel unit",
                direction=direction,
                logits=logits,
                **factors_of(each),
            )
            if logits == "normalised":
                results.add(
                    "distance to S = 0",
                    np.median(_distances(each, profile)),
                    unit="pixel units",
                    direction=direction,
                    **factors_of(each),
                )
    for dataset in dict.fromkeys(each.network.dataset for each in evaluations):
        group = [each for each in evaluations if each.network.dataset == dataset]
        for training in ("minmax", "gradient-regularised"):
            _record_ratios(results, group, dataset, training)


def _slopes(evaluation: Measurements, profile: str) -> Array:
    return mean_slope(evaluation.profiles[profile], evaluation.epsilon)


def _slopes_to_boundary(evaluation: Measurements, profile: str) -> Array:
    return slope_to_boundary(evaluation.profiles[profile], evaluation.epsilon)


def _distances(evaluation: Measurements, profile: str) -> Array:
    return boundary_distance(evaluation.profiles[profile], evaluation.epsilon)


def _record_ratios(
    results: Results, evaluations: Sequence[Measurements], dataset: str, training: str
) -> None:
    """How many times farther and flatter, by seed and then over seeds, on the images
    that both networks get right; nothing where they are too few, or a single seed.
    """
    by_network = {
        (each.network.seed, each.network.architecture, each.network.training): each
        for each in evaluations
    }
    seeds = sorted({seed for seed, _, _ in by_network})
    pairs = {
        (seed, architecture): (each, by_network[seed, architecture, "natural"])
        for (seed, architecture, kind), each in by_network.items()
        if kind == training
    }
    matched = {
        key: (defended.clean * natural.clean).astype(bool)
        for key, (defended, natural) in pairs.items()
    }
    if len(seeds) < 2 or not pairs:
        return
    if min(both.sum() for both in matched.values()) < MATCHED_IMAGES:
        return

    def over_seeds(value: Callable[[Measurements], Array], sign: int) -> Interval:
        logs: dict[int, list[float]] = {seed: [] for seed in seeds}
        for (seed, architecture), networks in pairs.items():
            both = matched[seed, architecture]
            defended, natural = (np.median(value(each)[both]) for each in networks)
            logs[seed].append(sign * float(np.log(defended / natural)))
        found = mean_interval_t([np.mean(each) for each in logs.values()])
        value_of, low, high = np.exp([found.value, *found.bounds])
        return Interval(float(value_of), float(low), float(high), found.n)

    common: dict[str, Any] = {"over": "seeds", "dataset": dataset, "training": training}
    results.add(
        "ratio of minimal distances to natural",
        over_seeds(lambda each: each.distance, 1),
        **common,
    )
    for profile in evaluations[0].profiles:
        direction, logits = profile.split(" ")
        results.add(
            "ratio of slopes from natural",
            over_seeds(partial(_slopes, profile=profile), -1),
            direction=direction,
            logits=logits,
            **common,
        )
        results.add(
            "ratio of slopes to the boundary",
            over_seeds(partial(_slopes_to_boundary, profile=profile), -1),
            direction=direction,
            logits=logits,
            **common,
        )
        if logits == "normalised":
            results.add(
                "ratio of distances to natural",
                over_seeds(partial(_distances, profile=profile), 1),
                direction=direction,
                **common,
            )


# Rankings of networks
# --------------------------------------------------------------------------------------


def record_rankings(results: Results, evaluations: Sequence[Measurements]) -> None:
    """Rows that decide Y3, Y4 and Y6: agreement with the references and how reliable
    both are, stability over settings, passes to quality.
    """
    kinds = _kind_names(evaluations)
    _record_agreement(results, evaluations, kinds)
    _record_reliability(results, evaluations)
    _record_stability(results, evaluations, kinds)
    _record_floors(results, evaluations)
    _record_passes(results, evaluations, kinds)


def _kind_names(evaluations: Sequence[Measurements]) -> list[str]:
    """The kind of each network; intervals resample kinds, since networks of one kind
    are alike.
    """
    return [
        f"{each.network.architecture} {each.network.training}" for each in evaluations
    ]


def references_of(evaluations: Sequence[Measurements]) -> dict[str, Array]:
    """One number per network for each of the two references."""
    return {
        "strong robust accuracy": np.array(
            [each.strong.mean() for each in evaluations]
        ),
        "minimal distance": np.array([each.distance.mean() for each in evaluations]),
    }


def agreement_scores(evaluations: Sequence[Measurements]) -> dict[str, Array]:
    """One number per network for psi, its two other averages, its competitors and the
    cheap rivals; larger means more robust.
    """
    long_attack = attack_name(max(evaluations[0].settings.step_counts))

    def over(value: Callable[[Measurements], Any]) -> Array:
        return np.array([value(each) for each in evaluations], dtype=np.float64)

    return {
        "median psi": over(lambda each: np.median(psi_of(each.attained(1.0)))),
        "mean psi": over(lambda each: psi_of(each.attained(1.0)).mean()),
        "1 / mean divergence": over(lambda each: 1 / each.attained(1.0).mean()),
        "1 / mean adversarial CE": over(
            lambda each: 1 / each.loss[long_attack, 1.0].mean()
        ),
        "clean accuracy": over(lambda each: each.clean_whole.mean()),
        "FGSM accuracy": over(lambda each: each.correct["FGSM", 1.0].mean()),
        f"{long_attack} accuracy": over(
            lambda each: each.correct[long_attack, 1.0].mean()
        ),
        "C&W margin accuracy": over(
            lambda each: each.correct["C&W margin", 1.0].mean()
        ),
        "CLEVER": over(lambda each: each.clever.mean()),
    }


def _correlation(values: Array, truth: Array) -> Callable[[Rows], float]:
    return lambda rows: rank_correlation(values[rows], truth[rows])


def _lead(values: Array, rival: Array, truth: Array) -> Callable[[Rows], float]:
    """By how much the rank correlation of `values` with the truth exceeds a rival's."""
    return lambda rows: (
        rank_correlation(values[rows], truth[rows])
        - rank_correlation(rival[rows], truth[rows])
    )


def _record_agreement(
    results: Results, evaluations: Sequence[Measurements], kinds: list[str]
) -> None:
    scores = agreement_scores(evaluations)
    for reference, truth in references_of(evaluations).items():
        common: dict[str, Any] = {"over": "kinds of network", "reference": reference}
        for name, values in scores.items():
            rho = over_rows(_correlation(values, truth), len(kinds), kinds)
            results.add("rank agreement", rho, measure=name, **common)
        for rival in CHEAP_RIVALS:
            lead = _lead(scores["median psi"], scores[rival], truth)
            gain = over_rows(lead, len(kinds), kinds)
            results.add("rank agreement gain", gain, over_measure=rival, **common)


def _record_reliability(results: Results, evaluations: Sequence[Measurements]) -> None:
    """How well two halves of the images rank the networks alike, stepped up to all of
    them (Spearman-Brown); mean over random halves.
    """
    tables = {
        "median psi": np.stack([psi_of(each.attained(1.0)) for each in evaluations]),
        "strong robust accuracy": np.stack([each.strong for each in evaluations]),
        "minimal distance": np.stack([each.distance for each in evaluations]),
    }
    for name, table in tables.items():
        average = np.median if name == "median psi" else np.mean
        found = split_half_reliability(table, average)
        results.add("split-half reliability", found, n=table.shape[1], measure=name)


def split_half_reliability(table: Array, average: Callable[..., Array]) -> float:
    """Reliability of the ranks of networks by `average` over the images of `table`
    (networks, images); a correlation that is not defined counts as 0.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(HALVES):
        order = generator.permutation(table.shape[1])
        middle = len(order) // 2
        first, second = (
            average(table[:, part], axis=1) for part in (order[:middle], order[middle:])
        )
        r = rank_correlation(first, second)
        found.append(2 * r / (1 + r) if np.isfinite(r) and r > 0 else 0.0)
    return float(np.mean(found))


def setting_scores(evaluations: Sequence[Measurements]) -> dict[str, Array]:
    """For every measure a table (settings, networks): robust accuracy and the null
    under each attack, psi under each ascent.

    The settings are the same for all three, budget by budget and within a budget from
    few to many steps.
    """
    pairs = list(product(BUDGETS, evaluations[0].settings.step_counts))
    attacks = [(attack_name(steps), budget) for budget, steps in pairs]

    def over(value: Callable[[Measurements, Any], Any], keys: Sequence[Any]) -> Array:
        return np.array([[value(each, key) for each in evaluations] for key in keys])

    return {
        "robust accuracy": over(lambda each, key: each.correct[key].mean(), attacks),
        "1 / mean adversarial CE": over(
            lambda each, key: 1 / each.loss[key].mean(), attacks
        ),
        "median psi": over(
            lambda each, key: np.median(psi_of(each.kl[key[1], key[0]])), pairs
        ),
    }


def stability_parts(settings: int) -> dict[str, NDArray[np.bool_]]:
    """Which pairs (S, S) of S settings, ordered by budget, lie within one budget (in
    multiples of epsilon) or across two; the first two are what Y4 judges.
    """
    budget = np.repeat(BUDGETS, settings // len(BUDGETS))
    pairs = np.triu(np.ones((settings, settings), dtype=bool), 1)
    alike = budget[:, None] == budget[None]
    within = {
        f"within {each:g} ε": pairs & alike & (budget == each) for each in BUDGETS
    }
    return {
        "within one budget": pairs & alike,
        "across budgets": pairs & ~alike,
        **within,
    }


def _remembered_kendall(table: Array) -> Callable[[Rows], Array]:
    """`kendall` of drawn networks; every statistic draws the same ones, so each
    draw is worked out once.
    """

    @cache
    def of_bytes(rows: bytes) -> Array:
        return kendall(table[:, np.frombuffer(rows, dtype=np.int64)])

    return lambda rows: of_bytes(rows.tobytes())


def _record_stability(
    results: Results, evaluations: Sequence[Measurements], kinds: list[str]
) -> None:
    """Mean tau over the pairs of settings of each part, and psi's lead over its rivals;
    then psi at other step sizes, which decides nothing.
    """
    scores = setting_scores(evaluations)
    tau = {name: _remembered_kendall(table) for name, table in scores.items()}
    psi = scores["median psi"]

    def mean(pairs: NDArray[np.bool_], *measures: str) -> Interval:
        """Mean tau of the first measure, less that of a second one."""

        def statistic(rows: Rows) -> float:
            first, *rest = (tau[name](rows)[pairs].mean() for name in measures)
            return float(first - sum(rest))

        return over_rows(statistic, len(kinds), kinds)

    for part, pairs in stability_parts(len(psi)).items():
        common: dict[str, Any] = {"over": "kinds of network", "part": part}
        for measure in scores:
            results.add(
                "rank stability",
                mean(pairs, measure),
                measure=measure,
                settings=len(psi),
                **common,
            )
        for rival in STABILITY_RIVALS:
            results.add(
                "rank stability gain",
                mean(pairs, "median psi", rival),
                over_measure=rival,
                **common,
            )
    at_epsilon = np.array_split(psi, len(BUDGETS))[BUDGETS.index(1.0)]
    table = np.concatenate([at_epsilon, _other_step_sizes(evaluations)])
    results.add(
        "rank stability",
        over_rows(lambda rows: mean_kendall(table[:, rows]), len(kinds), kinds),
        over="kinds of network",
        measure="median psi, other step sizes too",
        part="within 1 ε",
        settings=len(table),
    )


def _other_step_sizes(evaluations: Sequence[Measurements]) -> Array:
    """Median psi (settings, networks) at epsilon with other step sizes, a setting that
    its rivals do not have.
    """
    names = [f"steps of {ratio:g} radius" for ratio in OTHER_PSI_STEPS]
    return np.array(
        [
            [np.median(psi_of(each.searches[name])) for each in evaluations]
            for name in names
        ]
    )


def mean_kendall(scores: Array) -> float:
    """Kendall's tau between rows of `scores` (settings, networks), mean over all pairs
    of different settings.
    """
    return float(kendall(scores)[np.triu_indices(len(scores), 1)].mean())


def _record_floors(results: Results, evaluations: Sequence[Measurements]) -> None:
    """How many networks have no robust accuracy left under the longest attack, per
    budget: their ranks are ties.
    """
    attack = attack_name(max(evaluations[0].settings.step_counts))
    for budget in BUDGETS:
        without = sum(not each.correct[attack, budget].any() for each in evaluations)
        results.add(
            "networks without robust accuracy",
            without,
            n=len(evaluations),
            unit="networks",
            attack=attack,
            budget=budget,
        )


def _record_passes(
    results: Results, evaluations: Sequence[Measurements], kinds: list[str]
) -> None:
    """Rows of Y6: passes per image (forward and backward) until the rank quality is
    reached, of psi and of what a reader would replace, each from its cheapest setting
    on.

    An attack of s steps costs 2 s passes and one more forward pass to read its
    accuracy; psi one more for P(x). What never gets there costs strong testing.
    """
    truth = references_of(evaluations)["strong robust accuracy"]
    ladders = _ladders(evaluations)
    usual = ladders["strong robust accuracy"][-1][1]
    common: dict[str, Any] = {"over": "kinds of network"}
    for name, ladder in ladders.items():
        for place, (values, passes) in enumerate(ladder):
            if place == len(ladder) - 1 and name in evaluations[0].passes:
                results.add(
                    "passes of the usual setting",
                    bootstrap_mean(passes, seed=0, groups=kinds),
                    unit="passes per image",
                    measure=name,
                    **common,
                )
            if values is not truth:
                results.add(
                    "rank agreement at cost",
                    over_rows(_correlation(values, truth), len(kinds), kinds),
                    passes=round(passes.mean()),
                    measure=name,
                    **common,
                )

    def needed(name: str, rows: Rows, settings: int | None = None) -> float:
        for values, passes in ladders[name][:settings]:
            if rank_correlation(values[rows], truth[rows]) >= RANK_QUALITY:
                return float(passes[rows].mean())
        return float(usual[rows].mean())

    def least(rows: Rows) -> float:
        return min(needed(name, rows) for name in REPLACED)

    psi, fgsm = partial(needed, "median psi"), partial(needed, "robust accuracy")
    passes_of: dict[str, Callable[[Rows], float]] = {
        "median psi": psi,
        "FGSM accuracy": partial(fgsm, settings=1),
        **{name: partial(needed, name) for name in REPLACED},
    }
    for name, count in passes_of.items():
        results.add(
            "passes to rank quality",
            over_rows(count, len(kinds), kinds),
            unit="passes per image",
            measure=name,
            **common,
        )
    every = np.arange(len(kinds))
    results.add(
        "passes of psi over the cheapest replaced",
        over_rows(lambda rows: psi(rows) / least(rows), len(kinds), kinds),
        replaced=min(REPLACED, key=lambda name: needed(name, every)),
        **common,
    )
    results.add(
        "passes of psi less those of FGSM accuracy",
        over_rows(lambda rows: psi(rows) - fgsm(rows, settings=1), len(kinds), kinds),
        unit="passes per image",
        **common,
    )


def _ladders(
    evaluations: Sequence[Measurements],
) -> dict[str, list[tuple[Array, Array]]]:
    """For every measure its settings, cheapest first: a number and the passes of each
    network.
    """
    counts = evaluations[0].settings.step_counts
    place, ones = BUDGETS.index(1.0), np.ones(len(evaluations))
    found: dict[str, list[tuple[Array, Array]]] = {}
    for name, more in (("median psi", 2), ("robust accuracy", 1)):
        scores = np.array_split(setting_scores(evaluations)[name], len(BUDGETS))[place]
        found[name] = [
            (values, (2 * count + more) * ones)
            for values, count in zip(scores, counts, strict=True)
        ]
    last = {
        **references_of(evaluations),
        "CLEVER": np.array([each.clever.mean() for each in evaluations]),
    }
    for name in REPLACED:
        cheaper = np.array([each.cheaper[name] for each in evaluations])
        passes = np.array([each.passes[name] for each in evaluations])
        found[name] = [
            *((column[:, 0], column[:, 1]) for column in cheaper.swapaxes(0, 1)),
            (last[name], passes),
        ]
    return found


# Readings and searches
# --------------------------------------------------------------------------------------


def record_readings(results: Results, evaluations: Sequence[Measurements]) -> None:
    """What each reading of the paper's words would conclude: rank agreement and lead
    over FGSM accuracy at the usual setting, stability over the shared settings.
    """
    kinds, settings = _kind_names(evaluations), evaluations[0].settings
    fgsm = agreement_scores(evaluations)["FGSM accuracy"]
    pairs = list(product(settings.shared_counts, BUDGETS))
    for reading in READINGS:
        table = np.array(
            [
                [
                    np.median(psi_of(each.readings[reading, *key]))
                    for each in evaluations
                ]
                for key in pairs
            ]
        )
        usual = table[pairs.index((settings.steps, 1.0))]
        common: dict[str, Any] = {"over": "kinds of network", **reading.factors}
        for reference, truth in references_of(evaluations).items():
            for name, statistic in (
                ("rank agreement", _correlation(usual, truth)),
                ("lead over FGSM accuracy", _lead(usual, fgsm, truth)),
            ):
                found = over_rows(statistic, len(kinds), kinds)
                results.add(f"reading: {name}", found, reference=reference, **common)
        tau = _remembered_kendall(table)
        upper = np.triu_indices(len(table), 1)
        stable = over_rows(
            lambda rows, tau=tau, upper=upper: float(tau(rows)[upper].mean()),  # type: ignore[misc]
            len(kinds),
            kinds,
        )
        results.add("reading: rank stability", stable, settings=len(table), **common)


def record_search(results: Results, evaluations: Sequence[Measurements]) -> None:
    """Rows of Y7a: how much of psi other searches leave, each on its own and all of
    them together; these over the usual ascent from one start and from more.
    """
    kinds = _kind_names(evaluations)
    restarts = evaluations[0].settings.restarts
    baselines = {1: (), restarts: ("more starts",), MANY_STARTS: ("many starts",)}
    names = (
        "more steps",
        "more starts",
        "many starts",
        "adaptive steps",
        "adaptive steps, many starts",
        "corner starts",
    )

    def add(search: str, members: Sequence[str], starts: int) -> None:
        def psi(each: Measurements, searches: Sequence[str]) -> float:
            found = [each.usual(), *(each.searches[name] for name in searches)]
            return float(np.median(psi_of(np.max(found, axis=0))))

        share = [
            psi(each, (*members, *baselines[starts])) / psi(each, baselines[starts])
            for each in evaluations
        ]
        results.add(
            "psi by other searches over the usual one",
            bootstrap_mean(share, seed=0, groups=kinds),
            over="kinds of network",
            networks=len(evaluations),
            search=search,
            starts=starts,
        )

    for name in names:
        add(name, (name,), 1)
    for starts in baselines:
        add("all", names, starts)


# Tables of text
# --------------------------------------------------------------------------------------


def _text(row: Metric, digits: int = 3) -> str:
    """A value with its interval, where it has one."""
    if row.low is None:
        return f"{row.value:.{digits}g}"
    return f"{row.value:.{digits}g} [{row.low:.{digits}g}, {row.high:.{digits}g}]"


def overview(results: Results) -> pd.DataFrame:
    """One line per kind of network: headline measures with intervals, as text."""
    columns = {
        "clean accuracy, whole test set": "kind: clean accuracy, whole test set",
        "strong robust accuracy": "kind: strong robust accuracy",
        "minimal distance": "kind: minimal distance",
        "median psi": "kind: median psi",
    }
    lines = []
    for row in results.select("kind: clean accuracy"):
        kind = row.factors
        label = style.label(str(kind["training"])).split(" (")[0]
        line = {
            "data": str(kind["dataset"]),
            "network": f"{kind['architecture']}, {label}",
        }
        for label, name in columns.items():
            line[label] = _text(results.one(name, **kind))
        lines.append(line)
    return pd.DataFrame(lines)


def leads(results: Results) -> pd.DataFrame:
    """One line per reference: by how much psi's rank agreement exceeds that of each
    cheap rival.
    """
    lines = []
    for reference in REFERENCES:
        line = {"reference": reference}
        for row in results.select("rank agreement gain", reference=reference):
            line[f"lead over {row.factors['over_measure']}"] = _text(row, 2)
        lines.append(line)
    return pd.DataFrame(lines)


def stability_by_part(results: Results) -> pd.DataFrame:
    """One line per group of pairs of settings: mean tau of each measure, and psi's lead
    over the other two.
    """
    lines = []
    for part in dict.fromkeys(
        row.factors["part"] for row in results.select("rank stability gain")
    ):
        line = {"pairs of settings": str(part)}
        for row in results.select("rank stability", part=part):
            if not str(row.factors["measure"]).endswith("too"):
                line[str(row.factors["measure"])] = _text(row, 2)
        for row in results.select("rank stability gain", part=part):
            line[f"psi's lead over {row.factors['over_measure']}"] = _text(row, 2)
        lines.append(line)
    return pd.DataFrame(lines)


def readings(results: Results) -> pd.DataFrame:
    """One line per reading of the metric: what each measurement says under it, with the
    worse of the two references where there are two.
    """
    change = "largest relative change of psi under scaling"
    lines = []
    for reading in READINGS:

        def worse(name: str, factors: dict[str, Any] = reading.factors) -> Metric:
            return min(results.select(name, **factors), key=lambda row: row.value)

        changed = results.one(change, precision="double", **reading.factors)
        origin = "the image" if reading.direction == "forward" else "the perturbed one"
        lines.append(
            {
                "divergence from": origin,
                "logits": reading.factors["logits"],
                "rank agreement": _text(worse("reading: rank agreement"), 2),
                "lead over FGSM accuracy": _text(
                    worse("reading: lead over FGSM accuracy"), 2
                ),
                "rank stability": _text(worse("reading: rank stability"), 2),
                "largest relative change of an image when logits are scaled": (
                    f"{changed.value:.1g}"
                ),
            }
        )
    return pd.DataFrame(lines)


def masked(results: Results) -> pd.DataFrame:
    """One line per masked network: clean accuracy, psi by every search, and how many
    times too large psi by gradient is.
    """
    ratio = "psi by gradient over the best search"
    lines = []
    for row in results.select("clean accuracy of masked"):
        network = row.factors["network"]
        line = {"network": str(network), "clean accuracy": _text(row)}
        for found in results.select("psi of masked", network=network):
            line[f"psi by {found.factors['search']}"] = f"{found.value:.3g}"
        line["gradient over best"] = _text(results.one(ratio, network=network))
        lines.append(line)
    return pd.DataFrame(lines)


def spread_over_seeds(results: Results, dataset: str) -> pd.DataFrame:
    """One line per kind of network of `dataset`: smallest to largest value over its
    seeds, as text.
    """
    lines = []
    for row in results.select("kind: clean accuracy", dataset=dataset):
        kind = row.factors
        line = {
            "network": kind["architecture"],
            "training": style.label(str(kind["training"])),
        }
        for name in (
            "clean accuracy, whole test set",
            "strong robust accuracy",
            "minimal distance",
            "CLEVER",
        ):
            values = [found.value for found in results.select(name, **kind)]
            line[name] = f"{min(values):.3g} to {max(values):.3g}"
        lines.append(line)
    return pd.DataFrame(lines)
