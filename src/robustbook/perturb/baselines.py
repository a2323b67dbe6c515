"""Baseline images: what is put in the place of covered pixels. All in pixel units of
[0, 1], before any normalisation.

Read `make` first (all that need no network), then `neutrality` (what a network says of
a baseline), then `neutral` (the one that is optimised to say nothing).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.errors import UserError
from robustbook.models.network import CHUNK, compute_logits, frozen

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


class BaselineError(UserError):
    """A baseline image that does not fit the images."""


def check(images: Tensor, baselines: Tensor) -> None:
    """Raise BaselineError unless `baselines` have the shape of `images` (or one for
    all) and lie in [0, 1].
    """
    if baselines.shape[1:] != images.shape[1:] or len(baselines) not in (
        1,
        len(images),
    ):
        raise BaselineError(
            f"a baseline must have the shape of its image {tuple(images.shape)}, "
            f"got {tuple(baselines.shape)}"
        )
    if not (baselines.min() >= 0 and baselines.max() <= 1):
        raise BaselineError("a baseline must lie in [0, 1]")


def make(
    name: str, images: Tensor, training: Tensor, *, generator: Generator
) -> Tensor:
    """The baseline `name` for each of `images` (N, C, H, W): same shape, in [0, 1].

    `training` (M, C, H, W) gives the training mean (a mean colour) and the other images
    ("another image" is the one drawn for it). "image mean" is an image's mean colour;
    "shuffled" its own pixels in random order; "inpainted" keeps its outermost pixels
    and continues them smoothly over the inside.

    Raises BaselineError if the name is unknown.
    """
    if name in CONSTANTS:
        return torch.full_like(images, CONSTANTS[name])
    if name == "training mean":
        return training.mean((0, 2, 3))[None, :, None, None].expand_as(images).clone()
    if name == "image mean":
        return images.mean((2, 3), keepdim=True).expand_as(images).clone()
    if name in BLURS:
        return blur(images, BLURS[name] * min(images.shape[2:]) / REFERENCE_SIDE)
    if name == "uniform noise":
        return torch.rand(images.shape, generator=generator)
    if name == "Gaussian noise":
        return (
            0.5 + NOISE_DEVIATION * torch.randn(images.shape, generator=generator)
        ).clamp(0, 1)
    if name == "shuffled":
        return torch.stack([_shuffled(image, generator) for image in images])
    if name == "another image":
        return training[
            torch.randint(len(training), (len(images),), generator=generator)
        ]
    if name == "inpainted":
        return inpaint(images)
    raise BaselineError(
        f"unknown baseline {name!r}; known are {', '.join((*NAMES, *STARTS))}"
    )


def _shuffled(image: Tensor, generator: Generator) -> Tensor:
    order = torch.randperm(image[0].numel(), generator=generator)
    return image.flatten(1)[:, order].reshape(image.shape)


def blur(images: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of `images` (N, C, H, W) with a standard deviation in pixels; the
    border pixels are repeated.
    """
    radius = max(1, math.ceil(3 * deviation))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * deviation**2))
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

    Solved exactly by the discrete sine transform.
    """
    from scipy.fft import dstn, idstn

    pixels = images.double().numpy()
    edge = pixels.copy()
    edge[..., 1:-1, 1:-1] = 0
    source = (
        edge[..., :-2, 1:-1]
        + edge[..., 2:, 1:-1]
        + edge[..., 1:-1, :-2]
        + edge[..., 1:-1, 2:]
    )
    rows, columns = (
        torch.arange(1, side - 1).double() * math.pi / (side - 1)
        for side in images.shape[2:]
    )
    eigenvalues = (4 - 2 * rows.cos()[:, None] - 2 * columns.cos()[None, :]).numpy()
    edge[..., 1:-1, 1:-1] = idstn(
        dstn(source, type=1, axes=(-2, -1)) / eigenvalues, type=1, axes=(-2, -1)
    )
    return torch.from_numpy(edge).to(images.dtype).clamp(0, 1)


def neutrality(model: Module, baselines: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """KL(p(B) || uniform) of each of `baselines` (N, C, H, W) as a share of log K: 0
    says nothing, 1 is certain. (N,)
    """
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
    """
    images = start.clone()
    optimiser = torch.optim.Adam([images], lr=step_size)
    with frozen(model):
        for _ in range(steps):
            images.requires_grad_(True)
            logits = model(images)
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
    return images.detach().requires_grad_(False)
