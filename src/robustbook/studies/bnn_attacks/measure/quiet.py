"""How much an attack should pay for silence: the weight of mutual information, chosen
on training images.

Read `choose` (the rule) first, then `alarm_weight` (what it is applied to).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Posterior
from robustbook.measure.uncertainty import auroc, mutual_information
from robustbook.perturb.posterior import eot_pgd, uncertainty_aware, weight_samples

WEIGHTS = (2.0, 10.0, 50.0, 250.0)
"""Weights that are tried, in nats of margin for a nat of mutual information."""
KEPT = 0.95
"""Share of the plain averaged attack's success that a weight must keep."""


@dataclass(frozen=True)
class Trial:
    """A weight, the share of images that it left misclassified, and the AUROC of mutual
    information against clean ones.
    """

    weight: float
    fooled: float
    area: float


def choose(trials: Sequence[Trial], fooled: float) -> float:
    """The weight with the lowest AUROC among those that fool at least `KEPT` of the
    share `fooled` by the plain attack.

    If none does it is the one that fools most. Of equals the smaller weight is taken.

    Raises ValueError if there are no trials.
    """
    if not trials:
        raise ValueError("at least one weight must be tried")
    able = [trial for trial in trials if trial.fooled >= KEPT * fooled]
    if able:
        return min(able, key=lambda trial: (trial.area, trial.weight)).weight
    return min(trials, key=lambda trial: (-trial.fooled, trial.weight)).weight


def alarm_weight(
    posterior: Posterior,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    samples: int,
    test_samples: int,
    generator: Generator,
) -> float:
    """The weight that `choose` takes for a posterior, by attacks on training images (N,
    C, H, W) with labels (N,).
    """
    judge = weight_samples(posterior, test_samples, generator)
    clean = mutual_information(sampled_probabilities(judge, images).double())

    def attempt(points: Tensor, weight: float) -> Trial:
        probabilities = sampled_probabilities(judge, points).double()
        fooled = (probabilities.mean(0).argmax(1) != labels).double().mean()
        return Trial(
            weight,
            float(fooled),
            auroc(clean.numpy(), mutual_information(probabilities).numpy()),
        )

    def attack(weight: float) -> Tensor:
        return uncertainty_aware(
            posterior,
            images,
            labels,
            epsilon=epsilon,
            steps=steps,
            step_size=step_size,
            samples=samples,
            generator=torch.Generator().manual_seed(seed),
            starts=loud,
            weight=weight,
        )

    loud = eot_pgd(
        posterior,
        images,
        labels,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        samples=samples,
        generator=generator,
    )
    # The same draws for every weight, so that the weights alone differ.
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return choose(
        [attempt(attack(weight), weight) for weight in WEIGHTS],
        attempt(loud, 0.0).fooled,
    )
