"""How alike two saliency maps are: Spearman's correlation, structural similarity, and
the share of common top pixels.

All functions take two stacks of maps (N, H, W) and compare them pair by pair: (N,).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from robustbook.stats import rank_correlation

SSIM_WINDOW = 7
TOP_SHARE = 0.1


def ranks(maps: Tensor) -> Tensor:
    """Rank of every pixel in its map, from 1, mean ranks where pixels are equal: maps
    (N, H, W) to (N, H * W).
    """
    flat = maps.flatten(1).numpy()
    return torch.from_numpy(rankdata(flat, axis=1))


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of the pixels of two maps; 0 where a map is constant,
    since a constant says nothing.
    """
    flat = (maps.flatten(1).cpu().numpy() for maps in (first, second))
    return torch.from_numpy(rank_correlation(*flat)).to(first.device)


def stretch(maps: Tensor) -> Tensor:
    """Maps (N, H, W) whose smallest value becomes 0 and whose largest 1; a constant map
    becomes 0.
    """
    low = maps.amin((1, 2), keepdim=True)
    span = maps.amax((1, 2), keepdim=True) - low
    return torch.where(span > 0, (maps - low) / span.clamp_min(1e-30), 0.0)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al. 2004) of two maps, each stretched to [0,
    1], with windows of 7 x 7.

    Raises ValueError if a map is smaller than the window.
    """
    if min(first.shape[1:]) < SSIM_WINDOW:
        raise ValueError(
            f"maps must be at least {SSIM_WINDOW} pixels wide and high, got "
            f"{tuple(first.shape[1:])}"
        )
    x, y = stretch(first).double()[:, None], stretch(second).double()[:, None]

    def local(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, SSIM_WINDOW, stride=1)

    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    mean_x, mean_y = local(x), local(y)
    var_x, var_y = (
        unbiased * (local(x * x) - mean_x**2),
        unbiased * (local(y * y) - mean_y**2),
    )
    covariance = unbiased * (local(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similar / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean(
        (1, 2, 3)
    )


def top_overlap(first: Tensor, second: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Share of the `share` most salient pixels of one map that are among those of the
    other.
    """
    count = max(1, round(share * first[0].numel()))
    chosen = [
        top_pixels(maps, torch.full((len(maps),), count)) for maps in (first, second)
    ]
    return (chosen[0] & chosen[1]).flatten(1).sum(1) / count


def top_pixels(maps: Tensor, counts: Tensor) -> Tensor:
    """Mask (N, H, W) of the `counts` (N,) largest pixels of each map; of equal pixels
    the first ones.
    """
    order = torch.from_numpy(
        np.argsort(-maps.flatten(1).numpy(), axis=1, kind="stable")
    )
    places = torch.empty_like(order)
    places.scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return (places < counts[:, None]).reshape(maps.shape)


SIMILARITIES = {"spearman": spearman, "ssim": ssim, "top pixels": top_overlap}
