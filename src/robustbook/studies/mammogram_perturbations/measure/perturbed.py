"""The four perturbations on every leg, and what they cost (claims O1).

Read `perturb` (one perturbation at one severity), then `measure_all` (scores of every
network), then `record_losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import stats
from robustbook.data import mini_mias
from robustbook.data.phantoms import SUBGROUPS, Exams, unit_images
from robustbook.models.network import Objective, compute_logits
from robustbook.perturb.gradient import cross_entropy, pgd
from robustbook.perturb.lowpass import dilated
from robustbook.perturb.universal import apply, universal_perturbation
from robustbook.results import Results
from robustbook.studies.mammogram_perturbations import networks
from robustbook.studies.mammogram_perturbations.measure.over_seeds import (
    OverSeeds,
    mean_auc,
    mean_share,
)
from robustbook.studies.mammogram_perturbations.networks import Network
from robustbook.studies.mammogram_perturbations.parameters import Parameters, by_name
from robustbook.studies.shared import images_of
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
STRENGTHS: dict[str, tuple[float, ...]] = {
    "adversarial": (0.0005, 0.002, 0.01),
    "universal": (0.002, 0.005, 0.01),
    "noise": (0.005, 0.01, 0.02, 0.04),
    "low-pass": (0.33, 0.5, 1.0, 2.0, 4.0),
}
"""Severities: radius of the L-infinity ball, deviation of the noise (pixel units of [0,
1]), cut-off wavelength (mm).
"""
UNITS = {
    "adversarial": "ε",
    "universal": "ε",
    "noise": "deviation",
    "low-pass": "cut-off wavelength (mm)",
}
REGION = 3
"""Pixels around a lesion that count as inside it where images are compared."""
AT_ONCE = 200_000
"""Pixels of all images that an attack sends through a network at once: what its layers
keep for the way back adds up.
"""


Key = tuple[str, float]


def malignant_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """What an attack on an exam makes large (n,): binary cross-entropy of both
    malignant answers; both arguments (n, 4).
    """
    return F.binary_cross_entropy_with_logits(
        logits[:, 1::2], targets[:, 1::2].float(), reduction="none"
    ).sum(1)


@dataclass(frozen=True)
class Task:
    """A trained network with the images it is tested on, and others from which a
    universal perturbation is made; `regions` (of the images' shape) is where an image
    has to stay recognisable.
    """

    model: Module
    images: Tensor
    targets: Tensor
    other_images: Tensor
    other_targets: Tensor
    objective: Objective
    pitch: float
    seed: int
    regions: Tensor


def perturb(
    task: Task, perturbation: str, severity: float, parameters: Parameters
) -> Tensor:
    """The task's images under one of the four perturbations, in [0, 1]. Raises KeyError
    if its name is unknown.
    """
    generator = Generator().manual_seed(task.seed)
    ways: dict[str, Callable[[], Tensor]] = {
        "adversarial": partial(_attacked, task, severity, parameters.steps, generator),
        "universal": partial(
            _universal, task, severity, parameters.universal_epochs, generator
        ),
        "noise": lambda: (
            task.images + severity * torch.randn(task.images.shape, generator=generator)
        ).clamp(0, 1),
        "low-pass": lambda: networks.filtered(task.images, severity, task.pitch),
    }
    return ways[perturbation]()


def _attacked(task: Task, epsilon: float, steps: int, generator: Generator) -> Tensor:
    # One restart: the ascent needs no class labels, so any objective will do.
    return pgd(
        task.model,
        task.images,
        task.targets,
        epsilon=epsilon,
        steps=steps,
        step_size=2.5 * epsilon / steps,
        generator=generator,
        objective=task.objective,
        chunk=max(1, min(64, AT_ONCE // task.images[0].numel())),
    )


def _universal(task: Task, epsilon: float, epochs: int, generator: Generator) -> Tensor:
    pattern = universal_perturbation(
        task.model,
        task.other_images,
        task.other_targets,
        epsilon=epsilon,
        epochs=epochs,
        generator=generator,
        objective=task.objective,
        chunk=32,
    )
    return apply(task.images, pattern)


def task_of(network: Network, parameters: Parameters) -> Task:
    """What a network is tested on; the universal perturbation is made from training
    data.
    """
    model = networks.load_network(network)
    if network.leg == "phantoms":
        exams, others = (
            networks.test_exams(parameters),
            networks.exams_of("train", network.examples, network.height, network.pitch),
        )
        count = min(parameters.attack_exams, len(exams), len(others))
        sets = [
            (
                unit_images(part.images[:count]),
                torch.from_numpy(part.labels[:count]).flatten(1),
            )
            for part in (exams, others)
        ]
        lesions = dilated(torch.from_numpy(exams.masks[:count]), REGION)
        return Task(
            model,
            *sets[0],
            *sets[1],
            malignant_loss,
            network.pitch,
            network.seed,
            lesions,
        )
    if network.leg == "mias":
        read, images = networks.patches()
        held = torch.from_numpy(mini_mias.fold_of(read.women) == network.fold)
        targets = torch.from_numpy(read.labels > 0).long()
        return Task(
            model,
            images[held],
            targets[held],
            images[~held],
            targets[~held],
            cross_entropy,
            network.pitch,
            network.seed,
            _middles(images[held], targets[held]),
        )
    test = images_of(network.dataset, "test", parameters.natural_test_images)
    train = images_of(network.dataset, "train", network.examples)
    count = min(parameters.natural_attack_images, len(test), len(train))
    test, train = test.take(count), train.take(count)
    return Task(
        model,
        test.images,
        test.labels,
        train.images,
        train.labels,
        cross_entropy,
        network.pitch,
        network.seed,
        torch.ones_like(test.images, dtype=torch.bool),
    )


def _middles(images: Tensor, targets: Tensor) -> Tensor:
    """The middle of each patch that holds a lesion: patches are cut around them."""
    found = torch.zeros_like(images, dtype=torch.bool)
    side = images.shape[-1] // 4
    found[:, :, side:-side, side:-side] = targets[:, None, None, None] > 0
    return found


@dataclass(frozen=True)
class Scores:
    """Logits (n, K) of one network, clean and by (perturbation, severity); similarity
    by the same (first seed only).
    """

    network: Network
    clean: Array
    logits: dict[tuple[str, float], Array]
    similarity: dict[tuple[str, float], float]

    def at(self, key: Key | None) -> Array:
        """Logits under a perturbation and severity, clean ones if `key` is None."""
        return self.clean if key is None else self.logits[key]


def measure(network: Network, parameters: Parameters) -> Scores:
    """Logits of a network on its test images under every perturbation and severity."""
    task = task_of(network, parameters)
    logits, similarity = {}, {}
    for name, strengths in STRENGTHS.items():
        for severity in strengths:
            images = perturb(task, name, severity, parameters)
            logits[name, severity] = (
                compute_logits(task.model, images, chunk=64).double().numpy()
            )
            if network.seed == parameters.first_seed:
                similarity[name, severity] = mean_similarity(
                    task.images[:60], images[:60], task.regions[:60]
                )
    return Scores(
        network,
        compute_logits(task.model, task.images, chunk=64).double().numpy(),
        logits,
        similarity,
    )


def mean_similarity(first: Tensor, second: Tensor, regions: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004, range 1) of pairs of images (N, C,
    H, W) inside `regions` of the same shape, channel by channel.
    """
    from skimage.metrics import structural_similarity

    side = min(first.shape[-2:])
    window = (
        {"gaussian_weights": True, "sigma": 1.5}
        if side >= 11
        else {"win_size": side - 1 + side % 2}
    )
    pairs = zip(
        first.flatten(0, 1).double().numpy(),
        second.flatten(0, 1).double().numpy(),
        regions.flatten(0, 1).numpy(),
        strict=True,
    )
    found = []
    for a, b, inside in pairs:
        if inside.any():
            _, similar = structural_similarity(
                a, b, data_range=1.0, use_sample_covariance=False, full=True, **window
            )
            found.append(similar[inside].mean())
    return float(np.mean(found))


@by_name
def measure_all(networks: Sequence[Network], parameters: Parameters) -> list[Scores]:
    """`measure` for every clean network, side by side."""
    return map_in_workers(
        partial(measure, parameters=parameters),
        [each for each in networks if each.training == "clean"],
    )


# Rows
# --------------------------------------------------------------------------------------


@by_name
def record_phantoms(
    results: Results, measured: Sequence[Scores], exams: Exams, parameters: Parameters
) -> None:
    """Rows of O1 on phantoms: AUC of malignant breasts, all and by subgroup, against
    all that are not malignant.
    """
    _record_similarity(results, measured, "phantoms")
    count = len(measured[0].clean)
    for subgroup in ("all", *SUBGROUPS[1:]):
        chosen, positive = task_rows(exams, subgroup, count)
        groups = np.repeat(np.arange(count), 2)
        _record_leg(
            results,
            measured,
            "phantoms",
            subgroup,
            chosen,
            positive,
            groups,
            parameters,
        )


def task_rows(
    exams: Exams, subgroup: str, count: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (2 * count,) of breasts in a sub-task (malignant of the subgroup and all
    non-malignant) and of the malignant ones.
    """
    malignant = exams.labels[:count, :, 1].ravel() > 0
    positive = malignant & (
        (subgroup == "all") | (exams.subgroups[:count].ravel() == _index(subgroup))
    )
    return ~malignant | positive, positive


def _index(subgroup: str) -> int:
    return SUBGROUPS.index(subgroup) if subgroup in SUBGROUPS else -1


def malignant_scores(logits: Array) -> Array:
    """Malignant logits of all breasts (2 * exams,), left before right, from `logits`
    (exams, 4).
    """
    return logits[:, 1::2].ravel()


def lesion_scores(logits: Array) -> Array:
    """How far the lesion's logit leads (n,), from `logits` (n, 2) of patches."""
    return logits[:, 1] - logits[:, 0]


@by_name
def record_patches(
    results: Results, measured: Sequence[Scores], parameters: Parameters
) -> None:
    """Rows of O1 on mini-MIAS: AUC of lesions against normal patches from the folds'
    held-out logits, by woman.
    """
    if not measured:
        return
    read, _ = networks.patches()
    folds, seeds = (
        mini_mias.fold_of(read.women),
        sorted({each.network.seed for each in measured}),
    )
    pooled = []
    for seed in seeds:
        parts = {
            each.network.fold: each for each in measured if each.network.seed == seed
        }

        logits = {key: _merged(parts, folds, key) for key in parts[0].logits}
        similarity = {
            key: float(np.mean([part.similarity[key] for part in parts.values()]))
            for key in parts[0].similarity
        }
        pooled.append(
            Scores(parts[0].network, _merged(parts, folds, None), logits, similarity)
        )
    _record_similarity(results, pooled, "mias")
    everything = np.ones(len(folds), bool)
    _record_leg(
        results,
        pooled,
        "mias",
        "all",
        everything,
        read.labels > 0,
        read.women,
        parameters,
    )


def _merged(
    parts: dict[int, Scores], folds: NDArray[np.integer], key: Key | None
) -> Array:
    """Held-out scores (N,) of all folds; those of a fold's own network are brought to
    one scale by its clean scores.
    """
    whole = np.empty(len(folds))
    for fold, part in parts.items():
        clean = lesion_scores(part.clean)
        found = lesion_scores(part.at(key))
        whole[folds == fold] = (found - clean.mean()) / clean.std()
    return whole


def _record_leg(
    results: Results,
    measured: Sequence[Scores],
    leg: str,
    subgroup: str,
    chosen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    groups: NDArray[np.integer],
    parameters: Parameters,
) -> None:
    """Clean AUC and its loss under every perturbation for one sub-task."""
    wanted = positive[chosen]
    (rows,) = stats.draw(
        groups[chosen], seed=0, resamples=parameters.resamples, positive=wanted
    )
    over = "seeds and exams" if leg == "phantoms" else "seeds and women"

    def drawn(key: Key | None) -> OverSeeds:
        flat = malignant_scores if leg == "phantoms" else np.ravel
        scores = np.stack([flat(each.at(key))[chosen] for each in measured])
        return mean_auc(wanted, scores, rows)

    clean = drawn(None)
    common: dict[str, Any] = {"leg": leg, "subgroup": subgroup}
    results.add("clean AUC", clean.interval(), over=over, **common)
    for key in measured[0].logits:
        loss = clean - drawn(key)
        results.add(
            "AUC loss",
            loss.interval(),
            over=over,
            perturbation=key[0],
            severity=key[1],
            **common,
        )


def _record_similarity(results: Results, measured: Sequence[Scores], leg: str) -> None:
    for (name, severity), value in measured[0].similarity.items():
        results.add("similarity", value, leg=leg, perturbation=name, severity=severity)


@by_name
def record_natural(
    results: Results, measured: Sequence[Scores], parameters: Parameters
) -> None:
    """Rows of the natural arm: loss of accuracy under the same perturbations, over
    images (and seeds).
    """
    network = measured[0].network
    count = len(measured[0].clean)
    test = images_of(network.dataset, "test", parameters.natural_test_images).take(
        count
    )
    labels = test.labels.numpy()
    _record_similarity(results, measured, "natural")
    (images,) = stats.draw(count, seed=0, resamples=parameters.resamples)

    def drawn(key: Key | None) -> OverSeeds:
        right = np.stack(
            [(each.at(key).argmax(1) == labels) for each in measured]
        ).astype(float)
        return mean_share(right, images)

    clean = drawn(None)
    for key in measured[0].logits:
        loss = (clean - drawn(key)).interval()
        over = over_images(len(measured))
        results.add(
            "natural accuracy loss",
            loss,
            over=over,
            perturbation=key[0],
            severity=key[1],
        )


def over_images(seeds: int) -> str:
    """What intervals of the natural arm are over."""
    return "seeds and images" if seeds > 1 else "images"
