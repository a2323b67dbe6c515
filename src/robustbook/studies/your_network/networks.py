"""What is measured: a reader's network beside a reader's images, ready to be asked.

Read `Examined` first, then `load`. Networks of this book (`book:NAME`) are built here;
all others by `models.own`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from robustbook import files
from robustbook.data import ImageSet, store
from robustbook.data.own import Format, load_own, read_classes
from robustbook.errors import UnknownNameError, shortened
from robustbook.models import build, own, prunable
from robustbook.models.network import compute_logits
from robustbook.models.own import NetworkError, Origin
from robustbook.models.pretrained import squeezenet
from robustbook.models.training import Recipe
from robustbook.stats import Interval, binomial_interval
from robustbook.studies import shared

TRAINING_IMAGES = 1000
"""At most so many images are those to which the posterior is fitted."""
MOST_VALUES = 3_000_000
"""So many pixel values are computed together at most."""
PUBLISHED: dict[str, Callable[[], nn.Module]] = {
    "resnet20": prunable.published_resnet20,
    "squeezenet": squeezenet,
}
TRAINED = ("mlp", "cnn", "cnn-adversarial")


@dataclass(frozen=True, eq=False)
class Examined:
    """A network with the images on which it is measured, all on one device.

    `network` goes from `images` (N, C, H, W) in [0, 1] to logits (N, `classes`);
    `logits` are its clean answers, `training` are further images to which a posterior
    is fitted (None: half of the images), `chunk` images are computed together,
    `remarks` are for the page and `digests` say what the network was made from. Passes
    are counted on `network`; bounds walk through `layers`, which nothing watches.
    """

    title: str
    network: nn.Sequential
    data: ImageSet
    images: Tensor
    labels: Tensor
    logits: Tensor
    training: ImageSet | None
    seed: int
    chunk: int
    remarks: tuple[str, ...]
    digests: dict[str, str]

    @property
    def layers(self) -> nn.Module:
        """The network inside, on which no hook counts."""
        return self.network[0]

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.images.device

    @property
    def classes(self) -> int:
        """Number of the network's classes."""
        return self.logits.shape[1]

    @property
    def answers(self) -> Tensor:
        """The class (N,) that the network gives each clean image."""
        return self.logits.argmax(1)

    @property
    def right(self) -> Tensor:
        """Mask (N,) of the clean images that get their label."""
        return self.answers == self.labels

    @property
    def accuracy(self) -> Interval:
        """Share of the clean images that get their label, over images."""
        return binomial_interval(int(self.right.sum()), len(self.labels))

    @property
    def halves(self) -> tuple[Tensor, Tensor]:
        """Places of half of the images of each class, and of the rest, both in the
        order of the classes: what is chosen on one half is measured on the other.
        """
        order = self.labels.argsort(stable=True)
        return order[::2], order[1::2]

    @property
    def image_sets(self) -> list[ImageSet]:
        """The images that are measured, and those of the posterior."""
        return [self.data, *([self.training] if self.training is not None else [])]

    def generator(self, purpose: int) -> Generator:
        """Random numbers for one purpose."""
        return Generator().manual_seed(1000 * self.seed + purpose)

    def in_chunks_of(self, chunk: int) -> Examined:
        """The same with fewer images computed together."""
        return replace(self, chunk=chunk)

    def name_of(self, label: Tensor | int) -> str:
        """The name of a class as a picture's title has it."""
        names = self.data.class_names
        return shortened(names[int(label)] if int(label) < len(names) else str(label))


def load(
    model: str,
    *,
    data: str,
    images: int,
    training: str = "auto",
    weights: str = "none",
    classes: str = "none",
    output: str = "auto",
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    size: int = 0,
    crop: int = 0,
    channels: int = 0,
    white: float = 0.0,
    unreadable: float = 0.05,
    device: str = "auto",
    chunk: int = 64,
    epochs: int = 8,
    seed: int = 0,
) -> Examined:
    """The network and its images, looked at once.

    Raises UserError in one line if either cannot be had or they do not fit each other.
    """
    origin = own.parse(model)
    names = () if classes == "none" else read_classes(classes)
    if origin.kind in ("torchvision", "timm") and data.startswith(("folder:", "npz:")):
        channels = channels or 3
        if not size and not crop:
            size, crop = 256, 224
    form = Format(size, crop, channels, white)
    reading = {"classes": names, "unreadable": unreadable, "seed": seed, "form": form}
    given = load_own(data, count=images, **reading)  # type: ignore[arg-type]
    known = data if training == "auto" and ":" not in data else training
    more = (
        load_own(known, count=TRAINING_IMAGES, split="train", **reading).images  # type: ignore[arg-type]
        if known not in ("auto", "none")
        else None
    )
    what = model if origin.kind != "book" else _of_the_book(origin, data, epochs, seed)
    found = own.load_own_network(
        what,
        given.images.images,
        weights=weights,
        classes=len(names) or None,
        **_normalisation(mean, std),  # type: ignore[arg-type]
        output=output,
        device=device,
    )
    pixels, labels = _together(given.images, found)
    chunk = max(1, min(chunk, MOST_VALUES // max(pixels[0].numel(), 1)))
    subject = Examined(
        title=shortened(f"{origin.place}:{origin.name}".rpartition("/")[2].strip(":")),
        network=nn.Sequential(found.network).eval(),
        data=given.images,
        images=pixels,
        labels=labels,
        logits=compute_logits(found.network, pixels, chunk=chunk),
        training=more,
        seed=seed,
        chunk=chunk,
        remarks=(),
        digests=_digests(origin, found),
    )
    unread = [f"Not read: {each}." for each in given.unreadable]
    remarks = (*found.remarks, *given.remarks, *unread, *_by_chance(subject))
    return replace(subject, remarks=remarks)


def _normalisation(mean: Sequence[float], std: Sequence[float]) -> dict[str, object]:
    """Mean and deviation, or nothing where they would change nothing: then a network
    of a library gets its usual ones.
    """
    if set(mean) == {0.0} and set(std) == {1.0}:
        return {}
    return {"mean": mean, "std": std}


def _together(data: ImageSet, found: own.OwnNetwork) -> tuple[Tensor, Tensor]:
    """Images and labels beside the network; NetworkError where a label is no class."""
    highest = int(data.labels.max())
    if highest >= found.classes:
        raise NetworkError(
            f"data: label {highest} is beyond the {found.classes} classes of the "
            "network: do labels and classes match?"
        )
    place = next(iter(found.network.parameters())).device
    return data.images.to(place), data.labels.to(place)


def _by_chance(subject: Examined) -> list[str]:
    """A remark where the accuracy is what guessing gives."""
    accuracy, chance = subject.accuracy, 1 / subject.classes
    if accuracy.low > chance:
        return []
    return [
        f"Its accuracy, {accuracy.value:.0%}, is no better than guessing "
        f"({chance:.1%}): do labels and classes match?"
    ]


def _digests(origin: Origin, found: own.OwnNetwork) -> dict[str, str]:
    """Digests of the weights, and of the file whose function made the network."""
    (weights,) = found.digests.values()
    digests = {f"weights of the network {origin.name}": weights}
    if origin.path is not None:
        content = files.read(origin.path, largest=10**8)
        digests[f"code of {origin.path.name}"] = hashlib.sha256(content).hexdigest()
    return digests


# Networks of this book
# --------------------------------------------------------------------------------------


def _of_the_book(origin: Origin, data: str, epochs: int, seed: int) -> nn.Module:
    """A published network, or one trained on the training split of `data`."""
    if origin.name in PUBLISHED:
        return PUBLISHED[origin.name]()
    if origin.name not in TRAINED:
        raise UnknownNameError(
            "network of this book", origin.name, (*PUBLISHED, *TRAINED)
        )
    if ":" in data:
        raise NetworkError(
            f"book:{origin.name} is trained on a data set of this book: name one with "
            "-p data"
        )
    training = store.load(data, "train", limit=None)
    architecture = origin.name.partition("-")[0]
    adversarial = origin.name.endswith("adversarial")
    return shared.trained(
        {"architecture": architecture},
        build(architecture, training.image_shape, training.classes, seed),
        training,
        Recipe("minmax", epochs, epsilon=0.1, steps=7)
        if adversarial
        else Recipe("natural", epochs, learning_rate=2e-3),
        seed=seed,
    )
