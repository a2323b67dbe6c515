"""The networks of the study: which there are, and how each is trained (or read from the
cache).

Read `Network` (what identifies one), then `zoo` (all of them) and `masked` (those that
try to fool the metric), then `load_network` (the trained module).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import Module, ReLU, Sequential

from robustbook.data import ImageSet, load
from robustbook.models import Scale, build
from robustbook.models.training import Recipe, Training, train
from robustbook.studies import shared
from robustbook.studies.shared import trained

ARCHITECTURES = ("mlp", "cnn", "wide-cnn")
TRAININGS: tuple[Training, ...] = ("natural", "fgsm", "gradient-regularised", "minmax")
COLOUR_ARCHITECTURES = ("cnn", "wide-cnn")
COLOUR_TRAININGS: tuple[Training, ...] = ("natural", "minmax")
MINMAX_STEPS = 7
# Weight of the squared input gradient: one value, set before the first run and kept.
GRADIENT_PENALTY = 0.3

MASKED_ARCHITECTURE = "cnn"
DISTILLATION_TEMPERATURE = 20.0
SCALE_OF_MASKED_LAYER = 100.0
LEVELS = (256, 16)
SATURATING_GAIN = 50.0
SATURATING = f"cnn, sigmoid({SATURATING_GAIN:g} z)"
NOISE_DRAWS = 32


@dataclass(frozen=True)
class Network:
    """What identifies a trained network: data, architecture, training, its numbers and
    its seed.

    `classes` keeps only the images of these labels (renumbered from 0), all if empty.
    What is put around it: `scale` multiplies the logits, `levels` rounds the input to
    so many grey levels, `noise` is the deviation of Gaussian noise on the input (pixel
    units), drawn anew in every pass; 0 leaves them out.
    """

    dataset: str
    architecture: str
    training: Training
    seed: int
    train_images: int
    epochs: int
    epsilon: float
    classes: tuple[int, ...] = ()
    scale: float = 1.0
    levels: int = 0
    noise: float = 0.0

    @property
    def masking(self) -> str:
        """How its gradients are masked, in words; "natural" if they are not."""
        if self.levels:
            return f"input rounded to {self.levels} levels"
        if self.noise:
            return "noisy input"
        if self.scale != 1:
            return f"logits times {self.scale:g}"
        if self.architecture == SATURATING:
            return "saturating activations"
        return self.training


def zoo(
    *,
    dataset: str,
    epsilon: float,
    train_images: int,
    epochs: int,
    seeds: int,
    first_seed: int,
) -> list[Network]:
    """The main zoo: three architectures, four trainings, `seeds` networks each."""
    return [
        Network(dataset, architecture, training, seed, train_images, epochs, epsilon)
        for architecture in ARCHITECTURES
        for training in TRAININGS
        for seed in range(first_seed, first_seed + seeds)
    ]


def colour_zoo(
    *,
    colour_dataset: str,
    colour_epsilon: float,
    colour_train_images: int,
    colour_epochs: int,
    seeds: int,
    first_seed: int,
) -> list[Network]:
    """The second zoo, empty if `colour_dataset` is none: two architectures, natural and
    MinMax training.
    """
    if colour_dataset == "none":
        return []
    return [
        Network(
            colour_dataset,
            architecture,
            training,
            seed,
            colour_train_images,
            colour_epochs,
            colour_epsilon,
        )
        for architecture in COLOUR_ARCHITECTURES
        for training in COLOUR_TRAININGS
        for seed in range(first_seed, first_seed + seeds)
    ]


def more_seeds(
    main: dict[str, Any], colour: dict[str, Any], *, line_seeds: int
) -> list[Network]:
    """Networks like those of `zoo(**main)` and `colour_zoo(**colour)` from the seeds
    after theirs, up to `line_seeds` of each kind.
    """
    after = main["first_seed"] + main["seeds"]
    rest = {"seeds": max(line_seeds - main["seeds"], 0), "first_seed": after}
    return zoo(**main | rest) + colour_zoo(**colour | rest)


def masked(**parameters: Any) -> list[Network]:
    """Natural networks of one architecture, then six ways to mask their gradients;
    `parameters` are those of `zoo`.

    Distillation, logits scaled up, the input rounded to many and to few levels,
    activations that saturate, and noise on the input as large as the budget.
    """
    natural = chosen(
        zoo(**parameters), architecture=MASKED_ARCHITECTURE, training="natural"
    )
    return [
        *natural,
        *(replace(each, training="distilled") for each in natural),
        *(replace(each, scale=SCALE_OF_MASKED_LAYER) for each in natural),
        *(replace(each, levels=levels) for levels in LEVELS for each in natural),
        *(replace(each, architecture=SATURATING) for each in natural),
        *(replace(each, noise=each.epsilon) for each in natural),
    ]


def two_class(**parameters: Any) -> list[Network]:
    """The control of claim Y1: natural networks that tell classes 3 and 8 apart, where
    cross-entropy hides nothing; `parameters` are those of `zoo`.
    """
    natural = chosen(zoo(**parameters), architecture="cnn", training="natural")
    return [replace(each, classes=(3, 8)) for each in natural]


def chosen(networks: Sequence[Network], **factors: object) -> list[Network]:
    """The networks whose fields have these values: `chosen(zoo, training="minmax")`."""
    return [
        each
        for each in networks
        if all(getattr(each, name) == value for name, value in factors.items())
    ]


@lru_cache(maxsize=8)
def images_of(
    dataset: str, split: str, limit: int | None, classes: tuple[int, ...] = ()
) -> ImageSet:
    """A class-balanced subset of a split; with `classes`, only their images, labelled
    by their place in `classes`.
    """
    if not classes:
        return shared.images_of(dataset, split, limit)
    whole = load(dataset, split)
    chosen = torch.isin(whole.labels, torch.tensor(classes))
    labels = (whole.labels[chosen, None] == torch.tensor(classes)).int().argmax(dim=1)
    kept = replace(
        whole,
        images=whole.images[chosen],
        labels=labels,
        class_names=tuple(whole.class_names[c] for c in classes),
    )
    return kept.take(None if limit is None else min(limit, len(kept)))


def load_network(network: Network) -> Module:
    """The network in evaluation mode, trained, or read from the checkpoint cache if it
    is there; with what is put around it.
    """
    model = _trained(replace(network, scale=1.0, levels=0, noise=0.0))
    if network.scale != 1:
        model = Sequential(*model.children(), Scale(network.scale))
    if network.levels:
        model = Sequential(Rounding(network.levels), *model.children())
    if network.noise:
        model = Sequential(Noise(network.noise, network.seed), *model.children())
    return model.eval()


def judged(network: Network) -> Module:
    """What answers for the network: itself, or the mean logits over `NOISE_DRAWS` fixed
    draws where it draws noise.
    """
    if not network.noise:
        return load_network(network)
    model = _trained(replace(network, noise=0.0))
    return MeanOfDraws(model, network.noise, network.seed).eval()


def approximated(network: Network) -> Module:
    """The network with a gradient that can be followed (BPDA of Athalye et al. 2018):
    rounding passes it on as it is, saturating activations have that of a sigmoid a
    tenth as steep, and noise is averaged. What it gives is what `judged` gives.
    """
    model = copy.deepcopy(judged(network))
    for layer in model.modules():
        if isinstance(layer, Rounding | Saturating):
            layer.smooth = True
    return model


class Rounding(Module):
    """Rounds pixels in [0, 1] to `levels` values; its gradient is zero, or 1 where it
    is `smooth`.
    """

    smooth = False

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, images: Tensor) -> Tensor:
        """`images` of any shape, rounded."""
        rounded = (images * (self.levels - 1)).round() / (self.levels - 1)
        return images + (rounded - images).detach() if self.smooth else rounded


class Noise(Module):
    """Adds Gaussian noise of deviation `size` (pixel units), new in every pass, from a
    generator of its own.
    """

    def __init__(self, size: float, seed: int) -> None:
        super().__init__()
        self.size, self.generator = size, Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        """`images` (N, C, H, W) with one draw of noise each."""
        noise = torch.randn(images.shape, generator=self.generator, dtype=images.dtype)
        return images + self.size * noise


class MeanOfDraws(Module):
    """Mean logits of `model` over `NOISE_DRAWS` draws of Gaussian noise on the input,
    the same for all images and in every pass.
    """

    def __init__(self, model: Module, size: float, seed: int) -> None:
        super().__init__()
        self.model, self.size, self.seed = model, size, seed

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of `images` (N, C, H, W)."""
        generator = Generator().manual_seed(self.seed)
        draws = torch.randn((NOISE_DRAWS, *images.shape[1:]), generator=generator)
        noise = self.size * draws.to(images.dtype)
        return torch.stack([self.model(images + draw) for draw in noise]).mean(dim=0)


class Saturating(Module):
    """sigmoid(gain z): flat wherever z is far from 0. Where it is `smooth`, its
    gradient is that of a tenth of the gain.
    """

    smooth = False

    def forward(self, values: Tensor) -> Tensor:
        """`values` of any shape, each between 0 and 1."""
        steep = torch.sigmoid(SATURATING_GAIN * values)
        if not self.smooth:
            return steep
        flat = torch.sigmoid(SATURATING_GAIN / 10 * values)
        return flat + (steep - flat).detach()


def _untrained(network: Network, shape: tuple[int, int, int], classes: int) -> Module:
    if network.architecture != SATURATING:
        return build(network.architecture, shape, classes, network.seed)
    layers = build(MASKED_ARCHITECTURE, shape, classes, network.seed)
    return Sequential(
        *(Saturating() if isinstance(layer, ReLU) else layer for layer in layers)
    )


def _trained(network: Network) -> Module:
    """The trained module, nothing put around it."""
    data = images_of(network.dataset, "train", network.train_images, network.classes)
    recipe = recipe_of(network)

    def fresh() -> Module:
        return _untrained(network, data.image_shape, data.classes)

    def teacher() -> Module:
        softened = replace(recipe, training="natural")
        return train(fresh(), data.images, data.labels, softened, seed=network.seed)

    identity = asdict(network)
    for around in ("levels", "noise"):
        del identity[around]
    return trained(
        identity,
        fresh(),
        data,
        recipe,
        seed=network.seed,
        teacher=teacher if network.training == "distilled" else None,
    )


def recipe_of(network: Network) -> Recipe:
    """How the network is trained. The attacked trainings use the network's own
    budget.
    """
    if network.training == "fgsm":
        return Recipe("fgsm", network.epochs, epsilon=network.epsilon, steps=1)
    if network.training == "minmax":
        return Recipe(
            "minmax", network.epochs, epsilon=network.epsilon, steps=MINMAX_STEPS
        )
    if network.training == "gradient-regularised":
        return Recipe("gradient-regularised", network.epochs, penalty=GRADIENT_PENALTY)
    if network.training == "distilled":
        # Softened answers are learned slowly: twice the epochs bring clean accuracy to
        # that of natural training.
        return Recipe(
            "distilled", 2 * network.epochs, temperature=DISTILLATION_TEMPERATURE
        )
    return Recipe("natural", network.epochs)


def train_all(networks: Sequence[Network]) -> None:
    """Train every network that is not in the cache yet; the largest ones first."""
    size = {"mlp": 1, "cnn": 3, SATURATING: 3, "wide-cnn": 6}
    passes = {
        "natural": 1,
        "distilled": 2,
        "gradient-regularised": 3,
        "fgsm": 3,
        "minmax": MINMAX_STEPS + 1,
    }
    shared.train_all(
        load_network,
        [replace(each, scale=1.0, levels=0, noise=0.0) for each in networks],
        lambda each: size[each.architecture] * passes[each.training],
    )
