"""Speed of the phantoms, and of the universal perturbation against ART's, in one run.

`python -m benchmarks.mammogram_perturbations` prints one row a line.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.timing import (
    Comparison,
    Measurement,
    Row,
    compare,
    difference,
    growth,
    run,
    seconds,
)
from robustbook.data import load
from robustbook.data.phantoms import Settings, generate
from robustbook.models import build
from robustbook.models.network import accuracy
from robustbook.models.training import Recipe, train
from robustbook.perturb.lowpass import low_pass
from robustbook.perturb.universal import apply, universal_perturbation
from robustbook.workers import map_in_workers

EPSILON = 0.2


def half(first: int) -> int:
    """Draw 500 exams from number `first` on; how many there were."""
    return len(generate(500, 1, Settings(128, 96), first=first))


def phantoms() -> Measurement:
    """A thousand exams, two workers with their start."""
    spent = seconds(lambda: map_in_workers(half, [0, 500], workers=2))
    return Measurement(
        "1,000 four-view exams of 128 x 96 pixels, two workers", spent, "s", 30
    )


def ours(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return universal_perturbation(
        model, images, labels, epsilon=EPSILON, epochs=5, generator=generator, chunk=32
    )


def theirs(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    from art.attacks.evasion import UniversalPerturbation
    from art.estimators.classification import PyTorchClassifier

    shape = tuple(images.shape[1:])
    classifier = PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        shape,
        10,
        clip_values=(0, 1),
        device_type=images.device.type,
    )
    attack = UniversalPerturbation(
        classifier,
        attacker="fgsm",
        attacker_params={"eps": EPSILON},
        eps=EPSILON,
        norm=np.inf,
        max_iter=5,
        delta=0.1,
        verbose=False,
    )
    attack.generate(images.numpy(), labels.numpy())
    return torch.from_numpy(np.asarray(attack.noise)).reshape(shape).float()


def universal(repeats: int, count: int = 100) -> Comparison:
    made, test = load("digits", "train", limit=count), load("digits", "test", limit=400)
    whole = load("digits", "train")
    model = build("cnn", whole.image_shape, 10, seed=0)
    train(model, whole.images, whole.labels, Recipe("natural", 12), seed=0)
    left = [
        accuracy(
            model, apply(test.images, way(model, made.images, made.labels)), test.labels
        )
        for way in (ours, theirs)
    ]
    clean = accuracy(model, test.images, test.labels)
    return compare(
        f"universal perturbation, {count} images, 5 passes / ART",
        lambda: ours(model, made.images, made.labels),
        lambda: theirs(model, made.images, made.labels),
        limit=1.0,
        repeats=repeats,
        agreement=(
            f"accuracy on 400 other images {clean:.3f}, under ours {left[0]:.3f}, "
            f"under ART's {left[1]:.3f}"
        ),
    )


def filters(repeats: int) -> Comparison:
    """The filter in the frequency domain against SciPy's Gaussian of the same width."""
    from scipy.ndimage import gaussian_filter

    images = torch.rand(100, 4, 128, 96)
    width = 2.0 / (2 * np.pi) / 0.2

    def filtered() -> torch.Tensor:
        return low_pass(images, 2.0, pitch=0.2)

    def smoothed() -> torch.Tensor:
        return torch.from_numpy(
            gaussian_filter(images.numpy(), (0, 0, width, width), mode="reflect")
        )

    return compare(
        "low-pass filter, 100 exams of 128 x 96 / scipy.ndimage",
        filtered,
        smoothed,
        limit=1.0,
        repeats=repeats,
        agreement=difference(filtered(), smoothed()),
    )


def rows(repeats: int) -> Iterator[Row]:
    """All rows of this study."""
    yield phantoms()
    yield universal(repeats)
    yield filters(repeats)
    works = {
        side * side: lambda side=side: generate(8, 1, Settings(side, side))
        for side in (32, 64, 128, 256)
    }
    yield growth("8 four-view exams", "pixels a view", works, repeats=min(repeats, 4))


if __name__ == "__main__":
    run({"mammogram_perturbations": rows})
