"""Fixed numbers of outcomes from exact binomial probabilities, errors and decisions of
rules: against loops over outcomes.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from robustbook.measure import exact_counts, sequential

THETA, GAMMA, ALPHA = 0.075, 0.075, 0.05


def failure(count, theta, p):
    k = np.arange(count + 1)
    missed = np.abs(k / count - p) > theta + 1e-12
    return float(binom.pmf(k, count, p)[missed].sum())


@pytest.mark.parametrize(("theta", "gamma"), [(0.075, 0.075), (0.2, 0.1)])
def test_the_number_is_the_fewest_whose_exact_failure_is_small(theta, gamma):
    count = exact_counts.exact_binomial(theta, gamma).horizon
    fine = np.linspace(0, 1, 4001)
    k = np.arange(count + 1) / count
    near = np.concatenate([k + theta, k - theta])
    near = np.concatenate([near - 1e-9, near + 1e-9])
    points = np.concatenate([fine, near[(near > 0) & (near < 1)]])
    worst = max(failure(count, theta, p) for p in points)
    assert worst <= gamma
    found = exact_counts.worst_binomial_failure(count, theta)
    assert found == pytest.approx(worst, abs=1e-4)
    assert found >= worst - 1e-9
    assert exact_counts.worst_binomial_failure(count - 1, theta) > gamma
    assert count < sequential.chernoff_count(theta, gamma) * 0.6


def test_the_published_pair_needs_half_of_chernoffs_number():
    rule = exact_counts.exact_binomial(THETA, GAMMA)
    assert rule.horizon == 147
    assert sequential.worst_failure(rule) <= GAMMA


def test_errors_and_declarations_are_sums_over_outcomes():
    rule = exact_counts.exact_binomial(0.2, 0.1)
    n, k = rule.horizon, np.arange(rule.horizon + 1)
    for p in (0.0, 0.13, 0.5):
        chances = binom.pmf(k, n, p)
        error = np.sqrt((chances * (k / n - p) ** 2).sum())
        assert exact_counts.typical_error(rule, p)[0] == pytest.approx(error)
        said = chances[k / n + 0.2 <= 0.3 + 1e-9].sum()
        found = exact_counts.declared_robust(rule, p, 0.3)[0]
        assert found == pytest.approx(said, abs=1e-12)


def test_no_rule_declares_robust_too_often():
    rules = dict(sequential.rules(THETA, GAMMA, ALPHA))
    rules["exact binomial"] = exact_counts.exact_binomial(THETA, GAMMA)
    for rule in rules.values():
        for eta in (0.1, 0.25, 0.5):
            above = np.linspace(eta, 1, 50)
            wrong = exact_counts.declared_robust(rule, above, eta)
            assert wrong.max() <= GAMMA
            assert (np.diff(wrong) <= 1e-12).all()


def test_the_mirrored_rule_treats_p_and_its_complement_alike():
    mirrored = exact_counts.mirrored_massart(THETA, GAMMA, ALPHA)
    published = sequential.massart(THETA, GAMMA, ALPHA)
    for p in (0.0, 0.1, 0.3):
        low, high = sequential.operating(mirrored, [p, 1 - p]).mean_count
        assert low == pytest.approx(high)
        assert low == pytest.approx(sequential.operating(published, p).mean_count[0])
        assert sequential.operating(published, 1 - p).mean_count[0] >= high
