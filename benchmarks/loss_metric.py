"""Times attacks and psi: `python -m benchmarks.loss_metric` prints one row a line, ours
over theirs.

PGD against torchattacks and foolbox, PGD that stops at fooled images against the same,
the three attacks of `auto_attack` against pyautoattack's on 200 of the images, and psi
against the bare forward and backward passes that it makes; both sides at their own best
batch size. MNIST if the data root holds it, else enlarged digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from benchmarks.timing import Comparison, Row, compare, fastest, growth, run
from robustbook.data import load
from robustbook.errors import UserError
from robustbook.measure.divergence import worst_divergence
from robustbook.models.architectures import build
from robustbook.models.network import CHUNK, accuracy, frozen
from robustbook.perturb.auto_attack import auto_attack
from robustbook.perturb.gradient import pgd

STEPS, PSI_STEPS = 40, 20
EPSILON, STEP_SIZE = 0.1, 0.01
BATCHES = (128, 256, 500, 1000)
QUERIES = 1000
"""Of Square Attack, in both implementations of AutoAttack."""


def mnist_like(count: int) -> tuple[Tensor, Tensor, str]:
    """`count` images (count, 1, 28, 28), their labels, and what they are."""
    try:
        data = load("mnist", "train", limit=count)
        return data.images, data.labels, data.title
    except UserError:
        data = load("digits", "train")
        images = F.pad(
            F.interpolate(data.images, size=(24, 24), mode="bilinear"), (2, 2, 2, 2)
        )
        rows = torch.arange(count) % len(images)
        return images[rows].clamp(0, 1), data.labels[rows], f"{data.title}, enlarged"


def briefly_trained(
    architecture: str, images: Tensor, labels: Tensor, epochs: int = 6
) -> nn.Sequential:
    """A network that knows most of the images and is easily fooled, as natural training
    leaves it.
    """
    model = build(architecture, (1, 28, 28), 10, seed=0)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for part, classes in zip(images.split(64), labels.split(64), strict=True):
            optimiser.zero_grad()
            F.cross_entropy(model(part), classes).backward()
            optimiser.step()
    model.zero_grad()
    return model.eval()


def torchattacks_pgd(
    model: nn.Module, images: Tensor, labels: Tensor, batch: int
) -> Tensor:
    attack = torchattacks.PGD(model, eps=EPSILON, alpha=STEP_SIZE, steps=STEPS)
    parts = zip(images.split(batch), labels.split(batch), strict=True)
    return torch.cat([attack(part, classes) for part, classes in parts])


def foolbox_pgd(model: nn.Module, images: Tensor, labels: Tensor, batch: int) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS)
    parts = zip(images.split(batch), labels.split(batch), strict=True)
    return torch.cat(
        [attack(wrapped, part, classes, epsilons=EPSILON)[1] for part, classes in parts]
    )


def our_pgd(
    model: nn.Module, images: Tensor, labels: Tensor, chunk: int, *, stop: bool = False
) -> Tensor:
    return pgd(
        model,
        images,
        labels,
        epsilon=EPSILON,
        steps=STEPS,
        step_size=STEP_SIZE,
        generator=torch.Generator().manual_seed(0),
        stop_when_fooled=stop,
        chunk=chunk,
    )


def peers_auto_attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import pyautoattack

    attack = pyautoattack.AutoAttack(
        model,
        attacks=["apgd-ce", "apgd-t", "square"],
        eps=EPSILON,
        seed=0,
        version="custom",
        device="cpu",
    )
    attack.verbose, attack.apgd.n_restarts = False, 1
    attack.square.n_queries = QUERIES
    found = attack.run_standard_evaluation(images, labels)
    return found[0] if isinstance(found, tuple) else found


def strong_attacks(
    architecture: str, model: nn.Module, images: Tensor, labels: Tensor, repeats: int
) -> Comparison:
    """The three attacks of AutoAttack against the peer's; robust accuracies must agree
    within one image.
    """

    def ours() -> Tensor:
        draws = torch.Generator().manual_seed(0)
        return auto_attack(
            model, images, labels, epsilon=EPSILON, queries=QUERIES, generator=draws
        )

    def peer() -> Tensor:
        return peers_auto_attack(model, images, labels)

    model.requires_grad_(False)
    left = [accuracy(model, work(), labels) for work in (ours, peer)]
    assert abs(left[0] - left[1]) <= 1.01 / len(images), left
    return compare(
        f"{architecture}: APGD, APGD-T and Square / pyautoattack",
        ours,
        peer,
        limit=0.8,
        repeats=repeats,
        agreement=f"attacked {left[0]:.3f} and {left[1]:.3f} of {len(images)} images",
    )


def psi_work(model: nn.Module, images: Tensor, chunk: int) -> Tensor:
    return worst_divergence(
        model,
        images,
        epsilon=EPSILON,
        steps=PSI_STEPS,
        step_size=STEP_SIZE,
        generator=torch.Generator().manual_seed(0),
        chunk=chunk,
    ).kl


def bare_passes(model: nn.Module, images: Tensor, batch: int) -> None:
    """The passes of `psi_work` and nothing else: two forward alone, the others forward
    and backward.
    """
    with frozen(model):
        for part in images.split(batch):
            for _ in range(PSI_STEPS):
                leaf = part.detach().requires_grad_()
                torch.autograd.grad(model(leaf).sum(), leaf)
            with torch.no_grad():
                model(part)
                model(part)


def at_best(work: Callable[[int], object]) -> int:
    """The batch size at which the work is fastest: both sides of every ratio run at
    their own.
    """
    return fastest({size: lambda size=size: work(size) for size in BATCHES})


def attacks(
    architecture: str, model: nn.Module, images: Tensor, labels: Tensor, repeats: int
) -> Iterator[Row]:
    """PGD against torchattacks and, on the small convolutional network, foolbox; robust
    accuracies must agree.
    """
    chunk = at_best(lambda size: our_pgd(model, images, labels, size))
    stopping = at_best(lambda size: our_pgd(model, images, labels, size, stop=True))
    batch = at_best(lambda size: torchattacks_pgd(model, images, labels, size))

    def robust(points: Tensor) -> float:
        return accuracy(model, points, labels)

    plain, stopped = (
        our_pgd(model, images, labels, chunk),
        our_pgd(model, images, labels, stopping, stop=True),
    )
    left = {"ours": robust(plain), "ours, stopping": robust(stopped)}

    def peer() -> Tensor:
        return torchattacks_pgd(model, images, labels, batch)

    found = robust(peer())
    clean = f"accuracy {robust(images):.3f}"
    yield compare(
        f"{architecture}: PGD-{STEPS} / torchattacks",
        lambda: our_pgd(model, images, labels, chunk),
        peer,
        limit=0.9,
        repeats=repeats,
        agreement=(
            f"{clean}, attacked {left['ours']:.3f} and {found:.3f}; batches of "
            f"{chunk} and {batch}"
        ),
    )
    yield compare(
        f"{architecture}: PGD-{STEPS} until fooled / torchattacks",
        lambda: our_pgd(model, images, labels, stopping, stop=True),
        peer,
        limit=0.4,
        repeats=repeats,
        agreement=(
            f"{clean}, attacked {left['ours, stopping']:.3f} and {found:.3f}; "
            f"batches of {stopping} and {batch}"
        ),
    )
    if architecture == "cnn":
        other = at_best(lambda size: foolbox_pgd(model, images, labels, size))
        found = robust(foolbox_pgd(model, images, labels, other))
        yield compare(
            f"{architecture}: PGD-{STEPS} / foolbox",
            lambda: our_pgd(model, images, labels, chunk),
            lambda: foolbox_pgd(model, images, labels, other),
            limit=0.9,
            repeats=repeats,
            agreement=(
                f"{clean}, attacked {left['ours']:.3f} and {found:.3f}; batches of "
                f"{chunk} and {other}"
            ),
        )


def divergences(
    architecture: str, model: nn.Module, images: Tensor, repeats: int
) -> Comparison:
    """Psi against the passes that it cannot do without."""
    chunk, batch = (
        at_best(lambda size: psi_work(model, images, size)),
        at_best(lambda size: bare_passes(model, images, size)),
    )
    return compare(
        f"{architecture}: psi, {PSI_STEPS} steps / its bare passes",
        lambda: psi_work(model, images, chunk),
        lambda: bare_passes(model, images, batch),
        limit=1.15,
        repeats=repeats,
        agreement=(
            "nothing to compare: the bare passes give no psi; as many passes; "
            f"batches of {chunk} and {batch}"
        ),
    )


def rows(repeats: int, count: int = 1000) -> Iterator[Row]:
    """All rows of this study."""
    images, labels, title = mnist_like(count)
    print(f"{len(images)} images ({title})")
    models = {name: briefly_trained(name, images, labels) for name in ("mlp", "cnn")}
    for architecture, model in models.items():
        yield from attacks(architecture, model, images, labels, repeats)
        yield divergences(architecture, model, images, repeats)
    models["wide-cnn"] = briefly_trained("wide-cnn", images, labels)
    for architecture, model in models.items():
        few = images[:200], labels[:200]
        yield strong_attacks(architecture, model, *few, min(repeats, 4))
    works = {
        size: lambda size=size: psi_work(models["cnn"], images[:size], CHUNK)
        for size in (125, 250, 500, 1000)
        if size <= count
    }
    yield growth(
        "psi of the small convolutional network",
        "images",
        works,
        repeats=min(repeats, 4),
    )


if __name__ == "__main__":
    run({"loss_metric": rows})
