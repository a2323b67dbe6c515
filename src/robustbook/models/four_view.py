"""A network that reads the four views of an exam and tells benign and malignant
findings of each breast, and its training.

Read `FourViewNetwork` (trunks and head), then `Trunk` and `Block` (pre-activation
residual network), then `Recipe` and `train`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.draws import normal, order, uniform
from robustbook.models.network import beside, frozen
from robustbook.models.training import TrainingDiverged

Corruption = Callable[[Tensor, Generator], Tensor]
FLOOR = 1e-5
"""Least standard deviation by which an image is divided."""


DETAIL_GAIN = 8.0
"""Weight of the second input channel of a trunk, the view less its local mean."""


class Block(nn.Module):
    """Pre-activation residual block (He et al. 2016): normalise, rectify, convolve,
    twice, beside a shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (N, outputs, H / stride, W / stride) of `images` (N, inputs, H,
        W).
        """
        active = F.relu(self.first_norm(images))
        skipped = images if self.shortcut is None else self.shortcut(active)
        return skipped + self.second(F.relu(self.second_norm(self.first(active))))


class Trunk(nn.Module):
    """Features (N, 2 * widths[-1]) of single views (N, 1, H, W): mean and largest
    activation of the last maps.

    Every view is standardised alone, as in the paper's network. A second channel, the
    view less its local mean, and the largest activation beside the mean let a lesion of
    a few pixels count in a network that is trained on few exams.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(2, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        blocks = [Block(widths[0], widths[0], 1)]
        blocks += [Block(before, after, 2) for before, after in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(widths[-1])

    def forward(self, views: Tensor) -> Tensor:
        """Features of `views` (N, 1, H, W)."""
        mean = views.mean(dim=(2, 3), keepdim=True)
        deviation = views.std(dim=(2, 3), keepdim=True).clamp(min=FLOOR)
        standard = (views - mean) / deviation
        detail = standard - F.avg_pool2d(
            standard, 5, stride=1, padding=2, count_include_pad=False
        )
        maps = F.relu(
            self.norm(
                self.blocks(
                    self.stem(torch.cat([standard, DETAIL_GAIN * detail], dim=1))
                )
            )
        )
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)


class FourViewNetwork(nn.Module):
    """Logits (N, 4) of exams (N, 4, H, W): left benign, left malignant, right benign,
    right malignant.

    Views come as L-CC, R-CC, L-MLO, R-MLO. Right views are mirrored and read with the
    weights of the left; there is one trunk for CC and one for MLO. Each breast's answer
    is made from its own features and then the other breast's, by one head, and averaged
    over both view angles: exchanging left and right (mirrored) exchanges the answers
    and changes nothing else.
    """

    def __init__(
        self, widths: tuple[int, ...] = (16, 32, 64), hidden: int = 64
    ) -> None:
        super().__init__()
        hidden = checks.whole(hidden, "hidden", at_least=1)
        widths = checks.sides(widths, "widths", len(widths))
        self.trunks = nn.ModuleList([Trunk(widths) for _ in range(2)])
        self.heads = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(4 * widths[-1], hidden),
                    nn.ReLU(),
                    nn.Dropout(0.2),
                    nn.Linear(hidden, 2),
                )
                for _ in range(2)
            ]
        )

    def forward(self, exams: Tensor) -> Tensor:
        """Logits (N, 4) of `exams` (N, 4, H, W) in [0, 1].

        Raises ValueError if a view is missing.
        """
        if exams.ndim != 4 or exams.shape[1] != 4:
            raise ValueError(
                f"an exam has four views, (N, 4, H, W); got {tuple(exams.shape)}"
            )
        craniocaudal, oblique = (
            self._angle(exams[:, 2 * angle], exams[:, 2 * angle + 1], angle)
            for angle in range(2)
        )
        return (craniocaudal + oblique) / 2

    def _angle(self, left: Tensor, right: Tensor, angle: int) -> Tensor:
        """Logits (N, 4) of one view angle from `left` and `right` views (N, H, W)."""
        views = torch.cat([left, right.flip(-1)])[:, None]
        own_left, own_right = self.trunks[angle](views).chunk(2)
        pairs = torch.cat(
            [
                torch.cat([own_left, own_right], dim=1),
                torch.cat([own_right, own_left], dim=1),
            ]
        )
        return torch.cat(self.heads[angle](pairs).chunk(2), dim=1)


class PatchNetwork(nn.Module):
    """Logits (N, classes) of single images (N, 1, H, W): one trunk of the four-view
    network and a linear layer.
    """

    def __init__(
        self, classes: int = 2, widths: tuple[int, ...] = (16, 32, 64)
    ) -> None:
        super().__init__()
        classes = checks.whole(classes, "classes", at_least=1)
        widths = checks.sides(widths, "widths", len(widths))
        self.trunk = Trunk(widths)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * widths[-1], classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of `images` (N, 1, H, W) in [0, 1]."""
        return self.head(self.trunk(images))


def build(network: type[nn.Module], seed: int, **settings: object) -> nn.Module:
    """An untrained network whose weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(checks.whole(seed, "seed", at_least=0))
        return network(**settings)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: passes over the data, rate at the peak of the one-cycle
    schedule, images at once, weight decay.

    `noise` is the deviation of the Gaussian noise added to every training image, as in
    the paper's network (pixel units).
    """

    epochs: int
    learning_rate: float = 4e-3
    batch: int = 32
    weight_decay: float = 1e-3
    noise: float = 0.002

    def __post_init__(self) -> None:
        checks.whole(self.epochs, "epochs", at_least=1)
        checks.real(self.learning_rate, "learning_rate", above=0)
        checks.whole(self.batch, "batch", at_least=1)
        checks.real(self.weight_decay, "weight_decay", at_least=0)
        checks.real(self.noise, "noise", at_least=0)


def binary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of independent yes-or-no answers; `logits` and `targets` (N,
    K).
    """
    return F.binary_cross_entropy_with_logits(logits, targets.float())


@torch.enable_grad()
def train(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    loss: Callable[[Tensor, Tensor], Tensor] = binary_loss,
    corrupt: Corruption | None = None,
) -> nn.Module:
    """Train `model` in place on `images` (N, C, H, W) and `targets` (N, ...) and return
    it in evaluation mode.

    Adam with a one-cycle learning rate. Images are turned upside down at random, then
    changed by `corrupt(images, generator)` if given. The order, the turns and the noise
    come from `seed`.

    Raises TrainingDiverged if the loss stops being finite, ArgumentError if images,
    targets or the network's answers do not fit.
    """
    checks.having(recipe, "recipe", "epochs", "noise")
    images, targets = _task(model, images, targets)
    seed = checks.whole(seed, "seed", at_least=0)
    generator = Generator(device="cpu").manual_seed(seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * math.ceil(len(images) / recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=steps + 1
    )
    model.train()
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(seed)  # dropout draws from the global generator
        for epoch in range(recipe.epochs):
            for chosen in order(len(images), images, generator).split(recipe.batch):
                seen = _varied(images[chosen], recipe, corrupt, generator)
                value = loss(model(seen), targets[chosen])
                if not torch.isfinite(value):
                    raise TrainingDiverged(
                        f"training loss became {value.item()} in epoch {epoch + 1} "
                        f"of {recipe}"
                    )
                optimiser.zero_grad(set_to_none=True)
                value.backward()
                optimiser.step()
                schedule.step()
    return model.eval()


def _task(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Images in the model's precision, and targets that fit its answers."""
    images = beside(checks.network(model), checks.images(images))
    if not isinstance(targets, Tensor) or len(targets) != len(images):
        raise ArgumentError("targets", f"a tensor ({len(images)}, ...)", targets)
    if targets.is_floating_point():
        checks.tensor(targets, "targets")
    with frozen(model), torch.no_grad():
        answers = checks.tensor(model(images[:2]), "the output of model", dimensions=2)
    columns = targets.shape[1] if targets.dim() > 1 else answers.shape[1]
    if answers.shape != (len(images[:2]), columns):
        allowed = f"a row of {columns} logits for each image"
        raise ArgumentError("the output of model", allowed, answers)
    return images, targets


def _varied(
    images: Tensor, recipe: Recipe, corrupt: Corruption | None, generator: Generator
) -> Tensor:
    turned = uniform((len(images),), images, generator) < 0.5
    seen = torch.where(turned[:, None, None, None], images.flip(-2), images)
    if corrupt is not None:
        seen = corrupt(seen, generator)
    return seen + recipe.noise * normal(seen.shape, seen, generator)
