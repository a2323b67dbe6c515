"""The six claims of Cardelli et al. (2019), declared with their rules before any result
was known.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own where the paper states none.
"""

from __future__ import annotations

from robustbook.results import Claim, Judgement, Metric, Results, UnmeasuredError

MATCHED_ACCURACY = 0.02
MIXED_R_HAT = 1.1
MINIMAL_SEEDS = 3
BELOW, ABOVE = 0.15, 0.85


def _within(metric: Metric) -> str:
    """A value with its interval, for a sentence."""
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3g}"
    return f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"


def _counted(metric: Metric) -> str:
    """The same, with what the interval is over and how many there are."""
    return (
        f"{_within(metric)} (over {metric.n} {metric.over})"
        if metric.n
        else _within(metric)
    )


def judge_guarantee(results: Results) -> Judgement:
    """The estimate misses p by more than theta in at most a share gamma of runs,
    simulated and on a real posterior.
    """
    gamma = results.one("promised failure", pair="published").value
    simulated = results.select("simulated failure", rule="Massart", pair="published")
    if not simulated:
        raise UnmeasuredError("simulated failure of Massart")
    worst = max(simulated, key=lambda row: row.value)
    bound = results.one("worst failure", rule="Massart", pair="published")
    real = results.one("failure on a posterior", rule="Massart")
    evidence = (
        f"Promised: failure at most {gamma:g}. Simulated, worst p: {_within(worst)} "
        f"({worst.n:,} runs each); exact bound over all p: {bound.value:.3g}; on a "
        f"real posterior: {_counted(real)}; a block is one run on each image, all with "
        "the same samples."
    )
    if worst.value > gamma or bound.value > gamma:
        return Judgement("not reproduced", evidence)
    return Judgement(
        "reproduced" if (real.high or 1.0) <= gamma else "partly", evidence
    )


def judge_massart(results: Results) -> Judgement:
    """Massart's rule needs fewer samples than Chernoff's number wherever p is below
    0.15 or above 0.85.
    """
    rows = results.select("mean samples", rule="Massart", pair="published")
    number = results.one("mean samples", rule="Chernoff", pair="published", p=0.5).value
    outer = [row for row in rows if not BELOW <= float(row.factors["p"]) <= ABOVE]
    inner = results.one("mean samples", rule="Massart", pair="published", p=0.5)
    if not outer:
        raise UnmeasuredError("mean samples of Massart at small and large p")
    least, most = min(row.value for row in outer), max(row.value for row in outer)
    evidence = (
        f"Massart's rule needs {least:.0f} to {most:.0f} samples on average where p < "
        f"{BELOW} or p > {ABOVE}, against Chernoff's {number:.0f}; at p = 0.5 it needs "
        f"{inner.value:.0f}."
    )
    if least >= number:
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if most < number else "partly", evidence)


def judge_monotone(results: Results) -> Judgement:
    """With exact verification robustness never rises with the budget; that it never
    falls with the threshold is built in.
    """
    exact = results.one("violations of monotonicity", oracle="exact")
    attack = results.one("violations of monotonicity", oracle="FGSM")
    rise = results.one("rise of the violation probability over the budgets")
    evidence = (
        f"Exact verification: {exact.value:.0f} of {exact.n:,} comparisons of "
        f"neighbouring budgets violate the order; FGSM: {attack.value:.0f} of "
        f"{attack.n:,}. From the smallest to the largest budget the probability of a "
        f"violation rises by {_counted(rise)}. Thresholds are not compared: in δ the "
        "order holds by construction."
    )
    if exact.value > 0:
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if (rise.low or 0) > 0 else "partly", evidence)


def judge_methods(results: Results) -> Judgement:
    """HMC and VI are more robust than MC dropout, at matched accuracy."""
    differences = {
        name: results.one("robustness difference", posterior=name)
        for name in ("HMC", "mean-field VI")
    }
    right = {
        name: results.one("robustness difference of right answers", posterior=name)
        for name in differences
    }
    gaps = {
        name: results.one("accuracy difference", posterior=name) for name in differences
    }
    images = results.select("robustness of an image", posterior="HMC")
    mixed = results.one("worst R-hat", task="ten classes", quantity="predictions")
    if any((row.n or 0) < MINIMAL_SEEDS for row in gaps.values()):
        return Judgement(
            "not tested at this scale",
            f"The rule needs {MINIMAL_SEEDS} seeds; this run has fewer.",
        )
    evidence = " ".join(
        f"{name} minus MC dropout: robustness {_within(differences[name])}, of right "
        f"answers {_within(right[name])} (both over {len(images)} images and "
        f"{gaps[name].n} seeds), accuracy {_counted(gaps[name])}."
        for name in differences
    )
    evidence += f" Worst R-hat of the HMC predictions: {mixed.value:.3g}."
    if balances := results.select("balance of deviations", task="ten classes"):
        values = ", ".join(f"{row.value:.3g}" for row in balances)
        evidence += (
            f" Balance of the VI deviations by layer (1 at the optimum): {values}."
        )
    ahead = [name for name, row in differences.items() if (row.low or 0) > 0]
    matched = (
        all(abs(gaps[name].value) <= MATCHED_ACCURACY for name in ahead)
        and mixed.value <= MIXED_R_HAT
    )
    survives = all((right[name].low or 0) > 0 for name in ahead)
    if not ahead:
        return Judgement("not reproduced", evidence)
    return Judgement(
        "reproduced" if len(ahead) == 2 and matched and survives else "partly", evidence
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
    evidence = (
        f"Spearman's rho {_within(rho)} over {rho.n} posteriors that beat twice the "
        "accuracy of chance"
    )
    evidence += (
        "".join(
            f"; within {row.factors['family']} {row.value:.3g} (n = {row.n})"
            for row in families
        )
        + "."
    )
    if rho.low is None or rho.high is None or rho.high >= 0:
        return Judgement("not reproduced", evidence)
    same = all(row.value < 0 for row in families)
    return Judgement("reproduced" if same else "partly", evidence)


def judge_fgsm(results: Results) -> Judgement:
    """FGSM overlooks violations that exact verification finds."""
    missed = {
        problem: results.one("exact minus FGSM", problem=problem) for problem in (1, 2)
    }
    strong = {
        problem: results.one("exact minus PGD", problem=problem) for problem in (1, 2)
    }
    evidence = " ".join(
        f"Problem {problem}: FGSM overlooks {_counted(missed[problem])} of "
        f"probability, PGD with restarts {_within(strong[problem])}."
        for problem in missed
    )
    found = [problem for problem, row in missed.items() if (row.low or 0) > 0]
    if not found:
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if len(found) == 2 else "partly", evidence)


CLAIMS = (
    Claim(
        id="C5.1",
        statement=(
            "The estimate of the robustness probability errs by more than $\\theta$ "
            "with probability at most $\\gamma$."
        ),
        source="abstract",
        measure="Share of runs of the paper's algorithm with $|\\hat p - p| > "
        "\\theta$: simulated Bernoulli streams, an exact bound over all $p$, "
        "and a real posterior with a reference $p$ from many more samples. The "
        "images share the samples of a run, so the interval there is over "
        "blocks of samples, not over runs.",
        rule="Reproduced if every share is at most $\\gamma$, on the posterior with "
        "the upper end of its interval; partly if only there "
        "it is not.",
        control="The exact worst case over all $p$, which needs no simulation.",
        judge=judge_guarantee,
        published=(
            "$\\theta = \\gamma = 0.075$, $\\alpha = 0.05$; 292 samples by "
            "Chernoff's bound"
        ),
    ),
    Claim(
        id="C5.2",
        statement="Massart's bound needs fewer samples than Chernoff's.",
        source="method",
        measure=(
            "Mean number of samples of Algorithm 1 against Chernoff's number, as a "
            "function of $p$."
        ),
        rule="Reproduced if it is smaller at every tested $p < 0.15$ and $p > 0.85$ "
        "(no gain at $p = 0.5$ is no refutation); partly if at some of them.",
        control=(
            "Three rules that the paper does not have, and Wald's lower limit for "
            "any rule."
        ),
        judge=judge_massart,
    ),
    Claim(
        id="C5.3",
        statement=(
            "Robustness falls as the perturbation budget $\\epsilon$ grows and "
            "rises with the threshold $\\delta$."
        ),
        source="by definition",
        measure="Violation probability over the paper's grid of $\\epsilon$ and "
        "$\\delta$, five pixels, the same posterior samples everywhere. "
        "Each image is compared at neighbouring budgets. In $\\delta$ the order "
        "holds by construction, since every violation of a larger "
        "threshold is one of a smaller, and is not counted.",
        rule="Reproduced if exact verification violates the order nowhere and the rise "
        "over the budgets excludes 0; an exact violation means that the code is "
        "wrong.",
        control=(
            "FGSM on the same grid, which may violate the order since it can miss "
            "what exists."
        ),
        judge=judge_monotone,
    ),
    Claim(
        id="C5.4",
        statement=(
            "Inference methods differ: HMC and variational inference are more "
            "robust than MC dropout."
        ),
        source="abstract; the direction is recalled, not quoted",
        measure="Share of posterior samples that keep their decision under PGD, on the "
        "same images for all methods; intervals draw images and seeds (crossed "
        "bootstrap). Seeds are trainings, for HMC chains; accuracy is over "
        "seeds.",
        rule="Reproduced if both differences to MC dropout exclude 0, also among right "
        "answers, at accuracies within 0.02 and with $\\hat R \\le 1.1$; partly "
        "if only one does, or not under these conditions.",
        control="A deterministic network and a deep ensemble; accuracy of single "
        "samples; robustness of right answers only; whether the "
        "deviations of variational inference have converged.",
        judge=judge_methods,
    ),
    Claim(
        id="C5.5",
        statement="Accuracy and robustness trade off across posteriors.",
        source="recalled, not quoted",
        measure="Spearman's rank correlation of single-sample accuracy and mean "
        "robustness over prior width, temperature and dropout rate. "
        "For HMC the temperature tempers likelihood and prior, for variational "
        "inference the divergence alone.",
        rule=(
            "Reproduced if it is negative, its interval excludes 0, and it is "
            "negative within each family; partly if only overall."
        ),
        control="Posteriors near chance are left out; the correlation within each "
        "family; $\\hat R$ of every HMC posterior and the balance "
        "of every variational one.",
        judge=judge_trade_off,
    ),
    Claim(
        id="C5.6",
        statement="FGSM over-estimates robustness against exact verification.",
        source="method",
        measure=(
            "Exact minus FGSM violation probability on a five-pixel box, by branch "
            "and bound on the same posterior samples."
        ),
        rule=(
            "Reproduced if the mean difference excludes 0 for both problems; partly "
            "for one."
        ),
        control="PGD with restarts.",
        judge=judge_fgsm,
    ),
)
