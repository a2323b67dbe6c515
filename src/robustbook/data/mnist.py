"""MNIST: the four original gzip files, read without unpacking them, so that a read-only
data root works.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataError, DataFile, DataSource, digest_of

TITLE = "MNIST"
LICENCE = "LeCun and Cortes; CC BY-SA 3.0 as commonly stated"
CLASS_NAMES = tuple(str(digit) for digit in range(10))
FILES: dict[str, tuple[DataFile, ...]] = {
    "train": (
        DataFile(
            "MNIST/raw/train-images-idx3-ubyte.gz",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        DataFile(
            "MNIST/raw/train-labels-idx1-ubyte.gz",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    "test": (
        DataFile(
            "MNIST/raw/t10k-images-idx3-ubyte.gz",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        DataFile(
            "MNIST/raw/t10k-labels-idx1-ubyte.gz",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
}


def _values(path: Path, header: int) -> np.ndarray:
    """The bytes after an idx file's header; the file was verified, so its layout is
    known.
    """
    try:
        return np.frombuffer(
            gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header
        )
    except (OSError, EOFError) as failure:
        raise DataError(
            f"MNIST is damaged: {path.name} cannot be unpacked"
        ) from failure


def _read(paths: tuple[Path, ...], split: str) -> ImageSet:
    images = _values(paths[0], header=16).reshape(-1, 1, 28, 28)
    labels = _values(paths[1], header=8)
    return ImageSet(
        name="mnist",
        title=TITLE,
        split=split,
        images=torch.from_numpy(images.astype(np.float32) / 255),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=CLASS_NAMES,
        digest=digest_of(FILES[split]),
        licence=LICENCE,
        shareable=True,
    )


SOURCE = DataSource(
    name="mnist",
    title=TITLE,
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=True,
    splits=("train", "test"),
    files=FILES,
    read=_read,
)
SOURCES = {"mnist": (SOURCE,)}
