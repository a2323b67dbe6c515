"""Saliency maps: which pixels a network's probability of a class rests on, by covering
them and by its gradients.

Read `Question` first (what every map explains), then `mask_scores` and `rise_maps`
(RISE), `occlusion` and `superpixel_ablation`, then the learned masks
`meaningful_perturbation` and `extremal_perturbation`, then the references by captum,
and last the nulls, which know nothing of the network.

Images are (N, C, H, W) in [0, 1], targets (N,) the classes to explain, and baselines
(N, C, H, W), or one for all, what covered pixels show. Where any of them does not fit,
or the model gives anything but finite logits (N, K), a function raises ArgumentError.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.network import CHUNK, frozen
from robustbook.perturb.baselines import blur, check
from robustbook.perturb.masks import RiseMasks
from robustbook.progress import Progress, counting


@dataclass(frozen=True, eq=False)
class Question:
    """What a map explains, checked: `images` (N, C, H, W) in the number format of the
    network, their `targets` (N,) and the `baselines` (N, C, H, W) of covered pixels.
    """

    images: Tensor
    targets: Tensor
    baselines: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """The number format in which the network is run."""
        return self.images.dtype

    def answers(self, count: int) -> Tensor:
        """Room for `count` probabilities an image, in single precision at least."""
        dtype = torch.promote_types(self.dtype, torch.float32)
        return torch.empty(
            len(self.images), count, dtype=dtype, device=self.images.device
        )

    def rows(self) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """Number, image, baseline and target, one after the other."""
        return iter(
            zip(
                range(len(self.images)),
                self.images,
                self.baselines,
                self.targets,
                strict=True,
            )
        )


def asked(
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    dtype: torch.dtype | None = None,
) -> Question:
    """The checked question, in number format `dtype`, or that of the model's weights.

    Raises ArgumentError if images, targets or baselines do not fit each other.
    """
    images = checks.images(images)
    targets = checks.labels(targets, images, name="targets")
    baselines = check(images, baselines)
    if dtype is None:
        dtype = _precision(model) or images.dtype
    elif not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ArgumentError("dtype", "a floating type of torch", dtype)
    return Question(images.to(dtype), targets, baselines.to(dtype))


def _precision(model: Module) -> torch.dtype | None:
    checks.network(model)
    floating = (each.dtype for each in model.parameters() if each.is_floating_point())
    return next(floating, None)


def chosen(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax probability (N,) of the class `targets` (N,) from `logits` (N, K).

    >>> chosen(torch.zeros(1, 4), torch.tensor([2]))
    tensor([0.2500])

    Raises ArgumentError if a class does not exist or logits are not finite.
    """
    logits = checks.logits(logits, len(targets))
    targets = checks.labels(targets, logits, logits.shape[1], name="targets")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)


@contextmanager
def evaluating(model: Module, dtype: torch.dtype) -> Iterator[Module]:
    """The model frozen and without gradients, or, where its weights have another number
    format than `dtype`, a copy of it in that format with channels last.
    """
    if _precision(model) not in (dtype, None):
        model = copy.deepcopy(model).to(dtype).to(memory_format=torch.channels_last)
    with frozen(model), torch.no_grad():
        yield model


# RISE
# --------------------------------------------------------------------------------------


def mask_scores(
    model: Module,
    images: Tensor,
    targets: Tensor,
    masks: RiseMasks,
    baselines: Tensor,
    *,
    chunk: int = CHUNK,
    dtype: torch.dtype | None = None,
    progress: Progress | bool = False,
) -> Tensor:
    """Probability (N, count) of the target class for each of `images` (N, C, H, W)
    under each mask.

    For several baselines repeat the image: every chunk of masks is made once and used
    for all. `dtype` bfloat16 halves the time and rounds probabilities to about 1e-2;
    left out, it is that of the model's weights. `progress` (True: a line on standard
    error) is told how many masked images are done.

    Raises ArgumentError if masks have another shape than images.
    """
    seen = asked(model, images, targets, baselines, dtype)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    checks.having(masks, "masks", "render", "weighted_sum")
    if masks.shape != tuple(images.shape[2:]):
        allowed = f"drawn for images of {tuple(images.shape[2:])} pixels"
        raise ArgumentError("masks", allowed, f"masks for {masks.shape}")
    scores = seen.answers(len(masks))
    with (
        evaluating(model, seen.dtype) as network,
        counting(progress, "masked images", scores.numel()) as tell,
    ):
        for start in range(0, len(masks), chunk):
            stop = min(start + chunk, len(masks))
            pixels = masks.render(start, stop).to(seen.images)
            for row, image, baseline, target in seen.rows():
                covered = _blend(image, pixels, baseline).contiguous(
                    memory_format=torch.channels_last
                )
                scores[row, start:stop] = chosen(
                    network(covered), target.expand(stop - start)
                )
            tell(stop * len(images), scores.numel())
    return scores


def _blend(images: Tensor, masks: Tensor, baselines: Tensor) -> Tensor:
    """I * M + B * (1 - M), by broadcasting: where the mask is 1 the image stays, where
    it is 0 the baseline shows.
    """
    return torch.addcmul(baselines, masks, images - baselines)


def rise_maps(
    scores: Tensor,
    masks: RiseMasks,
    *,
    count: int | None = None,
    centred: bool = False,
    chunk: int = CHUNK,
) -> Tensor:
    """RISE's maps (N, H, W) from `mask_scores` (N, masks): S = sum of f(I_M) M / (count
    * p), over the first `count` masks.

    With `centred`, the mean score of each image is taken off first, which removes most
    of the Monte-Carlo noise and shifts the expected map by a constant (but for masks
    that cover some pixels more often).

    Raises ArgumentError if scores are not finite or `count` is more than there are.
    """
    scores = checks.tensor(scores, "scores", dimensions=2)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    checks.having(masks, "masks", "render", "weighted_sum")
    most = min(len(masks), scores.shape[1])
    count = checks.whole(
        len(masks) if count is None else count, "count", at_least=1, at_most=most
    )
    weights = scores[:, :count]
    if centred:
        weights = weights - weights.mean(1, keepdim=True)
    total = scores.new_zeros(len(scores), *masks.shape)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        total += masks.weighted_sum(weights[:, start:stop], start, stop)
    return total / (count * masks.probability)


def rise(
    model: Module,
    images: Tensor,
    targets: Tensor,
    masks: RiseMasks,
    baselines: Tensor,
    *,
    chunk: int = CHUNK,
    progress: Progress | bool = False,
) -> Tensor:
    """RISE's saliency maps (N, H, W) of `images` (N, C, H, W) for classes `targets`
    (N,) (Petsiuk et al. 2018).

    >>> from robustbook.perturb.masks import draw_masks
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    >>> images = torch.rand(1, 1, 4, 4)
    >>> generator = torch.Generator().manual_seed(0)
    >>> masks = draw_masks(9, (4, 4), cells=2, probability=0.5, generator=generator)
    >>> rise(model, images, torch.tensor([1]), masks, torch.zeros_like(images)).shape
    torch.Size([1, 4, 4])
    """
    scores = mask_scores(
        model, images, targets, masks, baselines, chunk=chunk, progress=progress
    )
    return rise_maps(scores, masks, chunk=chunk)


# Windows and superpixels
# --------------------------------------------------------------------------------------


def occlusion(
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    window: int,
    stride: int = 1,
    chunk: int = CHUNK,
    dtype: torch.dtype | None = None,
    progress: Progress | bool = False,
) -> Tensor:
    """Mean drop (N, H, W) of the probability over all positions of a square window that
    cover a pixel.

    The window (pixels) shows the baseline and moves by `stride` from the top left; the
    last position may reach over the border (Zeiler and Fergus 2014; the same numbers as
    captum's). `dtype` and `progress` as in `mask_scores`.

    Raises ArgumentError if the window is larger than the image or `stride` is not
    between 1 and the window.
    """
    seen = asked(model, images, targets, baselines, dtype)
    device = seen.images.device
    covers = windows(tuple(images.shape[2:]), window, stride, device)
    with evaluating(model, seen.dtype) as network:
        drops = probability_drops(network, seen, covers, plainly, chunk, progress)
    return average_drops(drops, covers)


def average_drops(drops: Tensor, covers: Tensor) -> Tensor:
    """Mean (N, H, W) of `drops` (N, positions) over the positions of `covers`
    (positions, H, W) that hold a pixel.
    """
    drops = checks.tensor(drops, "drops", dimensions=2)
    cover = checks.mask(covers, "covers").flatten(1).to(drops)
    if len(cover) != drops.shape[1]:
        raise ArgumentError("covers", f"{drops.shape[1]} masks", covers)
    return (drops @ cover / cover.sum(0)).reshape(len(drops), *covers.shape[1:])


def windows(
    shape: tuple[int, ...],
    window: int,
    stride: int,
    device: torch.device | None = None,
) -> Tensor:
    """Masks (positions, H, W), true inside each position of the sliding window; raises
    as `occlusion` does.
    """
    shape = checks.sides(shape, "shape", 2)
    window = checks.whole(window, "window", at_least=1, at_most=min(shape))
    stride = checks.whole(stride, "stride", at_least=1, at_most=window)
    spans = []
    for side in shape:
        count = math.ceil((side - window) / stride) + 1
        starts = torch.arange(count, device=device) * stride
        places = torch.arange(side, device=device)
        spans.append((places >= starts[:, None]) & (places < starts[:, None] + window))
    rows, columns = spans
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)


def superpixel_ablation(
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    segments: Tensor,
    *,
    chunk: int = CHUNK,
) -> Tensor:
    """Drop (N, H, W) of the probability when the superpixel of a pixel shows the
    baseline; `segments` (N, H, W) number them.

    Raises ArgumentError if segments are not whole numbers from 0 to H * W - 1, one a
    pixel.
    """
    seen = asked(model, images, targets, baselines)
    segments = pixel_numbers(segments, "segments", seen.images)
    maps = []
    with evaluating(model, seen.dtype) as network:
        for row, segment in enumerate(segments):
            names = torch.arange(int(segment.max()) + 1, device=segment.device)
            here = slice(row, row + 1)
            one = Question(seen.images[here], seen.targets[here], seen.baselines[here])
            covers = segment == names[:, None, None]
            drops = probability_drops(network, one, covers, plainly, chunk)
            maps.append(drops[0][segment])
    return torch.stack(maps)


def superpixels(images: Tensor, count: int) -> Tensor:
    """Numbers (N, H, W), from 0, of about `count` superpixels of each of `images` (N,
    C, H, W), by SLIC in scikit-image (which runs on the CPU).

    Raises ArgumentError unless `count` is between 1 and the number of pixels.
    """
    from skimage.segmentation import slic

    images = checks.images(images)
    count = checks.whole(count, "count", at_least=1, at_most=images[0, 0].numel())
    found = []
    for image in images.double().cpu():
        pixels = image.permute(1, 2, 0).numpy()
        axis = -1 if pixels.shape[-1] > 1 else None
        numbers = slic(
            pixels if axis else pixels[..., 0],
            n_segments=count,
            channel_axis=axis,
            start_label=0,
        )
        found.append(torch.from_numpy(numbers))
    return torch.stack(found).to(images.device)


def pixel_numbers(given: Tensor, name: str, images: Tensor) -> Tensor:
    """Whole numbers (N, H, W) from 0 to H * W - 1, one a pixel of `images` (N, ..., H,
    W), as int64 beside them.

    Raises ArgumentError for anything else.
    """
    shape = (len(images), *images.shape[-2:])
    if not isinstance(given, Tensor) or given.shape != shape:
        what = given if isinstance(given, Tensor) else type(given).__name__
        raise ArgumentError(name, f"a tensor {shape}", what)
    flat = given.flatten()
    found = checks.labels(flat, flat, shape[1] * shape[2], name=name)
    return found.reshape(shape).to(images.device)


Covered = Callable[[Module, Tensor, Tensor, Tensor], Tensor]
"""(network, image (C, H, W), its baseline, covers (n, H, W)) to logits (n, K)."""


def plainly(network: Module, image: Tensor, baseline: Tensor, covers: Tensor) -> Tensor:
    """Logits (n, K) of an image whose pixels in `covers` show the baseline."""
    covered = torch.where(covers[:, None], baseline, image)
    logits: Tensor = network(covered.contiguous(memory_format=torch.channels_last))
    return logits


def probability_drops(
    network: Module,
    seen: Question,
    covers: Tensor,
    covered: Covered,
    chunk: int,
    progress: Progress | bool = False,
) -> Tensor:
    """How far the probability falls (N, regions) when each region of `covers` (regions,
    H, W) shows the baseline; `covered` runs the network, which is in evaluation mode.
    """
    chunk = checks.whole(chunk, "chunk", at_least=1)
    drops = seen.answers(len(covers))
    with counting(progress, "covered images", drops.numel()) as tell:
        parts = zip(seen.images.split(chunk), seen.targets.split(chunk), strict=True)
        whole = torch.cat([chosen(network(part), wanted) for part, wanted in parts])
        for row, image, baseline, target in seen.rows():
            for start in range(0, len(covers), chunk):
                part = covers[start : start + chunk]
                logits = covered(network, image, baseline, part)
                left = chosen(logits, target.expand(len(part)))
                drops[row, start : start + chunk] = whole[row] - left
            tell((row + 1) * len(covers), drops.numel())
    return drops


# Learned masks
# --------------------------------------------------------------------------------------


def meaningful_perturbation(
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    cells: int = 7,
    steps: int = 60,
    step_size: float = 0.1,
    size_weight: float = 0.3,
    smoothness_weight: float = 0.2,
) -> Tensor:
    """Smallest smooth region (N, H, W) in [0, 1] whose covering destroys the class
    (Fong and Vedaldi 2017).

    A grid of `cells` x `cells`, enlarged bilinearly, is learned by Adam for all images
    at once. The loss is the probability of the class with the region covered, plus
    `size_weight` times the region's mean and `smoothness_weight` times the mean squared
    difference of neighbouring cells. Ours starts with half covered and uses no jitter.

    Raises ArgumentError if a number is out of range.
    """
    seen = asked(model, images, targets, baselines)
    size_weight = checks.real(size_weight, "size_weight", at_least=0)
    smoothness_weight = checks.real(smoothness_weight, "smoothness_weight", at_least=0)

    def loss(cell: Tensor, region: Tensor) -> Tensor:
        covered = _blend(seen.images, 1 - region, seen.baselines)
        uneven = cell.diff(dim=2).square().mean() + cell.diff(dim=3).square().mean()
        kept = chosen(model(covered), seen.targets)
        return kept.sum() + len(images) * (
            size_weight * cell.mean() + smoothness_weight * uneven
        )

    return _learned(model, seen, loss, cells, steps, step_size)


def extremal_perturbation(
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    area: float = 0.15,
    cells: int = 7,
    steps: int = 60,
    step_size: float = 0.1,
    area_weight: float = 10.0,
) -> Tensor:
    """Region (N, H, W) in [0, 1] of a given `area` (share of the image) that keeps the
    class best (Fong et al. 2019).

    The area is held as in the paper: the sorted values of the mask are drawn towards
    zeros and, for `area` of them, ones. Ours enlarges a grid of cells bilinearly where
    the paper smooths by a maximum of Gaussians.

    Raises ArgumentError if `area` lies outside (0, 1) or a number is out of range.
    """
    seen = asked(model, images, targets, baselines)
    area = checks.real(area, "area", above=0, below=1)
    area_weight = checks.real(area_weight, "area_weight", at_least=0)
    pixels = images.shape[2] * images.shape[3]
    ranks = torch.arange(pixels, device=seen.images.device)
    wanted = (ranks >= round((1 - area) * pixels)).to(seen.dtype)

    def loss(_cell: Tensor, region: Tensor) -> Tensor:
        kept = chosen(model(_blend(seen.images, region, seen.baselines)), seen.targets)
        distance = (region.flatten(1).sort(dim=1).values - wanted).square().mean(1)
        return (area_weight * distance - kept).sum()

    return _learned(model, seen, loss, cells, steps, step_size)


def _learned(
    model: Module,
    seen: Question,
    loss: Callable[[Tensor, Tensor], Tensor],
    cells: int,
    steps: int,
    step_size: float,
) -> Tensor:
    """Masks (N, H, W) for which Adam made `loss` of the cells (N, 1, cells, cells) and
    the enlarged mask (N, 1, H, W) small.
    """
    # Neighbouring cells are compared, so there are two at least.
    cells = checks.whole(cells, "cells", at_least=2, at_most=min(seen.images.shape[2:]))
    steps = checks.whole(steps, "steps", at_least=1)
    step_size = checks.real(step_size, "step_size", above=0)
    grid = seen.images.new_zeros(len(seen.images), 1, cells, cells)
    with frozen(model), torch.enable_grad():
        grid.requires_grad_(True)
        optimiser = torch.optim.Adam([grid], lr=step_size)
        for _ in range(steps):
            cell = torch.sigmoid(grid)
            value = loss(cell, _enlarge(cell, seen.images))
            (grid.grad,) = torch.autograd.grad(value, grid)
            optimiser.step()
    return _enlarge(torch.sigmoid(grid.detach()), seen.images)[:, 0]


def _enlarge(grid: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(
        grid, size=images.shape[2:], mode="bilinear", align_corners=False
    )


# References by captum, nulls
# --------------------------------------------------------------------------------------


class _Probability(nn.Module):
    """Softmax in front of which captum's methods look."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (N, K)."""
        return torch.softmax(checks.logits(self.model(images), len(images)), dim=1)


CAPTUM_METHODS = (
    "gradient",
    "gradient x input",
    "integrated gradients",
    "gradient SHAP",
    "grad-cam",
)


def captum_map(
    name: str,
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    layer: Module | None = None,
    steps: int = 16,
    seed: int = 0,
) -> Tensor:
    """A gradient reference (N, H, W) by captum, of the softmax probability; channels
    are summed (gradient: absolute values).

    `grad-cam` needs the convolution `layer`; gradient SHAP draws between all of
    `baselines` with `seed`; integrated gradients take `steps` points from each image's
    own baseline.

    Raises ArgumentError if the name is unknown or `layer` is missing.
    """
    from captum import attr  # type: ignore[import-untyped]

    checks.one_of(name, "name", CAPTUM_METHODS)
    steps = checks.whole(steps, "steps", at_least=1)
    seed = checks.whole(seed, "seed", at_least=0, at_most=2**32 - 1)
    seen = asked(model, images, targets, baselines)
    if name == "grad-cam" and not any(layer is each for each in model.modules()):
        raise ArgumentError("layer", "a convolution of the model for grad-cam", layer)
    inputs = seen.images.clone().requires_grad_(True)
    options: dict[str, object] = {"target": seen.targets}
    with frozen(model), torch.enable_grad():
        network = _Probability(model)
        # The first pass answers for the model's outputs and the range of the targets.
        chosen(model(seen.images), seen.targets)
        if name == "grad-cam":
            cam = attr.LayerGradCam(network, layer)
            found = cam.attribute(inputs, relu_attributions=True, **options)
            return _enlarge(found.detach(), seen.images)[:, 0]
        if name == "gradient":
            found = attr.Saliency(network).attribute(inputs, **options)
        elif name == "gradient x input":
            found = attr.InputXGradient(network).attribute(inputs, **options)
        elif name == "integrated gradients":
            found = attr.IntegratedGradients(network).attribute(
                inputs,
                seen.baselines,
                n_steps=steps,
                internal_batch_size=CHUNK,
                **options,
            )
        else:
            with _captum_seed(seed, inputs.device):
                found = attr.GradientShap(network).attribute(
                    inputs, seen.baselines[: len(baselines)], n_samples=steps, **options
                )
    return found.sum(1).to(seen.dtype).detach()


@contextmanager
def _captum_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Both global generators from which captum draws, seeded and restored."""
    state = np.random.get_state()  # noqa: NPY002 - captum draws from NumPy's global generator
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def random_maps(images: Tensor, generator: Generator) -> Tensor:
    """Maps (N, H, W) of smooth noise that look like RISE's: a random grid, enlarged."""
    images, device = checks.images(images), checks.generator(generator).device
    noise = torch.rand(len(images), 1, 8, 8, generator=generator, device=device)
    return _enlarge(noise.to(images), images)[:, 0]


def edge_maps(images: Tensor) -> Tensor:
    """Strength (N, H, W) of the edges of the image (Sobel filters on the mean of its
    channels), slightly blurred.
    """
    images = checks.images(images)
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    filters = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    slopes = F.conv2d(grey, torch.stack([filters, filters.T])[:, None])
    return blur(slopes.norm(dim=1, keepdim=True).clamp(0, 1), 1.0)[:, 0]


def centre_maps(images: Tensor) -> Tensor:
    """Maps (N, H, W) that fall off with the distance from the middle."""
    images = checks.images(images)
    rows, columns = (
        torch.linspace(-1, 1, side, dtype=images.dtype, device=images.device).square()
        for side in images.shape[2:]
    )
    return (-rows[:, None] - columns).expand(len(images), -1, -1).clone()
