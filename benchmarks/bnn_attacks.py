"""Times `bnn_attacks`: `python -m benchmarks.bnn_attacks` prints predictions and averaged attacks over plain loops.

Fifty posterior samples predict 1,000 images against a loop over fifty networks; EOT-PGD with S samples against S times the
gradient passes of plain PGD. One thread, as the study's workers run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.timing import Comparison, Row, compare, difference, growth, run
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weight_noise import weight_noise
from robustbook.models import build
from robustbook.perturb.gradient import pgd
from robustbook.perturb.posterior import eot_pgd

SAMPLES, IMAGES = 50, 1000
GRADIENT_SAMPLES, STEPS, ATTACKED = 20, 5, 128
SHAPE = (1, 28, 28)


def images(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def loop(networks: list[nn.Sequential], points: Tensor) -> Tensor:
    """Class probabilities (S, N, K), one network after the other."""
    return torch.stack([probabilities(network(points)) for network in networks])


def predictions(repeats: int) -> Iterator[Comparison]:
    """Fifty samples on 1,000 images of MNIST's shape: no slower than a loop for the CNN, faster for the perceptron."""
    points = images(IMAGES)
    for architecture, limit in (("cnn", 1.05), ("mlp", 1.0)):
        posterior = weight_noise(build(architecture, SHAPE, 10, seed=0), 0.3)
        samples = posterior.draw(SAMPLES, torch.Generator().manual_seed(0))
        networks = [samples.network(index) for index in range(SAMPLES)]
        assert torch.allclose(sampled_probabilities(samples, points), loop(networks, points), atol=1e-5)

        def ours(samples=samples) -> Tensor:  # type: ignore[no-untyped-def]
            return sampled_probabilities(samples, points)

        def theirs(networks=networks) -> Tensor:  # type: ignore[no-untyped-def]
            return loop(networks, points)

        name = f"{architecture}, {SAMPLES} samples x {IMAGES} images / loop"
        yield compare(name, ours, theirs, limit=limit, repeats=repeats, agreement=difference(ours(), theirs()))


def attacks(repeats: int) -> Iterator[Comparison]:
    """EOT-PGD with 20 samples against 20 plain PGD attacks with as many steps: the passes are the same."""
    points, labels = images(ATTACKED), torch.arange(ATTACKED) % 10
    numbers = {"epsilon": 0.1, "steps": STEPS, "step_size": 0.05}
    for architecture in ("cnn", "mlp"):
        posterior = weight_noise(build(architecture, SHAPE, 10, seed=0), 0.3)
        network = posterior.draw(1, torch.Generator().manual_seed(0)).network(0)
        yield compare(
            f"{architecture}, EOT-PGD-{STEPS}, {GRADIENT_SAMPLES} samples / {GRADIENT_SAMPLES} x PGD",
            _averaged(posterior, points, labels, numbers),
            _plain(network, points, labels, numbers),
            limit=1.15,
            repeats=repeats,
            agreement=f"{GRADIENT_SAMPLES * STEPS} passes an image on both sides",
        )


def _averaged(posterior, points: Tensor, labels: Tensor, numbers: dict) -> Callable[[], Tensor]:  # type: ignore[no-untyped-def,type-arg]
    return lambda: eot_pgd(
        posterior, points, labels, samples=GRADIENT_SAMPLES, generator=torch.Generator().manual_seed(0), **numbers
    )


def _plain(network: nn.Sequential, points: Tensor, labels: Tensor, numbers: dict) -> Callable[[], list[Tensor]]:  # type: ignore[type-arg]
    return lambda: [
        pgd(network, points, labels, generator=torch.Generator().manual_seed(0), **numbers)
        for _ in range(GRADIENT_SAMPLES)
    ]


def growths(repeats: int) -> Iterator[Row]:
    """Predictions over posterior samples."""
    points = images(500)
    for architecture in ("cnn", "mlp"):
        posterior = weight_noise(build(architecture, SHAPE, 10, seed=0), 0.3)
        drawn = {count: posterior.draw(count, torch.Generator().manual_seed(0)) for count in (8, 16, 32, 64)}
        works = {
            count: lambda samples=samples: sampled_probabilities(samples, points) for count, samples in drawn.items()
        }
        yield growth(f"predictions of the {architecture}, 500 images", "samples", works, repeats=repeats)


def rows(repeats: int) -> Iterator[Row]:
    """All rows of this study."""
    yield from predictions(repeats)
    yield from attacks(repeats)
    yield from growths(min(repeats, 4))


if __name__ == "__main__":
    run({"bnn_attacks": rows})
