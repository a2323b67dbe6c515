"""The claims of Molchanov et al. (2019), declared with their rules before the run that
decides them.

Each `judge_...` sees the metric rows of a run and nothing else. Read `ROWS` (what is
measured) and the limits below it (the smallest effects that matter), then `_sides` (how
intervals meet a limit), then the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from robustbook.results import (
    Claim,
    Judgement,
    Metric,
    Results,
    Row,
    UnmeasuredError,
    Verdict,
)

AGREED = "coefficient criterion data network scope truth"
ROWS = (
    # How well scores agree with the oracle, and it with itself
    Row("accuracy", "share", "data network"),
    Row("training loss", "nats", "data network"),
    Row("correlation", "", AGREED),
    Row("corrected correlation", "", AGREED),
    Row("reliability", "", "coefficient data network scope truth"),
    Row("correlation lead", "", "coefficient data network rival scope truth"),
    Row("layer gap", "", "coefficient criterion data network"),
    Row("correlation by batch", "", "batch coefficient network"),
    Row("loss after epochs", "nats", "epochs"),
    Row("reliability after epochs", "", "epochs"),
    Row("correlation after epochs", "", "criterion epochs"),
    # Pruning without tuning
    Row("loss with units removed", "nats", "criterion network removed"),
    Row("units removed", "units", "criterion network"),
    Row("units over the oracle's", "", "criterion network"),
    Row("units lead", "share", "network rival"),
    Row("subset loss", "nats", "removed way"),
    # Pruning with tuning, to one budget of multiply-adds
    Row("accuracy before pruning", "share", "data"),
    Row("tuned accuracy", "share", "length way"),
    Row("tuned multiply-adds", "", "way"),
    Row("tuned memory", "bytes", "way"),
    Row("tuned lead", "share", "length rival way"),
    Row("streams kept", "share", "way"),
    Row("oracle sanity", "", ""),
    Row("removal agrees", "share", "network"),
    Row("trade-off accuracy", "share", "left way"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""

AGREEING = ("taylor-fo", "taylor-fo-fg", "taylor-so")
RIVALS = ("weight-norm by layer", "random")
PLACES = ("weight taylor sum", "weight taylor", "bn-scale")
PLACE_NAMES = {
    "weight taylor sum": "in front of the batch-norm",
    "weight taylor": "at the weights of the convolution",
    "bn-scale": "the batch-norm's scale",
}
AGREEMENT = 0.9
CORRELATION_LEAD = 0.05
PLACE_LEAD = 0.03
PUBLISHED_CORRELATION = 0.93
RELIABLE = 0.7
UNITS_SHARE = 0.05
NEAR_ORACLE = 0.9
GREEDY_EXCESS = 1.25
ACCURACY_LEAD = 0.01
WORTH_PRUNING = 0.8
COEFFICIENTS = ("spearman", "pearson")
RESIDUAL = ("resnet18", "resnet20")
TRUTHS = ("training", "unseen")
FULL, ITERATIVE, ONE_SHOT = "full network, tuned as long", "Taylor", "Taylor, one-shot"
INNER, RANDOM, RANDOM_INNER = "Taylor, no streams", "random", "random, no streams"
PRICED = "Taylor per multiply-add"
PRICED_INNER = "Taylor per multiply-add, no streams"
BY_LAYER = "Taylor by layer"
COMPARED = (
    (ITERATIVE, ONE_SHOT),
    (ITERATIVE, INNER),
    (PRICED, PRICED_INNER),
    (ITERATIVE, RANDOM),
    (ITERATIVE, RANDOM_INNER),
    (INNER, RANDOM_INNER),
    (PRICED, ITERATIVE),
    (PRICED, RANDOM_INNER),
    (ITERATIVE, BY_LAYER),
    (FULL, ITERATIVE),
)
"""Ways of pruning whose accuracies are compared, network by network."""

FIGURE_3 = {
    "oracle": 145,
    "taylor-so": 144,
    "taylor-fo": 140,
    "weight taylor": 138,
    "obd": 136,
    "weight-norm": 69,
    "random": 32,
}
"""Units of LeNet3, of 252, that are gone when the loss reaches 1.0 (paper, Fig. 3)."""

FIGURE_4 = {
    "oracle": 3310,
    "taylor-so": 2968,
    "taylor-fo": 2852,
    "weight-norm": 1928,
    "random": 1580,
    "obd": 672,
    "taylor-fo, scores fixed": 1973,
    "oracle, scores fixed": 2010,
}
"""Units of ResNet-18, of 4,800, gone when the loss reaches 0.5 (paper, Fig. 4)."""

TABLE_1 = {
    "weight taylor": 0.892,
    "weight-norm": 0.861,
    "taylor-fo": 0.924,
    "taylor-so": 0.957,
    "obd": 0.901,
    "taylor-fo-fg": 0.924,
    "weight taylor sum": 0.295,
}
"""Spearman's correlation over all layers of ResNet-18 on CIFAR-10 (paper, Table 1)."""


def _low(metric: Metric) -> float:
    return metric.value if metric.low is None else metric.low


def _high(metric: Metric) -> float:
    return metric.value if metric.high is None else metric.high


def _side(metric: Metric, limit: float) -> str:
    """Where the interval lies: "above" the limit, "below" it, or "open"."""
    return (
        "above"
        if _low(metric) > limit
        else "below"
        if _high(metric) < limit
        else "open"
    )


def _sides(metrics: Iterable[Metric], limit: float) -> set[str]:
    return {_side(each, limit) for each in metrics}


def _decided(sides: set[str]) -> Verdict:
    """All above the limit, all below it, some here and some there, or not settled."""
    if sides == {"above"}:
        return "reproduced"
    if sides == {"below"}:
        return "not reproduced"
    return "mixed" if {"above", "below"} <= sides else "inconclusive"


def _within(metric: Metric, digits: int = 3) -> str:
    """A value with its interval, for the evidence."""
    if metric.low is None:
        return f"{metric.value:.{digits}f}"
    return (
        f"{metric.value:.{digits}f} [{_low(metric):.{digits}f}, "
        f"{_high(metric):.{digits}f}]"
    )


def _said(metric: Metric, scale: float = 1, digits: int = 2) -> str:
    """A value with its interval, for a sentence."""
    value, low, high = (
        f"{scale * each:.{digits}f}"
        for each in (metric.value, _low(metric), _high(metric))
    )
    return f"{value} ({low} to {high})".replace("-", "−")


def _over(metrics: Iterable[Metric]) -> str:
    """What intervals are over: networks (Student's t), or units of one network."""
    kinds = {
        "units": "bootstrap over {} units of one network",
        "networks": "Student's t over {} networks",
    }
    return " and ".join(dict.fromkeys(kinds[row.over].format(row.n) for row in metrics))


def _rows(results: Results, name: str, **factors: str) -> list[Metric]:
    found = results.select(name, **factors)
    if not found:
        raise UnmeasuredError(f"{name} {factors}")
    return found


def _agreed(results: Results, name: str, **factors: str) -> list[Metric]:
    """Rows of LeNet3 over all layers, on the images it was trained on."""
    chosen = {"network": "lenet3", "scope": "all layers", "truth": "training"}
    return _rows(results, name, **(chosen | factors))


def _unreliable(results: Results, **factors: str) -> str:
    """What is wrong with the oracle where it does not agree with itself, or nothing."""
    rows = _rows(results, "reliability", **factors)
    least = min(rows, key=_low)
    if _low(least) >= RELIABLE:
        return ""
    return (
        "The oracle does not agree with itself well enough to be agreed with: "
        f"reliability {_said(least)}, where all of it must lie above {RELIABLE}."
    )


def _reliabilities(results: Results, **factors: str) -> str:
    rows = _rows(results, "reliability", **factors)
    listed = ", ".join(
        f"{row.factors['network']}, {row.factors['data']}, {row.factors['truth']} "
        f"images {_within(row)}"
        for row in rows
    )
    return f"Reliability of the oracle: {listed}."


def _of(rows: Iterable[Metric], *names: str) -> str:
    """Rows with their factors, for the evidence."""
    return ", ".join(
        f"{' '.join(str(row.factors[name]) for name in names)} {_within(row)}"
        for row in rows
    )


# Agreement with the oracle
# --------------------------------------------------------------------------------------


def judge_agreement(results: Results) -> Judgement:
    """C6.1: corrected for the oracle's own noise, each of three scores ranks units as
    it does, and better than the norm by layer and random numbers.
    """
    rows = [
        row
        for name in AGREEING
        for row in _agreed(
            results, "corrected correlation", coefficient="spearman", criterion=name
        )
    ]
    rivals = [
        row
        for name in RIVALS
        for row in _agreed(
            results, "correlation lead", coefficient="spearman", rival=name
        )
    ]
    evidence = (
        "Spearman's correlation with the oracle, corrected for its reliability: "
        f"{_of(rows, 'criterion', 'data')}. First order leads: "
        f"{_of(rivals, 'rival', 'data')}. {_over(rows)}. "
        + _reliabilities(
            results, network="lenet3", coefficient="spearman", scope="all layers"
        )
    )
    wrong = _unreliable(
        results,
        network="lenet3",
        coefficient="spearman",
        scope="all layers",
        truth="training",
    )
    if wrong:
        return Judgement("inconclusive", evidence, wrong)
    verdict = _decided(_sides(rows, AGREEMENT))
    if verdict == "reproduced" and _sides(rivals, CORRELATION_LEAD) != {"above"}:
        verdict = "partly"
    worst, best = (choose(rows, key=lambda row: row.value) for choose in (min, max))
    answer = (
        f"The weakest of the three correlates at {_said(worst)} "
        f"({_name(worst)}, {worst.factors['data']}), the strongest at "
        f"{best.value:.2f} ({_name(best)})."
    )
    return Judgement(verdict, evidence, answer)


NAMES = {
    "taylor-fo": "first order",
    "taylor-fo-fg": "first order per example",
    "taylor-so": "second order",
}


def _name(row: Metric) -> str:
    name = str(row.factors["criterion"])
    return NAMES.get(name, name)


def judge_magnitude(results: Results) -> Judgement:
    """C6.2: the first-order score leads the weight norm normalised by layer, in
    correlation and in units that can go.
    """
    rivals = {
        rival: [
            *_agreed(results, "correlation lead", coefficient="spearman", rival=rival),
            results.one("units lead", network="lenet3", rival=rival),
        ]
        for rival in ("weight-norm by layer", "weight-norm")
    }
    hard = rivals["weight-norm by layer"]
    verdict = _decided(_sides(hard, CORRELATION_LEAD))
    plain = _sides(rivals["weight-norm"], CORRELATION_LEAD) == {"above"}
    if plain and verdict == "not reproduced":
        verdict = "partly"
    evidence = "; ".join(
        f"lead over {rival}: Spearman {_of(rows[:-1], 'data')}, share of the units "
        f"that go before the loss reaches its limit {_within(rows[-1])}"
        for rival, rows in rivals.items()
    )
    evidence = f"{evidence}. {_over(hard)}. Smallest that matters: {CORRELATION_LEAD}."
    least, units = min(hard[:-1], key=lambda row: row.value), hard[-1]
    answer = (
        f"Against the norm normalised by layer, first order leads by {_said(least)} in "
        f"rank correlation and by {_said(units, 100, 0)} % of the units in pruning."
    )
    return Judgement(verdict, evidence, answer)


def judge_layers(results: Results) -> Judgement:
    """C6.3: scores agree across layers as well as within them, by both coefficients,
    and dividing them by their norm in each layer does not help pruning.
    """
    gaps = [
        row
        for coefficient in COEFFICIENTS
        for row in _rows(
            results,
            "layer gap",
            network="lenet3",
            coefficient=coefficient,
            criterion="taylor-fo",
        )
    ]
    gain = results.one("units lead", network="lenet3", rival="taylor-fo by layer")
    control = results.one("units lead", network="lenet3", rival="weight-norm by layer")
    plain = results.one("units lead", network="lenet3", rival="weight-norm")
    needs = plain.value - control.value
    # A lead of plain scores above minus the smallest effect: normalising helps less.
    verdict = _decided(_sides(gaps, -CORRELATION_LEAD) | _sides([gain], -UNITS_SHARE))
    evidence = (
        "Correlation over all layers less the mean within layers: "
        f"{_of(gaps, 'coefficient', 'data')}; plain less normalised scores, share of "
        f"units that go: {_within(gain)}. {_over([*gaps, gain])}. Control: "
        f"normalising helps the weight norm by {needs:.3f} of the units."
    )
    if needs < UNITS_SHARE:
        return Judgement(
            "inconclusive",
            evidence,
            "The control failed: not even the weight norm gains from being "
            "normalised by layer.",
        )
    lowest = min(gaps, key=lambda row: row.value)
    answer = (
        f"Across layers the scores agree no worse than within them: {_said(lowest)} at "
        f"worst ({lowest.factors['coefficient'].__str__().capitalize()}); normalising "
        f"changes pruning by {_said(gain, -100, 0)} % of the units."
        if verdict == "reproduced"
        else f"The gap across layers is {_said(lowest)} at worst "
        f"({str(lowest.factors['coefficient']).capitalize()}, "
        f"{lowest.factors['data']}), which is too uncertain to judge; plain scores do "
        "prune more units than normalised ones."
        if (gain.low or 0) > 0 and verdict == "inconclusive"
        else f"The gap across layers is {_said(lowest)} at worst; plain scores prune "
        f"{_said(gain, 100, 0)} % more units than normalised ones."
    )
    return Judgement(verdict, evidence, answer)


def judge_tracking(results: Results) -> Judgement:
    """C6.4: first order removes nearly as many units as the greedy oracle before the
    loss reaches its limit, and more than the norm by layer and random orders.
    """
    ratio = results.one(
        "units over the oracle's", network="lenet3", criterion="taylor-fo"
    )
    rivals = [
        results.one("units lead", network="lenet3", rival=name) for name in RIVALS
    ]
    greedy, best = (
        results.one("subset loss", way=way, removed=8)
        for way in ("greedy oracle", "best subset")
    )
    evidence = (
        f"Units removed, first order over the greedy oracle: {_within(ratio)} (limit "
        f"{NEAR_ORACLE}). Lead in share of the units over {_of(rivals, 'rival')}. "
        f"{_over([ratio, *rivals])}. Control: with 8 of 16 filters gone the greedy "
        f"oracle's loss is {greedy.value / best.value:.2f} times that of the best of "
        f"all subsets (limit {GREEDY_EXCESS})."
    )
    if greedy.value > GREEDY_EXCESS * best.value:
        return Judgement(
            "inconclusive",
            evidence,
            "The control failed: the greedy oracle is far from the best of all "
            "subsets, and no yardstick.",
        )
    near, better = _side(ratio, NEAR_ORACLE), _sides(rivals, UNITS_SHARE)
    verdict: Verdict = "inconclusive"
    if near == "above" and better == {"above"}:
        verdict = "reproduced"
    elif better == {"above"}:
        verdict = "partly"
    elif near == "below" and "below" in better:
        verdict = "not reproduced"
    answer = (
        f"By first order {_said(ratio, 100, 0)} % of the oracle's units go before the "
        f"loss is 1; the paper has {FIGURE_3['taylor-fo'] / FIGURE_3['oracle']:.0%}."
    )
    return Judgement(verdict, evidence, answer)


def judge_placement(results: Results) -> Judgement:
    """C6.5: behind the batch-norm the first-order score agrees better with the oracle
    than at every other place.
    """
    common = {"network": "resnet18", "scope": "inner units", "truth": "training"}
    leads = [
        row
        for place in PLACES
        for coefficient in COEFFICIENTS
        for row in _rows(
            results,
            "correlation lead",
            rival=place,
            coefficient=coefficient,
            **common,
        )
    ]
    evidence = (
        "Lead of the gate behind the batch-norm: "
        f"{_of(leads, 'rival', 'coefficient')}. {_over(leads)}. Smallest that matters: "
        f"{PLACE_LEAD}. " + _reliabilities(results, coefficient="spearman", **common)
    )
    wrong = _unreliable(results, coefficient="spearman", **common)
    if wrong:
        return Judgement("inconclusive", evidence, wrong)
    by_place = {
        place: _sides(
            [row for row in leads if row.factors["rival"] == place], PLACE_LEAD
        )
        for place in PLACES
    }
    verdict: Verdict = "inconclusive"
    if all(sides == {"above"} for sides in by_place.values()):
        verdict = "reproduced"
    elif any(sides == {"below"} for sides in by_place.values()):
        verdict = "mixed" if {"above"} in by_place.values() else "not reproduced"
    nearest = min(leads, key=lambda row: row.value)
    answer = (
        f"The nearest rival is {PLACE_NAMES[str(nearest.factors['rival'])]}: the gate "
        f"behind the batch-norm leads it by {_said(nearest)} "
        f"({str(nearest.factors['coefficient']).capitalize()})."
    )
    return Judgement(verdict, evidence, answer)


def judge_modern(results: Results) -> Judgement:
    """C6.6: Spearman's correlation over all layers, gate behind the batch-norm, is
    above .93 on residual networks, corrected for the oracle's reliability.
    """
    found: list[Metric] = []
    shaky: list[Metric] = []
    for network in RESIDUAL:
        for truth in TRUTHS:
            common = {
                "network": network,
                "coefficient": "spearman",
                "scope": "all layers",
                "truth": truth,
            }
            rows = results.select(
                "corrected correlation", criterion="taylor-fo", **common
            )
            for row in rows:
                (found if not _unreliable(results, **common) else shaky).append(row)
    if not found and not shaky:
        raise UnmeasuredError("corrected correlation on a residual network")
    listed = _of([*found, *shaky], "network", "data", "truth")
    rows = [
        row
        for network in RESIDUAL
        for row in results.select(
            "reliability", network=network, coefficient="spearman", scope="all layers"
        )
    ]
    evidence = (
        f"Corrected: {listed} (published: above {PUBLISHED_CORRELATION}). "
        f"{_over([*found, *shaky])}. Reliability of the oracle: "
        f"{_of(rows, 'network', 'truth')}."
    )
    if not found:
        least = min(rows, key=_low)
        return Judgement(
            "inconclusive",
            evidence,
            "Nowhere does the oracle agree with itself well enough: reliability "
            f"{_said(least)} at worst, where all of it must lie above {RELIABLE}.",
        )
    worst = min(found, key=lambda row: row.value)
    lowest = "The lowest" if len(found) > 1 else "The only"
    answer = (
        f"{lowest} of Spearman's correlations is {_said(worst)}, on {_where(worst)}."
    )
    return Judgement(_decided(_sides(found, PUBLISHED_CORRELATION)), evidence, answer)


def _where(row: Metric) -> str:
    names = {"resnet18": "ResNet18", "resnet20": "ResNet-20"}
    return f"{names[str(row.factors['network'])]}'s {row.factors['truth']} images"


def judge_second_order(results: Results) -> Judgement:
    """C6.7: the second order adds little to the first, in correlation and in units that
    can go; curvature alone is worse.
    """

    def leads(rival: str) -> list[Metric]:
        return [
            *_agreed(results, "correlation lead", coefficient="spearman", rival=rival),
            results.one("units lead", network="lenet3", rival=rival),
        ]

    second, damage = leads("taylor-so"), leads("obd")
    little = {_closeness(row, CORRELATION_LEAD) for row in second}
    worse = _sides(damage, 0)
    evidence = (
        "First order less second order: Spearman "
        f"{_of(second[:-1], 'data')}, share of units {_within(second[-1])}; less "
        f"optimal brain damage: Spearman {_of(damage[:-1], 'data')}, share of units "
        f"{_within(damage[-1])}. {_over([*second, *damage])}. Little means within "
        f"{CORRELATION_LEAD}."
    )
    parts = {
        "little": "held" if little == {"near"} else "failed" if "far" in little else "",
        "worse": "held" if worse == {"above"} else "failed" if "below" in worse else "",
    }
    held, failed = (list(parts.values()).count(each) for each in ("held", "failed"))
    verdict: Verdict = "inconclusive"
    if held == 2:
        verdict = "reproduced"
    elif failed == 2:
        verdict = "not reproduced"
    elif held:
        verdict = "partly"
    most, least = (
        max(second[:-1], key=lambda row: -row.value),
        min(damage[:-1], key=lambda row: row.value),
    )
    answer = (
        f"Second order gains up to {_said(most, -1)} in rank correlation; curvature "
        f"alone is {'better' if least.value < 0 else 'worse'} than first order by "
        f"{_said(least, -1 if least.value < 0 else 1)}."
    )
    return Judgement(verdict, evidence, _ordered(answer))


def _ordered(answer: str) -> str:
    """Intervals whose ends changed their sign, smaller end first."""
    import re

    def swap(found: re.Match[str]) -> str:
        ends = [float(each.replace("−", "-")) for each in found.groups()]
        low, high = sorted(ends)
        return f"({low:.2f} to {high:.2f})".replace("-", "−")

    return re.sub(r"\((−?[\d.]+) to (−?[\d.]+)\)", swap, answer)


def _closeness(metric: Metric, limit: float) -> str:
    """Whether a difference lies "near" zero with its interval, "far" from it, or is
    "open".
    """
    if max(abs(_low(metric)), abs(_high(metric))) <= limit:
        return "near"
    return "far" if _low(metric) > limit or _high(metric) < -limit else "open"


# Pruning with tuning
# --------------------------------------------------------------------------------------


def _judged_leads(
    results: Results, pairs: Sequence[tuple[str, str]], words: str
) -> Judgement:
    """Leads of one way over another at equal multiply-adds, at every length."""
    rows = [
        row
        for way, rival in pairs
        for row in _rows(results, "tuned lead", way=way, rival=rival)
    ]
    full = results.one("accuracy before pruning")
    other = [
        row
        for way, rival in COMPARED
        if (way, rival) not in pairs
        for row in results.select("tuned lead", way=way, rival=rival)
    ]
    width = max((_high(row) - _low(row)) / 2 for row in rows)
    evidence = (
        "Test accuracy, way less rival, after so many mini-batches: "
        + "; ".join(_lead(row) for row in rows)
        + f". {_over(rows)}. The smallest that matters is {ACCURACY_LEAD}; a "
        f"difference of {width:.3f} would have been told from zero. Others: "
        + "; ".join(_lead(row) for row in other)
        + f". Networks before pruning: {_within(full)}."
    )
    if _low(full) < WORTH_PRUNING:
        return Judgement(
            "inconclusive",
            evidence,
            f"The networks are not worth pruning: test accuracy {_said(full, 100, 0)} "
            f"%, and {WORTH_PRUNING:.0%} is needed.",
        )
    verdict = _decided(_sides(rows, ACCURACY_LEAD))
    firsts = [row for row in rows if row.factors["way"] == pairs[0][0]]
    # What decides is the least lead, or the largest where there is evidence against it.
    choose, most = (max, "most") if verdict == "not reproduced" else (min, "least")
    deciding = choose(firsts, key=lambda row: row.value)
    answer = (
        f"{words} {_said(deciding, 100, 1)} points of accuracy at {most}, after "
        f"{deciding.factors['length']} mini-batches."
    )
    return Judgement(verdict, evidence, answer)


def _lead(row: Metric) -> str:
    return (
        f"{row.factors['way']} less {row.factors['rival']} ({row.factors['length']}) "
        f"{_within(row)}"
    )


def judge_iterative(results: Results) -> Judgement:
    """C6.8: at equal multiply-adds and equally many mini-batches, scoring again while
    tuning beats removing all at once, at every length of tuning.
    """
    return _judged_leads(results, [(ITERATIVE, ONE_SHOT)], "Step by step gains")


def judge_streams(results: Results) -> Judgement:
    """C6.9: at equal multiply-adds, removing channels of the streams too gives better
    accuracy at every length, by the paper's score and by the score per multiply-add.
    """
    pairs = [(ITERATIVE, INNER), (PRICED, PRICED_INNER)]
    return _judged_leads(results, pairs, "Pruning streams too gains")


# The claims
# --------------------------------------------------------------------------------------


def _claim(
    number: int,
    statement: str,
    source: str,
    measure: str,
    rule: str,
    control: str,
    judge: Callable[[Results], Judgement],
    published: str | None = None,
) -> Claim:
    return Claim(
        f"C6.{number}", statement, source, measure, rule, control, judge, published
    )


CLAIMS: Sequence[Claim] = (
    _claim(
        1,
        "First-order, per-example first-order and second-order Taylor scores agree "
        "with the true importance on a small network.",
        "abstract",
        "Spearman's correlation of LeNet3's 252 scores with the oracle, the squared "
        "change of the mean loss: scores on 30 mini-batches of 64, the oracle on other "
        "training images, divided by the root of its reliability.",
        f"Reproduced if on all data the interval of each of the three lies above "
        f"{AGREEMENT} and first order leads both rivals by more than "
        f"{CORRELATION_LEAD} (partly, if it does not lead); not reproduced if all lie "
        f"below {AGREEMENT}, mixed if some lie above and some below.",
        "The weight norm normalised by layer; random scores; the oracle's reliability, "
        f"whose interval must lie above {RELIABLE}.",
        judge_agreement,
    ),
    _claim(
        2,
        "The magnitude of weights says much less about importance than the Taylor "
        "score does.",
        "introduction",
        "First order less the weight norm, network by network: Spearman's correlation "
        "with the oracle, and the share of LeNet3's units that go before the loss "
        "reaches 1.",
        f"Reproduced if on all data both differences to the norm normalised by layer "
        f"lie above {CORRELATION_LEAD}; partly if they lie below it but above it "
        "for the plain norm; mixed if some lie above and some below.",
        "The weight norm normalised by layer is the rival that decides.",
        judge_magnitude,
        "LeNet3 loses 140 units by first order and 69 by the weight norm (Fig. 3).",
    ),
    _claim(
        3,
        "Scores can be compared across layers without any analysis by layer.",
        "abstract",
        "Correlation with the oracle over all layers less the mean within layers, by "
        "Spearman and Pearson; share of units that go, plain less normalised scores.",
        f"Reproduced if the intervals of all gaps lie above {-CORRELATION_LEAD} and "
        f"normalising gains less than {UNITS_SHARE} of the units; not reproduced if "
        "none does; mixed if some lie above and some below.",
        "The weight norm, which must gain from being normalised.",
        judge_layers,
    ),
    _claim(
        4,
        "Removing units by the Taylor score, without tuning, is nearly as good as "
        "removing them by the oracle.",
        "Fig. 3",
        "Units of LeNet3 removed when the loss on the images scored reaches 1, all "
        "scores measured again at each step, over those of the greedy oracle.",
        f"Reproduced if the ratio lies above {NEAR_ORACLE} and first order leads the "
        f"norm by layer and a random order by more than {UNITS_SHARE} of the units; "
        "partly if only the latter; not reproduced if it falls short in both.",
        "The best of all 65,536 subsets of the first layer: the greedy oracle's loss "
        f"there is at most {GREEDY_EXCESS} times that at 8 of 16 filters.",
        judge_tracking,
        "The oracle removes 145 of 252 units, first order 140 (Fig. 3).",
    ),
    _claim(
        5,
        "The gate behind the batch-norm is the best place to measure importance.",
        "Tables 1 and 2",
        "Correlation with the oracle over the units inside the blocks of the "
        "PreAct-ResNet18, on 30 mini-batches of 64: gate behind the batch-norm less "
        "gate in front of it, weights of the convolution, scale of the batch-norm.",
        f"Reproduced if all leads, by Spearman and by Pearson, lie above {PLACE_LEAD}; "
        "where another place is level or better by both, mixed if it still leads "
        "some place by both, else not reproduced.",
        "The oracle's reliability over these units, whose interval must lie above "
        f"{RELIABLE}.",
        judge_placement,
        "ResNet-101, all layers, Spearman: .965 behind the batch-norm, .874 at the "
        "weights, .807 for the scale (Table 2).",
    ),
    _claim(
        6,
        "On modern networks the score's correlation with the true importance is "
        "above 93 %.",
        "abstract",
        "Spearman's correlation over all layers, gate behind the batch-norm, 30 "
        "mini-batches of 64, corrected for the oracle's reliability: PreAct-ResNet18 "
        "and the published ResNet-20, on training and on unseen images.",
        f"Where the interval of the oracle's reliability lies above {RELIABLE}: "
        f"reproduced if every one lies above {PUBLISHED_CORRELATION}, not reproduced "
        "if every one "
        "lies below, mixed if some lie above and some below.",
        "The oracle's reliability. Intervals are over networks, for the one ResNet-20 "
        "over its units.",
        judge_modern,
        "Only Spearman over all layers is above .93 on all three networks: .965, .999, "
        ".932 (Table 2); .924 for ResNet-18 on CIFAR-10 (Table 1).",
    ),
    _claim(
        7,
        "The second order adds little to the first, and curvature alone (optimal brain "
        "damage) is worse.",
        "Table 1, Fig. 3",
        "First order less second order, and less optimal brain damage: Spearman's "
        "correlation with the oracle, and share of LeNet3's units that go.",
        f"Two parts: all differences to second order lie within {CORRELATION_LEAD} of "
        "0; all differences to optimal brain damage lie above 0. Reproduced if both "
        "hold, partly if one does, not reproduced if in both some interval excludes "
        "it.",
        "Second order with the full row of the Hessian.",
        judge_second_order,
        "Second order gains .033 on ResNet-18 (Table 1) and 4 units of LeNet3 (Fig. "
        "3); optimal brain damage loses .023 and 4 units.",
    ),
    _claim(
        8,
        "Removing a few units at a time, with tuning and new scores in between, beats "
        "removing all at once.",
        "method",
        "Test accuracy of a residual network at a third of its multiply-adds, step by "
        "step less at once, after equally many mini-batches, at three lengths.",
        f"Reproduced if the difference lies above {ACCURACY_LEAD} at every length, not "
        "reproduced if it lies below at every one, mixed if above at some and below "
        "at others.",
        f"Networks are at least {WORTH_PRUNING:.0%} right; the full network is tuned "
        "as long; what difference could have been seen is stated.",
        judge_iterative,
    ),
    _claim(
        9,
        "Pruning the skip connections too improves the trade-off of accuracy and cost.",
        "abstract, Table 3",
        "Test accuracy of a residual network at a third of its multiply-adds, with "
        "channels of its streams removed less without, at three lengths, by the "
        "paper's score and by the score per multiply-add.",
        f"Reproduced if every difference lies above {ACCURACY_LEAD}, not reproduced if "
        "every one lies below, mixed if some lie above and some below.",
        "Random removal with and without streams at the same multiply-adds; networks "
        f"are at least {WORTH_PRUNING:.0%} right.",
        judge_streams,
        "ResNet-50 at a third of its GFLOPs: error 28.3 % with skip connections "
        "pruned, 30.7 % without (Table 3).",
    ),
)
