"""Times `bnn_attacks`: `python -m benchmarks.bnn_attacks` prints predictions and
averaged attacks over plain loops.

Fifty posterior samples predict 1,000 images against a loop over fifty networks at the
loop's best batch size; EOT-PGD with S samples against S times the gradient passes of
plain PGD. One thread, as the study's workers run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.timing import Comparison, Row, compare, difference, fastest, growth, run
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weight_noise import weight_noise
from robustbook.models import build
from robustbook.perturb.gradient import pgd
from robustbook.perturb.posterior import eot_pgd

SAMPLES, IMAGES = 50, 1000
GRADIENT_SAMPLES, STEPS, ATTACKED = 20, 5, 128
BATCHES = (128, 256, 500, 1000)
SHAPE = (1, 28, 28)


def images(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def loop(networks: list[nn.Sequential], points: Tensor, batch: int = IMAGES) -> Tensor:
    """Class probabilities (S, N, K), one network after the other, `batch` images at
    once.
    """
    parts = points.split(batch)
    return torch.stack(
        [
            probabilities(torch.cat([network(part) for part in parts]))
            for network in networks
        ]
    )


def predictions(repeats: int) -> Iterator[Comparison]:
    """Fifty samples on 1,000 images of MNIST's shape: no slower than a loop for the
    CNN, faster for the perceptron.
    """
    points = images(IMAGES)
    for architecture, limit in (("cnn", 1.05), ("mlp", 1.0)):
        posterior = weight_noise(build(architecture, SHAPE, 10, seed=0), 0.3)
        samples = posterior.draw(SAMPLES, torch.Generator().manual_seed(0))
        networks = [samples.network(index) for index in range(SAMPLES)]
        assert torch.allclose(
            sampled_probabilities(samples, points), loop(networks, points), atol=1e-5
        )

        def ours(samples=samples) -> Tensor:  # type: ignore[no-untyped-def]
            return sampled_probabilities(samples, points)

        batch = fastest(
            {
                size: lambda size=size, networks=networks: loop(networks, points, size)
                for size in BATCHES
            }
        )

        def theirs(networks=networks, batch=batch) -> Tensor:  # type: ignore[no-untyped-def]
            return loop(networks, points, batch)

        name = f"{architecture}, {SAMPLES} samples x {IMAGES} images / loop"
        agreement = (
            f"{difference(ours(), theirs())}; the loop takes {batch} images at once"
        )
        yield compare(
            name, ours, theirs, limit=limit, repeats=repeats, agreement=agreement
        )


def attacks(repeats: int) -> Iterator[Comparison]:
    """EOT-PGD with 20 samples against 20 plain PGD attacks with as many steps.

    The CNN makes the same passes on both sides. The first layer of the perceptron is
    linear, so that `eot_pgd` draws its outputs and not its weights: two products (mean
    and variance) serve all samples.
    """
    points, labels = images(ATTACKED), torch.arange(ATTACKED) % 10
    numbers = {"epsilon": 0.1, "steps": STEPS, "step_size": 0.05}
    passes = (
        f"nothing to compare, other random numbers: {GRADIENT_SAMPLES * STEPS} "
        "passes an image on both sides"
    )
    told = {
        "cnn": "",
        "mlp": (
            f", but two products for all {GRADIENT_SAMPLES} samples in our first layer"
        ),
    }
    for architecture, more in told.items():
        posterior = weight_noise(build(architecture, SHAPE, 10, seed=0), 0.3)
        network = posterior.draw(1, torch.Generator().manual_seed(0)).network(0)
        yield compare(
            f"{architecture}, EOT-PGD-{STEPS}, {GRADIENT_SAMPLES} samples / "
            f"{GRADIENT_SAMPLES} x PGD",
            _averaged(posterior, points, labels, numbers),
            _plain(network, points, labels, numbers),
            limit=1.15,
            repeats=repeats,
            agreement=passes + more,
        )


def _averaged(
    posterior, points: Tensor, labels: Tensor, numbers: dict
) -> Callable[[], Tensor]:  # type: ignore[no-untyped-def,type-arg]
    return lambda: eot_pgd(
        posterior,
        points,
        labels,
        samples=GRADIENT_SAMPLES,
        generator=torch.Generator().manual_seed(0),
        **numbers,
    )


def _plain(
    network: nn.Sequential, points: Tensor, labels: Tensor, numbers: dict
) -> Callable[[], list[Tensor]]:  # type: ignore[type-arg]
    return lambda: [
        pgd(
            network,
            points,
            labels,
            generator=torch.Generator().manual_seed(0),
            **numbers,
        )
        for _ in range(GRADIENT_SAMPLES)
    ]


def growths(repeats: int) -> Iterator[Row]:
    """Predictions over posterior samples."""
    points = images(500)
    for architecture in ("cnn", "mlp"):
        posterior = weight_noise(build(architecture, SHAPE, 10, seed=0), 0.3)
        drawn = {
            count: posterior.draw(count, torch.Generator().manual_seed(0))
            for count in (8, 16, 32, 64)
        }
        works = {
            count: lambda samples=samples: sampled_probabilities(samples, points)
            for count, samples in drawn.items()
        }
        yield growth(
            f"predictions of the {architecture}, 500 images",
            "samples",
            works,
            repeats=repeats,
        )


def rows(repeats: int) -> Iterator[Row]:
    """All rows of this study."""
    yield from predictions(repeats)
    yield from attacks(repeats)
    yield from growths(min(repeats, 4))


if __name__ == "__main__":
    run({"bnn_attacks": rows})
