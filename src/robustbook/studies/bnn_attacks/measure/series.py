"""One image under growing budgets, attacked in two ways, and what the samples of three
posteriors say of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.weights import WeightSamples
from robustbook.measure.uncertainty import uncertainty
from robustbook.perturb.averaged import averaged_apgd
from robustbook.perturb.posterior import weight_samples
from robustbook.studies.bnn_attacks.claims import CNN, CONTROL
from robustbook.studies.bnn_attacks.networks import Bench, Network, fit

Array = npt.NDArray[np.float64]
BUDGETS = (0.0, 0.25, 0.5, 0.75, 1.0)
WAYS = ("made on a CNN", "made on itself")
JUDGES = 20


@dataclass(frozen=True, eq=False)
class Shown:
    """One attacked image (C, H, W), the mean prediction (K,) of a network, each
    sample's probability of the true class (S,), and how unsure it is (nats).
    """

    kind: str
    way: str
    budget: float
    image: Array
    label: int
    probabilities: Array
    truth: Array
    entropy: float
    information: float


def shown(
    bench: Bench, *, kinds: Sequence[str], steps: int, samples: int
) -> list[Shown]:
    """The first image of the first repetition that all `kinds` get right, at every
    budget, attacked in both ways.
    """
    seed = bench.first_seed
    images, labels = bench.repetition(seed)
    posteriors = {kind: fit(Network(bench, kind, seed)) for kind in kinds}
    judges = {
        kind: weight_samples(each, JUDGES, torch.Generator().manual_seed(seed))
        for kind, each in posteriors.items()
    }
    right = torch.ones(len(images), dtype=torch.bool)
    for each in judges.values():
        right &= sampled_probabilities(each, images).mean(0).argmax(1) == labels
    place = int(right.int().argmax())
    image, label = images[place : place + 1], labels[place : place + 1]
    source = fit(Network(bench, CNN, seed))

    def at(kind: str, way: str, budget: float) -> Shown:
        victim = source if way == WAYS[0] else posteriors[kind]
        points = averaged_apgd(
            victim,
            image,
            label,
            epsilon=budget * bench.epsilon,
            steps=steps,
            samples=samples,
            restarts=1,
            generator=torch.Generator().manual_seed(seed),
        )
        return _said(judges[kind], kind, way, budget, points, int(label))

    return [at(kind, way, each) for kind in kinds for way in WAYS for each in BUDGETS]


def _said(
    judge: WeightSamples,
    kind: str,
    way: str,
    budget: float,
    points: torch.Tensor,
    label: int,
) -> Shown:
    said = sampled_probabilities(judge, points)
    unsure = uncertainty(said)
    return Shown(
        kind,
        way,
        budget,
        points[0].double().numpy(),
        label,
        said.mean(0)[0].double().numpy(),
        said[:, 0, label].double().numpy(),
        float(unsure.entropy),
        float(unsure.mutual_information),
    )


KINDS_SHOWN = (CONTROL, "det+stoch", "stoch+stoch")
