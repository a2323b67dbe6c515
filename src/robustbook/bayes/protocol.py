"""What a posterior over networks is: `Posterior` draws joint weight samples;
`Empirical` draws from a finite set, and `as_posterior` makes one of your own networks.

Read `Posterior` first, then `Empirical` and `as_posterior`, then what logits of samples
say (`bayes.prediction` has their means over many samples).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks, draws
from robustbook.bayes.weights import WeightSamples, single, stack
from robustbook.checks import ArgumentError
from robustbook.models.network import beside


class Posterior(Protocol):
    """A distribution over the weights of one architecture."""

    @property
    def architecture(self) -> Module:
        """The network whose weights are distributed."""

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples of all weights; the generator alone
        determines them.

        Raises ArgumentError if `count` is less than 1 or there is no generator.
        """


@dataclass(frozen=True, eq=False)
class Empirical:
    """The uniform distribution over given samples: an HMC chain, an ensemble, or a
    single network.

    A draw picks whole networks, with replacement: the draws are independent given the
    samples, whatever their order or autocorrelation, so that what is estimated from
    them is a property of these samples.
    """

    samples: WeightSamples

    def __post_init__(self) -> None:
        checks.having(self.samples, "samples", "weights", "architecture")

    @property
    def architecture(self) -> Module:
        """The network whose weights are distributed."""
        return self.samples.architecture

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` of the samples, chosen uniformly and independently."""
        count = checks.whole(count, "count", at_least=1)
        checks.generator(generator)
        like = next(
            iter(self.samples.weights.values()),
            torch.zeros((), device=generator.device),
        )
        return self.samples.take(
            draws.whole((count,), len(self.samples), like, generator)
        )


def as_posterior(
    networks: Module | Sequence[Module],
    states: Sequence[Mapping[str, ArrayLike]] | None = None,
    *,
    means: Mapping[str, ArrayLike] | None = None,
    scales: Mapping[str, ArrayLike] | None = None,
) -> Posterior:
    """Your own posterior: networks of one architecture, one network and the state
    dictionary of each sample, or one network with means and standard deviations.

    >>> as_posterior([first, second])
    >>> as_posterior(network, [torch.load(path, weights_only=True) for path in paths])
    >>> as_posterior(network, means=means, scales=scales)

    Values are tensors or arrays by the parameter's name. Networks and states give an
    `Empirical`; `means` of all parameters and `scales` of those that vary a `MeanField`
    (independent Gaussians). All layers run in eval mode; nothing that is handed in is
    changed.

    Raises ArgumentError if there is no sample, the networks differ in their layers, or
    a state, means or scales do not fit the network.
    """
    if means is not None or scales is not None:
        return _gaussian(networks, states, means, scales)
    if not isinstance(networks, Module):
        if states is not None:
            raise ArgumentError("states", "None beside several networks", states)
        return Empirical(stack(networks))
    if states is None:
        return Empirical(stack([networks]))
    filled = [copy.deepcopy(networks) for _ in states]
    for network, state in zip(filled, states, strict=True):
        try:
            network.load_state_dict(_tensors_of(state, "states"))
        except (RuntimeError, TypeError) as error:
            allowed = "state dictionaries of the network"
            raise ArgumentError("states", allowed, str(error)) from None
    return Empirical(stack(filled))


def _gaussian(
    network: Module | Sequence[Module],
    states: object,
    means: Mapping[str, ArrayLike] | None,
    scales: Mapping[str, ArrayLike] | None,
) -> Posterior:
    from robustbook.bayes.mean_field import MeanField

    if not isinstance(network, Module) or states is not None:
        allowed = "one network without states beside means and scales"
        raise ArgumentError("networks", allowed, network)
    if means is None or scales is None:
        given = "scales" if means is None else "means"
        raise ArgumentError("means and scales", "both", f"{given} alone")
    return MeanField(
        network, _tensors_of(means, "means"), _tensors_of(scales, "scales")
    )


def _tensors_of(given: Mapping[str, ArrayLike], name: str) -> dict[str, Tensor]:
    """Arrays or tensors by name as tensors, arrays of float64 as float32."""
    if not isinstance(given, Mapping):
        raise ArgumentError(name, "values by the parameters' names", given)
    found = {}
    for key, value in given.items():
        if not isinstance(value, Tensor):
            array = np.asarray(value)
            value = torch.as_tensor(
                array.astype(np.float32) if array.dtype.kind == "f" else array
            )
        found[key] = value
    return found


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities (..., K) of logits (..., K); a single logit (..., 1) is that
    of the second of two classes.

    Raises ArgumentError if the logits are not floating and finite.
    """
    checks.tensor(logits, "logits")
    if logits.shape[-1] == 1:
        return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=-1)
    return torch.softmax(logits, dim=-1)


def decisions(logits: Tensor) -> Tensor:
    """The most probable class (...) of logits (..., K); a single logit decides by its
    sign.

    Raises ArgumentError if the logits are not floating and finite.
    """
    checks.tensor(logits, "logits")
    return (
        (logits.squeeze(-1) > 0).long()
        if logits.shape[-1] == 1
        else logits.argmax(dim=-1)
    )


def training_data(
    architecture: Module, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Images in the precision of the architecture, and labels below its number of
    logits (2 if it has one).

    Raises ArgumentError if any of the three cannot be taken.
    """
    images = checks.images(images)
    labels = labels_for(architecture, images, labels)
    return beside(architecture, images), labels


def labels_for(architecture: Module, images: Tensor, labels: Tensor) -> Tensor:
    """Labels (N,) of images below the architecture's number of logits (2 if it has
    one).

    Raises ArgumentError for other labels, or logits that are not finite, (N, K).
    """
    checks.network(architecture, "architecture")
    logits = single(architecture).logits(images[:2])
    labels = checks.labels(labels, images)
    if logits.shape[-1] == 1 and int(labels.max()) > 1:
        allowed = f"of more logits than one for labels up to {int(labels.max())}"
        raise ArgumentError("architecture", allowed, "one logit")
    return checks.labels(labels, images, max(logits.shape[-1], 2))


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Log likelihood (S,) of all `labels` (N,) together under logits (S, N, K); a
    single logit is a Bernoulli's. Logits that are not finite give NaN.

    Raises ArgumentError if the logits have another shape or the labels do not fit them.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 3:
        raise ArgumentError("logits", "a tensor (S, N, K)", logits)
    labels = checks.labels(labels, logits[0], max(logits.shape[-1], 2))
    if logits.shape[-1] == 1:
        signs = labels.to(logits) * 2 - 1
        return torch.nn.functional.logsigmoid(signs * logits.squeeze(-1)).sum(dim=1)
    picked = logits.gather(2, labels.expand(len(logits), -1)[..., None]).squeeze(-1)
    return (picked - logits.logsumexp(dim=-1)).sum(dim=1)
