"""Speed of the phantoms, and of the universal perturbation against ART's, in one run; prints seconds and ratios."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from benchmarks.timing import compare
from robustbook.data import load
from robustbook.data.phantoms import Settings, generate
from robustbook.models import build
from robustbook.models.training import Recipe, train
from robustbook.perturb.lowpass import low_pass
from robustbook.perturb.network import accuracy
from robustbook.perturb.universal import apply, universal_perturbation
from robustbook.workers import map_in_workers

EPSILON = 0.2


def half(first: int) -> int:
    """Draw 500 exams from number `first` on; how many there were."""
    return len(generate(500, 1, Settings(128, 96), first=first))


def phantoms() -> None:
    start = time.perf_counter()
    drawn = sum(map_in_workers(half, [0, 500], workers=2))
    spent = time.perf_counter() - start
    verdict = "ok" if spent <= 30 else "MISSED"
    print(
        f"{drawn} four-view exams of 128 x 96 pixels, two workers with their start: {spent:.1f} s (limit 30) {verdict}"
    )


def ours(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return universal_perturbation(model, images, labels, epsilon=EPSILON, epochs=5, generator=generator, chunk=32)


def theirs(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    from art.attacks.evasion import UniversalPerturbation
    from art.estimators.classification import PyTorchClassifier

    shape = tuple(images.shape[1:])
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), shape, 10, clip_values=(0, 1), device_type=images.device.type
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


def universal(count: int, repeats: int) -> None:
    made, test = load("digits", "train", limit=count), load("digits", "test", limit=400)
    whole = load("digits", "train")
    model = build("cnn", whole.image_shape, 10, seed=0)
    train(model, whole.images, whole.labels, Recipe("natural", 12), seed=0)
    left = [
        accuracy(model, apply(test.images, way(model, made.images, made.labels)), test.labels) for way in (ours, theirs)
    ]
    print(
        f"accuracy on 400 other images: clean {accuracy(model, test.images, test.labels):.3f}, under our pattern "
        f"{left[0]:.3f}, under ART's {left[1]:.3f}"
    )
    row = compare(
        f"universal perturbation, {count} images, 5 passes / ART",
        lambda: ours(model, made.images, made.labels),
        lambda: theirs(model, made.images, made.labels),
        limit=1.0,
        repeats=repeats,
    )
    print(row)


def filters(repeats: int) -> None:
    """The filter in the frequency domain against SciPy's Gaussian of the same width."""
    from scipy.ndimage import gaussian_filter

    images = torch.rand(100, 4, 128, 96)
    width = 2.0 / (2 * np.pi) / 0.2
    row = compare(
        "low-pass filter, 100 exams of 128 x 96 / scipy.ndimage",
        lambda: low_pass(images, 2.0, pitch=0.2),
        lambda: gaussian_filter(images.numpy(), (0, 0, width, width), mode="reflect"),
        limit=1.0,
        repeats=repeats,
    )
    print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    options, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread")
    phantoms()
    universal(options.images, options.repeats)
    filters(options.repeats)


if __name__ == "__main__":
    main()
