"""One training loop and the losses that make natural and defended networks.

Read `Recipe` (what a training is), then `train` (the loop), then the losses below it.
The attack inside adversarial training is handed in by the caller, since perturbations
lie in a later room of the package than models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.draws import order
from robustbook.errors import UserError
from robustbook.models.network import beside, compute_logits

Training = Literal["natural", "fgsm", "gradient-regularised", "minmax", "distilled"]
# (model, images, labels, generator) -> perturbed images of the same shape.
Attack = Callable[[nn.Module, Tensor, Tensor, Generator], Tensor]


class TrainingDiverged(UserError):
    """The training loss became NaN or infinite; the message names the epoch and the
    recipe.
    """


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    `penalty` weighs the squared input gradient (gradient-regularised); `temperature`
    divides the logits (distilled); `epsilon` (pixel units) and `steps` describe the
    attack that the caller hands in (fgsm, minmax) and are part of a checkpoint's
    identity. Raises ArgumentError for a number out of its range.
    """

    training: Training
    epochs: int
    learning_rate: float = 1e-3
    batch: int = 128
    epsilon: float = 0.0
    steps: int = 0
    penalty: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        checks.one_of(self.training, "training", get_args(Training))
        checks.whole(self.epochs, "epochs", at_least=1)
        checks.real(self.learning_rate, "learning_rate", above=0)
        checks.whole(self.batch, "batch", at_least=1)
        checks.real(self.epsilon, "epsilon", at_least=0)
        checks.whole(self.steps, "steps", at_least=0)
        checks.real(self.penalty, "penalty", at_least=0)
        checks.real(self.temperature, "temperature", above=0)


@torch.enable_grad()
def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    attack: Attack | None = None,
    teacher: nn.Module | None = None,
) -> nn.Module:
    """Train `model` in place on `images` (N, C, H, W) and `labels` (N,) and return it
    in evaluation mode.

    Adam with a one-cycle learning rate; the order of images and every random start come
    from `seed`. The attack's budget grows linearly over the first third of the steps,
    which keeps small networks from collapsing to one class.

    Raises TrainingDiverged if the loss stops being finite, ArgumentError if images,
    labels or a network cannot be taken, or the recipe needs an attack or a teacher and
    has none.
    """
    checks.having(recipe, "recipe", "training", "epochs")
    if recipe.training in ("fgsm", "minmax") and attack is None:
        raise ArgumentError("attack", f"given to {recipe.training} training", attack)
    images = beside(checks.network(model), checks.images(images))
    classes = compute_logits(model, images[:2]).shape[1]
    labels = checks.labels(labels, images, classes)
    if recipe.training == "distilled":
        if teacher is None:
            raise ArgumentError("teacher", "given to distilled training", teacher)
        with torch.no_grad():
            answers = checks.network(teacher, "teacher")(images[:2])
        checks.logits(answers, len(images[:2]), classes, name="teacher")
    # On the CPU, so that a seed gives the same order on every device.
    generator = Generator(device="cpu").manual_seed(
        checks.whole(seed, "seed", at_least=0)
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    total = recipe.epochs * math.ceil(len(images) / recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate * 2, total_steps=total + 1
    )
    model.train()
    step = 0
    for epoch in range(recipe.epochs):
        for chosen in order(len(images), images, generator).split(recipe.batch):
            share = min(1.0, 3 * (step + 1) / total)
            loss = _loss(
                model,
                images[chosen],
                labels[chosen],
                recipe,
                attack,
                teacher,
                generator,
                share,
            )
            if not torch.isfinite(loss):
                raise TrainingDiverged(
                    f"training loss became {loss.item()} in epoch {epoch + 1} of "
                    f"{recipe}"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
    return model.eval()


def _loss(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    attack: Attack | None,
    teacher: nn.Module | None,
    generator: Generator,
    share: float,
) -> Tensor:
    if recipe.training == "gradient-regularised":
        return gradient_regularised_loss(model, images, labels, recipe.penalty * share)
    if recipe.training == "distilled" and teacher is not None:
        return distillation_loss(model, teacher, images, recipe.temperature)
    if attack is None:
        return F.cross_entropy(model(images) / recipe.temperature, labels)
    # Shrinking the perturbation keeps it inside the ball of the smaller budget.
    adversarial = images + share * (attack(model, images, labels, generator) - images)
    if recipe.training == "minmax":
        return F.cross_entropy(model(adversarial), labels)
    clean, attacked = model(torch.cat([images, adversarial])).chunk(2)
    return (F.cross_entropy(clean, labels) + F.cross_entropy(attacked, labels)) / 2


def gradient_regularised_loss(
    model: nn.Module, images: Tensor, labels: Tensor, penalty: float
) -> Tensor:
    """Cross-entropy plus `penalty` times the squared L2 norm of its input gradient, per
    image (Ross & Doshi-Velez 2018).
    """
    inputs = images.detach().requires_grad_(True)
    losses = F.cross_entropy(model(inputs), labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), inputs, create_graph=True)
    return losses.mean() + penalty * gradient.square().flatten(1).sum(1).mean()


def distillation_loss(
    student: nn.Module, teacher: nn.Module, images: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy of the student against the teacher's softened answers, both at
    `temperature` (Papernot et al. 2016).
    """
    with torch.no_grad():
        targets = torch.softmax(teacher(images) / temperature, dim=1)
    return F.cross_entropy(student(images) / temperature, targets)
