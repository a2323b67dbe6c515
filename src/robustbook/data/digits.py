"""The 8 x 8 handwritten digits that scikit-learn ships: 1,797 images, embedded, so that
no download is needed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataSource

CLASS_NAMES = tuple(str(digit) for digit in range(10))
TEST_SHARE = 0.3
LICENCE = "UCI optical digits, CC BY 4.0, as shipped with scikit-learn"


def _read(_paths: tuple[Path, ...], split: str) -> ImageSet:
    """The train or test part of a fixed, class-balanced split; grey levels 0..16 become
    [0, 1].
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    digest = hashlib.sha256(
        images.astype("<f4").tobytes() + labels.astype("<i8").tobytes()
    ).hexdigest()
    parts = train_test_split(
        images, labels, test_size=TEST_SHARE, stratify=labels, random_state=0
    )
    chosen, chosen_labels = (
        (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])
    )
    return ImageSet(
        name="digits",
        title="Digits 8x8 (scikit-learn)",
        split=split,
        images=torch.from_numpy((chosen / 16).astype(np.float32)).reshape(-1, 1, 8, 8),
        labels=torch.from_numpy(chosen_labels.astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=digest,
        licence=LICENCE,
        shareable=True,
    )


SOURCE = DataSource(
    name="digits",
    title="Digits 8x8 (scikit-learn)",
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=True,
    splits=("train", "test"),
    files={},
    read=_read,
)
SOURCES = {"digits": (SOURCE,)}
