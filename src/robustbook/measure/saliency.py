"""Saliency maps: which pixels a network's probability of a class rests on, by covering
them and by its gradients.

Read `probabilities` first (what every map explains), then `mask_scores` and `rise_maps`
(RISE), `occlusion` and `superpixel_ablation`, then the learned masks
`meaningful_perturbation` and `extremal_perturbation`, then the references by captum,
and last the nulls, which know nothing of the network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook.errors import UserError
from robustbook.models.network import CHUNK, frozen
from robustbook.perturb.baselines import blur, check
from robustbook.perturb.masks import RiseMasks, blend
from robustbook.progress import Progress, counting


class SaliencyError(UserError):
    """A request for a map that cannot be made; the message names the argument and its
    value.
    """


def probabilities(model: Module, images: Tensor, targets: Tensor) -> Tensor:
    """Softmax probability (N,) of the class `targets` (N,) for `images` (N, C, H, W).

    Raises SaliencyError if a class index does not exist or the model returns NaN or
    infinity.
    """
    return chosen(model(images), targets)


def chosen(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax probability (N,) of the class `targets` (N,) from `logits` (N, K); raises
    as `probabilities` does.
    """
    logits = logits.float()
    classes = logits.shape[1]
    if targets.min() < 0 or targets.max() >= classes:
        raise SaliencyError(
            f"class indices must lie in 0 ... {classes - 1}, got "
            f"{targets.unique().tolist()}"
        )
    found = torch.softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)
    if not torch.isfinite(found).all():
        raise SaliencyError("the model returned a probability that is not a number")
    return found


def check_request(images: Tensor, targets: Tensor, baselines: Tensor) -> None:
    """Raise SaliencyError unless `targets` (N,) hold one class for each of `images`,
    BaselineError for `baselines`.
    """
    if (
        not len(images)
        or targets.shape != images.shape[:1]
        or targets.is_floating_point()
    ):
        raise SaliencyError(
            "need one class index for each of at least one image, got "
            f"{targets.dtype} of shape {tuple(targets.shape)} "
            f"for {len(images)} images"
        )
    check(images, baselines)


@contextmanager
def evaluating(model: Module, dtype: torch.dtype = torch.float32) -> Iterator[Module]:
    """The model frozen and without gradients, or a copy of it in another number format,
    both with channels last.
    """
    if dtype != torch.float32:
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
    dtype: torch.dtype = torch.float32,
    progress: Progress | bool = False,
) -> Tensor:
    """Probability (N, count) of the target class for each of `images` (N, C, H, W)
    under each mask.

    Covered pixels show the image's own one of `baselines` (N, C, H, W). For several
    baselines repeat the image: every chunk of masks is made once and used for all.
    `dtype` bfloat16 halves the time and rounds probabilities to about 1e-2. `progress`
    (True: a line on standard error) is told how many masked images are done.

    Raises BaselineError or SaliencyError if baselines, targets or the model do not fit.
    """
    check_request(images, targets, baselines)
    if masks.shape != tuple(images.shape[2:]):
        raise SaliencyError(
            f"masks for {masks.shape} pixels do not fit images of "
            f"{tuple(images.shape[2:])}"
        )
    images, baselines = images.to(dtype), baselines.expand_as(images).to(dtype)
    scores = torch.empty(len(images), len(masks))
    with (
        evaluating(model, dtype) as network,
        counting(progress, "masked images", len(masks) * len(images)) as tell,
    ):
        for start in range(0, len(masks), chunk):
            stop = min(start + chunk, len(masks))
            pixels = masks.render(start, stop).to(dtype)
            for row, (image, baseline, target) in enumerate(
                zip(images, baselines, targets, strict=True)
            ):
                covered = blend(image, pixels, baseline).contiguous(
                    memory_format=torch.channels_last
                )
                scores[row, start:stop] = probabilities(
                    network, covered, target.expand(stop - start)
                )
            tell(stop * len(images), len(masks) * len(images))
    return scores


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
    """
    count = len(masks) if count is None else count
    weights = scores[:, :count]
    if centred:
        weights = weights - weights.mean(1, keepdim=True)
    total = torch.zeros(len(scores), *masks.shape)
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
    dtype: torch.dtype = torch.float32,
    progress: Progress | bool = False,
) -> Tensor:
    """Mean drop (N, H, W) of the probability over all positions of a square window that
    cover a pixel.

    The window (pixels) shows the baseline and moves by `stride` from the top left; the
    last position may reach over the border (Zeiler and Fergus 2014; the same numbers as
    captum's).

    Raises SaliencyError if the window is larger than the image or `stride` is not
    between 1 and the window.
    """
    check_request(images, targets, baselines)
    covers = windows(tuple(images.shape[2:]), window, stride)
    return average_drops(
        _drops(model, images, targets, baselines, covers, chunk, dtype, progress),
        covers,
    )


def average_drops(drops: Tensor, covers: Tensor) -> Tensor:
    """Mean (N, H, W) of `drops` (N, positions) over the positions of `covers`
    (positions, H, W) that hold a pixel.
    """
    cover = covers.flatten(1).float()
    return (drops @ cover / cover.sum(0)).reshape(len(drops), *covers.shape[1:])


def windows(shape: tuple[int, ...], window: int, stride: int) -> Tensor:
    """Masks (positions, H, W), true inside each position of the sliding window; raises
    as `occlusion` does.
    """
    if not 1 <= window <= min(shape):
        raise SaliencyError(
            f"window must be between 1 and {min(shape)} pixels, got {window}"
        )
    if not 1 <= stride <= window:
        raise SaliencyError(
            f"stride must be between 1 and the window of {window} pixels, got {stride}"
        )
    spans = []
    for side in shape:
        starts = torch.arange(math.ceil((side - window) / stride) + 1) * stride
        places = torch.arange(side)
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
    """
    check_request(images, targets, baselines)
    baselines = baselines.expand_as(images)
    maps = []
    for image, target, baseline, segment in zip(
        images, targets, baselines, segments, strict=True
    ):
        covers = segment == torch.arange(int(segment.max()) + 1)[:, None, None]
        drops = _drops(model, image[None], target[None], baseline[None], covers, chunk)
        maps.append(drops[0][segment])
    return torch.stack(maps)


def superpixels(images: Tensor, count: int) -> Tensor:
    """Numbers (N, H, W), from 0, of about `count` superpixels of each of `images` (N,
    C, H, W), by SLIC in scikit-image.
    """
    from skimage.segmentation import slic

    found = []
    for image in images:
        pixels = image.permute(1, 2, 0).double().numpy()
        axis = -1 if pixels.shape[-1] > 1 else None
        numbers = slic(
            pixels if axis else pixels[..., 0],
            n_segments=count,
            channel_axis=axis,
            start_label=0,
        )
        found.append(torch.from_numpy(numbers))
    return torch.stack(found)


def _drops(
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    covers: Tensor,
    chunk: int,
    dtype: torch.dtype = torch.float32,
    progress: Progress | bool = False,
) -> Tensor:
    """How far the probability falls (N, regions) when each region of `covers` (regions,
    H, W) shows the baseline.
    """
    images, baselines = images.to(dtype), baselines.expand_as(images).to(dtype)
    drops = torch.empty(len(images), len(covers))
    with (
        evaluating(model, dtype) as network,
        counting(progress, "covered images", drops.numel()) as tell,
    ):
        whole = torch.cat(
            [
                probabilities(network, part, classes)
                for part, classes in zip(
                    images.split(chunk), targets.split(chunk), strict=True
                )
            ]
        )
        for start in range(0, len(covers), chunk):
            stop = min(start + chunk, len(covers))
            regions = covers[start:stop, None]
            for row, (image, baseline, target) in enumerate(
                zip(images, baselines, targets, strict=True)
            ):
                covered = torch.where(regions, baseline, image).contiguous(
                    memory_format=torch.channels_last
                )
                drops[row, start:stop] = whole[row] - probabilities(
                    network, covered, target.expand(stop - start)
                )
            tell(stop * len(images), len(covers) * len(images))
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
    """
    check_request(images, targets, baselines)
    grid = torch.zeros(len(images), 1, cells, cells)

    def loss(grid: Tensor) -> Tensor:
        region = torch.sigmoid(grid)
        covered = blend(images, 1 - _enlarge(region, images), baselines)
        uneven = region.diff(dim=2).square().mean() + region.diff(dim=3).square().mean()
        kept = probabilities(model, covered, targets)
        return kept.sum() + len(images) * (
            size_weight * region.mean() + smoothness_weight * uneven
        )

    with frozen(model):
        return _enlarge(torch.sigmoid(_descend(grid, loss, steps, step_size)), images)[
            :, 0
        ]


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

    Raises SaliencyError if `area` lies outside (0, 1).
    """
    check_request(images, targets, baselines)
    if not 0 < area < 1:
        raise SaliencyError(f"area must lie between 0 and 1, got {area}")
    pixels = images.shape[2] * images.shape[3]
    wanted = (torch.arange(pixels) >= round((1 - area) * pixels)).float()
    grid = torch.zeros(len(images), 1, cells, cells)

    def loss(grid: Tensor) -> Tensor:
        region = _enlarge(torch.sigmoid(grid), images)
        kept = probabilities(model, blend(images, region, baselines), targets)
        distance = (region.flatten(1).sort(dim=1).values - wanted).square().mean(1)
        return (area_weight * distance - kept).sum()

    with frozen(model):
        return _enlarge(torch.sigmoid(_descend(grid, loss, steps, step_size)), images)[
            :, 0
        ]


def _enlarge(grid: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(
        grid, size=images.shape[2:], mode="bilinear", align_corners=False
    )


def _descend(
    start: Tensor, loss: Callable[[Tensor], Tensor], steps: int, step_size: float
) -> Tensor:
    """What Adam makes of `start` in `steps`."""
    values = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([values], lr=step_size)
    for _ in range(steps):
        (values.grad,) = torch.autograd.grad(loss(values), values)
        optimiser.step()
    return values.detach()


# References by captum, nulls
# --------------------------------------------------------------------------------------


class _Probability(nn.Module):
    """Softmax in front of which captum's methods look."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (N, K)."""
        return torch.softmax(self.model(images), dim=1)


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

    Raises SaliencyError if the name is unknown.
    """
    from captum import attr  # type: ignore[import-untyped]

    if name not in CAPTUM_METHODS:
        raise SaliencyError(
            f"unknown reference {name!r}; known are {', '.join(CAPTUM_METHODS)}"
        )
    inputs = images.detach().clone().requires_grad_(True)
    with frozen(model):
        network = _Probability(model)
        if name == "gradient":
            return (
                attr.Saliency(network).attribute(inputs, target=targets).sum(1).detach()
            )
        if name == "gradient x input":
            found = attr.InputXGradient(network).attribute(inputs, target=targets)
        elif name == "integrated gradients":
            method = attr.IntegratedGradients(network)
            found = method.attribute(
                inputs,
                baselines,
                target=targets,
                n_steps=steps,
                internal_batch_size=CHUNK,
            )
        elif name == "gradient SHAP":
            with _captum_seed(seed):
                found = attr.GradientShap(network).attribute(
                    inputs, baselines, n_samples=steps, target=targets
                )
        else:
            assert layer is not None, "Grad-CAM needs a layer"
            small = attr.LayerGradCam(network, layer).attribute(
                inputs, target=targets, relu_attributions=True
            )
            return _enlarge(small.detach(), images)[:, 0]
    return found.sum(1).float().detach()


@contextmanager
def _captum_seed(seed: int) -> Iterator[None]:
    """Both global generators from which captum draws, seeded and restored."""
    state = np.random.get_state()  # noqa: NPY002 - captum draws from NumPy's global generator
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def random_maps(images: Tensor, generator: Generator) -> Tensor:
    """Maps (N, H, W) of smooth noise that look like RISE's: a random grid, enlarged."""
    return _enlarge(torch.rand(len(images), 1, 8, 8, generator=generator), images)[:, 0]


def edge_maps(images: Tensor) -> Tensor:
    """Strength (N, H, W) of the edges of the image (Sobel filters on the mean of its
    channels), slightly blurred.
    """
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    filters = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    slopes = F.conv2d(grey, torch.stack([filters, filters.T])[:, None])
    return blur(slopes.norm(dim=1, keepdim=True).clamp(0, 1), 1.0)[:, 0]


def centre_maps(images: Tensor) -> Tensor:
    """Maps (N, H, W) that fall off with the distance from the middle."""
    rows, columns = (torch.linspace(-1, 1, side) for side in images.shape[2:])
    return (
        (-(rows[:, None] ** 2) - columns[None, :] ** 2)
        .expand(len(images), -1, -1)
        .clone()
    )
