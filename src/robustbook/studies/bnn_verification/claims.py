"""The six claims of Cardelli et al. (2019), declared with their rules before the run
that decides them.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own where the paper states none. Read `_side` (how an interval meets a
limit) first, then the rules.
"""

from __future__ import annotations

from collections import Counter

from robustbook.results import (
    Claim,
    Judgement,
    Metric,
    Results,
    UnmeasuredError,
    Verdict,
)

MATCHED_ACCURACY = 0.02
MIXED_R_HAT = 1.05
MINIMAL_SEEDS = 3
BELOW, ABOVE = 0.15, 0.85
SAVING = 0.05
RISE = 0.05
AHEAD = 0.05
OVERLOOKED = 0.05
UNDECIDED = 0.01
CORRELATION = 0.3
RELIABILITY = 0.8
METHODS = ("HMC", "mean-field VI")
TASKS = ("1 against 7", "ten classes")


def _side(metric: Metric, limit: float) -> str:
    """Where the interval lies: "above" the limit, "below" it, or "open"."""
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return "above" if low > limit else "below" if high < limit else "open"


def _within(metric: Metric) -> str:
    """A value with its interval, for the evidence."""
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3g}"
    return f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"


def _said(metric: Metric, digits: int = 2) -> str:
    """A value with its interval, for a sentence."""
    value, low, high = (
        f"{number:.{digits}f}".replace("-", "−")
        for number in (metric.value, metric.low or 0, metric.high or 0)
    )
    return f"{value} ({low} to {high})"


def _percent(metric: Metric) -> str:
    value, low, high = (
        f"{100 * number:.1f}".replace("-", "−")
        for number in (metric.value, metric.low or 0, metric.high or 0)
    )
    return f"{value} % ({low} to {high})"


def _few_seeds(rows: list[Metric]) -> bool:
    return not rows or min(row.n or 0 for row in rows) < MINIMAL_SEEDS


NOT_ENOUGH = Judgement(
    "not tested at this scale",
    f"The rule needs {MINIMAL_SEEDS} seeds; this run has fewer.",
    f"This needs {MINIMAL_SEEDS} trainings of each posterior.",
)


def judge_guarantee(results: Results) -> Judgement:
    """The estimate misses p by more than theta, and a network is declared robust
    although it is not, in at most a share gamma of runs.
    """
    gamma = results.one("promised failure", pair="published").value
    massart = {"rule": "Massart", "pair": "published"}
    simulated = results.select("simulated failure", **massart)
    if not simulated:
        raise UnmeasuredError("simulated failure of Massart")
    worst = max(simulated, key=lambda row: row.value)
    bound = results.one("worst failure", **massart)
    real = results.one("failure on a posterior", rule="Massart")
    declared = results.select("declared robust", of="p above eta", **massart)
    on_posterior = results.select(
        "wrongly declared robust on a posterior", rule="Massart"
    )
    wrong = max(declared, key=lambda row: row.value)
    listed = ", ".join(
        f"limit {row.factors['eta']:g}: {_within(row)}" for row in on_posterior
    )
    evidence = (
        f"Promised: failure at most {gamma:g}. Simulated, worst p: {_within(worst)} "
        f"({worst.n:,} runs each); exact bound over all p: {bound.value:.3g}; on a "
        f"real posterior: {_within(real)} (over {real.n} blocks of samples). Declared "
        f"robust although p exceeds the limit, worst limit, exact: {wrong.value:.3g}; "
        f"on the posterior, {listed or 'no image with p above a limit'}."
    )
    checked = [worst, bound, wrong, real, *on_posterior]
    sides = [_side(row, gamma) for row in checked]
    answer = (
        f"The estimate missed p by more than θ in at most {bound.value:.1%} of runs, "
        f"whatever p is; promised were {gamma:.1%}."
    )
    if "above" in sides:
        return Judgement("not reproduced", evidence, answer)
    if "open" in sides:
        return Judgement("inconclusive", evidence, answer)
    return Judgement("reproduced", evidence, answer)


def judge_massart(results: Results) -> Judgement:
    """Massart's rule needs at least 5 % fewer samples than Chernoff's number wherever p
    is below 0.15 or above 0.85.
    """
    rows = results.select("mean samples", rule="Massart", pair="published")
    number = results.one("mean samples", rule="Chernoff", pair="published", p=0.5).value
    exact = results.one(
        "mean samples", rule="exact binomial", pair="published", p=0.5
    ).value
    outer = [row for row in rows if not BELOW <= float(row.factors["p"]) <= ABOVE]
    if not outer:
        raise UnmeasuredError("mean samples of Massart at small and large p")
    least, most = min(row.value for row in outer), max(row.value for row in outer)
    dearer = [f"{row.factors['p']:g}" for row in outer if row.value > exact]
    mirrored = results.select("mean samples, mirrored Massart")
    evidence = (
        f"Massart's rule needs {least:.0f} to {most:.0f} samples on average where p < "
        f"{BELOW} or p > {ABOVE}, against Chernoff's {number:.0f}. A number fixed in "
        f"advance by exact binomial probabilities: {exact:.0f}, which is fewer at p = "
        f"{', '.join(dearer) or 'none of them'}. With the mirrored second branch: "
        + ", ".join(f"{row.value:.0f} at p = {row.factors['p']:g}" for row in mirrored)
        + "; the published branch asks for more and is used."
    )
    savings = [1 - row.value / number for row in outer]
    answer = (
        f"Massart's rule needs {least:.0f} to {most:.0f} samples at small and large p, "
        f"Chernoff's {number:.0f}. But {exact:.0f}, fixed in advance by exact "
        "probabilities, suffice for every p."
    )
    if min(savings) >= SAVING:
        return Judgement("reproduced", evidence, answer)
    if max(savings) < SAVING:
        return Judgement("not reproduced", evidence, answer)
    return Judgement("partly", evidence, answer)


def judge_monotone(results: Results) -> Judgement:
    """With exact verification robustness never rises with the budget, and falls by at
    least 0.05 over the published budgets.
    """
    exact = results.one("violations of monotonicity", oracle="exact")
    attack = results.one("violations of monotonicity", oracle="FGSM")
    rise = results.one("rise of the violation probability over the budgets")
    undecided = max(
        results.select("undecided by exact search"), key=lambda row: row.value
    )
    if _few_seeds([rise]):
        return NOT_ENOUGH
    evidence = (
        f"Exact verification: {exact.value:.0f} of {exact.n:,} comparisons of "
        f"neighbouring budgets violate the order; FGSM: {attack.value:.0f} of "
        f"{attack.n:,}. From the smallest to the largest budget the probability of a "
        f"violation rises by {_within(rise)} (over {rise.n} seeds, mean over "
        f"posteriors and images); the smallest rise that matters is {RISE}. Pairs of "
        f"sample and image that exact search leaves undecided: {undecided.value:.2%} "
        "at the worst threshold. Thresholds are not compared: there the order holds by "
        "construction."
    )
    answer = (
        f"Exact search found {exact.value:.0f} violations of the order in "
        f"{exact.n:,} comparisons; over the budgets robustness falls by {_said(rise)}."
    )
    if exact.value > 0:
        return Judgement("not reproduced", evidence, answer)
    if undecided.value > UNDECIDED or _side(rise, RISE) == "open":
        return Judgement("inconclusive", evidence, answer)
    if _side(rise, RISE) == "below":
        return Judgement("not reproduced", evidence, answer)
    return Judgement("reproduced", evidence, answer)


def cells(results: Results) -> list[tuple[str, list[Metric]]]:
    """Every comparison of a method with dropout of its accuracy, by task, problem and
    threshold: "ahead", "behind", "open", "not comparable" or "no room" (dropout leaves
    no lead that matters), and its rows.
    """
    found = []
    for base in results.select("robustness difference", rival="same accuracy"):
        key = {name: base.factors[name] for name in ("posterior", "task", "problem")}
        if "delta" in base.factors:
            key["delta"] = base.factors["delta"]
        rows = [base]
        if base.factors["problem"] == 1:
            rows.append(
                results.one(
                    "robustness difference", rival="same accuracy and logits", **key
                )
            )
        found.append((_state(results, rows), rows))
    return found


def _state(results: Results, rows: list[Metric]) -> str:
    method, task = rows[0].factors["posterior"], rows[0].factors["task"]
    gap = results.one(
        "accuracy difference", posterior=method, task=task, rival="same accuracy"
    )
    matched = (
        _side(gap, MATCHED_ACCURACY) == "below"
        and _side(gap, -MATCHED_ACCURACY) == "above"
    )
    mixed = (
        results.one("worst R-hat", task=task, quantity="predictions").value
        <= MIXED_R_HAT
    )
    if not matched or (method == "HMC" and not mixed):
        return "not comparable"
    if any(_rival(results, row) > 1 - AHEAD for row in rows):
        return "no room"
    sides = [_side(row, AHEAD) for row in rows]
    if "below" in sides:
        return "behind"
    return "ahead" if set(sides) == {"above"} else "open"


def _rival(results: Results, row: Metric) -> float:
    return results.one("robustness of the rival", **row.factors).value


def judge_methods(results: Results) -> Judgement:
    """HMC and VI are more robust than dropout of the same accuracy, by task, problem
    and threshold, and not by the size of their logits alone.
    """
    found = cells(results)
    if not found:
        raise UnmeasuredError("robustness difference")
    if _few_seeds([rows[0] for _, rows in found]):
        return NOT_ENOUGH
    states = Counter(state for state, _ in found)
    by_scale = sum(
        state == "behind" and len(rows) == 2 and _side(rows[0], AHEAD) == "above"
        for state, rows in found
    )
    evidence = " ".join(_cell(state, rows) for state, rows in found)
    evidence += " Accuracy, method minus matched dropout: " + "; ".join(
        f"{row.factors['posterior']} on {row.factors['task']} {_within(row)}"
        for row in results.select("accuracy difference", rival="same accuracy")
    )
    evidence += ". Worst R-hat of the HMC predictions: " + ", ".join(
        f"{row.factors['task']} {row.value:.3g}"
        for row in results.select("worst R-hat", quantity="predictions")
        if row.factors["task"] in TASKS
    )
    compared = states["ahead"] + states["behind"] + states["open"]
    answer = (
        f"In {states['ahead']} of {compared} comparisons at equal accuracy they are "
        f"more robust than dropout; in {states['behind']} they are not, {by_scale} of "
        "these because only their logits are larger."
    )
    judged = {
        (rows[0].factors["posterior"], rows[0].factors["task"])
        for state, rows in found
        if state == "behind"
    }
    verdict: Verdict = "inconclusive"
    if 0 < states["ahead"] == len(found) - states["no room"]:
        verdict = "reproduced"
    elif states["ahead"] and states["behind"]:
        verdict = "mixed"
    elif states["ahead"]:
        verdict = "partly"
    elif states["behind"] == compared and len(judged) == len(METHODS) * len(TASKS):
        verdict = "not reproduced"
    return Judgement(verdict, f"{evidence}.", answer)


def _cell(state: str, rows: list[Metric]) -> str:
    factors = rows[0].factors
    what = (
        f"probabilities move by more than {factors['delta']:g}"
        if factors["problem"] == 1
        else "decisions"
    )
    scaled = f", with logits of the same size {_within(rows[1])}" if rows[1:] else ""
    return (
        f"{factors['posterior']}, {factors['task']}, {what}: "
        f"{_within(rows[0])}{scaled}: {state}."
    )


def judge_trade_off(results: Results) -> Judgement:
    """Accuracy and robustness are negatively correlated over prior width, dropout rate
    and temperature.
    """
    rho = results.one("rank correlation of accuracy and robustness", family="all")
    families = [
        row
        for row in results.select("rank correlation of accuracy and robustness")
        if row.factors["family"] != "all"
    ]
    agreement = results.select("agreement of two seeds in the sweep")
    out = results.one("posteriors left out of the sweep").value
    least = min((row.value for row in agreement), default=0.0)
    evidence = (
        f"Spearman's ρ {_within(rho)} over {rho.n} posteriors that beat twice the "
        "accuracy of chance and whose chains agree"
        + "".join(
            f"; within {row.factors['family']} {_within(row)} (n = {row.n})"
            for row in families
        )
        + f". Left out: {out:.0f}. Two seeds order the posteriors alike (ρ) by "
        + " and ".join(f"{row.factors['of']} {_within(row)}" for row in agreement)
        + f". The smallest correlation that matters is {CORRELATION}."
    )
    answer = (
        f"Over {rho.n} posteriors accuracy and robustness correlate by {_said(rho)}; "
        "a trade-off would be clearly negative."
    )
    side = _side(rho, -CORRELATION)
    if least < RELIABILITY or side == "open":
        return Judgement("inconclusive", evidence, answer)
    if side == "above":
        within = any(_side(row, -CORRELATION) == "below" for row in families)
        return Judgement("mixed" if within else "not reproduced", evidence, answer)
    same = all(row.value < 0 for row in families)
    return Judgement("reproduced" if same else "partly", evidence, answer)


def judge_fgsm(results: Results) -> Judgement:
    """FGSM overlooks at least 5 % of the violations that exact verification finds."""
    name = "share of violations overlooked"
    missed = {
        oracle: [results.one(name, oracle=oracle, problem=q) for q in (1, 2)]
        for oracle in ("FGSM", "PGD", "corners")
    }
    beyond = results.one("attacks beyond the exact bound").value
    undecided = max(row.value for row in results.select("undecided by exact search"))
    ours = missed["FGSM"]
    if _few_seeds(ours):
        return NOT_ENOUGH
    evidence = " ".join(
        f"{oracle} overlooks {_within(rows[0])} of the violations of Problem 1 and "
        f"{_within(rows[1])} of Problem 2."
        for oracle, rows in missed.items()
    )
    evidence += (
        f" Intervals over {ours[0].n} seeds, mean over posteriors, images and budgets. "
        f"The smallest share that matters is {OVERLOOKED}. Attacks that got farther "
        f"than exact search allows: {beyond:.0f}."
    )
    corners = max(row.value for row in missed["corners"])
    answer = (
        f"FGSM overlooks {_percent(ours[1])} of the flipped decisions. Trying all "
        f"corners, without gradients, overlooks {corners:.1%} at most."
    )
    sides = [_side(row, OVERLOOKED) for row in ours]
    verdict: Verdict = "inconclusive"
    if beyond > 0 or undecided > UNDECIDED:
        verdict = "inconclusive"
    elif set(sides) == {"above"}:
        verdict = "reproduced"
    elif set(sides) == {"below"}:
        verdict = "not reproduced"
    elif {"above", "below"} <= set(sides):
        verdict = "mixed"
    return Judgement(verdict, evidence, answer)


CLAIMS = (
    Claim(
        id="C5.1",
        statement=(
            "The estimate of the robustness probability errs by more than $\\theta$ "
            "with probability at most $\\gamma$."
        ),
        source="abstract",
        measure="Share of runs of the paper's algorithm with $|\\hat p - p| > "
        "\\theta$: simulated streams, an exact bound over all $p$, and a real "
        "posterior with a reference $p$ from many more samples (interval over blocks "
        "of samples, which all images share). The decision rule: a network is "
        "declared robust if $\\hat p + \\theta$ is at most a limit, for limits 0.1, "
        "0.25 and 0.5; share of runs that declare so although $p$ exceeds the limit.",
        rule="Reproduced if every share and the upper end of its interval is at most "
        "$\\gamma$; not reproduced if an interval lies above it; else inconclusive.",
        control="The exact worst case over all $p$, which needs no simulation.",
        judge=judge_guarantee,
        published=("$\\theta = \\gamma = 0.075$; 292 samples by Chernoff's bound"),
    ),
    Claim(
        id="C5.2",
        statement="Massart's bound needs fewer samples than Chernoff's.",
        source="method",
        measure=(
            "Mean number of samples of Algorithm 1 against Chernoff's number, as a "
            "function of $p$, exact."
        ),
        rule="Reproduced if it is at least 5 % smaller at every tested $p < 0.15$ and "
        "$p > 0.85$ (no gain at $p = 0.5$ is no refutation); partly if at some of "
        "them; not reproduced if at none.",
        control="The fewest samples, fixed in advance, whose exact binomial failure is "
        "at most $\\gamma$ for every $p$; both readings of the bound above one half.",
        judge=judge_massart,
    ),
    Claim(
        id="C5.3",
        statement=(
            "Robustness falls as the perturbation budget $\\epsilon$ grows and rises "
            "with the threshold of a violation."
        ),
        source="by definition",
        measure="Violation probability over the paper's grid of budgets and "
        "thresholds, five pixels, the same posterior samples everywhere. Each image is "
        "compared at neighbouring budgets. In the threshold the order holds by "
        "construction.",
        rule="Reproduced if exact verification violates the order nowhere and the rise "
        "over the budgets is above 0.05; not reproduced if it violates it (then the "
        "code is wrong) or the rise is below 0.05; inconclusive if more than 1 % of "
        "the cells are undecided, or between.",
        control="FGSM on the same grid, which may violate the order since it can miss "
        "what exists.",
        judge=judge_monotone,
    ),
    Claim(
        id="C5.4",
        statement=(
            "Inference methods differ: HMC and variational inference are more robust "
            "than MC dropout."
        ),
        source="abstract; the direction is our hypothesis",
        measure="Share of posterior samples that keep their answer, less that of MC "
        "dropout at the rate at which single samples are as accurate: on 1 against 7 "
        "by exact search (mean over the published budgets) for each published "
        "threshold and for decisions, on ten classes under PGD. For thresholds the "
        "comparison is made twice: as it is, and with dropout's logits multiplied to "
        "the same mean size, which changes no decision. Intervals over seeds.",
        rule="A comparison is ahead if both differences lie above 0.05, behind if one "
        "lies below it, and counts only where the accuracies differ by less than 0.02 "
        "(interval), for HMC $\\hat R \\le 1.05$ on predictions, and where dropout's "
        "robustness is at most 0.95, since above it no lead of 0.05 is possible. "
        "Reproduced if all with room are ahead; mixed if some are ahead and some "
        "behind; partly if some are ahead and none behind; not reproduced if all that "
        "count are behind, on both tasks for both methods; else inconclusive.",
        control="Accuracy is matched for every verdict. The size of the logits: "
        "multiplying them makes small moves of a probability vanish.",
        judge=judge_methods,
    ),
    Claim(
        id="C5.5",
        statement="Accuracy and robustness trade off across posteriors.",
        source="our hypothesis; recalled, not quoted",
        measure="Spearman's rank correlation of single-sample accuracy and robustness "
        "under PGD over prior width, temperature and dropout rate, each posterior from "
        "several seeds. For HMC the temperature tempers likelihood and prior, for "
        "variational inference the divergence alone.",
        rule="Reproduced if the interval over posteriors lies below −0.3 and the "
        "correlation is negative within each family (partly if not); not reproduced if "
        "it lies above −0.3 (mixed if that of a family lies below); else inconclusive, "
        "also if two seeds order the posteriors alike by less than 0.8.",
        control="Posteriors near chance, and chains with $\\hat R > 1.1$, are left "
        "out; the correlation within each family.",
        judge=judge_trade_off,
    ),
    Claim(
        id="C5.6",
        statement="FGSM over-estimates robustness against exact verification.",
        source="method",
        measure="Of the violations that exact search finds on five pixels, the share "
        "that FGSM overlooks, on the same posterior samples.",
        rule="Reproduced if the interval over seeds lies above 5 % for both problems; "
        "not reproduced if below for both; mixed if above for one and below for the "
        "other; else inconclusive, also if an attack got farther than the exact bound "
        "or more than 1 % of the cells are undecided.",
        control="PGD with restarts; all corners of the five pixels, which needs no "
        "gradient.",
        judge=judge_fgsm,
    ),
)
