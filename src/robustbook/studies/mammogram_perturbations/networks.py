"""The networks of the study: on phantoms, on mini-MIAS patches, on natural images; what
identifies one, and how it is trained.

Read `Network` first, then `phantom_networks`, `natural_networks`, `patch_networks`,
then `load_network`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.data import ImageSet, load, mini_mias, phantoms
from robustbook.data.mini_mias import Patches
from robustbook.data.phantoms import WHITE, Exams, Settings, unit_images
from robustbook.draws import normal
from robustbook.errors import ParameterError
from robustbook.measure.observers import rounding_variance
from robustbook.models import build as build_natural
from robustbook.models import four_view, prunable, training
from robustbook.models.checkpoints import cached
from robustbook.models.four_view import FourViewNetwork, PatchNetwork, Recipe
from robustbook.models.network import compute_logits
from robustbook.models.prunable import RESNET20_DIGEST, published_resnet20
from robustbook.perturb import lowpass
from robustbook.perturb.lowpass import low_pass, quantised
from robustbook.perturb.restoration import cosines, restored
from robustbook.studies import shared
from robustbook.studies.mammogram_perturbations.claims import BLURRED
from robustbook.studies.mammogram_perturbations.parameters import Parameters, by_name
from robustbook.studies.protocol import seeds
from robustbook.studies.shared import images_of, trained

Leg = Literal["phantoms", "natural", "mias"]
Loss = Callable[[Tensor, Tensor], Tensor]
Training = Literal["clean", "filtered", "blur-augmented"]
SEVERITIES = (0.33, 0.5, 0.67, 1.0, 2.0, 3.0, 4.0)
"""Cut-off wavelengths in mm at which networks are tested: those of the published
predictions that the pixels can hold, and 3 mm.
"""
RETRAINED = (4.0, 2.0, 1.0, 0.5, 0.67, 0.33)
"""The severities in the order in which networks are trained again at them."""
BLURS = (4.0, 2.0, 1.0, 0.5)
"""Severities at which images for blur-augmented networks are filtered at random."""
WIDTHS = (12, 24, 48)
PEAK_RATE = 6e-3
FINE_RATE = 5e-4
"""Learning rate of training on; of 0.002, 0.001 and 0.0005 the best on held-out
training images at 0, 2 and 4 mm alike.
"""
NOISE = 0.002
"""Deviation of the noise of training images (pixel units)."""
ROUNDS, HELD = 4, 8
"""Most rounds of training, and the share (one in `HELD`) of images that say when to
stop.
"""
CROP = 64
"""Side of the middle of a mini-MIAS patch that is used, in pixels."""
ROUNDING = rounding_variance(1 / WHITE)
"""Variance of rounding to 12 bits (squared pixel units)."""
TRAIN_SERIES, TEST_SERIES = 2003, 10041


@dataclass(frozen=True)
class Network:
    """What identifies a trained network: leg, training, the severity (mm) it was
    trained at, seed, fold, and its numbers.
    """

    leg: Leg
    training: Training
    severity: float
    seed: int
    fold: int
    examples: int
    epochs: int
    dataset: str
    height: int
    pitch: float
    architecture: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that name its checkpoint; an architecture that the leg implies
        is left out.
        """
        return {
            name: value
            for name, value in asdict(self).items()
            if name != "architecture" or value
        }


def retrained(parameters: Parameters) -> tuple[float, ...]:
    """Severities at which phantom networks are trained again, mildest first."""
    return tuple(sorted(RETRAINED[: parameters.retrained_severities]))


def naturally_retrained(parameters: Parameters) -> tuple[float, ...]:
    """Severities at which networks of the natural arm are trained again,
    mildest first.
    """
    return tuple(sorted(RETRAINED[: parameters.natural_retrained]))


def _kinds(severities: tuple[float, ...]) -> list[tuple[Training, float]]:
    filtered: list[tuple[Training, float]] = [
        ("filtered", severity) for severity in severities
    ]
    return [("clean", 0.0), *filtered, ("blur-augmented", 0.0)]


@by_name
def phantom_networks(parameters: Parameters) -> list[Network]:
    """Clean, trained at each severity, and blur-augmented, from every seed."""
    size = (
        parameters.train_exams,
        parameters.epochs,
        "phantoms",
        parameters.height,
        parameters.pitch,
    )
    return [
        Network("phantoms", kind, severity, seed, 0, *size)
        for kind, severity in _kinds(retrained(parameters))
        for seed in seeds(parameters)
    ]


@by_name
def natural_networks(parameters: Parameters) -> list[Network]:
    """The same kinds on natural images; a pixel counts as one of the phantoms', so that
    cut-offs are equal in pixels.
    """
    size = (
        parameters.natural_train_images,
        parameters.natural_epochs,
        parameters.natural_dataset,
        0,
        parameters.pitch,
    )
    architecture = (
        "" if parameters.natural_network == "cnn" else parameters.natural_network
    )
    return [
        Network("natural", kind, severity, seed, 0, *size, architecture)
        for kind, severity in _kinds(naturally_retrained(parameters))
        for seed in seeds(parameters)
    ]


@by_name
def patch_networks(parameters: Parameters) -> list[Network]:
    """The kinds of the phantoms on mini-MIAS patches, one network for each fold and
    seed; none if the leg is left out.
    """
    if not parameters.mini_mias_epochs:
        return []
    size = (0, parameters.mini_mias_epochs, "mini-mias", CROP, mini_mias.PITCH)
    return [
        Network("mias", kind, severity, seed, fold, *size)
        for kind, severity in _kinds(BLURRED)
        for fold in range(mini_mias.FOLDS)
        for seed in seeds(parameters)
    ]


# Data
# --------------------------------------------------------------------------------------


def settings_of(parameters: Parameters) -> Settings:
    """Size and pitch of the phantoms' views."""
    return Settings(parameters.height, 3 * parameters.height // 4, parameters.pitch)


@lru_cache(maxsize=4)
def exams_of(split: str, count: int, height: int, pitch: float) -> Exams:
    """Phantom exams of the training or the test series."""
    series = TRAIN_SERIES if split == "train" else TEST_SERIES
    return phantoms.generate(count, series, Settings(height, 3 * height // 4, pitch))


@by_name
def test_exams(parameters: Parameters) -> Exams:
    """The phantom exams on which every network is measured."""
    return exams_of("test", parameters.test_exams, parameters.height, parameters.pitch)


@lru_cache(maxsize=1)
def patches() -> tuple[Patches, Tensor]:
    """All mini-MIAS patches and the middle of each as images (N, 1, CROP, CROP) in [0,
    1].
    """
    whole, read = load("mini-mias", "all"), mini_mias.load_patches()
    margin = (whole.images.shape[-1] - CROP) // 2
    return read, whole.images[
        :, :, margin : margin + CROP, margin : margin + CROP
    ].contiguous()


# Networks
# --------------------------------------------------------------------------------------


def load_network(network: Network) -> Module:
    """The trained network in evaluation mode, from the checkpoint cache if it
    is there.
    """
    loaders = {
        "phantoms": _phantom_network,
        "natural": _natural_network,
        "mias": _patch_network,
    }
    return loaders[network.leg](network)


def _phantom_network(network: Network) -> Module:
    exams = exams_of("train", network.examples, network.height, network.pitch)
    images, targets = (
        unit_images(exams.images),
        torch.from_numpy(exams.labels).flatten(1),
    )
    model = four_view.build(FourViewNetwork, network.seed, widths=WIDTHS)
    loss = four_view.binary_loss
    return _in_rounds(network, model, images, targets, loss, exams.digest)


def _in_rounds(
    network: Network,
    model: Module,
    images: Tensor,
    targets: Tensor,
    loss: Loss,
    digest: str,
) -> Module:
    """`model` trained by `settled`, or as the cache has it."""
    recipe = Recipe(network.epochs, PEAK_RATE, noise=0.0)

    def fit(untrained: Module) -> Module:
        return settled(untrained, images, targets, recipe, network, loss)

    identity = {
        **network.identity,
        "recipe": asdict(recipe),
        "rounds": ROUNDS,
        "noise": NOISE,
        "blurs": BLURS,
        "digest": digest,
    }
    return cached(identity, model, fit, code=(four_view, lowpass))


def settled(
    model: Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    network: Network,
    loss: Loss = four_view.binary_loss,
) -> Module:
    """`model` after rounds of training until the loss on images that are held out
    stops falling (by 1 %), at most `ROUNDS`; the weights of the best round.

    Noise is added where a detector adds it: before the filter.
    """

    def corrupt(batch: Tensor, generator: Generator) -> Tensor:
        noisy = batch + NOISE * normal(batch.shape, batch, generator)
        if network.training == "blur-augmented":
            return _randomly_blurred(noisy, network.pitch, generator)
        return filtered(noisy, network.severity, network.pitch)

    held = torch.arange(len(images)) % HELD == 0
    unseen = corrupt(images[held], Generator().manual_seed(network.seed))
    least, best = float("inf"), model.state_dict()
    for turn in range(ROUNDS):
        four_view.train(
            model,
            images[~held],
            targets[~held],
            recipe,
            seed=1000 * turn + network.seed,
            loss=loss,
            corrupt=corrupt,
        )
        logits = compute_logits(model, unseen, chunk=64)
        reached = float(loss(logits, targets[held]))
        if reached > 0.99 * least:
            break
        least, best = reached, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return model.eval()


def _natural_network(network: Network) -> Module:
    data = images_of(network.dataset, "train", network.examples)
    images = data.images
    if network.training == "filtered":
        images = filtered(images, network.severity, network.pitch)
    if network.training == "blur-augmented":
        images = _randomly_blurred(
            images, network.pitch, Generator().manual_seed(network.seed)
        )
    data = replace(data, images=images)
    if network.architecture == "resnet20":
        return _fine_tuned(network, data)
    model = build_natural("cnn", data.image_shape, data.classes, network.seed)
    recipe = training.Recipe("natural", network.epochs)
    return trained(
        network.identity, model, data, recipe, seed=network.seed, code=(lowpass,)
    )


def _fine_tuned(network: Network, data: ImageSet) -> Module:
    """The published ResNet-20 trained on; the clean network too, so that two kinds
    differ in nothing but the filter.
    """
    return trained(
        {**network.identity, "start": RESNET20_DIGEST},
        published_resnet20().to(memory_format=torch.channels_last),
        data,
        training.Recipe("natural", network.epochs, learning_rate=FINE_RATE, batch=64),
        seed=network.seed,
        code=(lowpass, prunable),
    )


def _patch_network(network: Network) -> Module:
    read, images = patches()
    chosen = torch.from_numpy(mini_mias.fold_of(read.women) != network.fold)
    targets = torch.from_numpy(read.labels > 0).long()[chosen]
    model = four_view.build(PatchNetwork, network.seed, widths=WIDTHS)
    loss, digest = F.cross_entropy, mini_mias.FILE.digest
    return _in_rounds(network, model, images[chosen], targets, loss, digest)


def filtered(images: Tensor, severity: float, pitch: float) -> Tensor:
    """Low-pass filtered images as a 12-bit file keeps them; severity 0 leaves them as
    they are.

    Raises ParameterError if the severity is negative.
    """
    if severity < 0:
        raise ParameterError(f"a severity must not be negative, got {severity}")
    return quantised(low_pass(images, severity, pitch=pitch)) if severity else images


def wiener(images: Tensor, severity: float, pitch: float, like: Tensor) -> Tensor:
    """Filtered 12-bit images as the Wiener filter brings them back, with the mean power
    of unfiltered images `like` (N, C, H, W); severity 0 leaves them as they are.
    """
    if not severity:
        return images
    down, across = (cosines(side) for side in like.shape[-2:])
    waves = down @ like.flatten(0, 1).double() @ across.T
    power = waves.square().mean(0).numpy()
    return restored(images, severity, power, pitch=pitch, later=ROUNDING)


def _randomly_blurred(images: Tensor, pitch: float, generator: Generator) -> Tensor:
    """Every image unfiltered or at one of the severities `BLURS`, with equal
    chances.
    """
    choice = torch.randint(len(BLURS) + 1, (len(images),), generator=generator)
    blurred = images.clone()
    for number, severity in enumerate(BLURS, start=1):
        rows = choice == number
        if rows.any():
            blurred[rows] = filtered(images[rows], severity, pitch)
    return blurred


def train_all(networks: list[Network]) -> None:
    """Train every network that is not in the cache yet, side by side."""
    shared.train_all(load_network, networks)
