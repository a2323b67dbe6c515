"""The controls of the study: logits scaled by a constant (claim Y5), and networks whose
gradients are masked (claim Y7).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module, Sequential

from robustbook.measure.divergence import worst_divergence
from robustbook.models import Scale
from robustbook.models.network import accuracy, compute_logits
from robustbook.models.training import Training
from robustbook.perturb.gradient import fgsm, pgd
from robustbook.perturb.square import square_attack
from robustbook.results import Results
from robustbook.stats import bootstrap_mean
from robustbook.studies.loss_metric.measure.evaluation import (
    PSI_STEP,
    attack_images,
    divergence,
    generator_of,
    test_images,
)
from robustbook.studies.loss_metric.networks import (
    DISTILLATION_TEMPERATURE,
    MASKED_ARCHITECTURE,
    Network,
    load_network,
    main_network,
    masked_networks,
)
from robustbook.studies.loss_metric.parameters import Parameters
from robustbook.studies.loss_metric.rows import Rows, over_rows, psi_of
from robustbook.studies.protocol import seeds
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
SCALES = (0.1, 1.0, 10.0)


def record_scaling(results: Results, parameters: Parameters) -> None:
    """Rows of Y5: psi of a natural and a MinMax network when logits are scaled, with
    and without normalisation.
    """
    for precision, dtype in (("double", torch.float64), ("single", torch.float32)):
        changes = [
            _largest_change(parameters, training, dtype)
            for training in ("natural", "minmax")
        ]
        results.add(
            "largest relative change of psi under scaling",
            max(changes),
            n=2 * parameters.images,
            logits="normalised",
            precision=precision,
        )
    network = main_network(
        parameters, MASKED_ARCHITECTURE, "natural", parameters.first_seed
    )
    model = load_network(network)
    images, labels = test_images(network, parameters)
    medians = []
    for scale in SCALES:
        kl = divergence(
            _times(model, scale),
            images,
            network.epsilon,
            parameters.steps,
            network,
            normalise=False,
        )
        medians.append(float(np.median(psi_of(kl))))
        results.add(
            "median psi without normalisation",
            medians[-1],
            n=len(images),
            unit="1/nats",
            scale=scale,
        )
    results.add(
        "ratio of median psi between scales",
        max(medians) / min(medians),
        logits="plain",
    )
    for scale in (*SCALES, 100.0):
        attacked = fgsm(_times(model, scale), images, labels, epsilon=network.epsilon)
        share = accuracy(model, attacked, labels)
        results.add(
            "FGSM accuracy of scaled logits",
            share,
            n=len(images),
            unit="share",
            scale=scale,
        )


def _largest_change(
    parameters: Parameters, training: Training, dtype: torch.dtype
) -> float:
    """Largest relative change of psi over images when the logits are scaled by 0.1 and
    10.
    """
    network = main_network(
        parameters, MASKED_ARCHITECTURE, training, parameters.first_seed
    )
    model = copy.deepcopy(load_network(network)).to(dtype)
    images = test_images(network, parameters)[0].to(dtype)
    found = {
        scale: worst_divergence(
            _times(model, scale),
            images,
            epsilon=network.epsilon,
            steps=parameters.steps,
            step_size=PSI_STEP * network.epsilon,
            generator=generator_of(network),
        ).kl
        for scale in SCALES
    }
    return max(float((found[scale] / found[1.0] - 1).abs().max()) for scale in SCALES)


def _times(model: Module, factor: float) -> Module:
    """The model with its logits multiplied by `factor`, as if its last layer were."""
    return Sequential(*model.children(), Scale(factor)).eval()


def record_masked(results: Results, parameters: Parameters) -> None:
    """Rows of Y7: what psi, white-box PGD, transfer and random search say of networks
    whose gradients are masked.
    """
    natural = [
        main_network(parameters, MASKED_ARCHITECTURE, "natural", seed)
        for seed in seeds(parameters)
    ]
    networks = natural + masked_networks(parameters)
    measured = map_in_workers(
        _measure_masked, [(network, parameters) for network in networks]
    )
    kinds = [_kind(network) for network in networks]
    psi = {
        kind: np.stack(
            [
                each["psi"]
                for name, each in zip(kinds, measured, strict=True)
                if name == kind
            ]
        )
        for kind in kinds
    }
    for kind in psi:
        members = [
            each for name, each in zip(kinds, measured, strict=True) if name == kind
        ]
        for row in (
            "clean accuracy",
            "white-box robust accuracy",
            "robust accuracy without gradients",
        ):
            share = np.stack([each[row] for each in members]).mean(axis=0)
            interval = bootstrap_mean(share, seed=0)
            results.add(
                "clean accuracy of masked" if row == "clean accuracy" else row,
                interval,
                over="images, mean of seeds",
                unit="share",
                network=kind,
            )
        if kind != "natural":
            _record_ratio(results, kind, psi[kind], psi["natural"])
    _record_divided(
        results,
        [network for network in networks if network.training == "distilled"],
        parameters,
    )


def _record_divided(
    results: Results, distilled: list[Network], parameters: Parameters
) -> None:
    """White-box PGD on the distilled networks with logits divided by their temperature:
    masking by size alone then ends.
    """
    share = []
    for network in distilled:
        model = _times(load_network(network), 1 / DISTILLATION_TEMPERATURE)
        images, labels = test_images(network, parameters)
        attacked = attack_images(
            model,
            images,
            labels,
            network.epsilon,
            parameters.steps,
            generator_of(network),
        )
        share.append(_correct(model, attacked, labels))
    results.add(
        "white-box robust accuracy of divided logits",
        bootstrap_mean(np.mean(share, axis=0), seed=0),
        over="images, mean of seeds",
        unit="share",
        network="distilled",
        temperature=DISTILLATION_TEMPERATURE,
    )


def _record_ratio(results: Results, kind: str, masked: Array, natural: Array) -> None:
    def ratio(rows: Rows) -> float:
        return float(
            np.mean(
                np.median(masked[:, rows], axis=1) / np.median(natural[:, rows], axis=1)
            )
        )

    found = over_rows(ratio, masked.shape[1])
    results.add(
        "psi of masked over natural", found, over="images, mean of seeds", network=kind
    )


def _kind(network: Network) -> str:
    return f"logits x{network.scale:g}" if network.scale != 1 else network.training


def _measure_masked(pair: tuple[Network, Parameters]) -> dict[str, Array]:
    """Psi and per-image correctness: clean, under white-box PGD, and under the better
    of transfer and random search.
    """
    network, parameters = pair
    model = load_network(network)
    images, labels = test_images(network, parameters)
    white_box = attack_images(
        model, images, labels, network.epsilon, parameters.steps, generator_of(network)
    )
    kl = divergence(
        model,
        images,
        network.epsilon,
        parameters.steps,
        network,
        restarts=parameters.restarts,
    )
    without = _correct(model, _transferred(network, parameters, images, labels), labels)
    searched = square_attack(
        model,
        images,
        labels,
        epsilon=network.epsilon,
        queries=parameters.queries,
        generator=generator_of(network),
    )
    return {
        "psi": psi_of(kl),
        "clean accuracy": _correct(model, images, labels),
        "white-box robust accuracy": _correct(model, white_box, labels),
        "robust accuracy without gradients": without
        * _correct(model, searched, labels),
    }


def _transferred(
    network: Network, parameters: Parameters, images: Tensor, labels: Tensor
) -> Tensor:
    """Adversarial images of the natural network with another seed: no gradient of the
    attacked network is used.
    """
    others = [seed for seed in seeds(parameters) if seed != network.seed] or [
        network.seed + 1
    ]
    source = load_network(
        main_network(parameters, MASKED_ARCHITECTURE, "natural", others[0])
    )
    return pgd(
        source,
        images,
        labels,
        epsilon=network.epsilon,
        steps=parameters.steps,
        step_size=network.epsilon / 8,
        generator=generator_of(network),
    )


def _correct(model: Module, images: Tensor, labels: Tensor) -> Array:
    return (compute_logits(model, images).argmax(1) == labels).double().numpy()
