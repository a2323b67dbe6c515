"""The seven claims of Yu et al. (2019), declared with their rules before any result was
known.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own; the paper's are not known.
"""

from __future__ import annotations

from robustbook.results import Claim, Judgement, Metric, Results, Row

ROWS = (
    Row("decision surface agreement", "share of cells", "classes"),
    Row(
        "smallest cross-entropy threshold error",
        "share of cells",
        "classes images networks",
    ),
    Row("planes where cross-entropy errs", "share of planes", "classes"),
    Row("clean accuracy", "share", "architecture dataset seed training"),
    Row(
        "clean accuracy, whole test set", "share", "architecture dataset seed training"
    ),
    Row("strong robust accuracy", "share", "architecture dataset seed training"),
    Row("minimal distance", "pixel units", "architecture dataset seed training"),
    Row("CLEVER", "pixel units", "architecture dataset seed training"),
    Row("robust accuracy", "share", "architecture attack budget dataset seed training"),
    Row("median psi", "1/nats", "architecture ascent budget dataset seed training"),
    Row("kind: clean accuracy", "share", "architecture dataset training"),
    Row(
        "kind: clean accuracy, whole test set", "share", "architecture dataset training"
    ),
    Row("kind: strong robust accuracy", "share", "architecture dataset training"),
    Row("kind: minimal distance", "pixel units", "architecture dataset training"),
    Row("kind: attained divergence", "nats", "architecture dataset training"),
    Row("kind: median psi", "1/nats", "architecture dataset training"),
    Row("kind: mean psi", "1/nats", "architecture dataset training"),
    Row("psi attained (upper end)", "1/nats", "architecture budget dataset training"),
    Row(
        "psi certified (lower end)",
        "1/nats",
        "architecture budget dataset method training",
    ),
    Row(
        "images whose bracket is violated",
        "images",
        "architecture budget dataset training",
    ),
    Row(
        "slope of S",
        "per pixel unit",
        "architecture dataset direction logits seed training",
    ),
    Row(
        "distance to S = 0",
        "pixel units",
        "architecture dataset direction seed training",
    ),
    Row("seeds where boundary distances are ordered", "seeds", "direction"),
    Row("seeds where slopes are ordered", "seeds", "direction logits"),
    Row("psi attained over its sound lower bound", "", "budget images"),
    Row("rank agreement", "", "measure reference"),
    Row("rank agreement gain", "", "over_measure reference"),
    Row("rank stability", "", "measure settings"),
    Row("rank stability gain", "", "over_measure"),
    Row("rank stability of a part", "", "measure part settings"),
    Row("rank stability gain of a part", "", "over_measure part"),
    Row("rank stability with other step sizes", "", "measure settings"),
    Row("networks without robust accuracy", "networks", "attack budget"),
    Row("passes to rank quality", "passes per image", "measure never"),
    Row("rank agreement at cost", "", "measure passes steps"),
    Row("difference of passes to rank quality", "passes per image", ""),
    Row("largest relative change of psi under scaling", "", "logits precision"),
    Row("median psi without normalisation", "1/nats", "scale"),
    Row("ratio of median psi between scales", "", "logits"),
    Row("FGSM accuracy of scaled logits", "share", "scale"),
    Row("largest fall of the divergence with more search", "nats", ""),
    Row("psi at long over usual ascent", "", "long networks usual"),
    Row("clean accuracy of masked", "share", "network"),
    Row("white-box robust accuracy", "share", "network"),
    Row("robust accuracy without gradients", "share", "network"),
    Row("psi of masked over natural", "", "network"),
    Row("white-box robust accuracy of divided logits", "share", "network temperature"),
    Row("second zoo: rank agreement", "", "measure reference"),
    Row("second zoo: seeds where distance to S = 0 is ordered", "seeds", ""),
    Row("second zoo: seeds where slope of S is ordered", "seeds", ""),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""

MINIMAL_SEEDS = 3
RANK_QUALITY = 0.8
INVARIANCE = 1e-5
FOOLED_RATIO = 1.25
LEVEL_RATIO = 0.95


def _within(metric: Metric) -> str:
    """A value with its interval, for a sentence."""
    return (
        f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"
        if metric.low is not None
        else f"{metric.value:.3g}"
    )


def judge_y1(results: Results) -> Judgement:
    """The decision surface separates right from wrong on every plane (by its
    definition); no level of the cross-entropy does.
    """
    agreement = results.one("decision surface agreement", classes="all")
    error = results.one("smallest cross-entropy threshold error", classes="all")
    planes = results.one("planes where cross-entropy errs", classes="all")
    control = results.one("smallest cross-entropy threshold error", classes="two")
    evidence = (
        f"S has the right sign on {agreement.value:.1%} of cells, as its definition "
        f"says; the best cross-entropy level still errs on {error.value:.2%} of cells "
        f"[{error.low:.2%}, {error.high:.2%}] and on {planes.value:.0%} of {planes.n} "
        f"planes. They are {_crossed(error)}, and the interval draws both anew. With "
        f"two classes the best level errs on {control.value:.2%}."
    )
    if agreement.value < 1 or control.value > 0 or error.value == 0:
        return Judgement("not reproduced", evidence)
    return Judgement(
        "reproduced" if (error.low or 0) > 0 and planes.value > 0.5 else "partly",
        evidence,
    )


def _crossed(error: Metric) -> str:
    """Of how many networks and images the planes are, for a sentence."""
    return (
        f"planes of {error.factors['networks']} networks through "
        f"{error.factors['images']} images"
    )


def judge_y2(results: Results) -> Judgement:
    """Distances to the boundary and slopes are ordered MinMax, gradient-regularised,
    natural in every seed.
    """
    seeds = results.one(
        "seeds where boundary distances are ordered", direction="adversarial"
    )
    slopes = results.one(
        "seeds where slopes are ordered", logits="normalised", direction="adversarial"
    )
    plain = results.one(
        "seeds where slopes are ordered", logits="plain", direction="adversarial"
    )
    apart = results.one(
        "seeds where boundary distances are ordered", direction="random"
    )
    random = [
        results.one("seeds where slopes are ordered", logits=logits, direction="random")
        for logits in ("normalised", "plain")
    ]
    if (seeds.n or 0) < MINIMAL_SEEDS:
        return Judgement(
            "not tested at this scale",
            f"The rule needs {MINIMAL_SEEDS} seeds; this run has {seeds.n}.",
        )
    evidence = (
        "Boundary distances are ordered MinMax > gradient-regularised > natural in "
        f"{seeds.value:.0f} of {seeds.n} seeds; slopes the other way round in "
        f"{slopes.value:.0f} with normalised logits ({plain.value:.0f} with plain "
        "ones). Along a random direction of the same length distances are ordered in "
        f"{apart.value:.0f}, slopes in {random[0].value:.0f} with normalised logits "
        f"({random[1].value:.0f} with plain ones)."
    )
    if seeds.value < (seeds.n or 0):
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if slopes.value == slopes.n else "partly", evidence)


def judge_y3(results: Results) -> Judgement:
    """Psi ranks networks as the strong references do, and better than clean accuracy
    does; the second null is shown only.
    """
    agreements = [
        results.one("rank agreement", measure="median psi", reference=reference)
        for reference in ("strong robust accuracy", "minimal distance")
    ]
    worst = min(agreements, key=lambda metric: metric.value)
    gain = results.one(
        "rank agreement gain",
        over_measure="clean accuracy",
        reference=worst.factors["reference"],
    )
    over_null = results.one(
        "rank agreement gain",
        over_measure="1 / mean adversarial CE",
        reference=worst.factors["reference"],
    )
    evidence = (
        f"Spearman's rho of median psi with {worst.factors['reference']} is "
        f"{_within(worst)} over {worst.n} kinds of network. Its lead over "
        f"clean accuracy is {_within(gain)}, over the other null metric, 1 / mean "
        f"adversarial CE, {_within(over_null)}"
        + (
            " (the second cannot be told from 0)."
            if (over_null.low or 0) <= 0 <= (over_null.high or 0)
            else "."
        )
    )
    if (worst.low or 0) <= 0 or gain.value <= 0:
        return Judgement("not reproduced", evidence)
    return Judgement(
        "reproduced"
        if worst.value >= RANK_QUALITY and (gain.low or 0) > 0
        else "partly",
        evidence,
    )


def judge_y4(results: Results) -> Judgement:
    """Rankings by psi change less with the test settings than rankings by adversarial
    accuracy.
    """
    psi = results.one("rank stability", measure="median psi")
    accuracy = results.one("rank stability", measure="robust accuracy")
    null = results.one("rank stability", measure="1 / mean adversarial CE")
    gain = results.one("rank stability gain", over_measure="robust accuracy")
    against_null = results.one(
        "rank stability gain", over_measure="1 / mean adversarial CE"
    )
    evidence = (
        f"Mean Kendall's tau between {psi.factors['settings']} settings, the same for "
        f"all: psi {_within(psi)}, adversarial accuracy {_within(accuracy)}, "
        f"difference {_within(gain)}; the null metric 1 / mean adversarial CE has "
        f"{_within(null)} (psi ahead by {_within(against_null)}). Intervals over "
        f"{psi.n} kinds of network." + _parts(results)
    )
    if gain.value <= 0:
        return Judgement("not reproduced", evidence)
    ahead_of_both = (gain.low or 0) > 0 and (against_null.low or 0) > 0
    return Judgement("reproduced" if ahead_of_both else "partly", evidence)


def _parts(results: Results) -> str:
    """Psi's lead over adversarial accuracy within each budget and across budgets, where
    these rows were measured.
    """
    rows = results.select(
        "rank stability gain of a part", over_measure="robust accuracy"
    )
    leads = ", ".join(f"{row.factors['part']} {_within(row)}" for row in rows)
    return f" Psi's lead over adversarial accuracy by part: {leads}." if leads else ""


def judge_y5(results: Results) -> Judgement:
    """Scaling the last layer leaves psi with normalised logits alone and moves psi
    without normalisation.
    """
    change = results.one(
        "largest relative change of psi under scaling",
        logits="normalised",
        precision="double",
    )
    single = results.one(
        "largest relative change of psi under scaling",
        logits="normalised",
        precision="single",
    )
    ratio = results.one("ratio of median psi between scales", logits="plain")
    evidence = (
        f"Scaling logits by 0.1 to 10 changes psi by at most {change.value:.1g} "
        f"(relative; {single.value:.1g} in single precision); without "
        f"normalisation median psi changes {ratio.value:.3g}-fold."
    )
    if change.value > INVARIANCE:
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if ratio.value >= 10 else "partly", evidence)


def judge_y6(results: Results) -> Judgement:
    """Psi reaches rank quality 0.8 with fewer passes than adversarial accuracy does."""
    psi = results.one("passes to rank quality", measure="median psi")
    accuracy = results.one("passes to rank quality", measure="robust accuracy")
    difference = results.one("difference of passes to rank quality")
    evidence = (
        f"For rho of {RANK_QUALITY} with the minimal distance psi needs "
        f"{psi.value:.0f} passes an image, adversarial accuracy "
        f"{accuracy.value:.0f}; difference {_within(difference)} (a measure that "
        f"never gets there counts as {psi.factors['never']} passes)." + _floor(results)
    )
    if difference.value >= 0:
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if (difference.high or 0) < 0 else "partly", evidence)


def _floor(results: Results) -> str:
    """Whether both measures were good enough at the cheapest setting tried, so that the
    difference is one of counting.
    """
    cheapest = {}
    for name in ("median psi", "robust accuracy"):
        rows = results.select("rank agreement at cost", measure=name)
        needed = results.one("passes to rank quality", measure=name).value
        if not rows or needed != min(float(row.factors["passes"]) for row in rows):
            return ""
        cheapest[name] = min(rows, key=lambda row: float(row.factors["passes"]))
    psi, accuracy = cheapest["median psi"], cheapest["robust accuracy"]
    return (
        f" Both are there at the cheapest setting tried ({psi.factors['steps']} "
        f"step: rho {_within(psi)} and {_within(accuracy)}), so this "
        "difference is no more than the forward pass with which psi reads P(x)."
    )


def judge_y7(results: Results) -> Judgement:
    """More search never raises psi, it levels off, and a network with masked gradients
    does not fool it.
    """
    drop = results.one("largest fall of the divergence with more search")
    level = results.one("psi at long over usual ascent")
    gap = results.one("psi attained over its sound lower bound", budget=1.0)
    fooled = [
        metric
        for metric in results.select("psi of masked over natural")
        if _is_fooled(metric, results)
    ]
    ratios = "; ".join(
        f"{metric.factors['network']}: {_within(metric)}"
        for metric in results.select("psi of masked over natural")
    )
    evidence = (
        "More steps or restarts never lower the divergence by more than "
        f"{drop.value:.1g}; {level.factors['long']} instead of "
        f"{level.factors['usual']} steps leave {level.value:.3g} of psi. psi of masked "
        f"over natural networks: {ratios} ({len(fooled)} called robust and broken all "
        "the same). The ascent itself bounds the largest divergence from below alone: "
        f"the proved bound from above is {gap.value:.3g} times as large (median over "
        f"{gap.n} kinds, {gap.factors['images']} images each)."
    )
    if fooled or drop.value > 1e-6:
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if level.value >= LEVEL_RATIO else "partly", evidence)


def _is_fooled(ratio: Metric, results: Results) -> bool:
    """Psi calls the masked network clearly more robust, while a transferred or
    black-box attack breaks it as easily.
    """
    network = ratio.factors["network"]
    masked = results.one("robust accuracy without gradients", network=network).value
    natural = results.one("robust accuracy without gradients", network="natural").value
    return (ratio.low or 0) > FOOLED_RATIO and masked <= natural + 0.05


CLAIMS = (
    Claim(
        id="Y1",
        statement=(
            "The decision surface shows the decision boundary that the "
            "cross-entropy surface hides."
        ),
        source="introduction",
        measure="On planes through test images (adversarial x random direction): share "
        "of cells where the sign of S agrees with the prediction being right, "
        "and the smallest error of any single cross-entropy level.",
        rule="Reproduced if S agrees on every cell, the mean error of the best level "
        "has an interval above 0 and it errs on most planes that "
        "have right and wrong cells; not reproduced if it never errs, S disagrees "
        "on a cell or the control errs; partly otherwise.",
        control=(
            "A network with two classes, where cross-entropy is a function of S: "
            "the best level must have error 0."
        ),
        judge=judge_y1,
    ),
    Claim(
        id="Y2",
        statement="Defended networks have flatter and wider decision surfaces.",
        source="loss visualisation; detail recalled, unverified",
        measure="Distance to S = 0 and mean slope of S (normalised logits) up to "
        "epsilon along the adversarial direction, median over images, "
        "mean over architectures.",
        rule="Reproduced if in every seed the distance is ordered MinMax > "
        "gradient-regularised > natural and the slope the other way round; "
        "partly if only the distances are, not reproduced if they are not; needs 3 "
        "seeds. The control is shown and does not enter.",
        control=(
            "The same with plain logits, and along a random direction of the same "
            "length."
        ),
        judge=judge_y2,
    ),
    Claim(
        id="Y3",
        statement=(
            "The metric evaluates networks of different structure and size on one "
            "scale."
        ),
        source="abstract",
        measure="Spearman's rho, over all networks of the zoo, of median psi with "
        "robust accuracy under the strong attack and with the minimal "
        "adversarial distance; interval by resampling kinds of network. Clean "
        "accuracy is that on the whole test set.",
        rule="Reproduced if the smaller rho is at least 0.8, its interval lies above 0 "
        "and so does that of its lead over clean accuracy; not reproduced if the "
        "interval holds 0 or clean accuracy does as well; partly otherwise. The "
        "lead over 1 / mean adversarial cross-entropy is shown and does not enter.",
        control=(
            "Two null metrics: clean accuracy and 1 / mean adversarial cross-entropy."
        ),
        judge=judge_y3,
    ),
    Claim(
        id="Y4",
        statement=(
            "The metric does not depend on the test settings as adversarial "
            "accuracy does."
        ),
        source="abstract",
        measure="Mean Kendall's tau between the rankings of all networks under every "
        "pair of settings (4 strengths x 3 budgets); psi also at "
        "other step sizes.",
        rule="Reproduced if psi's mean tau exceeds that of adversarial accuracy and "
        "of the null metric with intervals above 0; not reproduced if "
        "it is not above adversarial accuracy's; partly otherwise. All three are "
        "taken over the same settings; psi's other step sizes, "
        "which its rivals do not have, are shown apart.",
        control=(
            "1 / mean adversarial cross-entropy under the same settings: continuous "
            "as psi is, but not psi."
        ),
        judge=judge_y4,
    ),
    Claim(
        id="Y5",
        statement=(
            "The metric is invariant to a re-parameterisation that scales the logits."
        ),
        source="introduction",
        measure=(
            "Largest relative change of psi per image when the last layer is "
            "multiplied by 0.1, 1 and 10, in double precision."
        ),
        rule="Reproduced if it is at most 1e-5 while psi without normalisation "
        "changes at least tenfold, partly if that changes less; "
        "not reproduced if it is larger.",
        control="psi with plain logits, and FGSM accuracy of the scaled networks.",
        judge=judge_y5,
    ),
    Claim(
        id="Y6",
        statement="The metric is fast to obtain.",
        source="abstract",
        measure=(
            "Forward and backward passes per image until the ranking of networks "
            "reaches rho 0.8 with the minimal adversarial distance."
        ),
        rule="Reproduced if psi needs fewer passes than adversarial accuracy, with "
        "an interval below 0 (resampling kinds of network); not "
        "reproduced if it needs as many or more; partly otherwise.",
        control="Adversarial accuracy at the same numbers of steps.",
        judge=judge_y6,
    ),
    Claim(
        id="Y7",
        statement=(
            "The metric identifies an upper bound of the divergence of the prediction."
        ),
        source="abstract",
        measure="psi over steps and restarts; its sound bracket from bound propagation "
        "(shown, decides nothing); psi of networks with masked gradients.",
        rule="Reproduced if more search never raises psi, long ascent leaves at least "
        "0.95 of it, and no masked network is called robust (psi more than 1.25 "
        "times the natural network's, interval included) while a transferred or "
        "black-box attack breaks it (accuracy left at most 0.05 above the natural "
        "network's); not reproduced if one is or more search raises psi; partly "
        "if long ascent leaves less.",
        control=(
            "Defensive distillation and logits scaled by 100, attacked by transfer "
            "and by random search."
        ),
        judge=judge_y7,
    ),
)
