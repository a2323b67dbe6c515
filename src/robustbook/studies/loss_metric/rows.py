"""From per-image measurements to metric rows: one network, one kind of network, and
rankings of all networks.

Read `record_networks` and `record_kinds` first, then `record_rankings` (claims Y3, Y4,
Y6), then the shorter ones below. A kind is an architecture with a training; its
networks differ by seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbook.plots import style
from robustbook.results import Results
from robustbook.stats import (
    Interval,
    bootstrap,
    bootstrap_mean,
    bootstrap_median,
    crossed,
    draw,
    kendall,
    rank_correlation,
)
from robustbook.studies.loss_metric.claims import RANK_QUALITY
from robustbook.studies.loss_metric.measure.evaluation import (
    BOUND_BUDGETS,
    BUDGETS,
    OTHER_PSI_STEPS,
    Evaluation,
    Settings,
)
from robustbook.studies.loss_metric.measure.landscape import (
    Slice,
    boundary_distance,
    mean_slope,
)
from robustbook.studies.loss_metric.parameters import Parameters

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
RESAMPLES = 1000
SMALLEST_KL = 1e-12


def psi_of(kl: Array) -> Array:
    """Psi per image; a divergence of zero (no change at all was found) counts as the
    smallest one that can be told apart.
    """
    result: Array = 1 / np.maximum(kl, SMALLEST_KL)
    return result


def factors_of(evaluation: Evaluation) -> dict[str, Any]:
    """The factors that name a network in a metric row."""
    network = evaluation.network
    return {
        "dataset": network.dataset,
        "architecture": network.architecture,
        "training": network.training,
        "seed": network.seed,
    }


def record_networks(results: Results, evaluations: Sequence[Evaluation]) -> None:
    """One row per network, measure and setting; the spread over images is in the rows
    of `record_kinds`.
    """
    for evaluation in evaluations:
        factors, count = factors_of(evaluation), len(evaluation.clean)
        results.add(
            "clean accuracy", evaluation.clean.mean(), n=count, unit="share", **factors
        )
        whole = evaluation.clean_whole
        results.add(
            "clean accuracy, whole test set",
            whole.mean(),
            n=len(whole),
            unit="share",
            **factors,
        )
        results.add(
            "strong robust accuracy",
            evaluation.strong.mean(),
            n=count,
            unit="share",
            **factors,
        )
        results.add(
            "minimal distance",
            evaluation.distance.mean(),
            n=count,
            unit="pixel units",
            **factors,
        )
        results.add(
            "CLEVER",
            float(np.median(evaluation.clever)),
            n=len(evaluation.clever),
            unit="pixel units",
            **factors,
        )
        for (attack, budget), correct in evaluation.correct.items():
            results.add(
                "robust accuracy",
                correct.mean(),
                n=count,
                unit="share",
                attack=attack,
                budget=budget,
                **factors,
            )
        for (name, budget), kl in evaluation.kl.items():
            results.add(
                "median psi",
                float(np.median(psi_of(kl))),
                n=count,
                unit="1/nats",
                ascent=name,
                budget=budget,
                **factors,
            )


def by_kind(
    evaluations: Sequence[Evaluation],
) -> dict[tuple[str, str, str], list[Evaluation]]:
    """Evaluations grouped by data set, architecture and training, in the order in which
    they come.
    """

    def kind(evaluation: Evaluation) -> tuple[str, str, str]:
        network = evaluation.network
        return network.dataset, network.architecture, network.training

    return {key: list(group) for key, group in groupby(evaluations, kind)}


def record_kinds(results: Results, evaluations: Sequence[Evaluation]) -> None:
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
    results: Results, group: Sequence[Evaluation], factors: dict[str, Any]
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
    results: Results, group: Sequence[Evaluation], factors: dict[str, Any]
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
        bounds["best"] = np.minimum(bounds["ibp"], bounds["crown"])
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
            found = results.one(name, **kind)
            line[label] = f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
        lines.append(line)
    return pd.DataFrame(lines)


def leads(results: Results) -> pd.DataFrame:
    """One line per reference: by how much psi's rank agreement exceeds that of each
    null metric, as text.
    """
    lines = []
    for reference in dict.fromkeys(
        row.factors["reference"] for row in results.select("rank agreement gain")
    ):
        line = {"reference": str(reference)}
        for row in results.select("rank agreement gain", reference=reference):
            line[f"lead over {row.factors['over_measure']}"] = (
                f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
            )
        lines.append(line)
    return pd.DataFrame(lines)


def stability_by_part(results: Results) -> pd.DataFrame:
    """One line per group of pairs of settings: mean tau of each measure, and psi's lead
    over the other two, as text.
    """
    lines = []
    for part in dict.fromkeys(
        row.factors["part"] for row in results.select("rank stability of a part")
    ):
        line = {"pairs of settings": str(part)}
        for row in results.select("rank stability of a part", part=part):
            line[str(row.factors["measure"])] = (
                f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
            )
        for row in results.select("rank stability gain of a part", part=part):
            line[f"psi's lead over {row.factors['over_measure']}"] = (
                f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
            )
        lines.append(line)
    return pd.DataFrame(lines)


def where_psi_leads(results: Results) -> str:
    """A sentence: for which pairs of settings psi ranks more stably than adversarial
    accuracy, and for which less so.
    """
    rows = results.select(
        "rank stability gain of a part", over_measure="robust accuracy"
    )
    ahead = [str(row.factors["part"]) for row in rows if (row.low or 0) > 0]
    behind = [str(row.factors["part"]) for row in rows if (row.high or 0) < 0]
    return (
        "psi ranks more stably than adversarial accuracy (interval above 0) "
        f"{' and '.join(ahead) or 'in no part'}, less stably (interval below 0) "
        f"{' and '.join(behind) or 'in no part'}."
    )


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


# Rankings of networks
# --------------------------------------------------------------------------------------


def mean_kendall(scores: Array) -> float:
    """Kendall's tau between rows of `scores` (settings, networks), mean over all pairs
    of different settings.
    """
    return float(kendall(scores)[np.triu_indices(len(scores), 1)].mean())


def setting_scores(
    evaluations: Sequence[Evaluation], settings: Settings
) -> dict[str, Array]:
    """For every measure a table (settings, networks): robust accuracy and the null
    under each attack, psi under each ascent.

    The settings are the same for all three, budget by budget and within a budget from
    few to many steps.
    """
    attacks = [
        (settings.attack_name(steps), budget)
        for budget in BUDGETS
        for steps in settings.step_counts
    ]
    ascents = [
        (f"{steps} steps", budget)
        for budget in BUDGETS
        for steps in settings.step_counts
    ]
    return {
        "robust accuracy": np.array(
            [[each.correct[key].mean() for each in evaluations] for key in attacks]
        ),
        "1 / mean adversarial CE": np.array(
            [[1 / each.loss[key].mean() for each in evaluations] for key in attacks]
        ),
        "median psi": _psi_scores(evaluations, ascents),
    }


def other_step_sizes(evaluations: Sequence[Evaluation], settings: Settings) -> Array:
    """Median psi (settings, networks) at epsilon with other step sizes, a setting that
    its rivals do not have.
    """
    return _psi_scores(
        evaluations,
        [(f"{settings.steps} steps of {ratio:g}", 1.0) for ratio in OTHER_PSI_STEPS],
    )


def _psi_scores(
    evaluations: Sequence[Evaluation], ascents: Sequence[tuple[str, float]]
) -> Array:
    return np.array(
        [[np.median(psi_of(each.kl[key])) for each in evaluations] for key in ascents]
    )


def record_rankings(
    results: Results, evaluations: Sequence[Evaluation], parameters: Parameters
) -> None:
    """Rows that decide Y3, Y4 and Y6: agreement with the references, stability over
    settings, passes to quality.
    """
    settings = Settings(parameters.steps, parameters.strong_steps)
    kinds = _kind_names(evaluations)
    _record_agreement(results, evaluations, kinds)
    _record_stability(results, setting_scores(evaluations, settings), kinds)
    _record_other_step_sizes(results, evaluations, settings, kinds)
    _record_floors(results, evaluations, settings)
    _record_passes(results, evaluations, settings, kinds)


def _kind_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """The kind of each network; intervals resample kinds, since networks of one kind
    are alike.
    """
    return [
        f"{each.network.architecture} {each.network.training}" for each in evaluations
    ]


def references_of(evaluations: Sequence[Evaluation]) -> dict[str, Array]:
    """One number per network for each of the two references."""
    return {
        "strong robust accuracy": np.array(
            [each.strong.mean() for each in evaluations]
        ),
        "minimal distance": np.array([each.distance.mean() for each in evaluations]),
    }


def _record_agreement(
    results: Results, evaluations: Sequence[Evaluation], kinds: list[str]
) -> None:
    references = references_of(evaluations)
    scores = agreement_scores(evaluations)
    common: dict[str, Any] = {"over": "kinds of network"}
    for reference, truth in references.items():
        for name, values in scores.items():
            rho = over_rows(_correlation(values, truth), len(kinds), kinds)
            results.add(
                "rank agreement", rho, measure=name, reference=reference, **common
            )
        for rival in ("clean accuracy", "1 / mean adversarial CE"):

            def lead(rows: Rows, rival: str = rival, truth: Array = truth) -> float:
                return rank_correlation(
                    scores["median psi"][rows], truth[rows]
                ) - rank_correlation(scores[rival][rows], truth[rows])

            gain = over_rows(lead, len(kinds), kinds)
            results.add(
                "rank agreement gain",
                gain,
                over_measure=rival,
                reference=reference,
                **common,
            )


def _correlation(values: Array, truth: Array) -> Callable[[Rows], float]:
    return lambda rows: rank_correlation(values[rows], truth[rows])


def agreement_scores(evaluations: Sequence[Evaluation]) -> dict[str, Array]:
    """One number per network for psi, its two other averages, its competitors and the
    nulls; larger means more robust.
    """
    attacked = max(
        (
            key
            for key in evaluations[0].correct
            if key[1] == 1.0 and key[0].startswith("PGD")
        ),
        key=_steps,
    )
    return {
        "median psi": np.array(
            [np.median(psi_of(each.attained(1.0))) for each in evaluations]
        ),
        "mean psi": np.array(
            [psi_of(each.attained(1.0)).mean() for each in evaluations]
        ),
        "1 / mean divergence": np.array(
            [1 / each.attained(1.0).mean() for each in evaluations]
        ),
        "1 / mean adversarial CE": np.array(
            [1 / each.loss[attacked].mean() for each in evaluations]
        ),
        "clean accuracy": np.array([each.clean_whole.mean() for each in evaluations]),
        "clean accuracy, same images": np.array(
            [each.clean.mean() for each in evaluations]
        ),
        "FGSM accuracy": np.array(
            [each.correct["FGSM", 1.0].mean() for each in evaluations]
        ),
        f"{attacked[0]} accuracy": np.array(
            [each.correct[attacked].mean() for each in evaluations]
        ),
        "C&W margin accuracy": np.array(
            [each.correct["C&W margin", 1.0].mean() for each in evaluations]
        ),
        "CLEVER": np.array([each.clever.mean() for each in evaluations]),
    }


def _steps(key: tuple[str, float]) -> int:
    return int(key[0].rsplit("-", 1)[1])


def stability_parts(settings: int) -> dict[str, NDArray[np.bool_]]:
    """Which pairs (S, S) of S settings, ordered by budget, lie within one budget (in
    multiples of epsilon) or across two.
    """
    budget = np.repeat(BUDGETS, settings // len(BUDGETS))
    pairs = np.triu(np.ones((settings, settings), dtype=bool), 1)
    alike = budget[:, None] == budget[None]
    within = {
        f"within {each:g} ε": pairs & alike & (budget == each) for each in BUDGETS
    }
    return {**within, "across budgets": pairs & ~alike}


def _remembered_kendall(table: Array) -> Callable[[Rows], Array]:
    """`kendall` of drawn networks; every statistic draws the same ones, so each
    draw is worked out once.
    """

    @cache
    def of_bytes(rows: bytes) -> Array:
        return kendall(table[:, np.frombuffer(rows, dtype=np.int64)])

    return lambda rows: of_bytes(rows.tobytes())


def _record_stability(
    results: Results, scores: dict[str, Array], kinds: list[str]
) -> None:
    """Mean tau over all pairs of settings (what decides Y4), then over the pairs within
    each budget and across budgets.
    """
    common: dict[str, Any] = {"over": "kinds of network"}
    tau = {name: _remembered_kendall(table) for name, table in scores.items()}
    settings = len(scores["median psi"])
    every = np.triu(np.ones((settings, settings), dtype=bool), 1)
    for part, pairs in {"": every, **stability_parts(settings)}.items():
        name = "rank stability" if not part else "rank stability of a part"
        factors = common | ({"part": part} if part else {})
        for measure in scores:

            def mean(
                rows: Rows, measure: str = measure, pairs: NDArray[np.bool_] = pairs
            ) -> float:
                return float(tau[measure](rows)[pairs].mean())

            stable = over_rows(mean, len(kinds), kinds)
            results.add(name, stable, measure=measure, settings=settings, **factors)
        for rival in ("robust accuracy", "1 / mean adversarial CE"):

            def lead(
                rows: Rows, rival: str = rival, pairs: NDArray[np.bool_] = pairs
            ) -> float:
                return float((tau["median psi"](rows) - tau[rival](rows))[pairs].mean())

            gain = over_rows(lead, len(kinds), kinds)
            results.add(
                name.replace("stability", "stability gain"),
                gain,
                over_measure=rival,
                **factors,
            )


def _record_other_step_sizes(
    results: Results,
    evaluations: Sequence[Evaluation],
    settings: Settings,
    kinds: list[str],
) -> None:
    """Mean tau of psi when settings are added that its rivals do not have; it decides
    nothing.
    """
    usual = setting_scores(evaluations, settings)["median psi"]
    table = np.concatenate([usual, other_step_sizes(evaluations, settings)])
    tau = over_rows(lambda rows: mean_kendall(table[:, rows]), len(kinds), kinds)
    results.add(
        "rank stability with other step sizes",
        tau,
        over="kinds of network",
        measure="median psi",
        settings=len(table),
    )


def _record_floors(
    results: Results, evaluations: Sequence[Evaluation], settings: Settings
) -> None:
    """How many networks have no robust accuracy left under the longest attack, per
    budget: their ranks are ties.
    """
    attack = settings.attack_name(max(settings.step_counts))
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
    results: Results,
    evaluations: Sequence[Evaluation],
    settings: Settings,
    kinds: list[str],
) -> None:
    """Passes per image (forward and backward) until the rank quality is reached; twice
    the dearest setting if never.

    An attack of s steps costs 2 s passes and one more forward pass to read its
    accuracy; psi one more for P(x).
    """
    truth = np.array([each.distance.mean() for each in evaluations])
    steps = settings.step_counts
    tables = {
        "robust accuracy": np.array(
            [
                [
                    each.correct[settings.attack_name(count), 1.0].mean()
                    for each in evaluations
                ]
                for count in steps
            ]
        ),
        "median psi": np.array(
            [
                [
                    np.median(psi_of(each.kl[f"{count} steps", 1.0]))
                    for each in evaluations
                ]
                for count in steps
            ]
        ),
    }
    cost = {
        "robust accuracy": [2 * s + 1 for s in steps],
        "median psi": [2 * s + 2 for s in steps],
    }
    never = 2 * cost["median psi"][-1]

    def needed(name: str, rows: Rows) -> float:
        for row, passes in zip(tables[name], cost[name], strict=True):
            if rank_correlation(row[rows], truth[rows]) >= RANK_QUALITY:
                return passes
        return never

    common: dict[str, Any] = {"over": "kinds of network"}
    for name, table in tables.items():
        count = over_rows(partial(needed, name), len(kinds), kinds)
        results.add(
            "passes to rank quality",
            count,
            unit="passes per image",
            measure=name,
            never=never,
            **common,
        )
        for each, passes, row in zip(steps, cost[name], table, strict=True):
            rho = over_rows(_correlation(row, truth), len(kinds), kinds)
            results.add(
                "rank agreement at cost",
                rho,
                measure=name,
                steps=each,
                passes=passes,
                **common,
            )
    gap = over_rows(
        lambda rows: needed("median psi", rows) - needed("robust accuracy", rows),
        len(kinds),
        kinds,
    )
    results.add(
        "difference of passes to rank quality", gap, unit="passes per image", **common
    )


# Surfaces and search
# --------------------------------------------------------------------------------------


def record_slices(results: Results, slices: Sequence[Slice], classes: str) -> None:
    """Rows of Y1 over planes that have right and wrong cells; `classes` is "all" or
    "two".
    """
    mixed = [each for each in slices if each.mixed]
    if len(mixed) < 2:
        return
    agreement = [each.decision_agreement for each in mixed]
    results.add(
        "decision surface agreement",
        float(np.mean(agreement)),
        n=len(mixed),
        unit="share of cells",
        classes=classes,
    )
    errors = np.array([each.threshold_error for each in mixed])
    networks, images = (
        [repr(each.network) for each in mixed],
        [each.image for each in mixed],
    )
    results.add(
        "smallest cross-entropy threshold error",
        over_two_ways(errors, networks, images),
        over="networks and images, both drawn",
        unit="share of cells",
        classes=classes,
        networks=len(set(networks)),
        images=len(set(images)),
    )
    share = float(np.mean(errors > 0))
    results.add(
        "planes where cross-entropy errs",
        share,
        n=len(mixed),
        unit="share of planes",
        classes=classes,
    )


def over_two_ways(
    values: Array, first: Sequence[object], second: Sequence[object]
) -> Interval:
    """Mean of `values` (n,) with a 95 % interval that draws the units of two crossed
    factors, each on its own.

    Planes of one image are alike and so are planes of one network, so neither planes
    nor one of the two may be drawn alone.
    """
    names = ([str(each) for each in factor] for factor in (first, second))

    def mean(one: Array, other: Array) -> Array:
        weights = one * other
        result: Array = weights @ values / weights.sum(axis=1)
        return result

    return crossed(mean, *draw(*names, seed=0, resamples=RESAMPLES)).interval()


def record_lines(results: Results, evaluations: Sequence[Evaluation]) -> None:
    """Rows of Y2: median distance to the boundary and median slope per network, and in
    how many seeds they are ordered.
    """
    for evaluation in evaluations:
        factors, epsilon = factors_of(evaluation), evaluation.epsilon
        for name, profiles in evaluation.profiles.items():
            direction, logits = name.split(" ")
            slope = float(np.median(mean_slope(profiles, epsilon)))
            results.add(
                "slope of S",
                slope,
                unit="per pixel unit",
                direction=direction,
                logits=logits,
                **factors,
            )
            if logits == "normalised":
                distance = float(np.median(boundary_distance(profiles, epsilon)))
                results.add(
                    "distance to S = 0",
                    distance,
                    unit="pixel units",
                    direction=direction,
                    **factors,
                )
    _record_orders(results, sorted({each.network.seed for each in evaluations}))


def _record_orders(results: Results, seeds: Sequence[int]) -> None:
    def mean_over_architectures(
        name: str, training: str, seed: int, **factors: str
    ) -> float:
        rows = results.select(name, training=training, seed=seed, **factors)
        return float(np.mean([row.value for row in rows]))

    def ordered(name: str, sign: int, **factors: str) -> int:
        count = 0
        for seed in seeds:
            values = [
                sign * mean_over_architectures(name, training, seed, **factors)
                for training in ("minmax", "gradient-regularised", "natural")
            ]
            count += values[0] > values[1] > values[2]
        return count

    common: dict[str, Any] = {"n": len(seeds), "over": "seeds", "unit": "seeds"}
    for direction in ("adversarial", "random"):
        distances = ordered("distance to S = 0", 1, direction=direction)
        results.add(
            "seeds where boundary distances are ordered",
            distances,
            direction=direction,
            **common,
        )
        for logits in ("normalised", "plain"):
            count = ordered("slope of S", -1, direction=direction, logits=logits)
            results.add(
                "seeds where slopes are ordered",
                count,
                direction=direction,
                logits=logits,
                **common,
            )


def record_search(
    results: Results, evaluations: Sequence[Evaluation], parameters: Parameters
) -> None:
    """Rows of Y7 on the zoo: does more search ever lower the divergence, does psi level
    off.
    """
    steps = Settings(parameters.steps, parameters.strong_steps).step_counts
    falls, levels = [0.0], []
    for each in evaluations:
        for budget in BUDGETS:
            path = [each.kl[f"{count} steps", budget] for count in steps]
            falls += [float((before - after).max()) for before, after in pairwise(path)]
        by_restarts = [
            each.kl_by_restarts[count] for count in sorted(each.kl_by_restarts)
        ]
        falls += [
            float((before - after).max()) for before, after in pairwise(by_restarts)
        ]
        usual, long = (
            each.kl[f"{parameters.steps} steps", 1.0],
            each.kl[f"{max(steps)} steps", 1.0],
        )
        levels.append(float(np.median(psi_of(long)) / np.median(psi_of(usual))))
    results.add(
        "largest fall of the divergence with more search", max(0.0, *falls), unit="nats"
    )
    level = bootstrap_mean(levels, seed=0, groups=_kind_names(evaluations))
    results.add(
        "psi at long over usual ascent",
        level,
        over="kinds of network",
        usual=parameters.steps,
        long=max(steps),
        networks=len(evaluations),
    )


def record_gaps(results: Results, evaluations: Sequence[Evaluation]) -> None:
    """How many times the proved end of psi's bracket goes into the attained one: median
    over images, then over networks.
    """
    bounded = [each for each in evaluations if each.bound]
    for budget in BOUND_BUDGETS:
        gaps = []
        for each in bounded:
            bound = np.minimum(each.bound["ibp", budget], each.bound["crown", budget])
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


def record_second_zoo(
    results: Results, evaluations: Sequence[Evaluation], parameters: Parameters
) -> None:
    """Key figures of the second zoo, on which no claim is decided: agreement of ranks,
    and order along the lines.
    """
    kinds = _kind_names(evaluations)
    attack = (
        Settings(parameters.steps, parameters.strong_steps).attack_name(
            parameters.steps
        ),
        1.0,
    )
    scores = {
        "median psi": np.array(
            [np.median(psi_of(each.attained(1.0))) for each in evaluations]
        ),
        "clean accuracy": np.array([each.clean_whole.mean() for each in evaluations]),
        "1 / mean adversarial CE": np.array(
            [1 / each.loss[attack].mean() for each in evaluations]
        ),
    }
    for reference, truth in references_of(evaluations).items():
        for name, values in scores.items():
            rho = over_rows(_correlation(values, truth), len(kinds), kinds)
            results.add(
                "second zoo: rank agreement",
                rho,
                over="kinds of network",
                measure=name,
                reference=reference,
            )
    _record_second_orders(results, evaluations)


def _record_second_orders(results: Results, evaluations: Sequence[Evaluation]) -> None:
    """In how many seeds MinMax networks have the farther boundary and the smaller slope
    than natural ones.
    """
    seeds = sorted({each.network.seed for each in evaluations})
    for name, sign, measure in (
        ("distance to S = 0", 1, boundary_distance),
        ("slope of S", -1, mean_slope),
    ):
        ahead = 0
        for seed in seeds:
            means = {
                training: np.mean(
                    [
                        np.median(
                            measure(
                                each.profiles["adversarial normalised"], each.epsilon
                            )
                        )
                        for each in evaluations
                        if (each.network.seed, each.network.training)
                        == (seed, training)
                    ]
                )
                for training in ("minmax", "natural")
            }
            ahead += bool(sign * means["minmax"] > sign * means["natural"])
        results.add(
            f"second zoo: seeds where {name} is ordered",
            ahead,
            n=len(seeds),
            over="seeds",
            unit="seeds",
        )
