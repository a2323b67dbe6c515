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

from robustbook.bayes.protocol import check_count
from robustbook.bayes.weights import WeightSamples
from robustbook.errors import ParameterError

MARGINAL_STEPS = 30
"""Steps of Adam on the logarithm of the prior's precision."""


@dataclass(frozen=True, eq=False)
class LastLayerLaplace:
    """Last layer's weights and biases N(`mean` (P,), `factor` `factor`^T (P, P)); all
    other weights are points.
    """

    network: nn.Sequential
    mean: Tensor
    factor: Tensor

    @property
    def architecture(self) -> nn.Sequential:
        """The network whose weights are distributed."""
        return self.network

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples; all layers but the last are shared by all
        of them.
        """
        check_count(count)
        last = len(self.network) - 1
        noise = torch.randn((count, len(self.mean)), generator=generator)
        drawn = self.mean + noise @ self.factor.T
        weights = {
            name: tensor.detach()[None]
            for name, tensor in self.network.named_parameters()
        }
        weight, bias = weights[f"{last}.weight"], weights[f"{last}.bias"]
        cut = weight[0].numel()
        weights[f"{last}.weight"] = drawn[:, :cut].reshape(count, *weight.shape[1:])
        weights[f"{last}.bias"] = drawn[:, cut:].reshape(count, *bias.shape[1:])
        return WeightSamples(self.network, weights)


def fit_last_layer(
    network: nn.Sequential,
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

    Raises ParameterError if the precision is not positive or the last layer is not
    linear.
    """
    from torch.utils.data import DataLoader, TensorDataset

    if prior_precision is not None and prior_precision <= 0:
        raise ParameterError(
            f"the prior precision must be positive, got {prior_precision}"
        )
    if not isinstance(network[-1], nn.Linear):
        raise ParameterError(
            f"the last layer must be linear, got {type(network[-1]).__name__}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _laplace(
            copy.deepcopy(network).eval(),
            DataLoader(TensorDataset(images, labels), batch_size=batch),
        )
        if prior_precision is None:
            found.optimize_prior_precision(
                method="marglik", n_steps=MARGINAL_STEPS, lr=0.3
            )
        else:
            found.prior_precision = torch.tensor(float(prior_precision))
    factor = found.posterior_scale.detach()
    return LastLayerLaplace(
        copy.deepcopy(network).eval(), found.mean.detach().clone(), factor.clone()
    )


def _laplace(model: nn.Module, loader: Any) -> Any:
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
