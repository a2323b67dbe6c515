"""Random numbers for a tensor: drawn on the generator's device, so that a seed gives
the same numbers everywhere, and moved beside the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from robustbook import checks


def normal(shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers of the type and device of `like`.

    >>> normal((2, 3), torch.zeros(1), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    return _empty(shape, generator).normal_(generator=generator).to(like)


def uniform(
    shape: Sequence[int],
    like: Tensor,
    generator: Generator,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """Uniform numbers from [`low`, `high`) of the type and device of `like`."""
    return _empty(shape, generator).uniform_(low, high, generator=generator).to(like)


def whole(
    shape: Sequence[int], below: int, like: Tensor, generator: Generator
) -> Tensor:
    """Whole numbers (int64) from 0 to `below` - 1 on the device of `like`."""
    device = checks.generator(generator).device
    return torch.randint(below, tuple(shape), generator=generator, device=device).to(
        like.device
    )


def signs(shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
    """-1 or 1 with equal probability, of the type and device of `like`."""
    return whole(shape, 2, like, generator).to(like).mul_(2).sub_(1)


def order(count: int, like: Tensor, generator: Generator) -> Tensor:
    """A random order of 0 to `count` - 1 on the device of `like`."""
    device = checks.generator(generator).device
    return torch.randperm(count, generator=generator, device=device).to(like.device)


def _empty(shape: Sequence[int], generator: Generator) -> Tensor:
    device = checks.generator(generator).device
    return torch.empty(tuple(shape), dtype=torch.float32, device=device)
