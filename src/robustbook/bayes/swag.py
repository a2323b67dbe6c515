"""SWAG: a Gaussian through the points that stochastic gradient descent visits (Maddox
et al. 2019).

Read `Swag` (the posterior) first, then `gaussian_of` (the Gaussian of some points),
then `fit_swag` (the points).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module
from torch.nn.utils import parameters_to_vector

from robustbook import checks
from robustbook.bayes.protocol import training_data
from robustbook.bayes.weights import WeightSamples
from robustbook.checks import ArgumentError
from robustbook.draws import normal, order
from robustbook.models.training import TrainingDiverged


@dataclass(frozen=True, eq=False)
class Swag:
    """Weights N(`mean`, (diag(`variance`) + `deviations`^T `deviations` / (R - 1)) / 2)
    of `network`, all of them (P,) in one vector; `deviations` (R, P).

    Raises ArgumentError if the sizes do not fit or a variance is negative.
    """

    network: Module
    mean: Tensor
    variance: Tensor
    deviations: Tensor

    def __post_init__(self) -> None:
        count = sum(p.numel() for p in checks.network(self.network).parameters())
        for name in ("mean", "variance"):
            given = checks.tensor(getattr(self, name), name, dimensions=1)
            if len(given) != count:
                raise ArgumentError(name, f"a tensor ({count},)", given)
        if bool((self.variance < 0).any()):
            raise ArgumentError("variance", "at least 0", "negative ones")
        given = checks.tensor(self.deviations, "deviations", dimensions=2)
        if given.shape[1] != count or len(given) < 2:
            raise ArgumentError("deviations", f"a tensor (2 or more, {count})", given)

    @property
    def architecture(self) -> Module:
        """The network whose weights are distributed."""
        return self.network

    def vectors(self, count: int, generator: Generator) -> Tensor:
        """`count` independent draws of all weights, (count, P)."""
        count = checks.whole(count, "count", at_least=1)
        own = normal((count, len(self.mean)), self.mean, checks.generator(generator))
        shared = normal((count, len(self.deviations)), self.mean, generator)
        low_rank = shared @ self.deviations / (2 * (len(self.deviations) - 1)) ** 0.5
        return self.mean + own * (self.variance / 2).sqrt() + low_rank

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples."""
        return as_weights(self.network, self.vectors(count, generator))


def as_weights(network: Module, vectors: Tensor) -> WeightSamples:
    """Vectors of all weights (S, P), in the order of `parameters()`, as samples.

    Raises ArgumentError if P is not the number of weights.
    """
    checks.tensor(vectors, "vectors", dimensions=2)
    own = dict(checks.network(network, "network").named_parameters())
    sizes = [tensor.numel() for tensor in own.values()]
    if vectors.shape[1] != sum(sizes):
        raise ArgumentError("vectors", f"a tensor (S, {sum(sizes)})", vectors)
    parts = vectors.split(sizes, dim=1)
    return WeightSamples(
        network,
        {
            name: part.reshape(len(vectors), *tensor.shape)
            for (name, tensor), part in zip(own.items(), parts, strict=True)
        },
    )


def gaussian_of(network: Module, points: Tensor, *, rank: int) -> Swag:
    """The posterior whose mean and variances are those of `points` (T, P), and whose
    deviations are those of the last `rank` points from the mean.

    The deviations are from the final mean, not from the mean so far, as in the paper's
    memory-saving form. Raises ArgumentError if `rank` is not in 2 ... T.
    """
    points = checks.tensor(points, "points", dimensions=2)
    rank = checks.whole(rank, "rank", at_least=2, at_most=len(points))
    mean = points.mean(dim=0)
    variance = points.var(dim=0, unbiased=False)
    return Swag(network, mean, variance, points[-rank:] - mean)


@torch.enable_grad()
def fit_swag(
    network: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    seed: int,
    learning_rate: float = 0.05,
    prior_sd: float = 1.0,
    rank: int = 20,
    points_an_epoch: int = 4,
    batch: int = 100,
) -> Swag:
    """Descend further from the trained weights of `network` at a constant rate, and fit
    the Gaussian to points on the way.

    The loss is the cross-entropy with the L2 penalty of an N(0, `prior_sd`^2) prior.
    The rate sets the spread: the method takes the noise of the batches for that of the
    posterior. The network is left as it was.

    Raises ArgumentError for images, labels and numbers that it cannot take,
    TrainingDiverged if the weights stop being finite.
    """
    epochs = checks.whole(epochs, "epochs", at_least=1)
    batch = checks.whole(batch, "batch", at_least=1)
    each = checks.whole(points_an_epoch, "points_an_epoch", at_least=1)
    rate = checks.real(learning_rate, "learning_rate", above=0)
    prior_sd = checks.real(prior_sd, "prior_sd", above=0)
    generator = Generator(device="cpu").manual_seed(
        checks.whole(seed, "seed", at_least=0)
    )
    images, labels = training_data(network, images, labels)
    moving = copy.deepcopy(network).requires_grad_().eval()
    decay = 1 / (prior_sd**2 * len(images))
    optimiser = torch.optim.SGD(moving.parameters(), lr=rate, weight_decay=decay)
    points: list[Tensor] = []
    for _ in range(epochs):
        parts = order(len(images), images, generator).split(batch)
        kept = {(place + 1) * len(parts) // each - 1 for place in range(each)}
        for place, rows in enumerate(parts):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(moving(images[rows]), labels[rows]).backward()
            optimiser.step()
            if place in kept:
                points.append(parameters_to_vector(moving.parameters()).detach())
    if not bool(torch.isfinite(points[-1]).all()):
        raise TrainingDiverged(f"the weights left all bounds at rate {rate:g}")
    if len(points) < 2:
        raise ArgumentError("epochs", "enough for two points", epochs)
    found = copy.deepcopy(network).eval()
    return gaussian_of(found, torch.stack(points), rank=min(rank, len(points)))
