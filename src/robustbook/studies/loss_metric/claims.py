"""The claims of Yu et al. (2019), declared with their rules before the run that decides
them.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own; the paper's are not known. Read `ROWS` (what is measured), then
`_side` (how an interval meets a limit), then the rules.
"""

from __future__ import annotations

from robustbook.results import Claim, Judgement, Metric, Results, Row, Verdict

NETWORK = "architecture dataset seed training"
KIND = "architecture dataset training"
ROWS = (
    # Y1: planes through images, flat or cut to [0, 1], of all classes or of two
    Row("decision surface agreement", "share of cells", "classes plane"),
    Row("smallest cross-entropy threshold error", "share of cells", "classes plane"),
    Row(
        "distance from the boundary to a level",
        "epsilon",
        "classes images level networks plane",
    ),
    # One network, one kind of network
    Row("clean accuracy", "share", NETWORK),
    Row("clean accuracy, whole test set", "share", NETWORK),
    Row("strong robust accuracy", "share", NETWORK),
    Row("minimal distance", "pixel units", NETWORK),
    Row("CLEVER", "pixel units", NETWORK),
    Row("robust accuracy", "share", f"{NETWORK} attack budget"),
    Row("median psi", "1/nats", f"{NETWORK} budget steps"),
    Row("kind: clean accuracy", "share", KIND),
    Row("kind: clean accuracy, whole test set", "share", KIND),
    Row("kind: strong robust accuracy", "share", KIND),
    Row("kind: minimal distance", "pixel units", KIND),
    Row("kind: attained divergence", "nats", KIND),
    Row("kind: median psi", "1/nats", KIND),
    Row("kind: mean psi", "1/nats", KIND),
    Row("psi attained (upper end)", "1/nats", f"{KIND} budget"),
    Row("psi certified (lower end)", "1/nats", f"{KIND} budget method"),
    Row("images whose bracket is violated", "images", f"{KIND} budget"),
    Row("psi attained over its sound lower bound", "", "budget images"),
    Row("bracket of psi by training", "", "budget images training"),
    # Y2: along one direction; ratios say how many times farther or flatter
    Row("distance to S = 0", "pixel units", f"{NETWORK} direction"),
    Row("slope of S", "per pixel unit", f"{NETWORK} direction logits"),
    Row("ratio of distances to natural", "", "dataset direction training"),
    Row("ratio of minimal distances to natural", "", "dataset training"),
    Row("ratio of slopes to the boundary", "", "dataset direction logits training"),
    Row("ratio of slopes from natural", "", "dataset direction logits training"),
    # Y3: ranks of networks
    Row("rank agreement", "", "measure reference"),
    Row("rank agreement gain", "", "over_measure reference"),
    Row("rank agreement, masked networks too", "", "measure networks"),
    Row("split-half reliability", "", "measure"),
    # Y4: ranks under other test settings
    Row("rank stability", "", "measure part settings"),
    Row("rank stability gain", "", "over_measure part"),
    Row("networks without robust accuracy", "networks", "attack budget"),
    # Y5: scaled logits; the four readings of the metric
    Row(
        "largest relative change of psi under scaling",
        "",
        "direction logits precision",
    ),
    Row("median psi without normalisation", "1/nats", "scale"),
    Row("ratio of median psi between scales", "", "logits"),
    Row("FGSM accuracy of scaled logits", "share", "scale"),
    Row("reading: rank agreement", "", "direction logits reference"),
    Row("reading: lead over FGSM accuracy", "", "direction logits reference"),
    Row("reading: rank stability", "", "direction logits settings"),
    # Y6: cost
    Row("rank agreement at cost", "", "measure passes steps"),
    Row("passes to rank quality", "passes per image", "measure"),
    Row("passes of the usual setting", "passes per image", "measure"),
    Row("passes of psi over the cheapest replaced", "", "replaced"),
    Row("passes of psi less those of FGSM accuracy", "passes per image", ""),
    # Y7: other searches, masked gradients
    Row("psi by other searches over the usual one", "", "networks search starts"),
    Row("clean accuracy of masked", "share", "network"),
    Row("psi of masked", "1/nats", "network search"),
    Row("psi by gradient over the best search", "", "network"),
    Row("images whose gradient vanishes", "share", "network"),
    Row("strong robust accuracy of masked", "share", "network"),
    Row("passes of a search", "passes per image", "search"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""

LEVEL_DISTANCE = 0.25
MINIMAL_RATIO = 1.25
MINIMAL_SEEDS = 5
RANK_QUALITY = 0.8
MINIMAL_RELIABILITY = 0.8
STABILITY_LEAD = 0.05
INVARIANCE = 1e-5
SHARE_OF_COST = 0.2
CONVERGED_RATIO = 0.95
FOOLED_RATIO = 1.25
MOST_ON_THE_FLOOR = 0.05
FLAGGED = 0.5
MANY_STARTS = 10
REFERENCES = ("strong robust accuracy", "minimal distance")
CHEAP_RIVALS = ("clean accuracy", "FGSM accuracy", "1 / mean adversarial CE")
STABILITY_RIVALS = ("robust accuracy", "1 / mean adversarial CE")
OVER = "over_measure"
NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10"}
MEANINGS = {
    "clean accuracy": "clean accuracy",
    "FGSM accuracy": "accuracy under FGSM",
    "robust accuracy": "adversarial accuracy",
    "1 / mean adversarial CE": "the inverse adversarial loss",
    "strong robust accuracy": "strong adversarial testing",
    "minimal distance": "the minimal distance",
    "CLEVER": "CLEVER",
}


def _side(metric: Metric, limit: float) -> str:
    """Where the interval lies: "above" the limit, "below" it, or "open"."""
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return "above" if low > limit else "below" if high < limit else "open"


def _within(metric: Metric) -> str:
    """A value with its interval, for the evidence."""
    if metric.low is None:
        return f"{metric.value:.3g}"
    return f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"


def _said(metric: Metric, digits: int = 2, unit: str = "") -> str:
    """A value with its interval, for a sentence."""
    value, low, high = (
        f"{number:.{digits if abs(number) < 10 else 0}f}"
        for number in (metric.value, metric.low or 0, metric.high or 0)
    )
    return f"{value}{unit} ({low} to {high})"


def _percent(metric: Metric, digits: int = 0) -> str:
    """A share with its interval in per cent, for a sentence."""
    value, low, high = (
        f"{100 * number:.{digits}f}"
        for number in (metric.value, metric.low or 0, metric.high or 0)
    )
    return f"{value} % ({low} to {high})"


def judge_y1(results: Results) -> Judgement:
    """On flat planes and on planes cut to [0, 1], the best level of the cross-entropy
    and the level log 2 run clearly apart from the decision boundary.
    """
    name = "distance from the boundary to a level"
    found = [
        results.one(name, classes="all", plane=plane, level=level)
        for level in ("best", "log 2")
        for plane in ("flat", "cut")
    ]
    controls = results.select(name, classes="two")
    agreements = results.select("decision surface agreement")
    if not controls:
        return Judgement("not tested at this scale", "No plane of the control counts.")
    control = max(row.value for row in controls)
    agreement = min(row.value for row in agreements)
    listed = ", ".join(
        f"level {row.factors['level']} on {row.factors['plane']} planes {_within(row)}"
        for row in found
    )
    evidence = (
        f"Mean distance in units of epsilon: {listed} ({found[0].factors['networks']} "
        f"networks, {found[0].factors['images']} images, both drawn anew for the "
        f"interval). The smallest that matters is {LEVEL_DISTANCE}. With two classes "
        f"it is {control:.3g}; S has the right sign on {agreement:.1%} of cells or "
        "more."
    )
    sides = [_side(row, LEVEL_DISTANCE) for row in found]
    if control > 0 or agreement < 1:
        return Judgement(
            "inconclusive",
            evidence,
            "A control failed: with two classes, or in the sign of S, the surfaces "
            "are not what they should be.",
        )
    nearest, farthest = (
        choose(found, key=lambda row: row.value) for choose in (min, max)
    )
    near, far = _said(nearest, unit=" ε"), _said(farthest, unit=" ε")
    if set(sides) == {"above"}:
        answer = (
            "Even the best contour of the cross-entropy runs, on average, "
            f"{near} away from the decision boundary."
        )
        return Judgement("reproduced", evidence, answer)
    if set(sides) == {"below"}:
        answer = (
            "A contour of the cross-entropy, even one chosen beforehand, stays close "
            f"to the decision boundary: {far} away on average."
        )
        return Judgement("not reproduced", evidence, answer)
    if {"above", "below"} <= set(sides):
        level, plane = (farthest.factors[factor] for factor in ("level", "plane"))
        answer = (
            f"It depends on the contour: level {level} on {plane} planes is {far} "
            f"away from the boundary, the nearest one {nearest.value:.2f} ε."
        )
        return Judgement("mixed", evidence, answer)
    answer = (
        "How far contours of the cross-entropy are from the boundary stays open: up "
        f"to {far} on average."
    )
    return Judgement("inconclusive", evidence, answer)


def judge_y2(results: Results) -> Judgement:
    """On every data set MinMax networks have the boundary farther away, along a line
    and in every direction, and the decision surface falls less steeply on the way
    there, whether that is measured over the budget or up to the boundary.
    """
    common: dict[str, str] = {"direction": "adversarial", "training": "minmax"}
    straight = results.select("ratio of distances to natural", **common)
    if not straight or min(row.n or 0 for row in straight) < MINIMAL_SEEDS:
        return Judgement(
            "not tested at this scale",
            f"The rule needs {MINIMAL_SEEDS} trainings of each network and enough "
            "images that both networks get right.",
            f"This needs {MINIMAL_SEEDS} trainings of each network.",
        )

    def worse(name: str, *names: tuple[str, dict[str, str]]) -> Metric:
        found = [results.one(each, dataset=name, **rest) for each, rest in names]
        return min(found, key=lambda row: row.value)

    normalised = {"logits": "normalised", **common}
    farther, flatter = {}, {}
    for name in (str(row.factors["dataset"]) for row in straight):
        farther[name] = worse(
            name,
            ("ratio of distances to natural", common),
            ("ratio of minimal distances to natural", {"training": "minmax"}),
        )
        flatter[name] = worse(
            name,
            ("ratio of slopes from natural", normalised),
            ("ratio of slopes to the boundary", normalised),
        )
    evidence = " ".join(_ratios(results, name) for name in farther)
    seen = {
        name: (_side(row, MINIMAL_RATIO), _side(flatter[name], MINIMAL_RATIO))
        for name, row in farther.items()
    }
    held = [name for name, sides in seen.items() if set(sides) == {"above"}]
    distances, slopes = zip(*seen.values(), strict=True)
    verdict: Verdict = "inconclusive"
    if len(held) == len(seen):
        verdict = "reproduced"
    elif held or set(distances) == {"above"} or set(slopes) == {"above"}:
        verdict = "mixed"
    elif set(distances) == {"below"}:
        verdict = "not reproduced"
    return Judgement(verdict, evidence, _answer_y2(verdict, farther, flatter, held))


def _ratios(results: Results, dataset: str) -> str:
    """All ratios of a data set, for the evidence."""

    def of(name: str, **factors: str) -> str:
        rows = results.select(name, dataset=dataset, **factors)
        return ", ".join(
            f"{row.factors.get('direction', '')} {row.factors['training']} "
            f"{_within(row)}".strip()
            for row in rows
        )

    return (
        f"{NAMES.get(dataset, dataset)}: distance over that of natural networks, by "
        f"direction: {of('ratio of distances to natural')}; minimal distance: "
        f"{of('ratio of minimal distances to natural')}; slope of natural networks "
        "over theirs up to epsilon, normalised logits: "
        f"{of('ratio of slopes from natural', logits='normalised')}; plain logits: "
        f"{of('ratio of slopes from natural', logits='plain')}; up to each boundary, "
        "normalised logits: "
        f"{of('ratio of slopes to the boundary', logits='normalised')}."
    )


def _answer_y2(
    verdict: Verdict,
    farther: dict[str, Metric],
    flatter: dict[str, Metric],
    held: list[str],
) -> str:
    def name(dataset: object) -> str:
        return NAMES.get(str(dataset), str(dataset))

    if verdict == "reproduced":
        least = min(farther.values(), key=lambda row: row.value)
        flat = min(flatter.values(), key=lambda row: row.value)
        return (
            f"On {name(least.factors['dataset'])}, where it does least, adversarial "
            f"training puts the boundary {_said(least, 1)} times as far away, and the "
            f"way there is {flat.value:.1f} times flatter at least."
        )
    worst = min(farther.values(), key=lambda row: row.value)
    dataset = worst.factors["dataset"]
    times = f"{_said(worst, 1)} times as far away"
    if verdict == "mixed" and held:
        failed = next(each for each in farther if each not in held)
        row = min(farther[failed], flatter[failed], key=lambda row: row.value)
        what = "flatter" if row == flatter[failed] else "as far to the boundary"
        return (
            f"It holds on {' and '.join(name(each) for each in held)}, not on "
            f"{name(failed)}: after adversarial training only {_said(row, 1)} times "
            f"{what}."
        )
    if verdict == "mixed":
        return (
            "Only one of the two holds, distance or slope: on "
            f"{name(dataset)} the boundary is {times} after adversarial training."
        )
    if verdict == "not reproduced":
        return (
            "Adversarial training hardly moves the boundary: on "
            f"{name(dataset)} it is {times}."
        )
    return (
        "The trainings differ too much to tell: after adversarial training the "
        f"boundary on {name(dataset)} is {times}."
    )


def judge_y3(results: Results) -> Judgement:
    """Psi ranks networks as both strong references do, and better than every cheap
    measure.
    """
    agreements = [
        results.one("rank agreement", measure="median psi", reference=reference)
        for reference in REFERENCES
    ]
    worst = min(agreements, key=lambda metric: metric.value)
    reference = worst.factors["reference"]
    gains = [
        results.one("rank agreement gain", over_measure=rival, reference=reference)
        for rival in CHEAP_RIVALS
    ]
    reliability = [
        results.one("split-half reliability", measure=measure)
        for measure in ("median psi", *REFERENCES)
    ]
    least = min(reliability, key=lambda row: row.value)
    leads = ", ".join(f"{row.factors['over_measure']} {_within(row)}" for row in gains)
    evidence = (
        f"Spearman's rho of median psi with {reference}, the worse of the two "
        f"references, is {_within(worst)} over {worst.n} kinds of network. Its lead "
        f"over {leads}. Split-half reliability over images: "
        + ", ".join(f"{row.factors['measure']} {row.value:.3f}" for row in reliability)
        + "."
    )
    masked = results.select("rank agreement, masked networks too")
    if masked:
        evidence += (
            f" With {masked[0].factors['networks']} masked networks among them, rho "
            "with the accuracy after every attack of claim Y7b: "
            + ", ".join(f"{row.factors['measure']} {_within(row)}" for row in masked)
            + "."
        )
    among = [row for row in masked if row.factors["measure"] == "median psi"]
    rho = _said(worst)
    if least.value < MINIMAL_RELIABILITY:
        return Judgement(
            "inconclusive",
            evidence,
            "Too few images to rank the networks reliably: two halves of them agree "
            f"to {least.value:.2f} only.",
        )
    side = _side(worst, RANK_QUALITY)
    if side == "below":
        return Judgement(
            "not reproduced",
            evidence,
            f"psi does not rank networks as strong tests do: rank correlation {rho}.",
        )
    if side == "open":
        return Judgement(
            "inconclusive",
            evidence,
            "Whether psi ranks networks as strong tests do stays open: rank "
            f"correlation {rho}.",
        )
    if among and _side(among[0], RANK_QUALITY) == "below":
        return Judgement(
            "mixed",
            evidence,
            f"psi ranks plain networks as strong tests do (rank correlation {rho}); "
            f"with masked ones among them it is {_said(among[0])}.",
        )
    behind = [row for row in gains if _side(row, 0) != "above"]
    if not behind and (not among or _side(among[0], RANK_QUALITY) == "open"):
        return Judgement(
            "partly",
            evidence,
            f"psi ranks plain networks as strong tests do (rank correlation {rho}); "
            "whether masked networks spoil that stays open.",
        )
    if not behind:
        return Judgement(
            "reproduced",
            evidence,
            "psi ranks networks as strong tests do, better than any cheap measure: "
            f"rank correlation {rho}.",
        )
    rival = MEANINGS[str(min(behind, key=lambda row: row.value).factors[OVER])]
    return Judgement(
        "partly",
        evidence,
        f"psi ranks networks as strong tests do (rank correlation {rho}), but shows no "
        f"lead over {rival}.",
    )


def judge_y4(results: Results) -> Judgement:
    """Rankings by psi change less with the settings than rankings by adversarial
    accuracy and by the null metric, within a budget and across budgets.
    """
    parts = {
        part: min(
            (
                results.one("rank stability gain", over_measure=rival, part=part)
                for rival in STABILITY_RIVALS
            ),
            key=lambda row: row.value,
        )
        for part in ("within one budget", "across budgets")
    }
    within, across = parts.values()
    means = "; ".join(
        f"{part}: "
        + ", ".join(
            f"{row.factors['measure']} {_within(row)}"
            for row in results.select("rank stability", part=part)
        )
        + f"; psi's smaller lead, over {lead.factors[OVER]}, {_within(lead)}"
        for part, lead in parts.items()
    )
    evidence = (
        f"Mean Kendall's tau between settings, the same for all measures, {means}. "
        f"The smallest lead that matters is {STABILITY_LEAD}; intervals over "
        f"{within.n} kinds of network."
    )
    floors = results.select("networks without robust accuracy")
    floor = max(row.value / (row.n or 1) for row in floors) if floors else 1.0
    evidence += f" At most {floor:.0%} of networks have no robust accuracy left."
    if floor > MOST_ON_THE_FLOOR:
        answer = (
            f"The control failed: {floor:.0%} of networks have no robust accuracy left "
            "at some budget, so their ranks are ties."
        )
        return Judgement("inconclusive", evidence, answer)
    sides = {part: _side(row, STABILITY_LEAD) for part, row in parts.items()}
    ahead = [part for part, side in sides.items() if side == "above"]
    if len(ahead) == 2:
        least = min(within, across, key=lambda row: row.value)
        answer = (
            "psi's ranking depends less on the test settings than its rivals': it "
            f"leads by {_said(least)} in rank agreement."
        )
        return Judgement("reproduced", evidence, answer)
    if ahead:
        other = next(part for part in parts if part not in ahead)
        rival = MEANINGS[str(parts[other].factors[OVER])]
        answer = (
            f"psi ranks more stably {ahead[0]}, not {other}: there its lead over "
            f"{rival} is {_said(parts[other])} in rank agreement."
        )
        return Judgement("mixed", evidence, answer)
    if set(sides.values()) == {"below"}:
        most = max(within, across, key=lambda row: row.value)
        answer = (
            "psi's ranking depends on the test settings as that of "
            f"{MEANINGS[str(most.factors[OVER])]} does: its lead in rank agreement is "
            f"{_said(most)}."
        )
        return Judgement("not reproduced", evidence, answer)
    rival = MEANINGS[str(across.factors[OVER])]
    answer = (
        f"psi's lead over {rival} in rank agreement is {within.value:.2f} within one "
        f"budget, and across budgets {_said(across)}: too uncertain."
    )
    return Judgement("inconclusive", evidence, answer)


def judge_y5(results: Results) -> Judgement:
    """Scaling the last layer leaves psi with normalised logits alone and moves psi
    without normalisation.
    """
    name = "largest relative change of psi under scaling"
    common = {"direction": "forward", "logits": "normalised"}
    change = results.one(name, precision="double", **common)
    single = results.one(name, precision="single", **common)
    ratio = results.one("ratio of median psi between scales", logits="plain")
    evidence = (
        f"Scaling logits by 0.1 to 10 changes psi by at most {change.value:.1g} "
        f"(relative; {single.value:.1g} in single precision); without "
        f"normalisation median psi changes {ratio.value:.3g}-fold."
    )
    if change.value > INVARIANCE:
        answer = f"Scaling the logits changes psi by up to {change.value:.1%}."
        return Judgement("not reproduced", evidence, answer)
    answer = (
        "Scaling the logits leaves psi as it is, to rounding; without normalisation "
        f"it changes {ratio.value:.3g}-fold."
    )
    return Judgement("reproduced" if ratio.value >= 10 else "partly", evidence, answer)


def judge_y6(results: Results) -> Judgement:
    """Psi ranks well enough at a fraction of the cost of what it would replace, each at
    the cheapest setting that ranks well, and at no more than the cost of FGSM accuracy.
    """
    ratio = results.one("passes of psi over the cheapest replaced")
    extra = results.one("passes of psi less those of FGSM accuracy")
    replaced = str(ratio.factors["replaced"])
    needed = ", ".join(
        f"{row.factors['measure']} {row.value:.0f}"
        for row in results.select("passes to rank quality")
    )
    usual = ", ".join(
        f"{row.factors['measure']} {row.value:.0f}"
        for row in results.select("passes of the usual setting")
    )
    evidence = (
        f"Passes an image at the cheapest setting whose Spearman's rho with the strong "
        f"robust accuracy is {RANK_QUALITY}: {needed} (a measure that never gets there "
        f"counts as strong testing, which has to be run then). At the usual settings: "
        f"{usual}. psi needs {_within(ratio)} of the cheapest rival, {replaced}, and "
        f"{_within(extra)} passes more than FGSM accuracy; intervals over {ratio.n} "
        "kinds of network."
    )
    cheap = _side(ratio, SHARE_OF_COST)
    saved = (
        f"{_percent(ratio, 0)} of the passes of {MEANINGS[replaced]} at its cheapest"
    )
    if cheap == "below" and (extra.high or 0) <= 0:
        answer = f"psi needs only {saved}, and no more than accuracy under FGSM."
        return Judgement("reproduced", evidence, answer)
    if cheap == "below":
        answer = (
            f"psi needs only {saved}, but accuracy under FGSM ranks networks as well "
            "with fewer passes."
        )
        return Judgement("partly", evidence, answer)
    if cheap == "above":
        return Judgement(
            "not reproduced", evidence, f"psi saves too little: it needs {saved}."
        )
    answer = f"Whether psi saves four fifths of the cost stays open: it needs {saved}."
    return Judgement("inconclusive", evidence, answer)


def judge_y7a(results: Results) -> Judgement:
    """Other searches find hardly larger divergences than the usual ascent, from one
    start, or at least from ten.
    """
    name = "psi by other searches over the usual one"
    every = sorted(
        results.select(name, search="all"), key=lambda row: int(row.factors["starts"])
    )
    best, patient = results.one(name, search="all", starts=1), every[-1]
    each = ", ".join(
        f"{row.factors['search']} {_within(row)}"
        for row in results.select(name)
        if row not in every
    )
    gap = results.select("psi attained over its sound lower bound", budget=1.0)
    proved = (
        f" The proved bound of the divergence is {gap[0].value:.3g} times what was "
        f"found ({gap[0].n} kinds, {gap[0].factors['images']} images each)."
        if gap
        else ""
    )
    evidence = (
        "Median psi by the best of all searches over median psi by the usual ascent, "
        "by its number of starts: "
        + ", ".join(f"{row.factors['starts']} {_within(row)}" for row in every)
        + f"; mean of {best.factors['networks']} networks, interval over {best.n} "
        f"kinds. One search at a time over one start: {each}." + proved
    )
    share, later = _percent(best), _percent(patient)
    starts = patient.factors["starts"]
    if _side(best, CONVERGED_RATIO) == "above":
        answer = f"Much harder searches lower psi very little: {share} of it remains."
        return Judgement("reproduced", evidence, answer)
    if _side(patient, CONVERGED_RATIO) == "above":
        answer = (
            f"One start misses the maximum: other searches leave {share} of psi; from "
            f"{starts} starts {later} remains."
        )
        return Judgement("partly", evidence, answer)
    if _side(patient, CONVERGED_RATIO) == "below":
        answer = (
            f"The search misses the maximum: even from {starts} starts, other searches "
            f"leave {later} of psi."
        )
        return Judgement("not reproduced", evidence, answer)
    answer = (
        f"Whether the search converges stays open: other searches leave {share} of psi "
        f"from one start, {later} from {starts}."
    )
    return Judgement("inconclusive", evidence, answer)


def judge_y7b(results: Results) -> Judgement:
    """On no network with masked gradients does the gradient miss what other searches
    find.
    """
    rows = results.select("psi by gradient over the best search")
    control = results.one("psi by gradient over the best search", network="natural")
    masked = [row for row in rows if row != control]
    if not masked:
        return Judgement("not tested at this scale", "No masked network was measured.")
    listed = ", ".join(f"{row.factors['network']} {_within(row)}" for row in rows)
    costs = {
        str(row.factors["search"]): row.value
        for row in results.select("passes of a search")
    }
    remedy = (
        f" The remedy, the smallest psi of all four searches, "
        f"takes {costs['best']:.0f} instead of {costs['gradient']:.0f} passes an image."
        if costs
        else ""
    )
    evidence = (
        f"Median psi by the network's own gradient over median psi by the best of "
        f"gradient, replaced gradient (BPDA), transfer and search without gradients: "
        f"{listed} (mean of networks, interval over images; above {FOOLED_RATIO} means "
        "fooled)." + remedy + _vanishing(results)
    )
    worst = max(masked, key=lambda row: row.value)
    network = worst.factors["network"]
    if _side(control, FOOLED_RATIO) != "below":
        answer = (
            "The control failed: on the plain network, too, the gradient misses what "
            f"other searches find ({_said(control)} times)."
        )
        return Judgement("inconclusive", evidence, answer)
    fooled = [row for row in masked if _side(row, FOOLED_RATIO) == "above"]
    times = f"({network}) it is {_said(worst)} times too large"
    if fooled:
        warned = len(_flagged(results, fooled))
        answer = (
            f"psi is fooled by {len(fooled)} of {len(masked)} masked networks, at "
            f"worst {_said(worst)} times ({network}); a vanishing gradient gives "
            f"{warned} away."
        )
        return Judgement("not reproduced", evidence, answer)
    if all(_side(row, FOOLED_RATIO) == "below" for row in masked):
        answer = f"No masked network fools psi; at worst {times}."
        return Judgement("reproduced", evidence, answer)
    answer = f"Whether masked networks fool psi stays open; at worst {times}."
    return Judgement("inconclusive", evidence, answer)


def _flagged(results: Results, networks: list[Metric]) -> list[Metric]:
    """Those of the networks whose gradient vanishes on most images."""
    name = "images whose gradient vanishes"
    shares = {row.factors["network"]: row.value for row in results.select(name)}
    return [row for row in networks if shares.get(row.factors["network"], 0) > FLAGGED]


def _vanishing(results: Results) -> str:
    """On which share of images each network's gradient vanishes, for the evidence."""
    shares = results.select("images whose gradient vanishes")
    if not shares:
        return ""
    return " Images on which the gradient vanishes: " + ", ".join(
        f"{row.factors['network']} {row.value:.0%}" for row in shares
    )


CLAIMS = (
    Claim(
        id="Y1",
        statement=(
            "The decision surface shows the boundary that the cross-entropy "
            "surface hides."
        ),
        source="introduction",
        measure="On planes through test images (adversarial x random direction) with "
        "right and wrong cells: from every cell at the decision boundary, the distance "
        "to the nearest cell at a contour of the cross-entropy (L-infinity, in units "
        "of epsilon; the reach of the plane where no such contour lies on it). Two "
        "contours: the one that puts the fewest cells on the wrong side, and log 2, "
        "right for two classes and chosen without knowing the boundary. Mean over "
        "cells, then over planes; the interval draws networks and images. Flat planes, "
        "and planes whose points are cut to [0, 1].",
        rule="The smallest distance that matters is 0.25 epsilon: a contour nearer "
        "than that would serve an attacker as well. Reproduced if all four intervals "
        "lie above it; mixed if one lies above and another below; not reproduced if "
        "all lie below; inconclusive otherwise, or if a control fails.",
        control="Networks with two classes, where cross-entropy is a function of S: "
        "the distance must be exactly 0. The sign of S must agree with the prediction "
        "on every cell.",
        judge=judge_y1,
    ),
    Claim(
        id="Y2",
        statement="Adversarially trained networks have wider and flatter decision "
        "surfaces.",
        source="loss visualisation; detail recalled, unverified",
        measure="Two distances: to S = 0 along the adversarial direction, and the "
        "smallest at which PGD succeeds, which follows no line. Two slopes of S "
        "(normalised logits) along that direction: up to epsilon, and up to each "
        "network's own boundary, equal fractions of the way. Median over the images "
        "that both networks get right (at least 8, or the data set is left out). Ratio "
        "of MinMax to natural training (distances) and of natural to MinMax (slopes) "
        "in each seed, mean of logarithms over architectures; Student's t over seeds. "
        "The smaller ratio of each two decides.",
        rule="The smallest ratio that matters is 1.25: a training that takes eight "
        "times the passes should bring a quarter at least. Reproduced if the intervals "
        "of distance and slope lie above it on every data set; mixed if both do on "
        "some data set, or one of the two does on all; not reproduced if the interval "
        "of the distance lies below it on every data set; inconclusive otherwise. "
        "Needs 5 seeds.",
        control="The same along a random direction of the same length, with plain "
        "logits, and for gradient-regularised networks; shown, decides nothing.",
        judge=judge_y2,
    ),
    Claim(
        id="Y3",
        statement="The metric puts networks of different structure and size on one "
        "scale.",
        source="abstract",
        measure="Spearman's rho, over all networks of the main data set, of median psi "
        "with strong robust accuracy (APGD on two losses and Square Attack) and with "
        "the minimal adversarial distance; the worse one decides. Intervals draw kinds "
        "of network.",
        rule="Rho matters from 0.8 on: below, about one pair of networks in five is in "
        "the wrong order. Reproduced if the interval lies above it, with the masked "
        "networks among them too, and psi's lead over every cheap rival has an "
        "interval above 0; mixed if the first holds and with masked networks it lies "
        "below 0.8; partly if the first holds otherwise; not reproduced if the "
        "interval lies below 0.8; inconclusive otherwise, or if the split-half "
        "reliability of psi or a reference is below 0.8.",
        control="The cheap rivals: clean accuracy, accuracy under FGSM, and 1 / mean "
        "adversarial cross-entropy. Reliability over halves of the images. The masked "
        "networks of Y7b in the ranking, against the accuracy that is left after every "
        "attack on them, with and without gradients.",
        judge=judge_y3,
    ),
    Claim(
        id="Y4",
        statement="The metric depends less on test settings than adversarial accuracy "
        "does.",
        source="abstract",
        measure="Mean Kendall's tau between the rankings of all networks under pairs "
        "of settings: 4 strengths x 3 budgets (0.5, 0.7 and 1 epsilon), once over "
        "pairs within one budget and once over pairs of different budgets; psi's lead "
        "over adversarial accuracy and over 1 / mean adversarial cross-entropy, of "
        "which the smaller counts. "
        "Intervals draw kinds of network.",
        rule="The smallest lead that matters is 0.05: one pair of networks in forty "
        "changes its order. Reproduced if both leads (within, across) have intervals "
        "above it; mixed if one has; not reproduced if both lie below it; inconclusive "
        "otherwise, or if more than a twentieth of the networks have no robust "
        "accuracy left at some budget, where ranks are ties.",
        control="1 / mean adversarial cross-entropy under the same settings: "
        "continuous as psi is, but not psi. psi at other step sizes, which its rivals "
        "do not have, is shown apart.",
        judge=judge_y4,
    ),
    Claim(
        id="Y5",
        statement="The metric does not change when a network's logits are scaled.",
        source="introduction",
        measure=(
            "Largest relative change of psi per image when the last layer is "
            "multiplied by 0.1, 1 and 10, in double precision."
        ),
        rule="Reproduced if it is at most 1e-5, far below any digit shown, while psi "
        "without normalisation changes at least tenfold; partly if that changes "
        "less; not reproduced if it is larger.",
        control="psi with plain logits must change at least tenfold; FGSM accuracy of "
        "the scaled networks is shown.",
        judge=judge_y5,
    ),
    Claim(
        id="Y6",
        statement="The metric is fast to obtain.",
        source="abstract",
        measure="Forward and backward passes per image until the ranking of networks "
        "reaches Spearman's rho 0.8 with the strong robust accuracy, against what a "
        "reader would replace: strong adversarial testing, CLEVER and the minimal "
        "distance, each at the cheapest of several settings that reaches 0.8, with the "
        "passes that it really took.",
        rule="psi must save four fifths to matter: less is within what a "
        "better-written attack saves. Reproduced if it needs at most a fifth of the "
        "cheapest of them and no more passes than accuracy under FGSM (intervals over "
        "kinds of network); partly if only the first holds; not reproduced if the "
        "interval lies above a fifth; inconclusive otherwise.",
        control="Accuracy under FGSM, the hard rival: one step on the loss.",
        judge=judge_y6,
    ),
    Claim(
        id="Y7a",
        statement="The search behind the metric has converged.",
        source="abstract (upper bound); our reading",
        measure="Median psi by the best of several searches over median psi by the "
        "usual ascent from 1, a few and 10 starts, so at most 1: steps that adapt "
        "(Auto-PGD on the divergence) from one and from ten starts, starts in a corner "
        "of the ball, more starts, more steps. Mean over networks, interval over "
        "kinds.",
        rule="The smallest loss that matters is a twentieth: psi is read to two "
        "digits. Reproduced if the interval lies above 0.95 from one start; partly if "
        "it does from ten; not reproduced if even from ten it lies below; inconclusive "
        "otherwise.",
        control="Searches that share neither the step sizes nor the starts of the "
        "usual one. The proved bound on the other side is shown.",
        judge=judge_y7a,
    ),
    Claim(
        id="Y7b",
        statement="Masked gradients cannot fool the metric.",
        source="abstract (upper bound); our reading",
        measure="Networks with masked gradients: distilled, logits times 100, input "
        "rounded to 256 and to 16 levels, saturating activations, noisy input (judged "
        "by the mean of 32 draws). Median psi by the network's own gradient over "
        "median psi by the best of four searches: that gradient, a gradient with the "
        "masking layer replaced by a smooth one (BPDA; for noise the mean of all "
        "draws), transfer from a natural network, and random search; mean of networks, "
        "interval over images. Beside it, on how many images the gradient at a random "
        "point vanishes: what a careful reader would see.",
        rule="Fooled is a network whose psi is more than 1.25 times too large, the "
        "smallest ratio that counts in Y2. Reproduced if all intervals lie below that; "
        "not reproduced if one lies above; inconclusive otherwise, or if the control "
        "fails.",
        control="The natural network: its interval must lie below 1.25.",
        judge=judge_y7b,
    ),
)
