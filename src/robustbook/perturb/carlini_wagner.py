"""The L2 attack of Carlini and Wagner (2017): the smallest change of an image that is
misclassified.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import CHUNK, ModuleNetwork, beside, frozen
from robustbook.perturb.gradient import margin

INSIDE = 0.999999
"""Share of their distance from grey that pixels keep before the inverse tanh, which is
infinite at black and white.
"""


def carlini_wagner(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 200,
    learning_rate: float = 0.01,
    searches: int = 6,
    first_constant: float = 1e-2,
    confidence: float = 0.0,
    chunk: int = CHUNK,
) -> Tensor:
    """Misclassified images (N, C, H, W) in [0, 1] close to `images` in L2; the images
    themselves where none was found.

    Minimises |x' - x|^2 + c max(Z_t - max_{i != t} Z_i, -`confidence`) with x' = (tanh
    w + 1) / 2, by `steps` of Adam in w, for each of `searches` constants c: ten times
    larger until an attack succeeds, then by bisection, image by image. An image costs
    `searches` * `steps` forward and backward passes. The model's mode and its `.grad`
    fields are left as they were.

    >>> carlini_wagner(model, images, labels, steps=200, searches=6)

    Raises ArgumentError as `gradient.pgd` does, if `steps` or `searches` is less than
    1, `learning_rate` or `first_constant` not positive, or `confidence` negative.
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    checks.whole(steps, "steps", at_least=1)
    checks.whole(searches, "searches", at_least=1)
    checks.real(learning_rate, "learning_rate", above=0)
    checks.real(first_constant, "first_constant", above=0)
    checks.real(confidence, "confidence", at_least=0)
    checks.whole(chunk, "chunk", at_least=1)
    with frozen(model), torch.enable_grad():
        parts = [
            _Search(ModuleNetwork(model), part, classes, confidence, first_constant)
            .run(searches, steps, learning_rate)
            .to(images)
            for part, classes in zip(
                beside(model, images).split(chunk), labels.split(chunk), strict=True
            )
        ]
    found = torch.cat(parts)
    # What was not fooled is the image itself, unrounded by the model's precision.
    return torch.where(found == beside(model, images).to(images), images, found)


class _Search:
    """The search for the constant c of each image of one chunk; `best` and `distance`
    are what was found so far.
    """

    def __init__(
        self,
        network: ModuleNetwork,
        images: Tensor,
        labels: Tensor,
        confidence: float,
        first_constant: float,
    ) -> None:
        self.network, self.images, self.labels = network, images, labels
        self.confidence = confidence
        self.best, self.distance = (
            images.clone(),
            images.new_full((len(images),), torch.inf),
        )
        self.constant = images.new_full((len(images),), first_constant)
        self.low, self.high = (
            torch.zeros_like(self.constant),
            torch.full_like(self.constant, torch.inf),
        )

    def run(self, searches: int, steps: int, learning_rate: float) -> Tensor:
        for _ in range(searches):
            self._narrow(self._minimise(steps, learning_rate))
        return self.best

    def _minimise(self, steps: int, learning_rate: float) -> Tensor:
        """Adam in tanh space; returns the mask (n,) of images for which it met a
        misclassified point.
        """
        variable = torch.atanh((2 * self.images - 1) * INSIDE).requires_grad_()
        optimiser = torch.optim.Adam([variable], lr=learning_rate)
        succeeded = torch.zeros(
            len(self.images), dtype=torch.bool, device=self.images.device
        )
        for _ in range(steps):
            points = (variable.tanh() + 1) / 2
            lead = margin(self.network.logits(points), self.labels)
            squares = (points - self.images).square().flatten(1).sum(dim=1)
            loss = squares + self.constant * (self.confidence - lead).clamp_min(0)
            succeeded |= self._keep(points.detach(), lead.detach(), squares.detach())
            (variable.grad,) = torch.autograd.grad(loss.sum(), variable)
            optimiser.step()
        return succeeded

    def _keep(self, points: Tensor, lead: Tensor, squares: Tensor) -> Tensor:
        fooled = (lead > 0) & (lead >= self.confidence)
        closer = fooled & (squares < self.distance)
        self.best[closer], self.distance[closer] = points[closer], squares[closer]
        return fooled

    def _narrow(self, succeeded: Tensor) -> None:
        self.high = torch.where(succeeded, self.constant, self.high)
        self.low = torch.where(succeeded, self.low, self.constant)
        middle = (self.low + self.high) / 2
        self.constant = torch.where(torch.isinf(self.high), self.constant * 10, middle)
