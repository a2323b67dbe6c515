"""Intervals cover what they should, agree with SciPy, and refuse what has no
interval.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from robustbook.stats import (
    binomial_interval,
    bootstrap_mean,
    bootstrap_median,
    bootstrap_rows,
    mean_interval_t,
    rank_correlation,
    spearman,
)


def test_the_bootstrap_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    ours = bootstrap_mean(values, seed=1, resamples=4000)
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=2
    )
    assert ours.value == pytest.approx(values.mean())
    assert ours.bounds == pytest.approx(tuple(theirs.confidence_interval), rel=0.02)
    assert ours.n == 200
    assert bootstrap_median(values, seed=1).value == pytest.approx(np.median(values))


def test_a_bootstrap_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        interval = bootstrap_mean(
            generator.normal(size=40), seed=trial, resamples=300, level=0.9
        )
        hits += interval.low <= 0 <= interval.high
    assert 0.82 <= hits / 200 <= 0.95


def test_groups_are_drawn_whole() -> None:
    means = np.array([0.0, 1.0, 2.0, 3.0])
    values, groups = np.repeat(means, 50), np.repeat(["a", "b", "c", "d"], 50)
    alone, together = (
        bootstrap_mean(values, seed=0),
        bootstrap_mean(values, seed=0, groups=groups),
    )
    assert together.value == alone.value == 1.5
    assert together.n == 4
    assert together.high - together.low > 3 * (alone.high - alone.low)
    four = bootstrap_mean(means, seed=0)
    assert together.bounds == pytest.approx(four.bounds)


def test_student_interval_of_three_seeds() -> None:
    interval = mean_interval_t([1.0, 2.0, 3.0])
    assert interval.value == 2
    assert interval.high - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert interval.low == pytest.approx(4 - interval.high)


def test_shares_have_the_exact_interval() -> None:
    interval = binomial_interval(0, 20)
    assert interval.low == 0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 20))
    some = binomial_interval(7, 50)
    assert some.value == 0.14
    assert scipy_stats.binom.cdf(7, 50, some.high) == pytest.approx(0.025, rel=1e-6)
    assert scipy_stats.binom.sf(6, 50, some.low) == pytest.approx(0.025, rel=1e-6)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=30)
)
def test_a_rank_correlation_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=float).T
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        with pytest.raises(ValueError, match="must be defined"):
            spearman(first, second, seed=0, resamples=10)
        assert rank_correlation(first, second) == 0
        return
    rho = spearman(first, second, seed=0, resamples=50)
    assert rho.value == pytest.approx(scipy_stats.spearmanr(first, second).statistic)
    assert rho.value == rank_correlation(first, second)
    assert -1 - 1e-9 <= rho.low <= rho.high <= 1 + 1e-9


def test_a_correlation_draws_pairs_together() -> None:
    x = np.arange(30.0)
    assert spearman(x, x**3, seed=0).bounds == pytest.approx((1, 1))
    noise = np.random.default_rng(0).normal(size=30)
    unrelated = spearman(x, noise, seed=0)
    assert unrelated.low < 0 < unrelated.high


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_a_constant_sample_has_no_width() -> None:
    assert bootstrap_mean([2.0, 2.0, 2.0], seed=0).bounds == (2, 2)
    assert mean_interval_t([2.0, 2.0, 2.0]).bounds == (2, 2)


def test_what_has_no_interval_is_refused() -> None:
    for impossible in ([1.0], [], [1.0, float("nan")], [1.0, float("inf")]):
        with pytest.raises(
            ValueError, match=r"two independent units|finite|at least 1"
        ):
            bootstrap_mean(impossible, seed=0)
    with pytest.raises(ValueError, match="two independent"):
        mean_interval_t([1.0])
    with pytest.raises(ValueError, match="two independent"):
        bootstrap_mean([1.0, 2.0], seed=0, groups=["a", "a"])
    with pytest.raises(ValueError, match="one length"):
        spearman([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(ValueError, match="one length"):
        bootstrap_mean([1.0, 2.0, 3.0], seed=0, groups=["a", "b"])
    with pytest.raises(ValueError, match="must be defined"):
        spearman([1, 1], [0.1, 0.2], seed=0)
    for successes, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match=r"successes|trials"):
            binomial_interval(successes, trials)


def test_any_statistic_can_be_given() -> None:
    x = np.arange(20.0)
    slope = bootstrap_rows(
        lambda a, b: float(np.polyfit(a, b, 1)[0]), x, 3 * x + 1, seed=0, resamples=100
    )
    assert slope.bounds == pytest.approx((3, 3))
