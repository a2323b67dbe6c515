"""The official CIFAR-10 images that are at hand without loss: the first 4,000 training
and the first 20 test images.

The published ResNet-20 was trained on the former and gets 99.8 % of them right, where
it gets 86 % of their JPEG copies: on these its own numbers can be measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robustbook.data.cifar10 import CLASS_NAMES, LICENCE
from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataFile, DataSource, digest_of

NAME, TITLE = "cifar10-lossless", "CIFAR-10 (first 4,000)"
FILES: dict[str, tuple[DataFile, ...]] = {
    "train": (
        DataFile(
            "cifar10/cifar10_train_first4000_lossless.npz",
            "f21ba659b327871ec330654ccdc95e0da52b1b39c04c467a581440516466148c",
        ),
    ),
    "test": (
        DataFile(
            "cifar10/cifar10_test_first20_lossless.npz",
            "011ab18a8ac27c4c6ac83219277e842fe59e050e27e9210a83db6e59ab09efe6",
        ),
    ),
}


def _read(paths: tuple[Path, ...], split: str) -> ImageSet:
    with np.load(paths[0], allow_pickle=False) as archive:
        pixels, labels = archive["images"], archive["labels"]
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    return ImageSet(
        name=NAME,
        title=TITLE,
        split=split,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=digest_of(FILES[split]),
        licence=LICENCE,
        shareable=False,
    )


SOURCES = {
    "cifar10-lossless": (
        DataSource(
            name=NAME,
            title=TITLE,
            class_names=CLASS_NAMES,
            licence=LICENCE,
            shareable=False,
            splits=("train", "test"),
            files=FILES,
            read=_read,
        ),
    )
}
