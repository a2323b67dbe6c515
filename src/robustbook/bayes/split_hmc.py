"""Hamiltonian Monte Carlo that follows a Gaussian prior exactly, for networks whose
prior is scaled by fan-in.

Read `ScaledNetwork` first (what is sampled), then `flow` (a trajectory: kicks by the
likelihood, rotations by the prior; Shahbaba et al. 2014), then `sample`. In directions
that the data say nothing about a trajectory is a circle, whatever the step size, so the
step has to resolve the likelihood alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.hmc import (
    Chains,
    DualAveraging,
    Point,
    Potential,
    _evaluate,
    evaluate,
)
from robustbook.bayes.protocol import labels_for, log_likelihood
from robustbook.bayes.weights import WeightSamples
from robustbook.checks import ArgumentError
from robustbook.draws import normal, uniform

LARGEST_STEP = 1.0
"""Radians: a longer step says nothing about the likelihood between its ends."""


@dataclass(frozen=True, eq=False)
class ScaledNetwork:
    """The posterior of `architecture` given `images` (N, C, H, W) and `labels`, where a
    weight has the prior N(0, gain^2 / fan-in) and a bias N(0, bias_sd^2).

    So the prior of every unit's input has the same size in every layer (Neal 1996).
    Positions (C, D) are in units of the prior's standard deviations. Images may leave
    [0, 1].

    Raises ArgumentError for images, labels, networks and numbers that it cannot take.
    """

    architecture: Module
    images: Tensor
    labels: Tensor
    gain: float = math.sqrt(2)
    bias_sd: float = 0.1

    def __post_init__(self) -> None:
        images = checks.tensor(self.images, "images", dimensions=4)
        object.__setattr__(self, "images", images)
        checks.real(self.gain, "gain", above=0)
        checks.real(self.bias_sd, "bias_sd", above=0)
        labels = labels_for(self.architecture, images, self.labels)
        object.__setattr__(self, "labels", labels)
        if not list(self.architecture.parameters()):
            raise ArgumentError("architecture", "a network with weights", "none")

    def prior_sd(self, parameter: Tensor) -> float:
        """Standard deviation of the prior of a parameter: a bias has one dimension."""
        if parameter.dim() < 2:
            return self.bias_sd
        return self.gain / math.sqrt(parameter[0].numel())

    @cached_property
    def dimension(self) -> int:
        """Number of weights and biases."""
        return sum(each.numel() for each in self.architecture.parameters())

    def weights(self, positions: Tensor) -> WeightSamples:
        """The networks at positions (C, D)."""
        parts = dict(self.architecture.named_parameters())
        if positions.dim() != 2 or positions.shape[1] != self.dimension:
            allowed = f"a tensor (C, {self.dimension})"
            raise ArgumentError("positions", allowed, positions)
        split = positions.split([part.numel() for part in parts.values()], dim=1)
        shaped = {
            name: (self.prior_sd(part) * values).unflatten(1, part.shape)
            for (name, part), values in zip(parts.items(), split, strict=True)
        }
        return WeightSamples(self.architecture, shaped)

    def prior(self, count: int, generator: Generator) -> Tensor:
        """Positions (count, D) drawn from the prior."""
        count = checks.whole(count, "count", at_least=1)
        like = next(self.architecture.parameters()).detach()
        return normal((count, self.dimension), like, checks.generator(generator))

    def misfit(self, positions: Tensor) -> Tensor:
        """Minus the log likelihood (C,) of all labels at positions (C, D)."""
        logits = self.weights(positions).unchecked_logits(self.images)
        return -log_likelihood(logits, self.labels)


def flow(
    misfit: Potential,
    start: Point,
    momentum: Tensor,
    step_size: float | Tensor,
    steps: int,
) -> tuple[Point, Tensor]:
    """Follow Hamilton's equations of `misfit` plus a standard normal prior for `steps`
    steps, each of `step_size` radians (one number, or (C, 1) for each chain).

    Half a kick by the misfit's gradient, a rotation in the plane of position and
    momentum (the prior's exact motion), half a kick. `start.gradient` is the misfit's.

    Raises ArgumentError if `steps` is less than 1 or the momentum has another shape.
    """
    steps = checks.whole(steps, "steps", at_least=1)
    if momentum.shape != start.position.shape:
        shape = tuple(start.position.shape)
        raise ArgumentError("momentum", f"a tensor {shape}", momentum)
    angle = momentum.new_ones(()) * step_size
    cosine, sine = torch.cos(angle), torch.sin(angle)
    point = start
    for _ in range(steps):
        kicked = momentum - angle / 2 * point.gradient
        turned = cosine * point.position + sine * kicked
        momentum = cosine * kicked - sine * point.position
        point = _evaluate(misfit, turned)
        momentum = momentum - angle / 2 * point.gradient
    return point, momentum


def sample(
    misfit: Potential,
    start: Tensor,
    *,
    draws: int,
    warmup: int,
    steps: int,
    step_size: float,
    generator: Generator,
    target: float = 0.8,
    jitter: float = 0.2,
    thin: int = 1,
) -> Chains:
    """Run C chains from `start` (C, D) on the posterior of a standard normal prior and
    `misfit`, minus the log likelihood `(positions (C, D)) -> (C,)`.

    During `warmup` the step of each chain moves until its acceptance is `target`; then
    it varies by `jitter` either way, so that no trajectory is a full turn. Every
    `thin`-th of `draws` x `thin` positions is kept; `Chains.potential` is the misfit.

    Raises ArgumentError if `start` is not floating and finite or a number is out of
    range.
    """
    start = checks.tensor(start, "start", dimensions=2)
    checks.generator(generator)
    draws, steps, thin = (
        checks.whole(given, name, at_least=1)
        for given, name in ((draws, "draws"), (steps, "steps"), (thin, "thin"))
    )
    warmup = checks.whole(warmup, "warmup", at_least=0)
    step_size = checks.real(step_size, "step_size", above=0)
    jitter = checks.real(jitter, "jitter", at_least=0, below=1)
    point = evaluate(misfit, start)
    sizes = start.new_full((len(start),), step_size)
    adaptation = DualAveraging(sizes, target)
    for _ in range(warmup):
        size = adaptation.step_size.clamp(max=LARGEST_STEP)
        point, probability = _transition(misfit, point, size, steps, generator)
        adaptation.update(probability)
    if warmup:
        sizes = adaptation.final.clamp(max=LARGEST_STEP)
    kept, acceptance = [], start.new_zeros(len(start))
    for draw in range(draws * thin):
        varied = 1 + jitter * (2 * uniform((), start, generator) - 1)
        point, probability = _transition(
            misfit, point, sizes * varied, steps, generator
        )
        acceptance += probability
        if (draw + 1) % thin == 0:
            kept.append(point)
    return Chains(
        torch.stack([each.position for each in kept], dim=1),
        acceptance / (draws * thin),
        sizes,
        start.new_ones(()),
        torch.stack([each.potential for each in kept], dim=1),
    )


def _transition(
    misfit: Potential, start: Point, sizes: Tensor, steps: int, generator: Generator
) -> tuple[Point, Tensor]:
    """The chains' next points, and their probabilities of acceptance (C,)."""
    momentum = normal(start.position.shape, start.position, generator)
    end, last = flow(misfit, start, momentum, sizes[:, None], steps)
    error = _energy(end, last) - _energy(start, momentum)
    probability = torch.exp(-error).nan_to_num(0.0).clamp(max=1)
    accepted = uniform(error.shape, error, generator) < probability
    moved = Point(
        torch.where(accepted[:, None], end.position, start.position),
        torch.where(accepted, end.potential, start.potential),
        torch.where(accepted[:, None], end.gradient, start.gradient),
    )
    return moved, probability


def _energy(point: Point, momentum: Tensor) -> Tensor:
    return (
        point.potential
        + (point.position.square().sum(1) + momentum.square().sum(1)) / 2
    )
