"""Deep ensembles (Lakshminarayanan et al. 2017): networks from different starts, each
drawn with equal probability.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from robustbook.bayes.protocol import Empirical
from robustbook.bayes.weights import stack
from robustbook.models.training import Recipe, train


def train_ensemble(
    build: Callable[[int], nn.Sequential],
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    members: int,
    seed: int,
) -> Empirical:
    """Train `members` networks `build(seed)`, `build(seed + 1)`, ...; one member is the
    deterministic network.

    Raises EmptyPosteriorError if `members` is less than 1.
    """
    seeds = range(seed, seed + members)
    networks = [build(each) for each in seeds]
    for each, network in zip(seeds, networks, strict=True):
        train(network, images, labels, recipe, seed=each)
    return Empirical(stack(networks))
