"""Drawn objects before coloured backgrounds, embedded, whose masks are known; and a
variant in which a patch decides.

Read `draw_object` first (four shapes), then `draw_patch` (four patterns), then
`_pictures` (how place, size and colour vary) and `load_masked` (images with the truth
about them).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataSource

TITLES = {"shapes": "Shapes (drawn)", "planted": "Shapes with a planted patch (drawn)"}
CLASS_NAMES = {
    "shapes": ("disc", "square", "triangle", "cross"),
    "planted": ("rows", "columns", "chequers", "frame"),
}
LICENCE = "drawn by this package, MIT"
SIDE, PATCH = 24, 6
COUNTS = {"train": 3000, "test": 400}
SEEDS = {
    ("shapes", "train"): 11,
    ("shapes", "test"): 12,
    ("planted", "train"): 13,
    ("planted", "test"): 14,
}
Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Masked:
    """Images with the pixels that decide their class: `masks` (N, H, W), true on the
    object or the patch.
    """

    images: ImageSet
    masks: Tensor


def draw_object(
    kind: int, row: float, column: float, radius: float, side: int = SIDE
) -> Pixels:
    """Cover (side, side) in [0, 1] of object number `kind` with its middle and radius
    in pixels; edges are smooth.
    """
    rows, columns = np.mgrid[:side, :side].astype(float)
    y, x = (rows - row) / radius, (columns - column) / radius
    distances = (
        np.hypot(x, y) - 1,
        np.maximum(np.abs(x), np.abs(y)) - 0.85,
        np.maximum(
            np.maximum(y - 0.6, 0.866 * x - 0.5 * y - 0.6), -0.866 * x - 0.5 * y - 0.6
        ),
        np.minimum(
            np.maximum(np.abs(x) - 0.33, np.abs(y) - 1),
            np.maximum(np.abs(y) - 0.33, np.abs(x) - 1),
        ),
    )
    return np.clip(0.5 - distances[kind] * radius, 0, 1)


def draw_patch(kind: int, size: int = PATCH) -> Pixels:
    """Pattern (size, size) of zeros and ones: rows, columns, chequers of two pixels, or
    a frame; each is half white.
    """
    rows, columns = np.mgrid[:size, :size] // 2
    ring = np.minimum.reduce(
        [*np.mgrid[:size, :size], *(size - 1 - np.mgrid[:size, :size])]
    )
    patterns = (rows % 2, columns % 2, (rows + columns) % 2, ring == 0)
    return patterns[kind].astype(float)


def _background(rng: np.random.Generator, side: int) -> Pixels:
    """A slope between two dark colours, (side, side, 3)."""
    first, second = rng.uniform(0.05, 0.45, size=(2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:side, :side] / (side - 1) - 0.5
    share = np.clip(0.5 + np.cos(angle) * rows + np.sin(angle) * columns, 0, 1)[
        ..., None
    ]
    return first * (1 - share) + second * share


def _picture(
    name: str, label: int, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.bool_]]:
    """One image (H, W, 3) and the mask of what decides its class: an object of a light
    colour, or a patch beside any object.
    """
    image = _background(rng, SIDE)
    radius = rng.uniform(4.5, 7.0)
    row, column = rng.uniform(radius, SIDE - 1 - radius, size=2)
    kind = label if name == "shapes" else int(rng.integers(4))
    cover = draw_object(kind, row, column, radius)
    colour = rng.uniform(0.6, 1.0, size=3)
    image = image * (1 - cover[..., None]) + colour * cover[..., None]
    mask = cover > 0.5
    if name == "planted":
        top, left = rng.integers(0, SIDE - PATCH + 1, size=2)
        place = (slice(top, top + PATCH), slice(left, left + PATCH))
        pattern = draw_patch(label)
        image[place] = (0.1 + 0.8 * pattern)[..., None]
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[place] = True
    image = np.clip(image + rng.normal(0, 0.03, size=image.shape), 0, 1)
    return np.round(image * 255) / 255, mask


@lru_cache(maxsize=4)
def _pictures(name: str, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, H, W), labels (N,) and masks (N, H, W) of a split."""
    rng = np.random.default_rng(SEEDS[name, split])
    labels = np.arange(COUNTS[split]) % 4
    made = [_picture(name, int(label), rng) for label in labels]
    images = torch.from_numpy(
        np.stack([image for image, _ in made]).astype(np.float32)
    ).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([mask for _, mask in made]))
    return images.contiguous(), torch.from_numpy(labels.astype(np.int64)), masks


def _read(name: str, _paths: tuple[Path, ...], split: str) -> ImageSet:
    images, labels, _ = _pictures(name, split)
    return _image_set(name, split, images, labels)


def _image_set(name: str, split: str, images: Tensor, labels: Tensor) -> ImageSet:
    levels = (_pictures(name, split)[0] * 255).round().to(torch.uint8)
    return ImageSet(
        name=name,
        title=TITLES[name],
        split=split,
        images=images,
        labels=labels,
        class_names=CLASS_NAMES[name],
        digest=hashlib.sha256(levels.numpy().tobytes()).hexdigest(),
        licence=LICENCE,
        shareable=True,
    )


def load_masked(
    name: str, split: str, *, limit: int | None = None, seed: int = 0
) -> Masked:
    """Images of "shapes" or "planted" with their masks; the same images in the same
    order as `load` gives.

    Raises KeyError if the name or the split is unknown, ParameterError if `limit` is
    out of range.
    """
    images, labels, masks = _pictures(name, split)
    # A subset depends on labels and seed alone, so masks that travel as images come out
    # in the same order.
    chosen = _image_set(name, split, masks[:, None].float(), labels).take(limit, seed)
    return Masked(
        _image_set(name, split, images, labels).take(limit, seed),
        chosen.images[:, 0] > 0.5,
    )


def swap_patch(images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Planted images (N, 3, H, W) whose patch is drawn anew as that of `labels` (N,):
    what decides is changed, nothing else.
    """
    swapped = images.clone()
    for image, mask, label in zip(swapped, masks, labels, strict=True):
        pattern = torch.from_numpy(0.1 + 0.8 * draw_patch(int(label))).float()
        image[:, mask] = pattern.to(images).reshape(1, -1)
    return swapped


def _source(name: str) -> DataSource:
    return DataSource(
        name=name,
        title=TITLES[name],
        class_names=CLASS_NAMES[name],
        licence=LICENCE,
        shareable=True,
        splits=("train", "test"),
        files={},
        read=partial(_read, name),
    )


SOURCES = {"shapes": (_source("shapes"),), "planted": (_source("planted"),)}
