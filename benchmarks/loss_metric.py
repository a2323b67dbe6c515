"""Times attacks and psi: `python -m benchmarks.loss_metric` prints one ratio a line, ours over theirs.

PGD against torchattacks at its best batch size, PGD that stops at fooled images against the same, and psi against the
bare forward and backward passes that it makes. MNIST if the data root holds it, else enlarged digits.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from benchmarks.timing import Comparison, compare, fastest
from robustbook.data import load
from robustbook.errors import UserError
from robustbook.measure.divergence import worst_divergence
from robustbook.models.architectures import build
from robustbook.perturb.gradient import pgd
from robustbook.perturb.network import CHUNK, accuracy, frozen

STEPS, PSI_STEPS = 40, 20
EPSILON, STEP_SIZE = 0.1, 0.01
BATCHES = (64, 128, 256, 500, 1000)


def mnist_like(count: int) -> tuple[Tensor, Tensor, str]:
    """`count` images (count, 1, 28, 28), their labels, and what they are."""
    try:
        data = load("mnist", "train", limit=count)
        return data.images, data.labels, data.title
    except UserError:
        data = load("digits", "train")
        images = F.pad(F.interpolate(data.images, size=(24, 24), mode="bilinear"), (2, 2, 2, 2))
        rows = torch.arange(count) % len(images)
        return images[rows].clamp(0, 1), data.labels[rows], f"{data.title}, enlarged"


def briefly_trained(architecture: str, images: Tensor, labels: Tensor, epochs: int = 6) -> nn.Sequential:
    """A network that knows most of the images and is easily fooled, as natural training leaves it."""
    model = build(architecture, (1, 28, 28), 10, seed=0)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for part, classes in zip(images.split(64), labels.split(64), strict=True):
            optimiser.zero_grad()
            F.cross_entropy(model(part), classes).backward()
            optimiser.step()
    model.zero_grad()
    return model.eval()


def torchattacks_pgd(model: nn.Module, images: Tensor, labels: Tensor, batch: int) -> Tensor:
    attack = torchattacks.PGD(model, eps=EPSILON, alpha=STEP_SIZE, steps=STEPS)
    parts = zip(images.split(batch), labels.split(batch), strict=True)
    return torch.cat([attack(part, classes) for part, classes in parts])


def our_pgd(model: nn.Module, images: Tensor, labels: Tensor, *, stop: bool = False) -> Tensor:
    return pgd(
        model,
        images,
        labels,
        epsilon=EPSILON,
        steps=STEPS,
        step_size=STEP_SIZE,
        generator=torch.Generator().manual_seed(0),
        stop_when_fooled=stop,
    )


def psi_work(model: nn.Module, images: Tensor) -> None:
    worst_divergence(
        model,
        images,
        epsilon=EPSILON,
        steps=PSI_STEPS,
        step_size=STEP_SIZE,
        generator=torch.Generator().manual_seed(0),
    )


def bare_passes(model: nn.Module, images: Tensor) -> None:
    """The passes of `psi_work` and nothing else: two forward alone, the others forward and backward."""
    with frozen(model):
        for part in images.split(CHUNK):
            for _ in range(PSI_STEPS):
                leaf = part.detach().requires_grad_()
                torch.autograd.grad(model(leaf).sum(), leaf)
            with torch.no_grad():
                model(part)
                model(part)


def ratios(architecture: str, images: Tensor, labels: Tensor, repeats: int) -> list[Comparison]:
    model = briefly_trained(architecture, images, labels)
    batch = fastest({size: lambda size=size: torchattacks_pgd(model, images, labels, size) for size in BATCHES})
    ours, theirs = our_pgd(model, images, labels), torchattacks_pgd(model, images, labels, batch)
    stopped = our_pgd(model, images, labels, stop=True)
    print(
        f"{architecture}: accuracy {accuracy(model, images, labels):.3f}; under PGD ours {accuracy(model, ours, labels):.3f}, "
        f"stopped early {accuracy(model, stopped, labels):.3f}, torchattacks {accuracy(model, theirs, labels):.3f}"
    )

    def peer() -> Tensor:
        return torchattacks_pgd(model, images, labels, batch)

    return [
        compare(
            f"{architecture}: PGD-{STEPS} / torchattacks (batch {batch})",
            lambda: our_pgd(model, images, labels),
            peer,
            limit=0.9,
            repeats=repeats,
        ),
        compare(
            f"{architecture}: PGD-{STEPS} until fooled / torchattacks (batch {batch})",
            lambda: our_pgd(model, images, labels, stop=True),
            peer,
            limit=0.4,
            repeats=repeats,
        ),
        compare(
            f"{architecture}: psi, {PSI_STEPS} steps / its bare passes",
            lambda: psi_work(model, images),
            lambda: bare_passes(model, images),
            limit=1.15,
            repeats=repeats,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=["mlp", "cnn", "wide-cnn"])
    parser.add_argument("--json", type=Path, help="also write the ratios to this file")
    options = parser.parse_args()
    images, labels, title = mnist_like(options.images)
    print(f"{len(images)} images ({title}), {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for architecture in options.networks:
        for row in ratios(architecture, images, labels, options.repeats):
            print(row, flush=True)
            rows.append(asdict(row))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
