"""How far images lie off the data, as a network sees it: distance from the features of
real images in front of the last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Conv2d, Linear, Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.network import CHUNK, beside, frozen


def penultimate(model: Module, images: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """What goes into the last linear layer or convolution (N, F) for `images` (N, C, H,
    W); channels of a convolution are averaged over places.

    Raises ArgumentError if the network has neither or does not use its last one.
    """
    images = checks.images(images)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    kinds = (Linear, Conv2d)
    layers = [each for each in checks.network(model).modules() if type(each) in kinds]
    if not layers:
        raise ArgumentError("model", "a network with a linear layer", model)
    seen: list[Tensor] = []

    def note(_layer: Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach()
        seen.append(values.mean((2, 3)) if values.dim() == 4 else values.flatten(1))

    hook = layers[-1].register_forward_pre_hook(note)
    try:
        with frozen(model), torch.no_grad():
            for part in beside(model, images).split(chunk):
                checks.logits(model(part), len(part))
    finally:
        hook.remove()
    if sum(len(part) for part in seen) != len(images):
        raise ArgumentError("model", "a network that runs its last layer once", model)
    return torch.cat(seen)


def distance_from_data(
    features: Tensor, data: Tensor, *, neighbours: int = 5
) -> Tensor:
    """Mean distance (N,) of `features` (N, F) from their nearest `neighbours` among
    `data` (M, F), every feature in units of its standard deviation over the data.

    >>> data = torch.tensor([[0.0], [2.0]])
    >>> distance_from_data(torch.tensor([[4.0]]), data, neighbours=1)
    tensor([1.4142])

    Raises ArgumentError if shapes do not fit or there are fewer than `neighbours`.
    """
    features = checks.tensor(features, "features", dimensions=2)
    data = checks.tensor(data, "data", dimensions=2)
    if len(data) < 2 or data.shape[1] != features.shape[1]:
        raise ArgumentError("data", "(M, F), two rows at least", data)
    neighbours = checks.whole(neighbours, "neighbours", at_least=1, at_most=len(data))
    spread = data.std(0)
    used = spread > 1e-6 * spread.max().clamp_min(1e-30)
    if not bool(used.any()):
        raise ArgumentError("data", "of features that vary", data)
    scale = spread[used]
    near = torch.cdist(features[:, used] / scale, data[:, used].to(features) / scale)
    return near.topk(neighbours, dim=1, largest=False).values.mean(1)
