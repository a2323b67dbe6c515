"""The Laplace approximation of a network's last layer: a Gaussian with a full
covariance around the trained weights.

Read `LastLayerLaplace` (the posterior) first, then `fit_last_layer` (Daxberger et al.
2021; laplace-torch does the work).
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.protocol import training_data
from robustbook.bayes.weights import Part, WeightSamples
from robustbook.checks import ArgumentError
from robustbook.draws import normal
from robustbook.models.input_convolution import plain
from robustbook.models.network import chain

MARGINAL_STEPS = 30
"""Steps of Adam on the logarithm of the prior's precision."""


@dataclass(frozen=True, eq=False)
class LastLayerLaplace:
    """Last layer's weights and biases N(`mean` (P,), `factor` `factor`^T (P, P)); all
    other weights are points.

    Raises ArgumentError if the last layer is not linear, or mean and factor are not of
    its size.
    """

    network: Module
    mean: Tensor
    factor: Tensor

    def __post_init__(self) -> None:
        names = _last_layer(self.network)
        own = dict(self.network.named_parameters())
        count = sum(own[name].numel() for name in names)
        checks.tensor(self.mean, "mean", dimensions=1)
        checks.tensor(self.factor, "factor", dimensions=2)
        if len(self.mean) != count:
            raise ArgumentError("mean", f"a tensor ({count},)", self.mean)
        if self.factor.shape[0] != count:
            raise ArgumentError("factor", f"a tensor ({count}, {count})", self.factor)

    @property
    def architecture(self) -> Module:
        """The network whose weights are distributed."""
        return self.network

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples; all layers but the last are shared by all
        of them.
        """
        count = checks.whole(count, "count", at_least=1)
        shape = (count, self.factor.shape[1])
        noise = normal(shape, self.mean, checks.generator(generator))
        drawn = self.mean + noise @ self.factor.T
        weights = {
            name: tensor.detach()[None]
            for name, tensor in self.network.named_parameters()
        }
        names = _last_layer(self.network)
        parts = drawn.split([weights[name].numel() for name in names], dim=1)
        for name, part in zip(names, parts, strict=True):
            weights[name] = part.reshape(count, *weights[name].shape[1:])
        return WeightSamples(self.network, weights)


def _last_layer(network: Module) -> list[str]:
    """Names of the parameters of the last layer, the weight first.

    Raises ArgumentError if it is not linear.
    """
    last = chain(checks.network(network, "network"))[-1:]
    if not last or not plain(last[0], nn.Linear):
        found = ", ".join(type(layer).__name__ for layer in last) or "none"
        raise ArgumentError("the last layer of network", "nn.Linear", found)
    return list(Part.of(network, last).names.values())


@torch.enable_grad()
def fit_last_layer(
    network: Module,
    images: Tensor,
    labels: Tensor,
    *,
    prior_precision: float | None = None,
    batch: int = 256,
) -> LastLayerLaplace:
    """Fit the Gaussian on `images` (N, C, H, W) and `labels` (N,) around the trained
    weights of `network`.

    Without a `prior_precision` (1 / variance) it is the one that maximises the Laplace
    marginal likelihood. The full generalised Gauss-Newton matrix is used. The network
    is left as it was.

    Raises ArgumentError for images, labels and numbers that it cannot take, or if the
    last layer is not linear.
    """
    from torch.utils.data import DataLoader, TensorDataset

    if prior_precision is not None:
        prior_precision = checks.real(prior_precision, "prior_precision", above=0)
    batch = checks.whole(batch, "batch", at_least=1)
    _last_layer(network)
    data = TensorDataset(*training_data(network, images, labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _laplace(
            copy.deepcopy(network).eval().requires_grad_(),
            DataLoader(data, batch_size=batch),
        )
        if prior_precision is None:
            found.optimize_prior_precision(
                method="marglik", n_steps=MARGINAL_STEPS, lr=0.3
            )
        else:
            found.prior_precision = torch.tensor(
                prior_precision, device=data[0][0].device
            )
    factor = found.posterior_scale.detach()
    return LastLayerLaplace(
        copy.deepcopy(network).eval(), found.mean.detach().clone(), factor.clone()
    )


def _laplace(model: Module, loader: Any) -> Any:
    """The fitted approximation of the library, which is typed as a base class that
    lacks what is used here.
    """
    from laplace import Laplace

    found = Laplace(
        model,
        "classification",
        subset_of_weights="last_layer",
        hessian_structure="full",
    )
    found.fit(loader)
    return found
