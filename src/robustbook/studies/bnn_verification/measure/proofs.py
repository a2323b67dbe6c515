"""What can be proved, and what the samplers are worth: weight-space boxes beside the
sampled estimate, and simulation-based calibration.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustbook.bayes import hmc, split_hmc
from robustbook.bayes.calibration import Sampler, ranks, uniformity
from robustbook.bayes.hmc import Potential
from robustbook.measure.branch_and_bound import exact
from robustbook.measure.verification import pixel_box
from robustbook.measure.weight_boxes import safe_probability
from robustbook.results import Results
from robustbook.stats import Interval, binomial_interval
from robustbook.studies.bnn_verification import networks
from robustbook.studies.bnn_verification.measure.boxes import box_pixels
from robustbook.studies.bnn_verification.parameters import Parameters

WIDTHS, EPSILON = (2, 4, 8, 16), 0.1
BOXES, SAMPLES, IMAGES = 20, 400, 10
TOLERANCE = 0.01
"""Logits: how close the bounds of a sample's decision come."""
CHAIN: dict[str, Any] = {
    "draws": 19,
    "warmup": 60,
    "steps": 8,
    "step_size": 0.3,
    "thin": 5,
}
"""A chain of a replicate: 19 draws make 20 ranks."""


def record_weight_boxes(results: Results, **settings: Any) -> None:
    """The proved share of the posterior that keeps its decision on five pixels, and the
    sampled one, for networks of a few hidden units (mean over images).
    """
    parameters = Parameters.of(settings)
    for hidden in WIDTHS:
        task, posterior = networks.fit_few_units(parameters, hidden)
        images = task.test.take(IMAGES, parameters.first_seed).images
        region = pixel_box(images, EPSILON, box_pixels(images.shape[-1]))
        generator = Generator().manual_seed(parameters.first_seed)
        proved = safe_probability(posterior, region, boxes=BOXES, generator=generator)
        samples = posterior.draw(SAMPLES, generator)
        # Flips need no finer bounds; tight ones cost much on few units with ties.
        flips = exact(samples, region, tolerance=TOLERANCE).high.flips
        robust = (~flips).double().mean(0)
        rows = {
            "proved robust probability": sum(each.probability for each in proved)
            / len(proved),
            "largest proved robust probability": max(
                each.probability for each in proved
            ),
            "sampled robust probability": float(robust.mean()),
        }
        for name, value in rows.items():
            results.add(
                name, value, n=len(images), over="images", unit="share", hidden=hidden
            )
        results.add("proved beyond the sampled", _beyond(proved, robust), hidden=hidden)
        results.add("variables of a box", proved[0].variables, hidden=hidden)
        results.add(
            "passes of the proof", proved[0].passes, unit="passes", hidden=hidden
        )


def _beyond(proved: list[Any], robust: Tensor) -> int:
    """Images whose bound lies above the sampled estimate's own 99.9 % limit."""
    found = 0
    for each, share in zip(proved, robust.tolist(), strict=True):
        sure: Interval = binomial_interval(round(share * SAMPLES), SAMPLES, level=0.999)
        found += each.probability > sure.high
    return found


def record_calibration(results: Results, **settings: Any) -> None:
    """How uniform the ranks of both samplers are on a tiny network."""
    parameters = Parameters.of(settings)
    generator = Generator().manual_seed(1)
    images = torch.randn(12, 1, 1, 3, generator=generator)
    with torch.random.fork_rng(devices=[]):
        tiny = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network = split_hmc.ScaledNetwork(
        tiny, images, torch.zeros(len(images), dtype=torch.long)
    )
    samplers: dict[str, Sampler] = {"split HMC": _split, "HMC": _plain}
    for name, sampler in samplers.items():
        found = ranks(
            network,
            sampler,
            replicates=parameters.replicates,
            generator=Generator().manual_seed(parameters.first_seed),
        )
        for quantity, chance in uniformity(found).items():
            results.add(
                "p-value of uniform ranks",
                chance,
                n=parameters.replicates,
                over="replicates",
                sampler=name,
                quantity=quantity,
            )


def _split(misfit: Potential, start: Tensor, generator: Generator) -> Tensor:
    return split_hmc.sample(misfit, start, generator=generator, **CHAIN).draws


def _plain(misfit: Potential, start: Tensor, generator: Generator) -> Tensor:
    def potential(at: Tensor) -> Tensor:
        return misfit(at) + at.square().sum(1) / 2

    return hmc.sample(potential, start, generator=generator, **CHAIN).draws
