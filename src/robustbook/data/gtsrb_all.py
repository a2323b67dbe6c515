"""German traffic signs of all 43 classes at 32 x 32: five frames of every training
track and every fourth test image.

Smaller than the complete set, whose accuracies must not be compared with those here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robustbook.data.gtsrb import LICENCE
from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataFile, DataSource, digest_of

NAME, TITLE = "gtsrb-43", "GTSRB, 43 classes"
CLASS_NAMES = tuple(f"class {number}" for number in range(43))
FILE = DataFile(
    "gtsrb/gtsrb_32_all43_subset.npz",
    "77729f9bed01ce1fa2c16d8d8262d33ad3d1c5a76cb963749fef288db20ba5fc",
)


def _read(paths: tuple[Path, ...], split: str) -> ImageSet:
    with np.load(paths[0], allow_pickle=False) as arrays:
        pixels, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    return ImageSet(
        name=NAME,
        title=TITLE,
        split=split,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=digest_of((FILE,)),
        licence=LICENCE,
        shareable=False,
    )


SOURCES = {
    NAME: (
        DataSource(
            name=NAME,
            title=TITLE,
            class_names=CLASS_NAMES,
            licence=LICENCE,
            shareable=False,
            splits=("train", "test"),
            files={"train": (FILE,), "test": (FILE,)},
            read=_read,
        ),
    )
}
