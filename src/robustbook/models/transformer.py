"""A small vision transformer (Dosovitskiy et al. 2021) that keeps its attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError


class Attention(nn.Module):
    """Self-attention of several heads; `weights` (N, heads, T, T) are those of the last
    pass.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.weights: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        count, length, width = tokens.shape
        parts = self.project(tokens).reshape(count, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        attention = scores.softmax(-1)
        self.weights = attention.detach()
        mixed = (attention @ value).transpose(1, 2).reshape(count, length, width)
        merged: Tensor = self.merge(mixed)
        return merged


class Block(nn.Module):
    """Attention, then two linear layers, each with a norm before and a way around."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        tokens = tokens + self.attention(self.first(tokens))
        mixed: Tensor = tokens + self.mix(self.second(tokens))
        return mixed


class VisionTransformer(nn.Module):
    """Patches of 4 x 4 pixels as tokens, behind one that answers; three blocks.

    `shape` (C, H, W) has sides divisible by 4; the network maps images (N, C, H, W) to
    logits (N, K).
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, *, width: int = 48
    ) -> None:
        super().__init__()
        channels, height, wide = checks.sides(shape, "image_shape", 3)
        if height % 4 or wide % 4:
            raise ArgumentError("image_shape", "with sides divisible by 4", shape)
        self.grid = (height // 4, wide // 4)
        self.patches = nn.Conv2d(channels, width, 4, 4)
        self.answer = nn.Parameter(torch.zeros(1, 1, width))
        places = torch.randn(1, 1 + self.grid[0] * self.grid[1], width)
        self.places = nn.Parameter(0.02 * places)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.answer.expand(len(images), -1, -1), tokens], dim=1)
        tokens = tokens + self.places
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens[:, 0]))
        return logits


def build_transformer(
    image_shape: tuple[int, int, int], classes: int, seed: int
) -> VisionTransformer:
    """An untrained transformer whose weights depend on `seed` alone."""
    checks.whole(classes, "classes", at_least=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(checks.whole(seed, "seed", at_least=0))
        return VisionTransformer(image_shape, classes)
