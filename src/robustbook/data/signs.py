"""Traffic signs of our own drawing, embedded: round signs with a red rim and two
strokes, and red-rimmed triangles.

Read `draw` first (one sign), then `_read` (how place, size, light and noise vary).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataSource

TITLE = "Traffic signs (drawn)"
LICENCE = "drawn by this package, MIT"
CLASS_NAMES = ("round sign", "triangle")
SIDE = 20
COUNTS = {"train": 600, "test": 300}
SEEDS = {"train": 2019, "test": 789}
RED, WHITE, DARK = (
    np.array([0.75, 0.1, 0.12]),
    np.array([0.95, 0.95, 0.92]),
    np.array([0.1, 0.1, 0.12]),
)
Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Sign:
    """What a sign looks like: `triangle` or round, middle and radius in pixels, tilt in
    radians, background colour.
    """

    triangle: bool
    row: float
    column: float
    radius: float
    tilt: float
    background: Pixels


def draw(sign: Sign, side: int = SIDE) -> Pixels:
    """Image (side, side, 3) in [0, 1] of a sign; edges are smooth over one pixel."""
    rows, columns = np.mgrid[:side, :side].astype(float)
    y, x = (rows - sign.row) / sign.radius, (columns - sign.column) / sign.radius
    x, y = (
        x * np.cos(sign.tilt) + y * np.sin(sign.tilt),
        y * np.cos(sign.tilt) - x * np.sin(sign.tilt),
    )
    outside = _triangle(x, y) if sign.triangle else np.hypot(x, y) - 1
    strokes = _figure(x, y) if sign.triangle else _numerals(x, y)
    image = np.broadcast_to(sign.background, (side, side, 3)).copy()
    for distance, colour in ((outside, RED), (outside + 0.25, WHITE), (strokes, DARK)):
        cover = np.clip(0.5 - distance * sign.radius, 0, 1)[..., None]
        image = image * (1 - cover) + colour * cover
    return image


def _triangle(x: Pixels, y: Pixels) -> Pixels:
    """Signed distance to an upright triangle whose corners lie on the circle of radius
    1.1.
    """
    return np.maximum(
        np.maximum(y - 0.55, 0.866 * x - 0.5 * y - 0.55), -0.866 * x - 0.5 * y - 0.55
    )


def _numerals(x: Pixels, y: Pixels) -> Pixels:
    """Signed distance to two upright strokes."""
    return np.maximum(np.abs(np.abs(x) - 0.28) - 0.11, np.abs(y) - 0.4)


def _figure(x: Pixels, y: Pixels) -> Pixels:
    """Signed distance to a leaning stroke above a heap."""
    stroke = np.maximum(np.abs(x - 0.4 * y) - 0.1, np.abs(y + 0.05) - 0.3)
    return np.minimum(stroke, np.hypot(x - 0.2, y - 0.3) - 0.17)


def _read(_paths: tuple[Path, ...], split: str) -> ImageSet:
    rng = np.random.default_rng(SEEDS[split])
    labels = np.arange(COUNTS[split]) % 2
    images = np.stack([_photograph(bool(label), rng) for label in labels]).astype(
        np.float32
    )
    images = images.transpose(0, 3, 1, 2).copy()
    return ImageSet(
        name="signs",
        title=TITLE,
        split=split,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=hashlib.sha256(
            np.round(images * 255).astype(np.uint8).tobytes()
        ).hexdigest(),
        licence=LICENCE,
        shareable=True,
    )


def _photograph(triangle: bool, rng: np.random.Generator) -> Pixels:
    """A sign at a random place, size and tilt, in random light, before a random
    background, with noise.
    """
    middle = (SIDE - 1) / 2
    sign = Sign(
        triangle,
        middle + rng.uniform(-2, 2),
        middle + rng.uniform(-2, 2),
        rng.uniform(0.3, 0.48) * SIDE,
        rng.uniform(-0.2, 0.2),
        rng.uniform(0.1, 0.8, size=3),
    )
    light = rng.uniform(0.35, 1.05) * (1 + rng.uniform(-0.08, 0.08, size=3))
    image = draw(sign) * light + rng.normal(0, 0.06, size=(SIDE, SIDE, 3))
    return np.round(np.clip(image, 0, 1) * 255) / 255


SOURCE = DataSource(
    name="signs",
    title=TITLE,
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=True,
    splits=("train", "test"),
    files={},
    read=_read,
)

SOURCES = {"signs": (SOURCE,)}
