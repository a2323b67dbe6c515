"""Attention rollout (Abnar and Zuidema 2020): which patches the answering token of a
transformer has looked at, through all blocks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.network import beside, frozen
from robustbook.models.transformer import Block, VisionTransformer


def attention_rollout(model: VisionTransformer, images: Tensor) -> Tensor:
    """Maps (N, H, W) of the attention that flows from the patches of `images` (N, C, H,
    W) to the answer: the product of all blocks' (A + 1) / 2, heads averaged.

    Knows neither the class nor a baseline. Raises ArgumentError for other networks.
    """
    if not isinstance(model, VisionTransformer):
        raise ArgumentError("model", "a VisionTransformer", type(model).__name__)
    images = beside(model, checks.images(images))
    with frozen(model), torch.no_grad():
        checks.logits(model(images), len(images))
        flow = None
        for block in model.blocks:
            assert isinstance(block, Block) and block.attention.weights is not None
            step = block.attention.weights.mean(1) / 2
            step.diagonal(dim1=1, dim2=2).add_(0.5)
            flow = step if flow is None else step @ flow
    assert flow is not None
    seen = flow[:, 0, 1:].reshape(len(images), 1, *model.grid)
    size = tuple(images.shape[2:])
    return F.interpolate(seen, size=size, mode="bilinear", align_corners=False)[:, 0]
