"""German traffic signs, two classes (speed limit 50 and road works) as in Cardelli et
al. 2019, read from one array file.

Thirty frames show one physical sign, a track: training and validation never share a
track.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataFile, DataSource, digest_of

TITLE = "GTSRB, classes 2 and 25"
LICENCE = (
    "INI, Ruhr-Universität Bochum (Stallkamp et al. 2012); free for research with "
    "citation; not shown here"
)
CLASS_NAMES = ("speed limit 50", "road works")
CLASSES = (2, 25)
SIDE = 28
VALIDATION_SHARE = 5
"""Every fifth track of the training part is kept for validation."""
FILE = DataFile(
    "gtsrb/gtsrb_32_class2_class25.npz",
    "8bcd33f29bc1b11e2c98f389baeb182565118293b1489b744208c2ad74aab260",
)


def _read(paths: tuple[Path, ...], split: str) -> ImageSet:
    """Images of a split at 28 x 28, the size of the paper's network, from 32 x 32 by
    area-aware bilinear resizing.
    """
    with np.load(paths[0], allow_pickle=False) as arrays:
        part = "test" if split == "test" else "train"
        pixels, classes = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if split != "test":
            chosen = validation(arrays["track_train"]) == (split == "validation")
            pixels, classes = pixels[chosen], classes[chosen]
    return ImageSet(
        name="gtsrb",
        title=TITLE,
        split=split,
        images=resized(torch.from_numpy(pixels)),
        labels=torch.from_numpy((classes == CLASSES[1]).astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=digest_of((FILE,)),
        licence=LICENCE,
        shareable=False,
    )


def validation(tracks: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which frames are kept for validation, from the number of each frame's track
    within its class.
    """
    return tracks % VALIDATION_SHARE == VALIDATION_SHARE - 1


def resized(pixels: Tensor) -> Tensor:
    """Pixels (N, H, W, C) from 0 to 255 as images (N, C, 28, 28) in [0, 1]."""
    images = pixels.permute(0, 3, 1, 2).float() / 255
    return F.interpolate(
        images, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    ).clamp(0, 1)


SOURCE = DataSource(
    name="gtsrb",
    title=TITLE,
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=False,
    splits=("train", "validation", "test"),
    files={split: (FILE,) for split in ("train", "validation", "test")},
    read=_read,
)

SOURCES = {"gtsrb": (SOURCE,)}
