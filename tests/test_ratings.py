"""The model of ratings: its potential is the formula, its chains find known effects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustbook.bayes import ratings
from robustbook.bayes.ratings import Ratings, fit, fit_mean_field
from robustbook.checks import ArgumentError

NAN = float("nan")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def simulated(effects: list[float], raters: int, cases: int) -> torch.Tensor:
    """Yes and no of readers who each see a case at one severity."""
    rng = np.random.default_rng(3)
    logits = (
        rng.normal(size=(1, 1, cases))
        + np.array(effects)[None, :, None]
        + 0.5 * rng.normal(size=(raters, 1, 1))
    )
    given = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    severity = rng.integers(len(effects), size=(raters, cases))
    seen = severity[:, None] == np.arange(len(effects))[None, :, None]
    return torch.from_numpy(np.where(seen, given, NAN))


def test_the_potential_is_the_sum_over_ratings_of_the_formula() -> None:
    given = torch.tensor([[[1.0, NAN], [0.2, 0.0], [NAN, 1.0]]] * 2)
    given[1, 0] = NAN
    model = Ratings(given)
    case, steps, rater, level = [0.3, -0.4], [0.5, -1.0], [0.1, 0.7], -0.2
    position = torch.tensor([[*case, *steps, *rater, level]], dtype=torch.float64)
    expected = sum(x**2 / 2 for x in (*case, *steps, *rater, level))
    for r in range(2):
        for s in range(3):
            for i in range(2):
                answer = float(given[r, s, i])
                if math.isnan(answer):
                    continue
                logit = case[i] + sum(steps[:s]) + rater[r] + level
                chance = 1 / (1 + math.exp(-logit))
                expected -= answer * math.log(chance)
                expected -= (1 - answer) * math.log(1 - chance)
    assert float(model.potential(position)) == pytest.approx(expected, rel=1e-6)
    hessian = torch.autograd.functional.hessian(
        lambda x: model.potential(x[None])[0], position[0]
    )
    assert torch.allclose(model.curvature(position[0]), hessian, atol=1e-9)


def test_chains_agree_and_find_the_effects_that_readers_were_simulated_with() -> None:
    truth = [0.0, -0.5, -1.5, -1.5]
    given = simulated(truth, raters=12, cases=120)
    found = fit(given, draws=150, warmup=50, generator=generator())
    mean, spread = found.effects.mean(0), found.effects.std(0)
    assert found.effects[:, 0].abs().max() == 0
    assert float(found.r_hat.max()) < 1.03
    assert ((mean - torch.tensor(truth)).abs()[1:] < 3 * spread[1:]).all()
    assert (spread[1:] < 0.35).all()
    nearest = fit_mean_field(given, draws=600, steps=600, generator=generator())
    assert (nearest.effects.mean(0) - mean).abs().max() < 0.15


def test_a_prediction_is_the_mean_over_draws_of_one_position_at_a_time() -> None:
    # Case and level cancel in every draw, so the logit is 0 throughout; in orders of
    # their own they do not.
    level = torch.linspace(-6, 6, 50)
    posterior = ratings.RatingPosterior(
        -level[:, None].repeat(1, 2),
        torch.zeros(50, 3),
        torch.zeros(50, 1),
        level,
        torch.ones(2),
    )
    together = posterior.predictive()
    assert together.shape == (1, 3, 2)
    assert torch.allclose(together, torch.full_like(together, 0.5), atol=1e-6)
    apart = fit_predictive = posterior.predictive(generator())
    assert torch.equal(apart, fit_predictive)
    lopsided = ratings.RatingPosterior(
        1 - level[:, None].repeat(1, 2),
        torch.zeros(50, 3),
        torch.zeros(50, 1),
        level,
        torch.ones(2),
    )
    assert float(lopsided.predictive()[0, 0, 0]) == pytest.approx(0.731, abs=1e-3)
    assert float(lopsided.predictive(generator())[0, 0, 0]) < 0.65


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(3, 4), "given"),
        (torch.zeros(2, 1, 4), "given"),
        (torch.full((2, 2, 2), NAN), "rated somewhere"),
        (torch.full((2, 2, 2), 1.5), r"in \[0, 1\]"),
    ],
)
def test_ratings_that_are_none_are_refused(given: torch.Tensor, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        fit(given, draws=10, warmup=5, generator=generator())
