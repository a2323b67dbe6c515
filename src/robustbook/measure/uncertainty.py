"""How unsure a posterior is of its answer, and how well such a score tells attacked
from clean inputs.

Read `Uncertainty` and `uncertainty` first (scores of one image), then `relative_spread`
(a collapsed posterior), then `auroc` (a score as an alarm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustbook import checks, stats
from robustbook.bayes.weights import WeightSamples
from robustbook.checks import ArgumentError


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Scores (N,), all larger where the posterior is less sure.

    `entropy` of the predictive mean and `mutual_information` of answer and weights are
    in nats; `variation_ratio` is the share of samples that do not vote for the most
    frequent class, `vote_disagreement` the probability that two different samples vote
    differently, `variance` that of a class probability over samples (mean over
    classes), `unconfidence` 1 - the largest predictive probability.
    """

    entropy: Tensor
    mutual_information: Tensor
    variation_ratio: Tensor
    vote_disagreement: Tensor
    variance: Tensor
    unconfidence: Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy (...) of probabilities (..., K), in nats.

    Raises ArgumentError if they are not finite, leave [0, 1] or do not add to 1.
    """
    return torch.special.entr(_checked(probabilities)).sum(dim=-1)


def _checked(given: Tensor, dimensions: int | None = None) -> Tensor:
    given = checks.tensor(given, "probabilities", dimensions=dimensions)
    if bool((given < 0).any()) or bool(((given.sum(-1) - 1).abs() > 1e-2).any()):
        raise ArgumentError("probabilities", "at least 0 and 1 together", given)
    return given


def mutual_information(probabilities: Tensor) -> Tensor:
    """H of the mean minus the mean H (N,) of sampled probabilities (S, N, K), in nats;
    never negative. Errors as in `entropy`.
    """
    probabilities = _checked(probabilities, 3)
    return (
        entropy(probabilities.mean(dim=0)) - entropy(probabilities).mean(dim=0)
    ).clamp_min(0)


def uncertainty(probabilities: Tensor) -> Uncertainty:
    """All scores of sampled class probabilities (S, N, K); computed in double
    precision. Errors as in `entropy`.
    """
    sampled = _checked(probabilities, 3).double()
    mean = sampled.mean(dim=0)
    count, classes = sampled.shape[0], sampled.shape[-1]
    votes = (
        torch.nn.functional.one_hot(sampled.argmax(dim=-1), classes).sum(dim=0).double()
    )
    pairs = max(count * (count - 1), 1)
    return Uncertainty(
        entropy=entropy(mean),
        mutual_information=mutual_information(sampled),
        variation_ratio=1 - votes.amax(dim=-1) / count,
        vote_disagreement=(count**2 - votes.square().sum(dim=-1)) / pairs,
        variance=sampled.var(dim=0, unbiased=False).mean(dim=-1),
        unconfidence=1 - mean.amax(dim=-1),
    )


def relative_spread(samples: WeightSamples) -> dict[str, float]:
    """Mean deviation over mean absolute mean of each layer's weights; 0 where all
    samples share the layer.
    """
    found = {}
    checks.having(samples, "samples", "weights")
    for name, tensor in samples.weights.items():
        if name.endswith(".weight"):
            deviation = (
                tensor.std(dim=0, unbiased=False).mean()
                if len(tensor) > 1
                else tensor.new_zeros(())
            )
            found[name.removesuffix(".weight")] = float(
                deviation / tensor.mean(dim=0).abs().mean()
            )
    return found


def auroc(clean: npt.ArrayLike, attacked: npt.ArrayLike) -> float:
    """Probability that an attacked input scores above a clean one (ties count half):
    the area under the ROC curve.

    Raises ArgumentError if either of them is empty or not finite.
    """
    columns = checks.values(clean, "clean"), checks.values(attacked, "attacked")
    positive = np.repeat([0, 1], [len(column) for column in columns])
    return float(stats.auc(positive, np.concatenate(columns)))
