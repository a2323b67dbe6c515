"""The plain rival of stopping rules: a number of outcomes fixed in advance, from exact
binomial probabilities instead of an inequality.

Read `exact_binomial` first (that number as a rule of `measure.sequential`), then
`mirrored_massart` (the other reading of a formula), then what rules are compared by:
`typical_error` and `declared_robust`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustbook import checks
from robustbook.measure import sequential
from robustbook.measure.sequential import Floats, Rule


def exact_binomial(theta: float, gamma: float) -> Rule:
    """Stop after the fewest outcomes n at which P(|k / n - p| > theta) <= gamma for
    every p, and estimate k / n.

    The failure is that of the binomial distribution, worst case over p, and not the
    bound of it that `sequential.chernoff` uses: no look at the outcomes is needed.

    Raises ArgumentError if `theta` or `gamma` is not between 0 and 1.
    """
    most = sequential.chernoff_count(theta, gamma)
    low, high = 0, most
    # Failure falls in n but for ripples: halving finds a place, a walk the first.
    while high - low > 1:
        middle = (low + high) // 2
        if worst_binomial_failure(middle, theta) <= gamma:
            high = middle
        else:
            low = middle
    start = max(1, high - round(2 / theta))
    for count in range(start, most + 1):
        if worst_binomial_failure(count, theta) <= gamma:
            return _fixed(count, theta, gamma)
    return _fixed(most, theta, gamma)


def worst_binomial_failure(count: int, theta: float) -> float:
    """The largest P(|k / n - p| > theta) over all p, for n = `count` outcomes, exact.

    Between neighbouring ends of the intervals k / n -+ theta the failing k are fixed:
    those below one number and those above another. There the derivative in p changes
    its sign once, from minus to plus, so that the largest value lies at an end.

    Raises ArgumentError if `count` is less than 1 or `theta` not between 0 and 1.
    """
    from scipy.stats import binom

    count = checks.whole(count, "count", at_least=1)
    theta = checks.real(theta, "theta", above=0, below=1)
    means = np.arange(count + 1) / count
    edges = np.concatenate([means - theta, means + theta, [0.0, 1.0]])
    # Two ends that are one but for rounding would enclose an interval of their own.
    edges = np.unique(edges[(edges >= 0) & (edges <= 1)].round(12))
    left, right = edges[:-1], edges[1:]
    middle = (left + right) / 2
    below = np.searchsorted(means, middle - theta) - 1
    above = np.searchsorted(means, middle + theta)
    return max(
        float((binom.cdf(below, count, p) + binom.sf(above - 1, count, p)).max())
        for p in (left, right)
    )


def _fixed(count: int, theta: float, gamma: float) -> Rule:
    """The rule that stops after `count` outcomes and estimates their mean."""
    stops = np.zeros((count + 1, count + 1), dtype=bool)
    stops[count] = True
    n, k = np.ogrid[: count + 1, : count + 1]
    estimates = np.minimum(k, n) / np.maximum(n, 1)
    return Rule("exact binomial", theta, gamma, stops, estimates)


def mirrored_massart(theta: float, gamma: float, alpha: float) -> Rule:
    """`sequential.massart` with the branch for intervals above one half as the mirror
    image of that below: fewer outcomes at large p, and not the published form.

    Raises ArgumentError as `sequential.massart_count` does.
    """
    published = sequential.massart(theta, gamma, alpha)
    horizon = published.horizon
    n, k = np.ogrid[: horizon + 1, : horizon + 1]
    low, high = sequential.clopper_pearson(np.minimum(k, n), np.maximum(n, 1), alpha)
    below = sequential.massart_count(theta, gamma, alpha, low, high)
    above = sequential.massart_count(theta, gamma, alpha, 1 - high, 1 - low)
    needed = np.minimum(np.where(low > 0.5, above, below), horizon)
    stops = (n >= needed) & (n > 0)
    return Rule("mirrored Massart", theta, gamma, stops, published.estimates)


def typical_error(rule: Rule, p: ArrayLike) -> Floats:
    """Root mean squared error (P,) of a rule's estimate at each success probability
    `p` (P,), exact.

    Raises ArgumentError if `p` leaves [0, 1].
    """
    p = _probabilities(rule, p)
    squares = (rule.ends.estimates[None, :] - p[:, None]) ** 2
    found: Floats = np.sqrt((np.exp(rule.ends.log_probabilities(p)) * squares).sum(1))
    return found


def declared_robust(rule: Rule, p: ArrayLike, eta: float) -> Floats:
    """Probability (P,) at each `p` (P,) that estimate + theta <= `eta`: that a network
    is declared to be violated with probability `eta` at most.

    Raises ArgumentError if `p` or `eta` leaves [0, 1].
    """
    p = _probabilities(rule, p)
    eta = checks.real(eta, "eta", at_least=0, at_most=1)
    declared = rule.ends.estimates + rule.theta <= eta + sequential.SLACK
    found: Floats = (np.exp(rule.ends.log_probabilities(p)) * declared).sum(1)
    return found


def _probabilities(rule: Rule, p: ArrayLike) -> Floats:
    checks.having(rule, "rule", "ends", "theta")
    column = np.atleast_1d(checks.array(p, "p"))
    return np.array([checks.real(each, "p", at_least=0, at_most=1) for each in column])
