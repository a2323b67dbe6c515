"""The one shape in which every data family hands over its images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbook.errors import ParameterError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images: `images` (N, C, H, W) float32 in [0, 1], `labels` (N,) int64
    indices into `class_names`.

    `digest` is the SHA-256 of the pinned digests of the files they were read from, or
    of the pixels where there is no file; it is that of the whole split, also in a
    subset. `licence` is one sentence, and `shareable` says whether pictures of them may
    be shown in a published page. Raises ValueError where shapes, types or ranges differ
    from that.
    """

    name: str
    title: str
    split: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    digest: str
    licence: str
    shareable: bool

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.float32:
            raise ValueError(
                f"images must be float32 (N, C, H, W), got {self.images.dtype} "
                f"{tuple(self.images.shape)}"
            )
        if (
            self.labels.shape != self.images.shape[:1]
            or self.labels.dtype != torch.int64
        ):
            raise ValueError(
                f"labels must be int64 (N,), got {self.labels.dtype} "
                f"{tuple(self.labels.shape)}"
            )
        if len(self) and (self.images.min() < 0 or self.images.max() > 1):
            raise ValueError("images must lie in [0, 1]")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def take(self, count: int | None, seed: int = 0) -> ImageSet:
        """A subset of `count` images (all if None), a random one with equal shares of
        the classes drawn from `seed`.

        The order is random and its prefixes are nested: the first ten of `take(20)` are
        `take(10)`. Raises ParameterError if `count` is less than 1 or more than there
        are images.
        """
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise ParameterError(
                f"{self.title} has 1 to {len(self)} {self.split} images to give, "
                f"but {count} were asked for"
            )
        chosen = _balanced_order(self.labels, seed)[:count]
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])


def _balanced_order(labels: Tensor, seed: int) -> Tensor:
    """Indices in which every run of K images holds each of the K classes about once."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    shuffled_labels = labels[shuffled]
    rank = torch.empty_like(shuffled)
    for label in labels.unique():
        places = (shuffled_labels == label).nonzero().squeeze(1)
        rank[places] = torch.arange(len(places))
    return shuffled[torch.argsort(rank, stable=True)]
