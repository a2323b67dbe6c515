"""The networks of the chapter: sixteen ways of training with several seeds each, and
smaller copies of two of them, each trained once and kept.

Read `FAMILIES` and `Network` first, then `zoo` and `controls` (all of them), then
`load_point` (the trained network) and `load_posterior`, then `train_all`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from robustbook.bayes.mean_field import MeanField
from robustbook.data import ImageSet
from robustbook.measure import importance
from robustbook.models import gated
from robustbook.models.training import Recipe
from robustbook.perturb import lowpass, pruning
from robustbook.perturb.lowpass import low_pass
from robustbook.studies import shared
from robustbook.studies.shared import (
    SeededTask,
    images_of,
    most_probable,
    trained,
    variational,
)

CHANNELS, HIDDEN = 8, 64
"""Filters of the first convolution (the second has twice as many), and neurons: half
the book's `cnn`, so bounds are cheap.
"""
SIZES = {"narrow": (4, 32), "wide": (16, 128)}
MINMAX_STEPS = 7
GRADIENT_PENALTY = 0.3
SCORE_IMAGES = 256
RATE, TUNING_RATE = 3e-3, 1e-3
"""Adam's learning rates of training, that of variational inference, and of tuning after
a pruning.
"""
SCALE_RATE = 3e-2
"""Learning rate of the log-deviations of variational inference: with that of the means
they stayed too small (see `diagnose`).
"""
NOISE, BLUR, COVERED, WRONG = 0.3, 0.5, 1 / 3, 0.2
"""Standard deviation of the noise on images, cut-off wavelength of their blur and side
of what covers them (shares of the side), share of labels that are wrong.
"""

NATURAL, MINMAX, POSTERIOR = "natural", "MinMax", "mean-field VI"
PENALISED, FEW = "penalised", "few images"
GROUPS = {
    "plain training": (NATURAL, "natural, short", FEW, "narrow", "wide"),
    "other data": (
        "noisy images",
        "blurred images",
        "shifted images",
        "covered images",
        "wrong labels",
    ),
    "penalty": (PENALISED, "gradient-regularised"),
    "adversarial": ("FGSM", "MinMax, half budget", MINMAX),
    "Bayesian": (POSTERIOR,),
}
"""Ways of training, in groups that are drawn in one colour."""

FAMILIES = tuple(kind for group in GROUPS.values() for kind in group)
"""A way of training names the family of its networks and of what was pruned from
them.
"""
PRUNED = {
    f"natural, {share:.0%} pruned": (NATURAL, share) for share in (0.25, 0.5, 0.75)
} | {"MinMax, 50% pruned": (MINMAX, 0.5)}
"""Kinds that are made from another one: its name, and the share of units taken out of
each of its layers, lowest Taylor importance first.
"""
KINDS = (*FAMILIES, *PRUNED)
TUNED = {parent: f"{parent}, tuned" for parent in (NATURAL, MINMAX)}
"""Controls of pruning, which are not part of the zoo: tuned as long, with nothing taken
out.
"""
AT_RANDOM = {f"{parent}, 50% at random": (parent, 0.5) for parent in TUNED}
"""The cheap rivals: the same share of units taken out at random, then tuned as long."""


def family_of(kind: str) -> str:
    """The way of training that a kind of network comes from."""
    return PRUNED[kind][0] if kind in PRUNED else kind


@dataclass(frozen=True)
class Network(SeededTask):
    """What identifies a network: its kind, its seed and the numbers of its training."""

    kind: str
    dataset: str
    epsilon: float
    train_images: int
    epochs: int
    vi_epochs: int
    tune_epochs: int
    prior_sd: float

    @property
    def plain(self) -> ImageSet:
        """The training images as they are."""
        count = self.train_images // 6 if self.kind == FEW else self.train_images
        return images_of(self.dataset, "train", count)


def zoo(
    *, seeds: int, first_seed: int, kinds: Sequence[str] = KINDS, **training: Any
) -> list[Network]:
    """Every kind with every seed, kinds outermost; `training` are the other fields of
    `Network`.
    """
    return [
        Network(seed, kind, **training)
        for kind in kinds
        for seed in range(first_seed, first_seed + seeds)
    ]


def controls(**settings: Any) -> list[Network]:
    """What pruned networks are compared with, which is not part of the zoo: tuned
    without pruning, and pruned at random.
    """
    return zoo(kinds=(*TUNED.values(), *AT_RANDOM), **settings)


# Images of a training
# --------------------------------------------------------------------------------------


def training_images(network: Network) -> ImageSet:
    """The images that a network is trained on: half of them (or a fifth of the labels)
    are changed where its kind says so.
    """
    data, generator = network.plain, network.generator(7)
    change = _CHANGES.get(network.kind)
    if change is not None:
        changed = torch.rand(len(data), generator=generator) < 0.5
        images = data.images.clone()
        images[changed] = change(images[changed], generator).clamp(0, 1)
        return replace(data, images=images)
    if network.kind == "wrong labels":
        wrong = torch.rand(len(data), generator=generator) < WRONG
        drawn = torch.randint(data.classes, (len(data),), generator=generator)
        return replace(data, labels=torch.where(wrong, drawn, data.labels))
    return data


def _noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + NOISE * torch.randn(images.shape, generator=generator)


def _blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    return low_pass(images, BLUR * images.shape[-1], pitch=1.0)


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to a tenth of its side; what leaves comes in again."""
    most = max(1, images.shape[-1] // 10)
    steps = torch.randint(-most, most + 1, (len(images), 2), generator=generator)
    return torch.stack(
        [
            image.roll((int(down), int(right)), (-2, -1))
            for image, (down, right) in zip(images, steps, strict=True)
        ]
    )


def _covered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image with a square of one random grey somewhere on it."""
    images, side = images.clone(), round(COVERED * images.shape[-1])
    places = torch.randint(
        images.shape[-1] - side + 1, (len(images), 2), generator=generator
    )
    greys = torch.rand(len(images), generator=generator)
    for image, (top, left), grey in zip(images, places, greys, strict=True):
        image[:, top : top + side, left : left + side] = grey
    return images


_CHANGES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "noisy images": _noisy,
    "blurred images": _blurred,
    "shifted images": _shifted,
    "covered images": _covered,
}


# Trained networks
# --------------------------------------------------------------------------------------


def recipe_of(network: Network) -> Recipe:
    """How a kind without a posterior is trained; "natural, short" gets a sixth of the
    epochs, and "few images" six times as many on a sixth of the images.
    """
    epochs, epsilon = network.epochs, network.epsilon
    special = {
        "natural, short": Recipe("natural", max(1, epochs // 6), RATE),
        FEW: Recipe("natural", 6 * epochs, RATE),
        "FGSM": Recipe("fgsm", epochs, RATE, epsilon=epsilon, steps=1),
        "gradient-regularised": Recipe(
            "gradient-regularised", epochs, RATE, penalty=GRADIENT_PENALTY
        ),
        "MinMax, half budget": Recipe(
            "minmax", epochs, RATE, epsilon=epsilon / 2, steps=MINMAX_STEPS
        ),
        MINMAX: Recipe("minmax", epochs, RATE, epsilon=epsilon, steps=MINMAX_STEPS),
    }
    return special.get(network.kind, Recipe("natural", epochs, RATE))


def load_point(network: Network) -> nn.Sequential:
    """The trained network; of the Bayesian kind the one at the posterior mean."""
    if network.kind == POSTERIOR:
        model = _untrained(network)
        model.load_state_dict(dict(load_posterior(network).means))
        return model.eval()
    if network.kind in {*PRUNED, *AT_RANDOM, *TUNED.values()}:
        return _tuned(network)
    if network.kind == PENALISED:
        return _penalised(network)
    return _trained(network, _untrained(network), recipe_of(network))


def _untrained(network: Network) -> nn.Sequential:
    data = network.plain
    return build(
        data.image_shape,
        data.classes,
        network.seed,
        *SIZES.get(network.kind, (CHANNELS, HIDDEN)),
    )


def build(
    shape: tuple[int, int, int],
    classes: int,
    seed: int,
    filters: int = CHANNELS,
    hidden: int = HIDDEN,
) -> nn.Sequential:
    """The untrained network of the chapter: two strided convolutions (4 x 4, stride 2)
    and two linear layers.
    """
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, filters, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(filters, 2 * filters, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * filters * (height // 4) * (width // 4), hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )


def _identity(network: Network, **numbers: object) -> dict[str, object]:
    changes = [NOISE, BLUR, COVERED, WRONG]
    return {"study": "synthesis", "changes": changes, **asdict(network), **numbers}


def _trained(
    network: Network,
    model: nn.Sequential,
    recipe: Recipe,
    code: tuple[ModuleType, ...] = (),
    **numbers: object,
) -> nn.Sequential:
    found = trained(
        _identity(network, **numbers),
        model,
        training_images(network),
        recipe,
        seed=network.seed,
        code=(lowpass, *code),
    )
    assert isinstance(found, nn.Sequential)
    return found


def _penalised(network: Network) -> nn.Sequential:
    """The most probable network under the prior of the Bayesian one: an L2 penalty and
    no spread.
    """
    return most_probable(
        _identity(network),
        _untrained(network),
        network.plain,
        prior_sd=network.prior_sd,
        epochs=network.vi_epochs,
        seed=network.seed,
    )


def load_posterior(network: Network) -> MeanField:
    """The Bayesian network: independent Gaussian weights by variational inference."""
    return variational(
        _identity(network),
        _untrained(network),
        network.plain,
        prior_sd=network.prior_sd,
        epochs=network.vi_epochs,
        seed=network.seed,
        scale_learning_rate=SCALE_RATE,
    )


def _tuned(network: Network) -> nn.Sequential:
    """A network with a share of every layer's units taken out, then trained briefly as
    its parent was.
    """
    alone = network.kind.rpartition(",")[0]
    parent, share = (PRUNED | AT_RANDOM).get(network.kind, (alone, 0.0))
    origin = recipe_of(replace(network, kind=parent))
    before = load_point(replace(network, kind=parent))
    scores = None
    if network.kind in AT_RANDOM:
        units = gated.with_gates(before).units
        scores = torch.rand(units, generator=network.generator(9))
    return _trained(
        network,
        pruned(before, share, network.plain, scores),
        replace(origin, epochs=network.tune_epochs, learning_rate=TUNING_RATE),
        code=(gated, importance, pruning),
        origin=asdict(origin),
        share=share,
    )


def pruned(
    network: nn.Sequential, share: float, data: ImageSet, scores: Tensor | None = None
) -> nn.Sequential:
    """`network` without the `share` of units of each layer that have the lowest scores,
    by default the first-order Taylor importance.
    """
    model = gated.with_gates(network)
    scores = taylor_scores(network, data) if scores is None else scores
    alive = pruning.all_alive(model)
    for group in model.groups:
        alive = pruning.lowest(
            model, scores, round(share * group.units), alive, layers=[group.name]
        )
    return gated.without_gates(pruning.removed(model, alive))


def taylor_scores(network: nn.Sequential, data: ImageSet) -> Tensor:
    """First-order Taylor importance (units,) of the units of a plain network, from
    training images.
    """
    chosen = data.take(min(SCORE_IMAGES, len(data)))
    gradients = importance.gate_gradients(
        gated.with_gates(network), chosen.images, chosen.labels
    )
    return importance.per_example(gradients)


def train_all(networks: Sequence[Network]) -> None:
    """Train what is not in the cache yet, side by side: first the ways of training, the
    longest ones first, then what is made from them.
    """
    cost = {MINMAX: 3, "MinMax, half budget": 3, POSTERIOR: 2, "FGSM": 1, FEW: 1}
    made = [each for each in networks if each.kind not in FAMILIES]
    first = [each for each in networks if each.kind in FAMILIES]
    for stage in (first, made):
        shared.train_all(load_point, stage, cost=lambda each: cost.get(each.kind, 0))
