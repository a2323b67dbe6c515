"""How alike two saliency maps are: Spearman's correlation, structural similarity, and
the share of common top pixels.

All measures take two stacks of maps (N, H, W) and compare them pair by pair: (N,). They
raise ArgumentError if a map is not floating and finite or the stacks differ in shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.stats import rank_correlation

SSIM_WINDOW = 7
TOP_SHARE = 0.1


def _maps(given: Tensor, name: str = "maps") -> Tensor:
    given = checks.tensor(given, name, dimensions=3)
    if not given.numel():
        raise ArgumentError(name, "at least one map (N, H, W) with pixels", given)
    return given


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    first, second = _maps(first, "first"), _maps(second, "second")
    if first.shape != second.shape:
        raise ArgumentError("second", f"of shape {tuple(first.shape)}", second)
    return first, second.to(first.device)


def ranks(maps: Tensor) -> Tensor:
    """Rank of every pixel in its map, from 1, mean ranks where pixels are equal: maps
    (N, H, W) to (N, H * W), in double precision.

    >>> ranks(torch.tensor([[[0.1, 0.3, 0.3]]]))
    tensor([[1.0000, 2.5000, 2.5000]], dtype=torch.float64)
    """
    flat = _maps(maps).flatten(1).contiguous()
    ordered = flat.sort(1).values
    below, upto = (
        torch.searchsorted(ordered, flat, right=right) for right in (False, True)
    )
    return (below + upto + 1).double() / 2


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of the pixels of two maps; 0 where a map is constant,
    since a constant says nothing.
    """
    first, second = _pair(first, second)
    flat = (maps.flatten(1).cpu().numpy() for maps in (first, second))
    return torch.from_numpy(rank_correlation(*flat)).to(first.device)


def stretch(maps: Tensor) -> Tensor:
    """Maps (N, H, W) whose smallest value becomes 0 and whose largest 1; a constant map
    becomes 0.
    """
    maps = _maps(maps)
    low = maps.amin((1, 2), keepdim=True)
    span = maps.amax((1, 2), keepdim=True) - low
    return torch.where(span > 0, (maps - low) / span.clamp_min(1e-30), 0.0)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al. 2004) of two maps, each stretched to [0,
    1], with windows of 7 x 7.

    Raises ArgumentError if a map is smaller than the window.
    """
    first, second = _pair(first, second)
    if min(first.shape[1:]) < SSIM_WINDOW:
        allowed = f"at least {SSIM_WINDOW} pixels wide and high"
        raise ArgumentError("maps", allowed, first)
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

    Raises ArgumentError if `share` lies outside (0, 1].
    """
    first, second = _pair(first, second)
    share = checks.real(share, "share", above=0, at_most=1)
    count = max(1, round(share * first[0].numel()))
    common = (places(first) < count) & (places(second) < count)
    return common.flatten(1).sum(1) / count


def places(maps: Tensor) -> Tensor:
    """Place (N, H, W), from 0, of each pixel when the largest of its map (N, H, W)
    comes first; of equal pixels the first one does.

    >>> places(torch.tensor([[[0.1, 0.7, 0.7]]]))
    tensor([[[2, 0, 1]]])
    """
    flat = _maps(maps).flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    numbers = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, numbers).reshape(maps.shape)


SIMILARITIES = {"spearman": spearman, "ssim": ssim, "top pixels": top_overlap}
