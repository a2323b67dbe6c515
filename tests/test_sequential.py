"""Stopping rules: the paper's counts, the promised error (exact and simulated), and
what a rule asks of an oracle.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from robustbook.checks import ArgumentError
from robustbook.measure import sequential

THETA = GAMMA = 0.075
ALPHA = 0.05
RULES = sequential.rules(THETA, GAMMA, ALPHA)
PROBABILITIES = (0.0, 0.03, 0.1, 0.35, 0.5, 0.8, 1.0)


def test_the_published_count_of_chernoff():
    assert sequential.chernoff_count(THETA, GAMMA) == 292


@pytest.mark.parametrize(("p", "expected"), [(0.0, 94), (0.5, 292), (1.0, 97)])
def test_massart_needs_the_papers_counts(p, expected):
    assert sequential.operating(RULES["Massart"], p).mean_count[0] == pytest.approx(
        expected, abs=0.6
    )


def test_massart_with_the_weaker_constant_of_the_public_code_would_need_fewer():
    right = sequential.massart_count(THETA, GAMMA, ALPHA, 0.0, 0.1)
    weaker = right * np.log(1 / (GAMMA - ALPHA)) / np.log(2 / (GAMMA - ALPHA))
    assert right == 171
    assert round(float(weaker)) == 144


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("p", PROBABILITIES)
def test_simulated_failures_stay_below_gamma(name, p):
    simulation = sequential.simulate(RULES[name], p, 10_000, np.random.default_rng(1))
    assert simulation.misses.mean() <= GAMMA


@pytest.mark.parametrize("name", RULES)
def test_worst_failure_is_below_gamma_and_above_every_failure(name):
    failures = sequential.operating(RULES[name], np.linspace(0, 1, 1777)).failure
    worst = sequential.worst_failure(RULES[name])
    assert failures.max() <= worst <= GAMMA


@pytest.mark.parametrize("name", RULES)
def test_exact_cost_and_failure_agree_with_simulation(name):
    simulation = sequential.simulate(RULES[name], 0.1, 20_000, np.random.default_rng(2))
    exact = sequential.operating(RULES[name], 0.1)
    error = simulation.counts.std() / np.sqrt(20_000)
    assert simulation.counts.mean() == pytest.approx(
        exact.mean_count[0], abs=4 * error + 1e-9
    )
    assert simulation.misses.mean() == pytest.approx(exact.failure[0], abs=0.006)


def test_failure_of_a_fixed_count_is_the_binomial_one():
    k = np.arange(293)
    missed = np.abs(k / 292 - 0.3) > THETA
    expected = binom.pmf(k, 292, 0.3)[missed].sum()
    assert sequential.operating(RULES["Chernoff"], 0.3).failure[0] == pytest.approx(
        expected, rel=1e-9
    )


@pytest.mark.parametrize("name", RULES)
def test_probabilities_of_the_ends_sum_to_one(name):
    sums = np.exp(
        RULES[name].ends.log_probabilities(np.array([0.0, 0.2, 0.5, 1.0]))
    ).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-9)


def test_betting_needs_at_most_six_tenths_of_massart_at_small_p():
    p = np.linspace(0, 0.1, 21)
    betting, massart = (
        sequential.operating(RULES[name], p).mean_count
        for name in ("betting", "Massart")
    )
    assert (betting <= 0.6 * massart).all()


@pytest.mark.parametrize("name", RULES)
def test_no_rule_needs_fewer_outcomes_than_walds_bound(name):
    p = np.linspace(0, 1, 101)
    bound = sequential.fewest_outcomes(THETA, GAMMA, p)
    assert (sequential.operating(RULES[name], p).mean_count >= bound).all()


def test_betting_sequence_holds_p_at_all_times_together():
    outcomes = np.random.default_rng(3).random((2_000, 250)) < 0.2
    n, k = np.arange(1, 251)[None, :], np.cumsum(outcomes, axis=1)
    low = sequential.betting_lower(n, k, THETA, GAMMA)
    high = 1 - sequential.betting_lower(n, n - k, THETA, GAMMA)
    missed = ((low > 0.2) | (high < 0.2)).any(axis=1)
    assert 0.01 < missed.mean() <= GAMMA


def test_hedged_sequence_holds_p_at_all_times_together():
    for p in (0.03, 0.3):
        outcomes = np.random.default_rng(3).random((2_000, 250)) < p
        n, k = np.arange(1, 251)[None, :], np.cumsum(outcomes, axis=1)
        low = sequential.hedged_lower(n, k, THETA, GAMMA)
        high = 1 - sequential.hedged_lower(n, n - k, THETA, GAMMA)
        missed = ((low > p) | (high < p)).any(axis=1)
        assert 0.005 < missed.mean() <= GAMMA


def test_the_plug_in_half_of_the_hedged_bet_is_a_product_of_predictable_bets():
    outcomes, m = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0] * 6, 0.05
    capital, seen = 1.0, 0
    for time, outcome in enumerate(outcomes, start=1):
        bet = (seen + 0.5) / time
        capital *= bet / m if outcome else (1 - bet) / (1 - m)
        seen += outcome
    constant = ((m + THETA) / m) ** seen * ((1 - m - THETA) / (1 - m)) ** (60 - seen)
    gamma = 1 / (capital / 2 + constant / 4)
    assert float(sequential.hedged_lower(60, seen, THETA, gamma)) == pytest.approx(
        m, abs=1e-6
    )


def test_hedging_helps_at_the_ends_and_costs_in_the_middle():
    hedged, betting = (
        sequential.operating(RULES[name], [0.0, 0.5]).mean_count
        for name in ("hedged betting", "betting")
    )
    assert hedged[0] < betting[0]
    assert hedged[1] > betting[1]


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_interval_of_a_bounded_mean_covers_and_shrinks_with_the_spread(alpha):
    rng = np.random.default_rng(0)
    for draw, mean in (
        (lambda: rng.beta(0.3, 2.7, 60), 0.1),
        (lambda: (rng.random(60) < 0.1).astype(float), 0.1),
        (lambda: rng.uniform(0.45, 0.55, 60), 0.5),
    ):
        intervals = [
            sequential.bounded_mean_interval(draw(), alpha) for _ in range(200)
        ]
        assert np.mean([low <= mean <= high for low, high in intervals]) >= 1 - alpha
    assert np.mean([high - low for low, high in intervals]) < 0.25
    low, high = sequential.bounded_mean_interval(np.zeros(60))
    assert low == 0
    assert 0.01 < high < 0.15


def test_values_outside_the_unit_interval_have_no_bounded_mean():
    with pytest.raises(ValueError, match="values must be in"):
        sequential.bounded_mean_interval([0.2, 1.2])


def test_betting_lower_end_solves_its_equation():
    low = float(sequential.betting_lower(100, 30, 0.05, 0.1))
    capital = 30 * np.log((low + 0.05) / low) + 70 * np.log(
        (1 - low - 0.05) / (1 - low)
    )
    assert capital == pytest.approx(np.log(20), abs=1e-6)


@given(st.integers(1, 400), st.data(), st.sampled_from([0.01, 0.05, 0.2]))
@settings(max_examples=60)
def test_clopper_pearson_agrees_with_scipy(count, data, alpha):
    successes = data.draw(st.integers(0, count))
    expected = binomtest(successes, count).proportion_ci(1 - alpha, method="exact")
    low, high = sequential.clopper_pearson(successes, count, alpha)
    assert (float(low), float(high)) == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("p", [0.0, 0.07, 0.6])
def test_estimate_asks_for_no_outcome_in_vain(name, p):
    rng = np.random.default_rng(4)
    stream = rng.random((50, 400)) < p
    replayed = sequential.replay(RULES[name], stream, p)
    for row, count, value in zip(
        stream, replayed.counts, replayed.estimates, strict=True
    ):
        asked: list[int] = []

        def outcomes(block, row=row, asked=asked):
            start = sum(asked)
            asked.append(block)
            return row[start : start + block]

        found = sequential.estimate(RULES[name], outcomes)
        assert (found.count, found.value) == (count, value)
        assert sum(asked) == count


@pytest.mark.parametrize(
    ("theta", "gamma"), [(0, 0.1), (1, 0.1), (0.1, 0), (0.1, 1.5), (-0.1, 0.1)]
)
@pytest.mark.parametrize(
    "make",
    [
        sequential.chernoff,
        sequential.betting,
        sequential.hedged,
        sequential.group_sequential,
    ],
)
def test_theta_and_gamma_outside_the_unit_interval_are_refused(make, theta, gamma):
    with pytest.raises(ArgumentError, match="above 0 and below 1"):
        make(theta, gamma)


def test_alpha_that_is_not_below_gamma_is_refused():
    with pytest.raises(ArgumentError, match=r"alpha must be .* below 0\.05"):
        sequential.massart(0.1, 0.05, 0.05)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ArgumentError, match="values must be finite"):
        sequential.bounded_mean_interval([0.2, np.nan])
    with pytest.raises(ArgumentError, match="p must be finite"):
        sequential.operating(RULES["Chernoff"], [0.1, np.nan])
    with pytest.raises(ArgumentError, match="each 0 or 1"):
        sequential.estimate(RULES["Chernoff"], lambda count: [np.nan] * count)
    with pytest.raises(ArgumentError, match="successes must be"):
        sequential.clopper_pearson(3, 2)


def test_an_oracle_that_gives_too_few_outcomes_is_refused():
    with pytest.raises(ValueError, match="must be 292 outcomes"):
        sequential.estimate(RULES["Chernoff"], lambda count: [True] * 3)


def test_simultaneous_half_width_grows_with_the_images_and_falls_to_theta_for_one():
    assert sequential.simultaneous_theta(292, 1, GAMMA) <= THETA
    assert sequential.simultaneous_theta(292, 100, GAMMA) > THETA


def test_rules_whose_tables_are_too_large_are_refused_by_name():
    assert sequential.chernoff_count(0.001, 0.001) > 10**6
    rules = (
        sequential.chernoff,
        lambda *wanted: sequential.massart(*wanted, 0.0005),
        sequential.betting,
        sequential.hedged,
        sequential.group_sequential,
    )
    for rule in rules:
        with pytest.raises(ArgumentError, match="theta must be large enough"):
            rule(0.001, 0.001)
