"""Estimating a probability from Bernoulli outcomes with an error promised in advance:
rules that say when to stop.

Read `Rule` first (a table over outcomes and successes), then the five rules `chernoff`,
`massart`, `betting`, `hedged` and `group_sequential`, then `estimate` (run a rule on an
oracle) and `operating` (its exact error and cost at any p).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.errors import UserError

Floats = NDArray[np.float64]
Outcomes = Callable[[int], ArrayLike]
"""`(count) -> count outcomes`: the next Bernoulli outcomes, each of which may be
expensive.
"""

SLACK = 1e-9
MOST_OUTCOMES = 2000
"""Largest `chernoff_count` of a rule: a table of twice as many outcomes takes four
times the memory and time.
"""


@dataclass(frozen=True, eq=False)
class Rule:
    """When to stop, and what to say then, so that P(|estimate - p| > theta) <= gamma
    whatever p is.

    After n outcomes with k successes the rule stops if `stops[n, k]`, and then
    estimates `estimates[n, k]`. Both tables are (horizon + 1, horizon + 1); in the last
    row every reachable entry stops.
    """

    name: str
    theta: float
    gamma: float
    stops: NDArray[np.bool_]
    estimates: Floats

    @property
    def horizon(self) -> int:
        """The most outcomes that the rule can need."""
        return len(self.stops) - 1

    @cached_property
    def looks(self) -> NDArray[np.intp]:
        """The numbers of outcomes, ascending, after which the rule can stop."""
        return np.flatnonzero(self.stops.any(axis=1))

    @cached_property
    def waits(self) -> NDArray[np.int64]:
        """The fewest further outcomes after which the rule may stop, by (n, k): so many
        are needed in any case.
        """
        waits = np.zeros(self.stops.shape, dtype=np.int64)
        for n in range(self.horizon - 1, -1, -1):
            nearest = 1 + np.minimum(waits[n + 1, : n + 1], waits[n + 1, 1 : n + 2])
            waits[n, : n + 1] = np.where(self.stops[n, : n + 1], 0, nearest)
        return waits

    @cached_property
    def ends(self) -> Ends:
        """Where the rule can stop, and in how many orders of outcomes it gets there."""
        return _ends(self.stops, self.estimates)


@dataclass(frozen=True)
class Ends:
    """States (M,) in which a rule stops: outcomes `n`, successes `k`, log number of
    orders, and the estimate there.
    """

    n: NDArray[np.int64]
    k: NDArray[np.int64]
    log_orders: Floats
    estimates: Floats

    def log_probabilities(self, p: Floats) -> Floats:
        """Log probability (P, M) of stopping in each state, for success probabilities
        `p` (P,).
        """
        with np.errstate(divide="ignore"):
            log_p, log_q = np.log(p)[:, None], np.log1p(-p)[:, None]
        failures = self.n - self.k
        return self.log_orders + _times(self.k, log_p) + _times(failures, log_q)


def _times(count: NDArray[np.int64], log: Floats) -> Floats:
    """`count * log` with 0 * -inf = 0, as a probability to the power zero is one."""
    return np.where(
        count == 0, 0.0, np.where(count == 0, 0, count) * np.maximum(log, -1e300)
    )


def _ends(stops: NDArray[np.bool_], estimates: Floats) -> Ends:
    """Count the orders of outcomes that reach each stopping state without having
    stopped before.
    """
    horizon = len(stops) - 1
    alive = np.full(horizon + 2, -np.inf)
    alive[0] = 0.0
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], Floats]] = []
    for n in range(1, horizon + 1):
        reached = alive.copy()
        reached[1:] = np.logaddexp(alive[1:], alive[:-1])
        stopped = np.nonzero(stops[n] & np.isfinite(reached[: horizon + 1]))[0]
        found.append((np.full(len(stopped), n), stopped, reached[stopped]))
        reached[stopped] = -np.inf
        alive = reached
    n_all, k_all, orders = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Ends(n_all, k_all, orders, estimates[n_all, k_all])


# The rules
# --------------------------------------------------------------------------------------


def chernoff_count(theta: float, gamma: float) -> int:
    """Outcomes that suffice whatever p is: the least n with n > ln(2 / gamma) / (2
    theta^2) (Okamoto 1959).

    Raises ArgumentError if `theta` or `gamma` is not between 0 and 1.
    """
    _check(theta, gamma)
    return math.floor(math.log(2 / gamma) / (2 * theta**2)) + 1


def chernoff(theta: float, gamma: float) -> Rule:
    """Stop after `chernoff_count` outcomes and estimate their mean.

    Raises ArgumentError as `chernoff_count` does, or for more than `MOST_OUTCOMES`.
    """
    horizon = _affordable(theta, gamma)
    stops = np.zeros((horizon + 1, horizon + 1), dtype=bool)
    stops[horizon] = True
    return Rule("Chernoff", theta, gamma, stops, _means(horizon))


def massart_count(
    theta: float, gamma: float, alpha: float, low: ArrayLike, high: ArrayLike
) -> Floats:
    """Outcomes that Massart's bound asks for when p is in [low, high] with probability
    1 - alpha (eq. 4 of the paper).

    The least n with n > 2 / (9 theta^2) ln(2 / (gamma - alpha)) F; shapes broadcast.
    The branch for intervals above one half is the published one, which asks for
    slightly more outcomes than the mirror image of the first.

    Raises ArgumentError if `theta`, `gamma` or `alpha` is not between 0 and 1, or
    alpha >= gamma.
    """
    _check(theta, gamma)
    checks.real(alpha, "alpha", above=0, below=gamma)
    a, b = _shares(low, "low"), _shares(high, "high")
    below = (3 * b + theta) * (3 * (1 - b) - theta)
    above = (3 * (1 - a) + theta) * (3 * a + theta)
    factor = np.where(b < 0.5, below, np.where(a > 0.5, above, (1.5 + theta) ** 2))
    return np.floor(2 / (9 * theta**2) * math.log(2 / (gamma - alpha)) * factor) + 1


def massart(theta: float, gamma: float, alpha: float) -> Rule:
    """Algorithm 1 of Cardelli et al. 2019: Massart's count at the current
    Clopper-Pearson interval, at most Chernoff's.

    Raises ArgumentError as `massart_count` does.
    """
    horizon = _affordable(theta, gamma)
    n, k = np.ogrid[: horizon + 1, : horizon + 1]
    low, high = clopper_pearson(np.minimum(k, n), np.maximum(n, 1), alpha)
    needed = np.minimum(massart_count(theta, gamma, alpha, low, high), horizon)
    stops = (n >= needed) & (n > 0)
    return Rule("Massart", theta, gamma, stops, _means(horizon))


def betting(theta: float, gamma: float) -> Rule:
    """Stop when a betting confidence sequence is no wider than 2 theta, and estimate
    its middle.

    The sequence holds p at all times together with probability 1 - gamma (Waudby-Smith
    and Ramdas 2024), so that looking after every outcome costs nothing. Against each m
    it holds two bettors, on m + theta and on m - theta.

    Raises ArgumentError if `theta` or `gamma` is not between 0 and 1.
    """
    return _until_narrow(
        "betting",
        betting_lower,
        theta,
        gamma,
        math.ceil(1.2 * _affordable(theta, gamma)) + 8,
    )


def _until_narrow(
    name: str, lower: Callable[..., Floats], theta: float, gamma: float, horizon: int
) -> Rule:
    """Stop when the interval from `lower` and its mirror image is no wider than 2
    theta, and estimate its middle.
    """
    n, k = np.tril_indices(horizon + 1)
    low, high = (
        np.zeros((horizon + 1, horizon + 1)),
        np.ones((horizon + 1, horizon + 1)),
    )
    low[n, k] = lower(n, k, theta, gamma)
    high[n, n - k] = 1 - low[n, k]
    stops = high - low <= 2 * theta
    stops[0] = False
    return _trimmed(Rule(name, theta, gamma, stops, (low + high) / 2))


def betting_lower(n: ArrayLike, k: ArrayLike, theta: float, gamma: float) -> Floats:
    """Lower end of the betting confidence sequence after `n` outcomes with `k`
    successes; shapes broadcast.

    It is the m at which the capital of a bettor on q = min(m + theta, 1), the product
    of q / m over the successes and (1 - q) / (1 - m) over the failures, is 2 / gamma.
    The capital falls in m, so halving the interval finds it.
    """
    _check(theta, gamma)
    n, k = _counts(n, k)
    low, high = np.zeros(n.shape), np.ones(n.shape)
    for _ in range(34):
        middle = (low + high) / 2
        bet = np.minimum(middle + theta, 1 - 1e-12)
        capital = k * np.log(bet / middle) + (n - k) * np.log((1 - bet) / (1 - middle))
        rejected = (capital >= math.log(2 / gamma)) & (middle < 1 - 1e-9)
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return low


def hedged(theta: float, gamma: float) -> Rule:
    """`betting` with the lower end of `hedged_lower`: half of the capital follows the
    outcomes seen so far.

    Raises ArgumentError if `theta` or `gamma` is not between 0 and 1.
    """
    return _until_narrow(
        "hedged betting",
        hedged_lower,
        theta,
        gamma,
        math.ceil(1.25 * _affordable(theta, gamma)) + 16,
    )


def hedged_lower(n: ArrayLike, k: ArrayLike, theta: float, gamma: float) -> Floats:
    """Lower end of a hedged betting sequence after `n` outcomes with `k` successes;
    shapes broadcast.

    Half of the capital bets at time t on the plug-in (successes + 1/2) / t, predictable
    from the outcomes before; its odds multiply to a ratio of beta functions (Krichevsky
    and Trofimov 1981). The other half is divided between the bettors of `betting` on m
    + theta and m - theta. Together they reach 1 / gamma at any time with probability
    gamma at most, so that the lower end is where the parts that speak for larger values
    do so.
    """
    from scipy.special import betaln

    _check(theta, gamma)
    n, k = _counts(n, k)
    low, high = np.zeros(n.shape), k / np.maximum(n, 1)
    plug_in = betaln(k + 0.5, n - k + 0.5) - betaln(0.5, 0.5)
    for _ in range(34):
        middle = np.clip((low + high) / 2, 1e-300, 1 - 1e-12)
        fair = k * np.log(middle) + (n - k) * np.log1p(-middle)
        bet = np.minimum(middle + theta, 1 - 1e-12)
        constant = k * np.log(bet) + (n - k) * np.log1p(-bet) - fair
        rejected = np.logaddexp(
            plug_in - fair + math.log(1 / 2), constant + math.log(1 / 4)
        ) >= math.log(1 / gamma)
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return low


@lru_cache(maxsize=8)
def group_sequential(theta: float, gamma: float, group: int = 8) -> Rule:
    """Look after every `group` outcomes; stop when the likelihood tells the estimate
    from estimate -+ theta.

    The estimate is the middle of Wilson's interval. The threshold on the log likelihood
    ratio is the first, counting up from that of a fixed number of outcomes, whose worst
    failure over all p is at most gamma; the failure is computed exactly from binomial
    probabilities (`worst_failure`), so that no inequality costs outcomes.

    Raises ArgumentError if `theta` or `gamma` is not between 0 and 1, or `group` is
    less than 1.
    """
    from scipy.stats import norm

    _affordable(theta, gamma)
    checks.whole(group, "group", at_least=1)
    fixed = float(norm.isf(gamma / 2)) ** 2 / 2
    for threshold in fixed * 1.02 ** np.arange(100):
        rule = _at_threshold(
            float(threshold), theta, gamma, group, pseudo=math.ceil(fixed)
        )
        if worst_failure(rule) <= gamma:
            return rule
    raise UserError(
        f"no threshold gives theta {theta} and gamma {gamma} with groups of {group}"
    )


def _at_threshold(
    threshold: float, theta: float, gamma: float, group: int, pseudo: int
) -> Rule:
    """The rule with a given threshold; its estimate counts `pseudo` successes and as
    many failures too many.
    """
    horizon = math.ceil(1.1 * threshold / (2 * theta**2)) + 4 * pseudo + 2 * group
    n, k = np.ogrid[: horizon + 1, : horizon + 1]
    k = np.minimum(k, n)
    estimates = (k + pseudo) / (n + 2 * pseudo)
    stops = (
        (_evidence(n, k, estimates, theta) >= threshold) & (n % group == 0) & (n > 0)
    )
    return _trimmed(Rule("group-sequential", theta, gamma, stops, estimates))


def _evidence(
    n: NDArray[np.int64], k: NDArray[np.int64], estimates: Floats, theta: float
) -> Floats:
    """Log likelihood ratio of the mean k / n against estimate - theta or estimate +
    theta, whichever is smaller.
    """
    mean = k / np.maximum(n, 1)
    others = (estimates - theta, estimates + theta)
    both = [
        np.where((q < 0) | (q > 1), np.inf, relative_entropy(mean, np.clip(q, 0, 1)))
        for q in others
    ]
    return np.maximum(n, 1) * np.minimum(*both)


def _means(horizon: int) -> Floats:
    n, k = np.ogrid[: horizon + 1, : horizon + 1]
    return np.minimum(k, n) / np.maximum(n, 1)


def _trimmed(rule: Rule) -> Rule:
    """The rule up to its last useful outcome: the first n at which every k stops."""
    full = [bool(rule.stops[n, : n + 1].all()) for n in range(len(rule.stops))]
    if True not in full:
        raise ValueError(
            f"the table of {rule.name} is too short: some state at n = "
            f"{rule.horizon} does not stop"
        )
    size = full.index(True) + 1
    return Rule(
        rule.name,
        rule.theta,
        rule.gamma,
        rule.stops[:size, :size],
        rule.estimates[:size, :size],
    )


@lru_cache(maxsize=8)
def rules(theta: float, gamma: float, alpha: float) -> Mapping[str, Rule]:
    """The five rules by name, in the order of the comparison."""
    anytime = [betting(theta, gamma), hedged(theta, gamma)]
    made = [
        chernoff(theta, gamma),
        massart(theta, gamma, alpha),
        *anytime,
        group_sequential(theta, gamma),
    ]
    return MappingProxyType({rule.name: rule for rule in made})


def _affordable(theta: float, gamma: float) -> int:
    """`chernoff_count`; ArgumentError where a table of so many is too large."""
    count = chernoff_count(theta, gamma)
    if count > MOST_OUTCOMES:
        raise ArgumentError(
            "theta",
            f"large enough that {MOST_OUTCOMES:,} outcomes suffice at gamma {gamma}",
            f"{theta}, which needs {count:,}",
        )
    return count


def _check(theta: float, gamma: float) -> None:
    for name, value in (("theta", theta), ("gamma", gamma)):
        checks.real(value, name, above=0, below=1)


def _counts(
    n: ArrayLike, k: ArrayLike, names: tuple[str, str] = ("n", "k")
) -> tuple[Floats, Floats]:
    """Outcomes and successes among them, of one shape: whole numbers, 0 <= k <= n."""
    for given, name in zip((n, k), names, strict=True):
        found = checks.array(given, name)
        if ((found < 0) | (found != np.floor(found))).any():
            raise ArgumentError(name, "whole numbers, at least 0", given)
    outcomes, successes = np.broadcast_arrays(checks.array(n, ""), checks.array(k, ""))
    if (successes > outcomes).any():
        raise ArgumentError(names[1], f"at most {names[0]}", k)
    return outcomes, successes


def _rule(rule: Rule) -> None:
    checks.having(rule, "rule", "stops", "estimates", "theta")


def _shares(given: ArrayLike, name: str) -> Floats:
    """Numbers in [0, 1], of any shape."""
    found = checks.array(given, name)
    if not ((found >= 0) & (found <= 1)).all():
        raise ArgumentError(name, "in [0, 1]", found)
    return found


# Running a rule
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """What a rule said: `value`, after `count` outcomes with `successes`; p is within
    `theta` but for a share gamma.
    """

    value: float
    count: int
    successes: int
    theta: float

    @property
    def interval(self) -> tuple[float, float]:
        """The promised interval, cut to [0, 1]."""
        return max(self.value - self.theta, 0.0), min(self.value + self.theta, 1.0)


def estimate(rule: Rule, outcomes: Outcomes) -> Estimate:
    """Ask `outcomes` for blocks of Bernoulli outcomes until the rule stops.

    A block is as long as the rule needs in any case (`Rule.waits`), so that outcomes
    can be computed together and none is computed in vain.
    """
    _rule(rule)
    n = k = 0
    while not rule.stops[n, k]:
        count = int(rule.waits[n, k])
        block = np.asarray(outcomes(count))
        if block.shape != (count,) or not np.isin(block, (0, 1)).all():
            raise ArgumentError("outcomes", f"{count} outcomes, each 0 or 1", block)
        n, k = n + len(block), k + int(block.sum())
    return Estimate(float(rule.estimates[n, k]), n, k, rule.theta)


# What a rule costs and how often it fails
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Operating:
    """Exact mean number of outcomes (P,) and failure P(|estimate - p| > theta) (P,) at
    each p (P,).
    """

    p: Floats
    mean_count: Floats
    failure: Floats


def operating(rule: Rule, p: ArrayLike) -> Operating:
    """Exact cost and failure of a rule at each success probability `p` (P,), by
    counting orders of outcomes.
    """
    _rule(rule)
    p = np.atleast_1d(_shares(p, "p"))
    probabilities = np.exp(rule.ends.log_probabilities(p))
    misses = np.abs(rule.ends.estimates[None, :] - p[:, None]) > rule.theta + SLACK
    return Operating(
        p, probabilities @ rule.ends.n, (probabilities * misses).sum(axis=1)
    )


def worst_failure(rule: Rule, grid: int = 2000) -> float:
    """An upper bound of the failure over all p in [0, 1].

    Between neighbouring points the set of failing outcomes is fixed, and the arcsine of
    the root of its probability changes by at most sqrt(horizon) times that of p (Fisher
    information), which bounds it between the points.
    """
    _rule(rule)
    grid = checks.whole(grid, "grid", at_least=2)
    edges = np.concatenate(
        [rule.ends.estimates - rule.theta, rule.ends.estimates + rule.theta]
    )
    points = np.sin(np.linspace(0, np.pi / 2, grid)) ** 2
    points = np.unique(np.concatenate([points, edges[(edges > 0) & (edges < 1)]]))
    left, right = points[:-1], points[1:]
    misses = (
        np.abs(rule.ends.estimates[None, :] - ((left + right) / 2)[:, None])
        > rule.theta
    )
    at = np.exp(rule.ends.log_probabilities(points))
    angles = [
        _angle((at[:-1] * misses).sum(axis=1)),
        _angle((at[1:] * misses).sum(axis=1)),
    ]
    gap = _angle(right) - _angle(left)
    peak = (angles[0] + angles[1] + math.sqrt(rule.horizon) * gap) / 2
    return float(np.sin(np.minimum(peak, np.pi / 2)).max() ** 2)


def _angle(probability: Floats) -> Floats:
    return np.arcsin(np.sqrt(np.clip(probability, 0, 1)))


@dataclass(frozen=True)
class Simulation:
    """Counts (R,) and estimates (R,) of `R` simulated runs of a rule, and whether each
    missed p by more than theta.
    """

    counts: NDArray[np.int64]
    estimates: Floats
    misses: NDArray[np.bool_]


def simulate(rule: Rule, p: float, runs: int, rng: np.random.Generator) -> Simulation:
    """Run a rule `runs` times on Bernoulli(p) streams; the same generator state gives
    the same runs.
    """
    _rule(rule)
    checks.having(rng, "rng", "random", "integers")
    p = checks.real(p, "p", at_least=0, at_most=1)
    runs = checks.whole(runs, "runs", at_least=1)
    return replay(rule, rng.random((runs, rule.horizon)) < p, p)


def replay(rule: Rule, outcomes: NDArray[np.bool_], p: float) -> Simulation:
    """Run a rule on given streams of outcomes (R, horizon or more), and compare its
    estimates with `p`.

    Raises ArgumentError if the streams are no such table of 0 and 1, or too short.
    """
    _rule(rule)
    p = checks.real(p, "p", at_least=0, at_most=1)
    outcomes = np.asarray(outcomes)
    if outcomes.ndim != 2 or outcomes.shape[1] < rule.horizon:
        raise ArgumentError("outcomes", f"(R, {rule.horizon} or more)", outcomes)
    if outcomes.dtype != bool and not np.isin(outcomes, (0, 1)).all():
        raise ArgumentError("outcomes", "0 and 1", outcomes)
    k = np.cumsum(outcomes[:, : rule.horizon], axis=1, dtype=np.int32)[
        :, rule.looks - 1
    ]
    first = (
        rule.stops.ravel()
        .take(k + (rule.looks * len(rule.stops)).astype(np.int32))
        .argmax(axis=1)
    )
    counts = rule.looks[first]
    estimates = rule.estimates[counts, k[np.arange(len(k)), first]]
    return Simulation(counts, estimates, np.abs(estimates - p) > rule.theta + SLACK)


# Bounds and intervals
# --------------------------------------------------------------------------------------


def relative_entropy(p: ArrayLike, q: ArrayLike) -> Floats:
    """Relative entropy of Bernoulli(p) to Bernoulli(q) in nats; infinite where q
    excludes what p allows.
    """
    from scipy.special import rel_entr

    p, q = _shares(p, "p"), _shares(q, "q")
    return rel_entr(p, q) + rel_entr(1 - p, 1 - q)


def fewest_outcomes(theta: float, gamma: float, p: ArrayLike) -> Floats:
    """Wald's lower bound of the mean number of outcomes of every rule with the
    guarantee, at each p.

    A rule with the guarantee tells p from p -+ 2 theta with errors of at most gamma
    each, so its mean number of outcomes is at least the relative entropy of (1 - gamma)
    to gamma over that of p to the other one (Wald 1945).
    """
    _check(theta, gamma)
    p = _shares(p, "p")
    others = [p - 2 * theta, p + 2 * theta]
    bounds = [
        1 / np.where((q >= 0) & (q <= 1), relative_entropy(p, np.clip(q, 0, 1)), np.inf)
        for q in others
    ]
    needed = float(relative_entropy(1 - gamma, gamma)) if gamma < 0.5 else 0.0
    return np.maximum(needed * np.maximum(*bounds), 1.0)


def clopper_pearson(
    successes: ArrayLike, count: ArrayLike, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """Exact binomial interval of confidence 1 - alpha at a fixed count (Clopper and
    Pearson 1934); shapes broadcast.
    """
    from scipy.special import betaincinv

    n, k = _counts(count, successes, ("count", "successes"))
    checks.real(alpha, "alpha", above=0, below=1)
    if not (n > 0).all():
        raise ArgumentError("count", "at least 1", count)
    low = np.where(k <= 0, 0.0, betaincinv(np.maximum(k, 1), n - k + 1, alpha / 2))
    high = np.where(k >= n, 1.0, betaincinv(k + 1, np.maximum(n - k, 1), 1 - alpha / 2))
    return low, high


def bounded_mean_interval(
    values: ArrayLike, alpha: float = 0.05, grid: int = 1001
) -> tuple[float, float]:
    """Interval of confidence 1 - alpha for the mean of independent `values` (n,) in [0,
    1], whatever their distribution.

    Two bettors against each m, on larger and on smaller values, with the predictable
    plug-in bets of Waudby-Smith and Ramdas (2024, theorem 3), which follow the variance
    seen so far; m is kept while neither has 2 / alpha. The ends are those of a grid,
    rounded outwards.

    Raises ArgumentError if there is no value or one lies outside [0, 1].
    """
    x = _shares(checks.values(values, "values"), "values")
    checks.real(alpha, "alpha", above=0, below=1)
    grid = checks.whole(grid, "grid", at_least=2)
    m, times = np.linspace(0, 1, grid), np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (times + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (times + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.sqrt(2 * math.log(2 / alpha) / (len(x) * before))[:, None]
    with np.errstate(divide="ignore"):
        up, down = np.minimum(bets, 0.5 / m), np.minimum(bets, 0.5 / (1 - m))
    gains = [
        np.cumsum(np.log1p(bet * sign * (x[:, None] - m)), axis=0)
        for sign, bet in ((1, up), (-1, down))
    ]
    kept = m[np.maximum(*gains).max(axis=0) < math.log(2 / alpha)]
    mean, step = float(x.mean()), 1 / (grid - 1)
    ends = (kept[0] - step, kept[-1] + step) if len(kept) else (mean, mean)
    return max(min(ends[0], mean), 0.0), min(max(ends[1], mean), 1.0)


def simultaneous_theta(count: int, images: int, gamma: float) -> float:
    """Half-width that holds for the estimates of all `images` at once, from `count`
    posterior samples that they share.

    Hoeffding's bound with gamma shared out over the images: it holds however dependent
    the estimates are.
    """
    count = checks.whole(count, "count", at_least=1)
    images = checks.whole(images, "images", at_least=1)
    gamma = checks.real(gamma, "gamma", above=0, below=1)
    return math.sqrt(math.log(2 * images / gamma) / (2 * count))
