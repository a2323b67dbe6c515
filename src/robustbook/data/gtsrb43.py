"""German traffic signs, all 43 classes: of each track of thirty frames five, and every
fourth test image.

`pair` keeps two of the classes. A track shows one physical sign: training and
validation never share one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from robustbook.data.gtsrb import LICENCE, resized, validation
from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataFile, DataSource, digest_of
from robustbook.errors import ParameterError

TITLE = "GTSRB, 43 classes (subset)"
CLASS_NAMES = tuple(f"sign {number}" for number in range(43))
FILE = DataFile(
    "gtsrb/gtsrb_32_all43_subset.npz",
    "77729f9bed01ce1fa2c16d8d8262d33ad3d1c5a76cb963749fef288db20ba5fc",
)


def pair(images: ImageSet, first: int, second: int) -> ImageSet:
    """The images of two classes, which become classes 0 and 1.

    Raises ParameterError if they are the same or one is not a class of the set.
    """
    known = range(images.classes)
    if first == second or first not in known or second not in known:
        raise ParameterError(
            f"two different classes from 0 to {images.classes - 1} are needed, got "
            f"{first} and {second}"
        )
    chosen = (images.labels == first) | (images.labels == second)
    return replace(
        images,
        title=f"GTSRB, classes {first} and {second} (subset)",
        images=images.images[chosen],
        labels=(images.labels[chosen] == second).long(),
        class_names=(images.class_names[first], images.class_names[second]),
    )


def _read(paths: tuple[Path, ...], split: str) -> ImageSet:
    """Images of a split at 28 x 28, as those of `data.gtsrb`."""
    with np.load(paths[0], allow_pickle=False) as arrays:
        part = "test" if split == "test" else "train"
        pixels, classes = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if split != "test":
            chosen = validation(arrays["track_train"]) == (split == "validation")
            pixels, classes = pixels[chosen], classes[chosen]
    return ImageSet(
        name="gtsrb-43",
        title=TITLE,
        split=split,
        images=resized(torch.from_numpy(pixels)),
        labels=torch.from_numpy(classes.astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=digest_of((FILE,)),
        licence=LICENCE,
        shareable=False,
    )


SOURCE = DataSource(
    name="gtsrb-43",
    title=TITLE,
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=False,
    splits=("train", "validation", "test"),
    files={split: (FILE,) for split in ("train", "validation", "test")},
    read=_read,
)

SOURCES = {"gtsrb-43": (SOURCE,)}
