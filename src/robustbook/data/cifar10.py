"""CIFAR-10: the official lossless batches, and a copy whose images went through JPEG,
which is a different data set.

The JPEG copy differs from the official images by about 8 grey levels RMS, so that
nothing measured on it may be compared with a published number; it is called "CIFAR-10
(JPEG copy)" wherever it is used.
"""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from robustbook.data.image_set import ImageSet
from robustbook.data.pickles import load_arrays
from robustbook.data.store import DataError, DataFile, DataSource, digest_of

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SPLITS = ("train", "test")
LICENCE = "Krizhevsky 2009; free research use with citation, no licence stated"

OFFICIAL_FILES: dict[str, tuple[DataFile, ...]] = {
    "train": tuple(
        DataFile(f"cifar-10-batches-py/data_batch_{number}", md5, "md5")
        for number, md5 in enumerate(
            (
                "c99cafc152244af753f735de768cd75f",
                "d4bba439e000b95fd0a9bffe97cbabec",
                "54ebc095f3ab1f0389bbae665268c751",
                "634d18415352ddfa80567beed471001a",
                "482c414d41f54cd18b22e5b47cb7c3cb",
            ),
            start=1,
        )
    ),
    "test": (
        DataFile(
            "cifar-10-batches-py/test_batch", "40351d587109b95175f43aff81a1287e", "md5"
        ),
    ),
}
JPEG_FILES: dict[str, tuple[DataFile, ...]] = {
    "train": (
        DataFile(
            "cifar10/cifar10_train_jpeg.npz",
            "bfa666e7e0de5ec81091e55f45a16c16092f599d399830c3192e3145e27acf71",
        ),
    ),
    "test": (
        DataFile(
            "cifar10/cifar10_test_jpeg.npz",
            "9359a6dd4b15dd1f543d2f208cbd13dfb6c05106bb1e44e945eac72c521136ec",
        ),
    ),
}


def read_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) of one official batch; DataError if
    it holds anything but arrays.
    """
    try:
        batch = load_arrays(content, encoding="latin1")
        return np.asarray(batch["data"], dtype=np.uint8).reshape(
            -1, 3, 32, 32
        ), np.asarray(batch["labels"])
    except Exception as failure:  # damaged pickles raise errors of every kind
        raise DataError(f"CIFAR-10 batch cannot be read: {failure}") from failure


def _read_official(paths: tuple[Path, ...], split: str) -> ImageSet:
    batches = [read_batch(path.read_bytes()) for path in paths]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return _image_set(OFFICIAL, split, images, labels)


def _read_jpeg(paths: tuple[Path, ...], split: str) -> ImageSet:
    from PIL import Image

    with np.load(paths[0], allow_pickle=False) as archive:
        stream, offset, labels = archive["jpeg"], archive["offset"], archive["labels"]
    images = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(stream[start:stop].tobytes())))
            for start, stop in pairwise(offset)
        ]
    )
    return _image_set(JPEG, split, images.transpose(0, 3, 1, 2), labels)


def _image_set(
    source: DataSource, split: str, images: np.ndarray, labels: np.ndarray
) -> ImageSet:
    return ImageSet(
        name=source.name,
        title=source.title,
        split=split,
        images=torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32) / 255),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=digest_of(source.files[split]),
        licence=source.licence,
        shareable=source.shareable,
    )


OFFICIAL = DataSource(
    name="cifar10",
    title="CIFAR-10",
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=False,
    splits=SPLITS,
    files=OFFICIAL_FILES,
    read=_read_official,
)
JPEG = DataSource(
    name="cifar10-jpeg",
    title="CIFAR-10 (JPEG copy)",
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=False,
    splits=SPLITS,
    files=JPEG_FILES,
    read=_read_jpeg,
)
SOURCES = {"cifar10": (OFFICIAL, JPEG), "cifar10-jpeg": (JPEG,)}
