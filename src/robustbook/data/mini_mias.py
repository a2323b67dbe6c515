"""Mini-MIAS mammogram patches (Suckling et al. 1994): recorded lesions and places of
normal breasts, split by woman.

Research use only: numbers may be published, pictures of it are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataFile, DataSource, digest_of, verified

NAME, TITLE = "mini-mias", "mini-MIAS patches"
LICENCE = "MIAS licence: research only (Suckling et al. 1994); not shown here"
CLASS_NAMES = ("normal", "benign lesion", "malignant lesion")
PITCH = 0.2
"""Side of a pixel in mm."""
FOLDS = 3
FILE = DataFile(
    "mini-mias/mini_mias_patches_128.npz",
    "c16d7e10de38662890cc2eb8bc25c483b5fc374014a1854f23446b05ba4da2ce",
)


@dataclass(frozen=True)
class Patches:
    """`images` (N, 128, 128) uint8, `labels` (N,) into `CLASS_NAMES`, `kinds` (N,) as
    recorded (CALC, CIRC ...), `women` (N,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    kinds: NDArray[np.str_]
    women: NDArray[np.int64]


def read_patches(path: Path) -> Patches:
    """All patches of the array file at `path`; images 2m and 2m + 1 of the collection
    are one woman's.
    """
    with np.load(path, allow_pickle=False) as arrays:
        severity = arrays["severity"]
        labels = np.where(severity == "M", 2, np.where(severity == "B", 1, 0)).astype(
            np.int64
        )
        return Patches(
            arrays["patches"],
            labels,
            arrays["cls"],
            arrays["image"].astype(np.int64) // 2,
        )


def load_patches() -> Patches:
    """All patches, from the data root; DataError where their file is missing or
    damaged.
    """
    return read_patches(verified(NAME, TITLE, FILE))


def fold_of(
    women: NDArray[np.integer], folds: int = FOLDS, seed: int = 0
) -> NDArray[np.int64]:
    """Fold (N,) of each patch: every woman's patches lie in one fold."""
    names, place = np.unique(women, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return (order % folds)[place].astype(np.int64)


def _read(paths: tuple[Path, ...], split: str) -> ImageSet:
    patches = read_patches(paths[0])
    chosen = np.ones(len(patches.labels), bool)
    if split != "all":
        chosen = (fold_of(patches.women) == 0) == (split == "test")
    return ImageSet(
        name=NAME,
        title=TITLE,
        split=split,
        images=torch.from_numpy(patches.images[chosen].astype(np.float32) / 255)[
            :, None
        ],
        labels=torch.from_numpy(patches.labels[chosen]),
        class_names=CLASS_NAMES,
        digest=digest_of((FILE,)),
        licence=LICENCE,
        shareable=False,
    )


SOURCE = DataSource(
    name=NAME,
    title=TITLE,
    class_names=CLASS_NAMES,
    licence=LICENCE,
    shareable=False,
    splits=("train", "test", "all"),
    files={split: (FILE,) for split in ("train", "test", "all")},
    read=_read,
)

SOURCES = {"mini-mias": (SOURCE,)}
