"""Is a sampler right? Simulation-based calibration (Talts et al. 2018).

Draw a network from the prior and labels from the network, sample the posterior given
these labels, and take the rank of the first network among the samples: if the sampler
is right all ranks are equally likely. Read `ranks` first, then `uniformity`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from robustbook import checks
from robustbook.bayes.hmc import Potential
from robustbook.bayes.protocol import probabilities
from robustbook.bayes.split_hmc import ScaledNetwork
from robustbook.checks import ArgumentError
from robustbook.draws import uniform

Sampler = Callable[[Potential, Tensor, Generator], Tensor]
"""`(misfit, start (R, D), generator) -> draws (R, L, D)`: one chain a replicate, on the
posterior of a standard normal prior and the misfit of that replicate's labels.
"""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks (R, Q) of the truth among `draws` samples of each of R replicates, from 0
    to `draws`, for Q quantities.
    """

    values: NDArray[np.int64]
    draws: int
    quantities: tuple[str, ...]


@torch.no_grad()
def ranks(
    network: ScaledNetwork,
    sampler: Sampler,
    *,
    replicates: int,
    generator: Generator,
) -> Ranks:
    """Ranks of three quantities: the log likelihood of a replicate's own labels, the
    mean probability of the last class over the images, and the squared norm of the
    weights in prior standard deviations.

    All replicates are sampled at once; `network.labels` are not used. Chains start at
    draws of the prior that are independent of the truth.

    Raises ArgumentError if the sampler returns other than one chain a replicate.
    """
    checks.having(network, "network", "weights", "prior", "images")
    replicates = checks.whole(replicates, "replicates", at_least=2)
    truth = network.prior(replicates, generator)
    labels = _labels(network.weights(truth).logits(network.images), generator)

    def misfit(positions: Tensor) -> Tensor:
        logits = network.weights(positions).unchecked_logits(network.images)
        return -_log_likelihood(logits, labels)

    start = network.prior(replicates, generator)
    draws = sampler(misfit, start, generator)
    if draws.dim() != 3 or len(draws) != replicates or draws.shape[2] != truth.shape[1]:
        allowed = f"a sampler of draws ({replicates}, L, {truth.shape[1]})"
        raise ArgumentError("sampler", allowed, draws)
    count = draws.shape[1]
    here = _quantities(network, truth, misfit)
    below = sum(
        (_quantities(network, draws[:, at], misfit) < here).long()
        for at in range(count)
    )
    assert isinstance(below, Tensor)
    names = ("log likelihood", "mean probability", "norm of the weights")
    return Ranks(below.numpy(), count, names)


def _labels(logits: Tensor, generator: Generator) -> Tensor:
    """A label (R, N) of each image by the probabilities of logits (R, N, K)."""
    shares = probabilities(logits).cumsum(-1)
    point = uniform((*shares.shape[:-1], 1), shares, generator)
    return (shares[..., :-1] < point).sum(-1)


def _log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Log likelihood (R,) of labels (R, N) under logits (R, N, K)."""
    if logits.shape[-1] == 1:
        signs = labels * 2 - 1
        return torch.nn.functional.logsigmoid(signs * logits.squeeze(-1)).sum(1)
    return logits.log_softmax(-1).gather(-1, labels[..., None]).sum((1, 2))


def _quantities(network: ScaledNetwork, positions: Tensor, misfit: Potential) -> Tensor:
    logits = network.weights(positions).unchecked_logits(network.images)
    return torch.stack(
        [
            -misfit(positions),
            probabilities(logits)[..., -1].mean(1),
            positions.square().sum(1),
        ],
        dim=1,
    )


def uniformity(found: Ranks, bins: int = 10) -> dict[str, float]:
    """The p-value of each quantity: how likely ranks as uneven as these are if the
    sampler is right (chi-squared test on `bins` groups of as equal size as can be).

    Raises ArgumentError if there are fewer than five replicates a bin.
    """
    from scipy.stats import chisquare

    checks.having(found, "found", "values", "draws")
    bins = checks.whole(bins, "bins", at_least=2, at_most=found.draws + 1)
    if len(found.values) < 5 * bins:
        raise ArgumentError("bins", f"at most {len(found.values) // 5}", bins)
    places = np.arange(found.draws + 1) * bins // (found.draws + 1)
    expected = np.bincount(places, minlength=bins) / (found.draws + 1)
    return {
        name: float(
            chisquare(
                np.bincount(places[column], minlength=bins),
                expected * len(column),
            ).pvalue
        )
        for name, column in zip(found.quantities, found.values.T, strict=True)
    }
