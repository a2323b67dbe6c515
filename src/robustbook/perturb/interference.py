"""Signal interference at five severities: Gaussian, uniform and salt-and-pepper noise,
blur and occlusion.

Read `KINDS` (what there is and what each severity means) first, then `interfere`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from robustbook import checks, draws

SEVERITIES = (1, 2, 3, 4, 5)


def _gaussian(images: Tensor, deviation: float, generator: Generator) -> Tensor:
    return images + deviation * draws.normal(images.shape, images, generator)


def _uniform(images: Tensor, half_width: float, generator: Generator) -> Tensor:
    noise = draws.uniform(images.shape, images, generator)
    return images + half_width * (2 * noise - 1)


def _salt_and_pepper(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Every pixel, all its channels together, turns black or white with probability
    `share`.
    """
    draw = draws.uniform(images[:, :1].shape, images, generator)
    return torch.where(draw < share / 2, 0.0, torch.where(draw < share, 1.0, images))


def _blur(images: Tensor, width: float, _generator: Generator) -> Tensor:
    """Gaussian blur; `width` is its deviation over the image's side, borders are
    mirrored.
    """
    channels, side = images.shape[1], images.shape[-1]
    deviation = width * side
    reach = min(max(1, round(3 * deviation)), side - 1, images.shape[-2] - 1)
    places = torch.arange(-reach, reach + 1, device=images.device).to(images.dtype)
    profile = torch.exp(-places.square() / (2 * deviation**2))
    kernel = (profile / profile.sum()).expand(channels, 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    return F.conv2d(
        F.conv2d(padded, kernel, groups=channels),
        kernel.transpose(2, 3),
        groups=channels,
    )


def _occlude(images: Tensor, share: float, generator: Generator) -> Tensor:
    """A grey square with sides of `share` of the image's, somewhere inside."""
    count, _, height, width = images.shape
    size = max(1, round(share * min(height, width)))
    top = draws.whole((count, 1), height - size + 1, images, generator)
    left = draws.whole((count, 1), width - size + 1, images, generator)
    rows, columns = (
        torch.arange(side, device=images.device) for side in (height, width)
    )
    inside_rows, inside_columns = (
        (rows >= top) & (rows < top + size),
        (columns >= left) & (columns < left + size),
    )
    covered = inside_rows[:, :, None] & inside_columns[:, None, :]
    return torch.where(covered[:, None], 0.5, images)


KINDS: dict[
    str, tuple[Callable[[Tensor, float, Generator], Tensor], tuple[float, ...]]
] = {
    "Gaussian noise": (_gaussian, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "uniform noise": (_uniform, (0.2, 0.35, 0.5, 0.65, 0.8)),
    "salt and pepper": (_salt_and_pepper, (0.05, 0.1, 0.2, 0.3, 0.4)),
    "blur": (_blur, (0.02, 0.04, 0.06, 0.08, 0.1)),
    "occlusion": (_occlude, (0.2, 0.3, 0.4, 0.5, 0.6)),
}
"""What each kind does, and its amount at severities 1 to 5.

Deviation and half width are in pixel units, salt and pepper in shares of pixels, blur
(deviation) and occlusion (side) in shares of the image's side.
"""


def interfere(kind: str, images: Tensor, severity: int, generator: Generator) -> Tensor:
    """`images` (N, C, H, W) in [0, 1] after interference of a kind at severity 1 to 5,
    cut to [0, 1] again.

    Raises ArgumentError if there is no such kind or severity, images leave [0, 1] or
    there is no generator.
    """
    images = checks.images(images)
    severity = checks.whole(severity, "severity", at_least=1, at_most=5)
    checks.generator(generator)
    apply, amounts = KINDS[checks.one_of(kind, "kind", KINDS)]
    return apply(images, amounts[severity - 1], generator).clamp(0, 1)
