"""Deep ensembles (Lakshminarayanan et al. 2017): networks from different starts, each
drawn with equal probability.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.protocol import Empirical
from robustbook.bayes.weights import stack
from robustbook.models.training import Recipe, train


def train_ensemble(
    build: Callable[[int], Module],
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    members: int,
    seed: int,
) -> Empirical:
    """Train `members` networks `build(seed)`, `build(seed + 1)`, ...; one member is the
    deterministic network.

    Raises ArgumentError if `members` is less than 1, or for images, labels and networks
    that it cannot take, TrainingDiverged if a loss stops being finite.
    """
    members = checks.whole(members, "members", at_least=1)
    seed = checks.whole(seed, "seed", at_least=0)
    networks = []
    for each in range(seed, seed + members):
        network = checks.network(build(each), "build(seed)").to(images.device)
        networks.append(train(network, images, labels, recipe, seed=each))
    return Empirical(stack(networks))
