"""The second lens: blur, noise, and one pattern added to every image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from robustbook.draws import normal, signs
from robustbook.perturb.lowpass import low_pass
from robustbook.perturb.universal import apply, universal_perturbation
from robustbook.stats import binomial_interval, bootstrap_mean
from robustbook.studies.your_network.measure.attack import answers
from robustbook.studies.your_network.measure.looking import Factors, Number, Seen
from robustbook.studies.your_network.networks import Examined

NAME = "degradation"
BLURS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Cut-off wavelengths of the low-pass filter, in sides of an image."""
NOISES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Standard deviations of the noise, in pixel units."""
EPOCHS = 5
COMPARED = 40
"""Images whose similarity is measured."""
WINDOW = 7


def passes(subject: Examined, *, budget: float) -> int:
    """All severities, and a pattern made from half of the images."""
    count = len(subject.images)
    return count * (len(BLURS) + len(NOISES)) + count * EPOCHS + count


def look(subject: Examined, *, budget: float) -> Seen:
    """Accuracy and structural similarity at every severity, and the accuracy under a
    universal pattern beside a random one.
    """
    numbers, shown = [], {}
    for kind, severity, images in degraded(subject):
        right = answers(subject, images) == subject.labels
        factors: Factors = {"kind": kind, "severity": severity}
        share = binomial_interval(int(right.sum()), len(right))
        numbers.append(Number("degraded accuracy", share, "images", factors))
        alike = similarity(subject.images[:COMPARED], images[:COMPARED])
        mean = bootstrap_mean(alike, seed=subject.seed)
        numbers.append(Number("similarity", mean, "images", factors))
        shown[f"{kind} {severity:.3g}"] = images[:4].cpu()
    return Seen(NAME, (*numbers, *_universal(subject, budget)), shown)


def degraded(subject: Examined) -> Iterator[tuple[str, float, Tensor]]:
    """Kind, severity (pixels or pixel units) and images, from weak to strong."""
    side = min(subject.images.shape[2:])
    for share in BLURS:
        wavelength = share * side
        images = low_pass(subject.images, wavelength, pitch=1.0).clamp(0, 1)
        yield "low-pass", wavelength, images
    noise = normal(subject.images.shape, subject.images, subject.generator(100))
    for deviation in NOISES:
        yield "noise", deviation, (subject.images + deviation * noise).clamp(0, 1)


def similarity(first: Tensor, second: Tensor) -> list[float]:
    """Structural similarity (Wang et al. 2004) of each pair of images (N, C, H, W), by
    scikit-image.
    """
    from skimage.metrics import structural_similarity

    side = min(first.shape[2:])
    window = min(WINDOW, side - (side + 1) % 2)
    pairs = zip(first.cpu().numpy(), second.cpu().numpy(), strict=True)
    return [
        float(
            np.mean(
                structural_similarity(
                    one, other, win_size=window, channel_axis=0, data_range=1.0
                )
            )
        )
        for one, other in pairs
    ]


def _universal(subject: Examined, budget: float) -> list[Number]:
    """The pattern is made on half of the images and measured on the others."""
    made, measured = subject.halves
    pattern = universal_perturbation(
        subject.network,
        subject.images[made],
        subject.labels[made],
        epsilon=budget,
        epochs=EPOCHS,
        generator=subject.generator(101),
        chunk=subject.chunk,
    )
    random = budget * signs(pattern.shape, pattern, subject.generator(102))
    numbers = []
    for name, each in (("learnt", pattern), ("random", random)):
        images = apply(subject.images[measured], each)
        right = answers(subject, images) == subject.labels[measured]
        share = binomial_interval(int(torch.sum(right)), len(right))
        factors = {"pattern": name}
        numbers.append(Number("universal accuracy", share, "images", factors))
    return numbers
