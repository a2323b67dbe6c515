"""What a posterior over networks is: `Posterior` draws joint weight samples;
`Empirical` draws from a finite set.

Read `Posterior` first, then `Empirical`, then the predictions below, which need nothing
but weight samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from robustbook.bayes.weights import EmptyPosteriorError, WeightSamples

CHUNK = 16
"""Posterior samples that run together; the weights of this many small networks stay in
the processor's cache.
"""


class Posterior(Protocol):
    """A distribution over the weights of one architecture."""

    @property
    def architecture(self) -> nn.Sequential:
        """The network whose weights are distributed."""

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples of all weights; the generator alone
        determines them.

        Raises EmptyPosteriorError if `count` is less than 1.
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

    @property
    def architecture(self) -> nn.Sequential:
        """The network whose weights are distributed."""
        return self.samples.architecture

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` of the samples, chosen uniformly and independently."""
        check_count(count)
        return self.samples.take(
            torch.randint(len(self.samples), (count,), generator=generator)
        )


def check_count(count: int) -> None:
    """Raise EmptyPosteriorError if fewer than one sample is asked for."""
    if count < 1:
        raise EmptyPosteriorError(
            f"at least one posterior sample is needed, got {count}"
        )


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities (..., K) of logits (..., K); a single logit (..., 1) is that
    of the second of two classes.
    """
    if logits.shape[-1] == 1:
        return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=-1)
    return torch.softmax(logits, dim=-1)


def decisions(logits: Tensor) -> Tensor:
    """The most probable class (...) of logits (..., K); a single logit decides by its
    sign.
    """
    return (
        (logits.squeeze(-1) > 0).long()
        if logits.shape[-1] == 1
        else logits.argmax(dim=-1)
    )


@torch.no_grad()
def sampled_probabilities(
    samples: WeightSamples, images: Tensor, *, chunk: int = CHUNK
) -> Tensor:
    """Class probabilities (S, N, K) of each sample on `images` (N, C, H, W)."""
    parts = torch.arange(len(samples)).split(chunk)
    return torch.cat(
        [probabilities(samples.take(part).logits(images)) for part in parts]
    )


def predictive_mean(
    samples: WeightSamples, images: Tensor, *, chunk: int = CHUNK
) -> Tensor:
    """Posterior-predictive class probabilities (N, K): the mean of those of the
    samples.
    """
    return sampled_probabilities(samples, images, chunk=chunk).mean(dim=0)


def log_predictive(
    samples: WeightSamples, images: Tensor, labels: Tensor, *, chunk: int = CHUNK
) -> Tensor:
    """Log posterior-predictive probability (N,) of `labels` (N,), in nats."""
    return (
        predictive_mean(samples, images, chunk=chunk)
        .gather(1, labels[:, None])
        .squeeze(1)
        .log()
    )


def predictive_accuracy(
    samples: WeightSamples, images: Tensor, labels: Tensor, *, chunk: int = CHUNK
) -> float:
    """Share of `images` (N, C, H, W) whose most probable class under the predictive
    mean is their label (N,).
    """
    return float(
        (predictive_mean(samples, images, chunk=chunk).argmax(dim=1) == labels)
        .float()
        .mean()
    )


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Log likelihood (S,) of all `labels` (N,) together under logits (S, N, K); a
    single logit is a Bernoulli's.
    """
    if logits.shape[-1] == 1:
        signs = labels.to(logits) * 2 - 1
        return torch.nn.functional.logsigmoid(signs * logits.squeeze(-1)).sum(dim=1)
    picked = logits.gather(2, labels.expand(len(logits), -1)[..., None]).squeeze(-1)
    return (picked - logits.logsumexp(dim=-1)).sum(dim=1)
