"""Baseline images: what is put in the place of covered pixels. All in pixel units of
[0, 1], before any normalisation.

Read `make` first (all that need no network), then `neutrality` (what a network says of
a baseline), then `neutral` (the one that is optimised to say nothing).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.network import CHUNK, beside, compute_logits, frozen

CONSTANTS = {"black": 0.0, "white": 1.0, "grey": 0.5}
BLURS = {"blur 2": 2.0, "blur 5": 5.0, "blur 10": 10.0}
"""Standard deviations of Gaussian blurs in pixels of an image of 28; they grow with the
image.
"""
REFERENCE_SIDE = 28
NAMES = (
    *CONSTANTS,
    "training mean",
    "image mean",
    *BLURS,
    "uniform noise",
    "Gaussian noise",
    "shuffled",
    "another image",
    "inpainted",
)
NOISE_DEVIATION = 0.25
STARTS = {"neutral from grey": "grey", "neutral from noise": "uniform noise"}


def check(images: Tensor, baselines: Tensor) -> Tensor:
    """One baseline (N, C, H, W) for each of `images`, of their type and on their
    device, from `baselines` of that shape or one (1, C, H, W) for all.

    Raises ArgumentError if they have another shape or leave [0, 1].
    """
    baselines = checks.images(baselines, "baselines")
    single = (1, *images.shape[1:])
    if baselines.shape not in (images.shape, single):
        allowed = f"of the images' shape {tuple(images.shape)} or {single}"
        raise ArgumentError("baselines", allowed, baselines)
    return baselines.to(images).expand_as(images)


def make(
    name: str, images: Tensor, training: Tensor, *, generator: Generator
) -> Tensor:
    """The baseline `name` for each of `images` (N, C, H, W): same shape, in [0, 1].

    `training` (M, C, H, W) gives the training mean (a mean colour) and the other images
    ("another image" is the one drawn for it). "image mean" is an image's mean colour;
    "shuffled" its own pixels in random order; "inpainted" keeps its outermost pixels
    and continues them smoothly over the inside.

    >>> images = torch.rand(2, 1, 4, 4)
    >>> make("grey", images, images, generator=torch.Generator()).unique()
    tensor([0.5000])

    Raises ArgumentError if the name is unknown, images leave [0, 1] or those of
    training do not fit them.
    """
    checks.one_of(name, "name", NAMES)
    checks.generator(generator)
    images = checks.images(images)
    training = checks.images(training, "training").to(images)
    if training.shape[1] != images.shape[1]:
        raise ArgumentError("training", f"of {images.shape[1]} channels", training)
    if name in CONSTANTS:
        return torch.full_like(images, CONSTANTS[name])
    if name == "training mean":
        return training.mean((0, 2, 3))[None, :, None, None].expand_as(images).clone()
    if name == "image mean":
        return images.mean((2, 3), keepdim=True).expand_as(images).clone()
    if name in BLURS:
        return blur(images, BLURS[name] * min(images.shape[2:]) / REFERENCE_SIDE)
    if name == "inpainted":
        return inpaint(images)
    return _drawn(name, images, training, generator)


def _drawn(name: str, images: Tensor, training: Tensor, generator: Generator) -> Tensor:
    """The baselines that are random: drawn on the generator's device."""
    options: dict[str, Any] = {"generator": generator, "device": generator.device}
    if name == "uniform noise":
        return torch.rand(images.shape, **options).to(images)
    if name == "Gaussian noise":
        noise = torch.randn(images.shape, **options)
        return (0.5 + NOISE_DEVIATION * noise).clamp(0, 1).to(images)
    if name == "another image":
        if training.shape[1:] != images.shape[1:]:
            raise ArgumentError("training", "images of the shape of images", training)
        return training[torch.randint(len(training), (len(images),), **options)]
    shuffled = [
        image.flatten(1)[:, torch.randperm(image[0].numel(), **options)]
        for image in images
    ]
    return torch.stack(shuffled).reshape(images.shape)


def blur(images: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of `images` (N, C, H, W) with a standard deviation in pixels; the
    border pixels are repeated.

    Raises ArgumentError if images leave [0, 1], or the deviation is not positive or
    more than ten times the longest side.
    """
    images = checks.images(images)
    longest = 10 * max(images.shape[2:])
    deviation = checks.real(deviation, "deviation", above=0, at_most=longest)
    radius = max(1, math.ceil(3 * deviation))
    offsets = torch.arange(-radius, radius + 1, device=images.device).to(images.dtype)
    # A deviation of next to nothing must not be squared to 0.
    kernel = torch.exp(-(offsets**2) / (2 * max(deviation, 1e-9) ** 2))
    kernel = kernel / kernel.sum()
    flat = images.reshape(-1, 1, *images.shape[2:])
    flat = F.conv2d(
        F.pad(flat, (radius, radius, 0, 0), mode="replicate"), kernel[None, None, None]
    )
    flat = F.conv2d(
        F.pad(flat, (0, 0, radius, radius), mode="replicate"),
        kernel[None, None, :, None],
    )
    return flat.reshape(images.shape).clamp(0, 1)


def inpaint(images: Tensor) -> Tensor:
    """`images` (N, C, H, W) whose inside is replaced by the solution of Laplace's
    equation with the outermost pixels held.

    Solved exactly by the discrete sine transform, in double precision. Raises
    ArgumentError if images leave [0, 1].
    """
    images = checks.images(images)
    edge = images.double().clone()
    edge[..., 1:-1, 1:-1] = 0
    source = (
        edge[..., :-2, 1:-1]
        + edge[..., 2:, 1:-1]
        + edge[..., 1:-1, :-2]
        + edge[..., 1:-1, 2:]
    )
    (down, rows), (across, columns) = (_sines(side, edge) for side in images.shape[2:])
    spectrum = down @ source @ across / (rows[:, None] + columns)
    edge[..., 1:-1, 1:-1] = down @ spectrum @ across
    return edge.to(images.dtype).clamp(0, 1)


def _sines(side: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The sine transform over the inside of a side (side - 2, side - 2), its own
    inverse, and the eigenvalues of the second difference (side - 2,).
    """
    inside = torch.arange(1, max(1, side - 1), device=like.device).to(like.dtype)
    step = math.pi / max(1, side - 1)
    matrix = torch.sin(inside[:, None] * inside * step)
    return matrix * math.sqrt(2 / max(1, side - 1)), 2 - 2 * torch.cos(inside * step)


def neutrality(model: Module, baselines: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """KL(p(B) || uniform) of each of `baselines` (N, C, H, W) as a share of log K: 0
    says nothing, 1 is certain. (N,)

    Raises ArgumentError if baselines leave [0, 1], as `models.network.compute_logits`
    does for the model.
    """
    baselines = checks.images(baselines, "baselines")
    return _non_uniformity(compute_logits(model, baselines, chunk=chunk))


def _non_uniformity(logits: Tensor) -> Tensor:
    logarithms = torch.log_softmax(logits, dim=1)
    return 1 + (logarithms.exp() * logarithms).sum(1) / math.log(logits.shape[1])


def neutral(
    model: Module,
    start: Tensor,
    *,
    target: float = 1e-3,
    steps: int = 300,
    step_size: float = 0.03,
) -> Tensor:
    """Images near `start` (N, C, H, W) for which the class distribution is uniform:
    `neutrality` at most `target`.

    Adam on the cross-entropy with the uniform distribution (whose gradient does not
    fade where the network is certain), kept in [0, 1]; an image that has reached the
    target is moved no further. Where the target is not reached in `steps`, the last
    image is returned: measure it.

    Raises ArgumentError if `start` leaves [0, 1], a number is out of range, or the
    model gives anything but finite logits.
    """
    start = checks.images(start, "start")
    images = beside(checks.network(model), start).clone()
    target = checks.real(target, "target", at_least=0, at_most=1)
    steps = checks.whole(steps, "steps", at_least=0)
    step_size = checks.real(step_size, "step_size", above=0)
    optimiser = torch.optim.Adam([images], lr=step_size)
    with frozen(model), torch.enable_grad():
        for _ in range(steps):
            images.requires_grad_(True)
            logits = checks.logits(model(images), len(images))
            waiting = _non_uniformity(logits.detach()) > target
            if not waiting.any():
                break
            (gradient,) = torch.autograd.grad(
                -torch.log_softmax(logits, dim=1).mean(1).sum(), images
            )
            images.requires_grad_(False)
            before = images.clone()
            images.grad = gradient
            optimiser.step()
            images.clamp_(0, 1)
            images[~waiting] = before[~waiting]
    return images.detach().requires_grad_(False).to(start)
