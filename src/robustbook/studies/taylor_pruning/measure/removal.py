"""Whether the networks of this run, made smaller for good, answer as the masked ones
do: `check_removal`, `add_removal`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from robustbook.measure.importance import first_order, gate_gradients
from robustbook.models.network import compute_logits
from robustbook.models.prunable import published_resnet20
from robustbook.perturb.pruning import all_alive, lowest, masked, removed
from robustbook.results import Results
from robustbook.studies.taylor_pruning.networks import BATCH, NETWORKS, Task

TOLERANCE = 1e-5


def check_removal(work: tuple[str, Task]) -> float:
    """Largest difference of logits between the masked and the removed network, over the
    largest logit.

    Half of the units of the named network go, those with the lowest first-order scores
    on one batch.
    """
    name, task = work
    model = published_resnet20() if name == "resnet20" else NETWORKS[name](task)
    images, labels = task.scored(BATCH)
    scores = first_order(gate_gradients(model, images, labels))
    alive = lowest(model, scores, model.units // 2, all_alive(model))
    with masked(model, alive), torch.inference_mode():
        expected = compute_logits(model, images)
    found = compute_logits(removed(model, alive), images)
    return float((found - expected).abs().max() / expected.abs().max())


def add_removal(
    results: Results, work: Sequence[tuple[str, Task]], differences: Sequence[float]
) -> None:
    """Rows `removal agrees`: the share of networks whose difference is at most 1e-5, by
    architecture.
    """
    for name in dict.fromkeys(name for name, _ in work):
        held = [
            value <= TOLERANCE
            for (other, _), value in zip(work, differences, strict=True)
            if other == name
        ]
        results.add(
            "removal agrees",
            float(np.mean(held)),
            n=len(held),
            over="networks",
            unit="share",
            network=name,
        )
