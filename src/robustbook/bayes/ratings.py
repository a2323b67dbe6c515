"""Who answers what, when images are degraded: a hierarchical logistic model of ratings
with cumulative effects of severity, fitted by Hamiltonian Monte Carlo.

Read `Ratings` (the model, after Makino et al. 2022), then `fit` (chains that start and
step where a Laplace approximation says), `RatingPosterior` (effects and predictive
probabilities) and `fit_mean_field` (independent normals, as the paper fitted it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from robustbook import checks
from robustbook.bayes import hmc
from robustbook.checks import ArgumentError
from robustbook.draws import normal, order

NEWTON_STEPS = 30
STEPS = 4
"""Leapfrog steps of a transition: in whitened coordinates a few span the posterior."""
PAIRS = 4
"""Antithetic pairs of draws for each step of the mean-field fit."""


class Ratings:
    """The model of `given` (raters, severities, cases) in [0, 1], NaN where not rated.

    The logit of an answer is case + effect of the severity + rater + level. The effect
    is a running sum over severities that starts at 0; each case, step, rater and the
    level have a standard normal prior. Answers count by their (soft) cross-entropy, so
    that a network's probability is a rating like a reader's yes.

    Raises ArgumentError if `given` has another form, holds nothing, or leaves [0, 1].
    """

    def __init__(self, given: Tensor) -> None:
        allowed = "a tensor (raters, severities, cases) of two severities or more"
        right = isinstance(given, Tensor) and given.is_floating_point()
        if not right or given.dim() != 3 or given.shape[1] < 2:
            raise ArgumentError("given", allowed, given)
        self.rated = ~given.isnan()
        if not self.rated.any():
            raise ArgumentError("given", "rated somewhere", "NaN alone")
        answers = given[self.rated]
        if not bool(((answers >= 0) & (answers <= 1)).all()):
            raise ArgumentError("given", "in [0, 1]", float(answers.abs().max()))
        self.raters, self.severities, self.cases = given.shape
        self.answers = given.double().nan_to_num(0.0).flatten(0, 1)
        self.weight = self.rated.double().flatten(0, 1)
        ones = self.weight.new_ones
        raters = ones(self.raters).diag().repeat_interleave(self.severities, 0)
        steps = ones(self.severities, self.severities - 1).tril(-1)
        level = ones(self.raters * self.severities, 1)
        self.design = torch.cat([steps.repeat(self.raters, 1), raters, level], dim=1)

    @property
    def size(self) -> int:
        """How many numbers a position has: cases, steps, raters, level."""
        return self.cases + self.design.shape[1]

    def logits(self, position: Tensor) -> Tensor:
        """Logits (C, raters * severities, cases) at `position` (C, size)."""
        shared = position[:, self.cases :] @ self.design.T
        return position[:, None, : self.cases] + shared[:, :, None]

    def potential(self, position: Tensor) -> Tensor:
        """Minus the log posterior density (C,) at `position` (C, size), up to a
        constant.
        """
        logits = self.logits(position)
        likelihood = self.weight * (self.answers * logits - softplus(logits))
        return position.square().sum(1) / 2 - likelihood.sum((1, 2))

    def curvature(self, position: Tensor) -> Tensor:
        """Second derivatives (size, size) of the potential at a `position` (size,)."""
        chance = self.logits(position[None])[0].sigmoid()
        weight = self.weight * chance * (1 - chance)
        found = weight.new_ones(self.size).diag()
        cases = slice(0, self.cases)
        found[cases, cases] += weight.sum(0).diag()
        found[cases, self.cases :] = weight.T @ self.design
        found[self.cases :, cases] = found[cases, self.cases :].T
        found[self.cases :, self.cases :] += (
            self.design.T * weight.sum(1)
        ) @ self.design
        return found

    def mode(self) -> Tensor:
        """The most probable position (size,), by Newton's method."""
        position = self.answers.new_zeros(1, self.size)
        for _ in range(NEWTON_STEPS):
            point = hmc.evaluate(self.potential, position)
            step = torch.linalg.solve(self.curvature(position[0]), point.gradient[0])
            size = 1.0  # halved until the potential falls
            while (
                size > 1e-6 and self.potential(position - size * step) > point.potential
            ):
                size /= 2
            position = position - size * step
            if step.abs().max() < 1e-8:
                break
        return position[0]


@dataclass(frozen=True, eq=False)
class RatingPosterior:
    """Draws of the model: `cases` (T, cases), cumulative `effects` (T, severities) that
    start at 0, `raters` (T, raters), `level` (T,); R-hat of each effect but the first.
    """

    cases: Tensor
    effects: Tensor
    raters: Tensor
    level: Tensor
    r_hat: Tensor

    def predictive(self, generator: Generator | None = None) -> Tensor:
        """Posterior-predictive probabilities (raters, severities, cases): the mean
        sigmoid over draws.

        With a generator each block of parameters takes its draws in an order of its
        own, as the code of Makino et al. does: harmless where blocks are independent
        (mean-field fits), not where a posterior ties them together.
        """
        blocks = [self.cases, self.effects, self.raters, self.level]
        if generator is not None:
            blocks = [each[order(len(each), each, generator)] for each in blocks]
        cases, effects, raters, level = blocks
        found = cases.new_zeros(raters.shape[1], effects.shape[1], cases.shape[1])
        for rater in range(raters.shape[1]):
            shared = effects + raters[:, rater, None] + level[:, None]
            for severity in range(effects.shape[1]):
                logits = cases + shared[:, severity, None]
                found[rater, severity] = logits.sigmoid().mean(0)
        return found


def fit(
    given: Tensor, *, draws: int, warmup: int, chains: int = 4, generator: Generator
) -> RatingPosterior:
    """The posterior of `Ratings(given)` by `chains` chains of `draws` draws after
    `warmup` transitions.

    Chains move in coordinates in which the Laplace approximation at the mode is a
    standard normal, and start spread as widely as it.

    Raises ArgumentError as `Ratings` does and for numbers out of range,
    ChainDivergedError if a chain diverges.
    """
    model = Ratings(given)
    chains = checks.whole(chains, "chains", at_least=2)
    draws = checks.whole(draws, "draws", at_least=4)
    checks.generator(generator)
    mode = model.mode()
    factor = torch.linalg.cholesky(model.curvature(mode))

    def position(white: Tensor) -> Tensor:
        """Of `white` coordinates (C, size): mode + L^-T white, with curvature L L^T."""
        shift = torch.linalg.solve_triangular(factor.T, white.T, upper=True)
        return mode + shift.T

    start = normal((chains, model.size), mode, generator)
    found = hmc.sample(
        lambda white: model.potential(position(white)),
        start,
        draws=draws,
        warmup=warmup,
        steps=STEPS,
        step_size=0.5,
        generator=generator,
    )
    drawn = position(found.draws.flatten(0, 1))
    steps = drawn[:, model.cases :][:, : model.severities - 1].cumsum(1)
    by_chain = steps.reshape(chains, draws, -1)
    worst = [hmc.diagnose(each[..., None]).worst_r_hat for each in by_chain.unbind(2)]
    return _posterior(model, drawn, drawn.new_tensor(worst))


def _posterior(model: Ratings, drawn: Tensor, r_hat: Tensor) -> RatingPosterior:
    """The parts of drawn positions (T, size)."""
    cases, rest = drawn[:, : model.cases], drawn[:, model.cases :]
    steps = model.severities - 1
    effects = torch.cat([rest.new_zeros(len(rest), 1), rest[:, :steps].cumsum(1)], 1)
    return RatingPosterior(cases, effects, rest[:, steps:-1], rest[:, -1], r_hat)


@torch.enable_grad()
def fit_mean_field(
    given: Tensor, *, draws: int, steps: int = 1500, generator: Generator
) -> RatingPosterior:
    """`draws` draws of the independent normal distributions that are nearest to the
    posterior of `Ratings(given)` (Kullback-Leibler, by `steps` steps of Adam).

    Where raters hardly ever say yes the posterior is skewed, and its nearest normals
    lie farther out than its mean. Raises ArgumentError as `fit` does.
    """
    model = Ratings(given)
    draws = checks.whole(draws, "draws", at_least=1)
    steps = checks.whole(steps, "steps", at_least=3)
    mode = model.mode()
    mean = mode.clone().requires_grad_()
    log_sd = (-model.curvature(mode).diagonal().log() / 2).requires_grad_()
    optimiser = torch.optim.Adam([mean, log_sd], lr=0.03)
    averages = [torch.zeros_like(mode), torch.zeros_like(mode)]
    last = steps // 3  # the steps over which both are averaged, at a small rate
    for step in range(steps):
        if step == steps - last:
            optimiser.param_groups[0]["lr"] = 0.005
        half = normal((PAIRS, model.size), mode, generator)
        positions = mean + log_sd.exp() * torch.cat([half, -half])
        loss = model.potential(positions).mean() - log_sd.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step >= steps - last:
            for average, now in zip(averages, (mean, log_sd), strict=True):
                average += now.detach() / last
    noise = normal((draws, model.size), mode, generator)
    drawn = averages[0] + averages[1].exp() * noise
    return _posterior(model, drawn, drawn.new_ones(model.severities - 1))
