"""The paper's claims with their rules: each verdict is computed from the metric rows
alone.

Rows that rules read: `correlation` and `correlation lead` (first-order score minus a
rival, paired over networks), `area` (mean loss of a pruning curve) and `area ratio`,
`placement wins`, `tuned lead` and `stream lead` (accuracy differences).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robustbook.results import (
    Claim,
    Judgement,
    Metric,
    Results,
    UnmeasuredError,
    Verdict,
)

AGREEING = ("taylor-fo", "taylor-fo-fg", "taylor-so")
RIVALS = ("weight-norm", "obd", "random")
PLACEMENTS = ("taylor-fo", "weight taylor sum", "bn-scale", "weight taylor")
NEAR_ORACLE = 1.10
SMALL_LEAD = 0.05
PUBLISHED_CORRELATION = 0.93
RESIDUAL_NETWORKS = ("preact-resnet", "resnet20")


def _shown(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def _by_data(metrics: Sequence[Metric]) -> str:
    return ", ".join(f"{_shown(row)} ({row.factors['data']})" for row in metrics)


def _over(*metrics: Metric) -> str:
    """What intervals are over: the seeds of networks (Student's t), or the units of one
    network (bootstrap).
    """
    kinds = {
        "units": "bootstrap over {} units of one network",
        "networks": "Student's t over {} networks",
    }
    return " and ".join(dict.fromkeys(kinds[row.over].format(row.n) for row in metrics))


def _low(metric: Metric) -> float:
    return metric.value if metric.low is None else metric.low


def _high(metric: Metric) -> float:
    return metric.value if metric.high is None else metric.high


def _graded(held: int, of: int) -> Verdict:
    """All, at least half, or fewer of the comparisons."""
    return (
        "reproduced" if held == of else "partly" if 2 * held >= of else "not reproduced"
    )


def _rows(results: Results, name: str, **factors: str | bool) -> list[Metric]:
    found = results.select(name, **factors)
    if not found:
        raise UnmeasuredError(f"{name} {factors}")
    return found


def _global(results: Results, data: str, coefficient: str, criterion: str) -> Metric:
    """Correlation of a criterion with the oracle over all units of LeNet3."""
    return results.one(
        "correlation",
        network="lenet3",
        data=data,
        scope="all layers",
        coefficient=coefficient,
        criterion=criterion,
    )


def _sign(lead: Metric) -> Verdict:
    """Above zero with its interval; above zero; not above zero."""
    return (
        "reproduced"
        if _low(lead) > 0
        else "partly"
        if lead.value > 0
        else "not reproduced"
    )


def judge_agreement(results: Results) -> Judgement:
    """C6.1: every agreeing criterion's interval lies above every rival's, for both
    coefficients and all data.
    """
    datasets = dict.fromkeys(
        str(row.factors["data"])
        for row in _rows(results, "correlation", network="lenet3")
    )
    held, total = 0, 0
    for data in datasets:
        for coefficient in ("pearson", "spearman"):
            of = {
                name: _global(results, data, coefficient, name)
                for name in (*AGREEING, *RIVALS)
            }
            outcomes = [
                _low(of[name]) > _high(of[rival])
                for name in AGREEING
                for rival in RIVALS
            ]
            held, total = held + sum(outcomes), total + len(outcomes)
    first = next(iter(datasets))
    rows = {
        name: _global(results, first, "spearman", name)
        for name in ("taylor-fo", *RIVALS)
    }
    return Judgement(
        _graded(held, total),
        f"{held} of {total} comparisons have the criterion's interval above the "
        f"rival's. Spearman on {first} ({_over(*rows.values())}): "
        f"{', '.join(f'{name} {_shown(row)}' for name, row in rows.items())}.",
    )


def judge_magnitude(results: Results) -> Judgement:
    """C6.2: the first-order score leads the weight norm, as it is and normalised by
    layer.
    """
    leads = {
        rival: _rows(
            results,
            "correlation lead",
            network="lenet3",
            coefficient="spearman",
            rival=rival,
        )
        for rival in ("weight-norm", "weight-norm by layer")
    }
    plain = all(_low(lead) > 0 for lead in leads["weight-norm"])
    normalised = all(_low(lead) > 0 for lead in leads["weight-norm by layer"])
    verdict: Verdict = (
        "reproduced"
        if plain and normalised
        else "partly"
        if plain or normalised
        else "not reproduced"
    )
    seen = [
        f"{rival} {_shown(lead)} ({lead.factors['data']})"
        for rival, rows in leads.items()
        for lead in rows
    ]
    over = _over(*leads["weight-norm"], *leads["weight-norm by layer"])
    return Judgement(
        verdict, f"Lead of Taylor's Spearman correlation ({over}): {', '.join(seen)}."
    )


def judge_layers(results: Results) -> Judgement:
    """C6.3: the correlation over all layers is not below that within layers, and
    normalising does not help pruning.
    """
    gaps = _rows(
        results,
        "layer gap",
        network="lenet3",
        coefficient="spearman",
        criterion="taylor-fo",
    )
    comparable = all(_high(gap) >= 0 for gap in gaps)
    gain = results.one("area lead", rival="taylor-fo by layer")
    needless = _high(gain) >= 0
    verdict: Verdict = (
        "reproduced"
        if comparable and needless
        else "partly"
        if comparable or needless
        else "not reproduced"
    )
    control = _rows(
        results,
        "layer gap",
        network="lenet3",
        coefficient="spearman",
        criterion="weight-norm",
    )
    return Judgement(
        verdict,
        f"Global minus within-layer Spearman ({_over(*gaps, *control)}): "
        f"{_by_data(gaps)}; weight norm: {_by_data(control)}. "
        f"Normalised minus plain mean loss while pruning ({_over(gain)}): "
        f"{_shown(gain)} nats.",
    )


def judge_tracking(results: Results) -> Judgement:
    """C6.4: pruning by the first-order score costs at most 10 % more loss than by the
    oracle, and less than by rivals.
    """
    ratio = results.one("area ratio", criterion="taylor-fo")
    single = results.one("area ratio", criterion="taylor-fo-fg")
    leads = [
        results.one("area lead", rival=rival) for rival in ("weight-norm", "random")
    ]
    better = all(_low(lead) > 0 for lead in leads)
    near = _high(ratio) <= NEAR_ORACLE
    verdict: Verdict = (
        "reproduced" if better and near else "partly" if better else "not reproduced"
    )
    return Judgement(
        verdict,
        f"Mean loss over the curve, Taylor over oracle: {_shown(ratio)} (limit "
        f"{NEAR_ORACLE}). Rival minus Taylor, in nats: weight norm "
        f"{_shown(leads[0])}, random {_shown(leads[1])}. The score squares the "
        "gradient of all images; with the square of each image's gradient (FG) the "
        f"ratio is {_shown(single)}. {_over(ratio, single, *leads)}.",
    )


def judge_placement(results: Results) -> Judgement:
    """C6.5: behind the batch-norm correlates best, in every network."""
    wins = {
        name: results.one("placement wins", coefficient=name)
        for name in ("pearson", "spearman")
    }
    means = {
        name: {
            place: results.one(
                "correlation",
                network="preact-resnet",
                scope="inner units",
                coefficient=name,
                criterion=place,
            )
            for place in PLACEMENTS
        }
        for name in wins
    }
    best_on_average = [
        max(of, key=lambda place: of[place].value) == "taylor-fo"
        for of in means.values()
    ]
    if all(row.value == 1 for row in wins.values()):
        verdict: Verdict = "reproduced"
    else:
        verdict = "partly" if any(best_on_average) else "not reproduced"
    seen = "; ".join(
        f"{name}: best in {wins[name].value:.0%} of {wins[name].n} networks, mean "
        + ", ".join(f"{place} {_shown(row)}" for place, row in means[name].items())
        for name in wins
    )
    over = _over(*(row for of in means.values() for row in of.values()))
    return Judgement(verdict, f"{seen}. {over}.")


def judge_modern(results: Results) -> Judgement:
    """C6.6: Pearson's correlation of the first-order score with the oracle is above .93
    on residual networks.
    """
    rows = [
        row
        for row in _rows(
            results,
            "correlation",
            scope="all layers",
            coefficient="pearson",
            criterion="taylor-fo",
        )
        if row.factors["network"] in RESIDUAL_NETWORKS
    ]
    if not rows:
        raise UnmeasuredError("correlation on a residual network")
    above, below = (
        [_low(row) > PUBLISHED_CORRELATION for row in rows],
        [_high(row) < PUBLISHED_CORRELATION for row in rows],
    )
    verdict: Verdict = (
        "reproduced" if all(above) else "not reproduced" if all(below) else "partly"
    )
    seen = [f"{row.factors['network']} {_shown(row)} ({_over(row)})" for row in rows]
    return Judgement(
        verdict,
        f"Pearson with the oracle: {', '.join(seen)} (published: above "
        f"{PUBLISHED_CORRELATION}).",
    )


def judge_second_order(results: Results) -> Judgement:
    """C6.7: second order adds little to first order, and optimal brain damage is below
    first order.
    """
    second = _rows(
        results,
        "correlation lead",
        network="lenet3",
        coefficient="spearman",
        rival="taylor-so",
    )
    damage = _rows(
        results,
        "correlation lead",
        network="lenet3",
        coefficient="spearman",
        rival="obd",
    )
    little = all(
        _low(lead) <= 0 <= _high(lead)
        or max(abs(_low(lead)), abs(_high(lead))) <= SMALL_LEAD
        for lead in second
    )
    worse = all(_low(lead) > 0 for lead in damage)
    verdict: Verdict = (
        "reproduced"
        if little and worse
        else "partly"
        if little or worse
        else "not reproduced"
    )
    return Judgement(
        verdict,
        f"Spearman of first order minus second order: {_by_data(second)}; minus "
        f"optimal brain damage: {_by_data(damage)}. {_over(*second, *damage)}.",
    )


def judge_iterative(results: Results) -> Judgement:
    """C6.8: scoring again while fine-tuning beats removing all units at once."""
    lead = results.one("tuned lead", rival="one-shot")
    scratch = results.one("tuned lead", rival="from scratch")
    momentum = results.one("tuned lead", rival="momentum 0.9")
    return Judgement(
        _sign(lead),
        f"Test accuracy, iterative minus one-shot: {_shown(lead)}; minus training "
        f"from scratch at the same size: {_shown(scratch)}; momentum 0 minus momentum "
        f"0.9: {_shown(momentum)}. {_over(lead, scratch, momentum)}.",
    )


def judge_streams(results: Results) -> Judgement:
    """C6.9: removing channels of the streams too gives better accuracy at the same
    cost.
    """
    lead = results.one("stream lead", rival="inner units only")
    control = results.one("stream lead", rival="random, streams too")
    return Judgement(
        _sign(lead),
        "Test accuracy at half the multiply-adds, with streams minus inner units "
        f"only: {_shown(lead)}; minus random removal that takes streams too: "
        f"{_shown(control)}. {_over(lead, control)}.",
    )


def _claim(
    number: int,
    statement: str,
    source: str,
    measure: str,
    rule: str,
    control: str,
    judge: Callable[[Results], Judgement],
) -> Claim:
    published = (
        "The abstract gives a correlation above 93 % on networks trained on ImageNet."
        if number == 6
        else None
    )
    return Claim(
        f"C6.{number}", statement, source, measure, rule, control, judge, published
    )


CLAIMS: Sequence[Claim] = (
    _claim(
        1,
        "First-order, per-example first-order and second-order Taylor scores agree "
        "with the true importance on a small network.",
        "abstract",
        "Pearson and Spearman correlation of LeNet3's 252 scores with the oracle, "
        "the squared change of the mean loss.",
        "Reproduced if each of the three lies above weight norm, optimal brain damage "
        "and random, with disjoint 95 % intervals over networks, for both "
        "coefficients and all data; partly if in at least half of these comparisons.",
        "Random scores, and the oracle measured on other images.",
        judge_agreement,
    ),
    _claim(
        2,
        "The magnitude of weights says much less about importance than the Taylor "
        "score does.",
        "introduction",
        "Spearman of the first-order score minus that of the weight norm, paired "
        "over networks.",
        "Reproduced if the interval of the difference lies above 0 for the weight "
        "norm as it is and normalised by layer, on all data; partly if for one of the "
        "two.",
        "The weight norm normalised by layer.",
        judge_magnitude,
    ),
    _claim(
        3,
        "Scores can be compared across layers without any analysis by layer.",
        "abstract",
        "Correlation over all layers minus the mean within layers; mean loss while "
        "pruning with normalised scores minus plain.",
        "Reproduced if neither difference lies below 0 with its interval; partly if "
        "one of them does.",
        "The weight norm, which should need normalising.",
        judge_layers,
    ),
    _claim(
        4,
        "Removing units by the Taylor score, without fine-tuning, costs hardly more "
        "than removing them by the oracle.",
        "method",
        "Mean loss over a pruning curve of LeNet3 up to half of its units, all scores "
        "measured again at every step; the first-order score squares the gradient of "
        "all images scored.",
        "Reproduced if the ratio to the oracle's lies below 1.10 with its interval "
        "and weight norm and random cost more (intervals above 0); partly if only "
        "they cost more.",
        "Random order; the best of all 65,536 subsets of the first layer.",
        judge_tracking,
    ),
    _claim(
        5,
        "The gate behind the batch-norm is the best place to measure importance.",
        "Table 2",
        "Correlation with the oracle over the inner units of a PreAct-ResNet: gate "
        "behind and before the batch-norm, batch-norm scale, weights of the "
        "convolution.",
        "Reproduced if it is the highest in every network for both coefficients; "
        "partly if on average for one of them.",
        "Random scores.",
        judge_placement,
    ),
    _claim(
        6,
        "On modern networks the score's correlation with the true importance is "
        "above 93 %.",
        "abstract",
        "Pearson correlation of the first-order score with the oracle on residual "
        "networks for small images. Intervals are over networks where several were "
        "trained, and over units where there is one (the published ResNet-20).",
        "Reproduced if the 95 % interval lies above .93 on every residual network "
        "measured, not reproduced if it lies below on every one, partly otherwise.",
        "The oracle's correlation with itself between two halves of the images.",
        judge_modern,
    ),
    _claim(
        7,
        "The second order adds little to the first, and the second order alone "
        "(optimal brain damage) is worse.",
        "method",
        "Spearman of first order minus second order (diagonal) and minus optimal "
        "brain damage, paired over networks.",
        "Reproduced if the first interval holds 0 or lies within 0.05 of it and the "
        "second lies above 0, on all data; partly if one.",
        "Second order with the full row of the Hessian.",
        judge_second_order,
    ),
    _claim(
        8,
        "Removing a few units at a time, with fine-tuning and new scores in "
        "between, beats removing all at once.",
        "method",
        "Test accuracy of LeNet3 with most of its units removed, after equally many "
        "mini-batches.",
        "Reproduced if the difference lies above 0 with its interval over networks, "
        "partly if only its mean does.",
        "One-shot pruning with the same number of mini-batches; training from "
        "scratch at the same size.",
        judge_iterative,
    ),
    _claim(
        9,
        "Pruning the skip connections too improves the trade-off of accuracy and cost.",
        "abstract",
        "Test accuracy of a PreAct-ResNet at half its multiply-adds, with and "
        "without gates on the streams.",
        "Reproduced if the difference lies above 0 with its interval over networks, "
        "partly if only its mean does.",
        "Random removal that takes channels of the streams too.",
        judge_streams,
    ),
)
