"""What studies share: images, and networks that are each made once.

Read `images_of` and `SeededTask` first (on what a study works), then `trained`,
`variational` and `most_probable` (one network), then `train_all`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, TypeVar

from torch import Generator, Tensor, nn

from robustbook.bayes import mean_field, weight_noise
from robustbook.bayes.mean_field import MeanField, train_mean_field
from robustbook.bayes.weight_noise import train_map
from robustbook.data import ImageSet, load
from robustbook.models.checkpoints import cached, kept
from robustbook.models.training import Attack, Recipe, train
from robustbook.perturb import gradient
from robustbook.workers import map_in_workers

Piece = TypeVar("Piece")


# Images
# --------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def images_of(dataset: str, split: str, limit: int | None) -> ImageSet:
    """A class-balanced subset of a split, the same for every network."""
    return load(dataset, split, limit=limit)


@dataclass(frozen=True)
class SeededTask:
    """A piece of work with random numbers of its own."""

    seed: int

    def generator(self, purpose: int) -> Generator:
        """Random numbers of this piece of work for one purpose."""
        return Generator().manual_seed(1000 * self.seed + purpose)


# Networks
# --------------------------------------------------------------------------------------


def training_attack(recipe: Recipe) -> Attack | None:
    """The attack of a training: PGD from a random start whose steps cover the ball
    (FGSM training has one step); None where the recipe has no steps.
    """
    if not recipe.steps:
        return None
    size = recipe.epsilon * (1 if recipe.steps == 1 else 2.5 / recipe.steps)

    def attack(
        model: nn.Module, images: Tensor, labels: Tensor, generator: Generator
    ) -> Tensor:
        return gradient.pgd(
            model,
            images,
            labels,
            epsilon=recipe.epsilon,
            steps=recipe.steps,
            step_size=size,
            generator=generator,
        )

    return attack


def trained(
    identity: Mapping[str, Any],
    model: nn.Module,
    data: ImageSet,
    recipe: Recipe,
    *,
    seed: int,
    code: Sequence[ModuleType] = (),
    teacher: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """`model` trained on `data` by `recipe`, in evaluation mode; read from the cache if
    it is there.

    `identity` says, in plain values, what the recipe, the data and the seed do not;
    `code` names the modules that make the model, besides `models`. `teacher` makes the
    network whose answers are distilled.
    """
    attack = training_attack(recipe)

    def make(fresh: nn.Module) -> nn.Module:
        return train(
            fresh,
            data.images,
            data.labels,
            recipe,
            seed=seed,
            attack=attack,
            teacher=teacher() if teacher else None,
        )

    specification = {
        **identity,
        "recipe": asdict(recipe),
        **_of(data),
        "seed": seed,
    }
    code = (*code, gradient) if attack else code
    return cached(specification, model, make, code=code)


def variational(
    identity: Mapping[str, Any],
    architecture: nn.Sequential,
    data: ImageSet,
    **settings: Any,
) -> MeanField:
    """The mean-field posterior of `architecture` given `data`, trained with `settings`
    (those of `train_mean_field`), or read from the cache if it is there.
    """

    def make() -> dict[str, Tensor]:
        found = train_mean_field(architecture, data.images, data.labels, **settings)
        parts = {"mean": found.means, "scale": found.scales}
        return {
            f"{part} {name}": tensor
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }

    specification = {
        **identity,
        "method": "mean-field VI",
        **_of(data),
        "settings": settings,
    }
    tensors = kept(specification, make, code=(mean_field,))
    means, scales = (
        {
            name: tensors[f"{part} {name}"]
            for name, _ in architecture.named_parameters()
            if f"{part} {name}" in tensors
        }
        for part in ("mean", "scale")
    )
    return MeanField(architecture, means, scales)


def most_probable(
    identity: Mapping[str, Any],
    model: nn.Sequential,
    data: ImageSet,
    **settings: Any,
) -> nn.Sequential:
    """`model` at the most probable weights under a Gaussian prior (an L2 penalty and no
    spread), trained with `settings` (those of `train_map`), or read from the cache.
    """
    cached(
        {**identity, "method": "MAP", **_of(data), "settings": settings},
        model,
        lambda _: train_map(model, data.images, data.labels, **settings),
        code=(weight_noise,),
    )
    return model


def _of(data: ImageSet) -> dict[str, Any]:
    """What identifies training images."""
    return {"digest": data.digest, "images": len(data)}


def train_all(
    load_network: Callable[[Piece], object],
    networks: Sequence[Piece],
    cost: Callable[[Piece], float] = lambda _: 0,
) -> None:
    """Make every network that is not in the cache yet, side by side; the dearest first,
    so that no worker idles.
    """
    order = sorted(dict.fromkeys(networks), key=lambda each: -cost(each))
    map_in_workers(partial(_made, load_network), order)


def _made(load_network: Callable[[Piece], object], network: Piece) -> None:
    load_network(network)
