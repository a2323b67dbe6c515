"""What a saliency map has to stand besides removal: infidelity and sensitivity (Yeh et
al. 2019), and randomisation of the network's layers (Adebayo et al. 2018).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure.saliency import asked, chosen, evaluating
from robustbook.models.network import CHUNK


def infidelity(
    model: Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    perturbed: Tensor,
    *,
    chunk: int = CHUNK,
) -> Tensor:
    """Mean squared error (N,) of what maps say of perturbations: (I · A - (f(x) - f(x -
    I)))², with `perturbed` x - I (S, N, C, H, W) and A scaled to the smallest error.

    `maps` (N, H, W) hold for every channel. As captum's with `normalize=True`. Raises
    ArgumentError if shapes do not fit.
    """
    seen = asked(model, images, targets, images)
    maps = checks.tensor(maps, "maps", dimensions=3).to(seen.images)
    if maps.shape != (len(images), *images.shape[2:]):
        raise ArgumentError("maps", "of the images' height and width", maps)
    perturbed = checks.tensor(perturbed, "perturbed", dimensions=5).to(seen.images)
    if perturbed.shape[1:] != images.shape:
        raise ArgumentError("perturbed", f"(S, {tuple(images.shape)})", perturbed)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    draws = len(perturbed)
    said = ((seen.images - perturbed) * maps[:, None]).flatten(2).sum(2)
    with evaluating(model, seen.dtype) as network:
        pairs = zip(
            perturbed.flatten(0, 1).split(chunk),
            seen.targets.repeat(draws).split(chunk),
            strict=True,
        )
        left = torch.cat([chosen(network(some), wanted) for some, wanted in pairs])
        whole = chosen(network(seen.images), seen.targets)
    seen_drop = whole - left.reshape(draws, -1)
    square = said.square().mean(0)
    scale = (said * seen_drop).mean(0) / square.clamp_min(1e-30)
    return (scale * said - seen_drop).square().mean(0)


def max_sensitivity(
    explain: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    radius: float,
    draws: int,
    generator: Generator,
) -> Tensor:
    """Largest relative change (N,) of the maps that `explain` gives for `images` (N, C,
    H, W) when every pixel moves by at most `radius`, over random `draws`.

    Changes and maps are measured by their Euclidean length. Raises ArgumentError if a
    number is out of range.
    """
    images = checks.images(images)
    radius = checks.real(radius, "radius", above=0)
    draws = checks.whole(draws, "draws", at_least=1)
    device = checks.generator(generator).device
    own = explain(images).flatten(1)
    worst = own.new_zeros(len(images))
    for _ in range(draws):
        noise = torch.rand(images.shape, generator=generator, device=device).to(images)
        moved = (images + radius * (2 * noise - 1)).clamp(0, 1)
        change = (explain(moved).flatten(1) - own).norm(dim=1)
        worst = torch.maximum(worst, change / own.norm(dim=1).clamp_min(1e-30))
    return worst


def randomised(model: Module, *, seed: int) -> Iterator[tuple[str, Module]]:
    """Copies of a network whose layers are initialised anew one after the other, from
    the last to the first, each with the name of the layer that was added.

    Raises ArgumentError if no layer can be initialised anew.
    """
    seed = checks.whole(seed, "seed", at_least=0)
    current = copy.deepcopy(checks.network(model))
    layers = [
        (name, layer)
        for name, layer in current.named_modules()
        if callable(getattr(layer, "reset_parameters", None))
        and any(True for _ in layer.parameters(recurse=False))
    ]
    if not layers:
        raise ArgumentError("model", "a network with layers to initialise", model)
    return _cascade(current, layers[::-1], seed)


def _cascade(
    current: Module, layers: list[tuple[str, Module]], seed: int
) -> Iterator[tuple[str, Module]]:
    for number, (name, layer) in enumerate(layers):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            layer.reset_parameters()  # type: ignore[operator]
        yield name, copy.deepcopy(current)
