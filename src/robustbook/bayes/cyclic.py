"""Stochastic-gradient MCMC with cyclic steps (Zhang et al. 2020): large steps find a
mode, small ones with noise sample it, again and again.

Read `step_sizes` (one cycle after the other) first, then `sample` (the chain, of any
gradient), then `fit_cyclic` (of a network's weights).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from robustbook import checks
from robustbook.bayes.protocol import Empirical, training_data
from robustbook.bayes.swag import as_weights
from robustbook.checks import ArgumentError
from robustbook.draws import normal, order
from robustbook.models.training import TrainingDiverged

EXPLORED = 0.5
"""Share of a cycle that only descends; noise is added after it (beta of the paper)."""


def step_sizes(steps: int, cycles: int, first: float) -> list[float]:
    """Step sizes of all cycles: each falls from `first` to nearly 0 along half a
    cosine (equation 1 of the paper).

    >>> [round(size, 2) for size in step_sizes(4, 2, 1.0)]
    [1.0, 0.5, 1.0, 0.5]
    """
    steps = checks.whole(steps, "steps", at_least=1)
    cycles = checks.whole(cycles, "cycles", at_least=1, at_most=steps)
    first = checks.real(first, "first", above=0)
    length = math.ceil(steps / cycles)
    return [
        first / 2 * (math.cos(math.pi * (step % length) / length) + 1)
        for step in range(steps)
    ]


def sample(
    gradient: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    steps: int,
    cycles: int,
    step_size: float,
    keep: int,
    generator: Generator,
    temperature: float = 1.0,
    explore: float = EXPLORED,
) -> Tensor:
    """Points (S, P) of a density exp(-U / `temperature`), from an unbiased `gradient`
    of U at a point (P,), beginning at `start` (P,).

    A step is w - a grad U(w). The share `explore` of every cycle does no more; after it
    noise N(0, 2 a `temperature`) is added (Langevin dynamics), and `keep` points are
    kept there, evenly spaced, the last of the cycle among them.

    Raises ArgumentError for numbers that it cannot take, TrainingDiverged if a point
    stops being finite.
    """
    point = checks.tensor(start, "start", dimensions=1).clone()
    checks.generator(generator)
    steps = checks.whole(steps, "steps", at_least=1)
    step_size = checks.real(step_size, "step_size", above=0)
    keep = checks.whole(keep, "keep", at_least=1)
    temperature = checks.real(temperature, "temperature", at_least=0)
    sizes = step_sizes(steps, cycles, step_size)
    length = math.ceil(steps / cycles)
    explore = checks.real(explore, "explore", at_least=0, below=1)
    noisy = max(1, length - math.ceil(explore * length))
    if keep > noisy:
        allowed = f"at most {noisy}, the noisy steps of a cycle"
        raise ArgumentError("keep", allowed, keep)
    kept = {length - 1 - round(place * noisy / keep) for place in range(keep)}
    points = []
    for step, size in enumerate(sizes):
        place = step % length
        point = point - size * gradient(point)
        if place >= length - noisy:
            noise = normal(point.shape, point, generator)
            point = point + math.sqrt(2 * size * temperature) * noise
        if place in kept:
            points.append(point.clone())
    if not bool(torch.isfinite(point).all()):
        raise TrainingDiverged(f"the chain left all bounds at step size {step_size:g}")
    return torch.stack(points)


@torch.enable_grad()
def fit_cyclic(
    network: Module,
    images: Tensor,
    labels: Tensor,
    *,
    prior_sd: float,
    epochs: int,
    cycles: int,
    keep: int,
    seed: int,
    learning_rate: float = 0.1,
    temperature: float = 1.0,
    batch: int = 100,
) -> Empirical:
    """`cycles` times `keep` networks from the posterior of all weights under an
    N(0, `prior_sd`^2) prior, by `sample` with batches, beginning at `network`.

    `learning_rate` is the first step per training image: the step on the whole
    potential is that over their number. The network is left as it was.

    Raises ArgumentError and TrainingDiverged as `sample` does, and ArgumentError for
    images and labels that it cannot take.
    """
    prior_sd = checks.real(prior_sd, "prior_sd", above=0)
    epochs = checks.whole(epochs, "epochs", at_least=1)
    batch = checks.whole(batch, "batch", at_least=1)
    rate = checks.real(learning_rate, "learning_rate", above=0)
    generator = Generator(device="cpu").manual_seed(
        checks.whole(seed, "seed", at_least=0)
    )
    images, labels = training_data(network, images, labels)
    moving = copy.deepcopy(network).requires_grad_().eval()
    waiting: list[Tensor] = []

    def gradient(point: Tensor) -> Tensor:
        if not waiting:
            waiting.extend(order(len(images), images, generator).split(batch))
        rows = waiting.pop()
        vector_to_parameters(point, moving.parameters())
        with torch.enable_grad():
            fit = F.cross_entropy(moving(images[rows]), labels[rows])
            slopes = torch.autograd.grad(fit, list(moving.parameters()))
        return len(images) * parameters_to_vector(slopes) + point / prior_sd**2

    with torch.no_grad():
        points = sample(
            gradient,
            parameters_to_vector(network.parameters()),
            steps=epochs * math.ceil(len(images) / batch),
            cycles=cycles,
            step_size=rate / len(images),
            keep=keep,
            generator=generator,
            temperature=temperature,
        )
    return Empirical(as_weights(copy.deepcopy(network).eval(), points))
