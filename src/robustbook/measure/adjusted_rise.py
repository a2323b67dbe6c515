"""RISE's maps from the same passes with less noise: what a linear fit says of the
scores is averaged exactly, and only the rest by Monte Carlo (a control variate).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbook import checks
from robustbook.measure.saliency import rise_maps
from robustbook.models.network import CHUNK
from robustbook.perturb.masks import RiseMasks

RIDGE = 0.1
"""Weight of the penalty, as a share of features over masks: few masks must not fit
their own noise.
"""


def adjusted_maps(
    scores: Tensor, masks: RiseMasks, reference: RiseMasks, *, count: int | None = None
) -> Tensor:
    """RISE's centred maps (N, H, W) from `mask_scores` (N, masks), over the first
    `count` masks, with the linear part of the scores averaged over `reference`.

    Scores are fitted by the mean of the mask in each cell. The map of the fit needs no
    network, so it is taken over the many masks of `reference`; the map of the residual
    over `masks`. The expectation is that of centred maps.

    Raises ArgumentError as `rise_maps` does.
    """
    checks.having(reference, "reference", "render", "weighted_sum")
    plain = rise_maps(scores, masks, count=count, centred=True)
    count = len(masks) if count is None else count
    known, own = _cells(reference, len(reference)), _cells(masks, count)
    mean = known.mean(0)
    known, own = known - mean, own - mean
    centred = scores[:, :count].to(own)
    centred = centred - centred.mean(1, keepdim=True)
    features = own.shape[1]
    gram = own.T @ own / count
    gram.diagonal().add_(RIDGE * features / count * known.square().mean())
    slopes = torch.linalg.solve(gram, own.T @ centred.T / count).T
    fitted = rise_maps((slopes @ own.T).to(scores), masks, count=count, centred=True)
    exact = rise_maps(known.T.contiguous().to(scores), reference, centred=True)
    return plain - fitted + torch.einsum("nf,fhw->nhw", slopes.to(scores), exact)


def _cells(masks: RiseMasks, count: int) -> Tensor:
    """Mean of each of the first `count` masks in every cell (count, cells²)."""
    side = masks.grids.shape[-1]
    parts = [
        F.adaptive_avg_pool2d(masks.render(start, min(start + CHUNK, count)), side)
        for start in range(0, count, CHUNK)
    ]
    return torch.cat(parts).flatten(1).double()
