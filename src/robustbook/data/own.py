"""A reader's own images with their classes: a folder of pictures, an `.npz` file, or a
data set that `load` knows.

Read `load_own` first, then `Format` (how pixels become images), then `Own` (what was
read, and what was not). Files are read and nothing else: no pickle, no code. Every
fault is one line that says what to do.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robustbook import files
from robustbook.data import store
from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataError
from robustbook.errors import quoted, shortened

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM = (".dcm", ".dicom")
TABLE = "labels.csv"
LARGEST_TABLE = 100_000_000
OF_THE_READER = "the reader's own images"
ARRAYS = {"x": "images", "y": "labels", "images": "images", "labels": "labels"}
"""What an array of an `.npz` file is, by its name; a later name comes first."""
NAMED = 5
"""So many unreadable files are named; the others are counted."""


@dataclass(frozen=True)
class Format:
    """How files become images (C, H, W) in [0, 1].

    The shorter side gets `size` pixels and the middle of `crop` x `crop` is kept (0:
    as it is). `channels` are 1 or 3, 0 as most files have. `white` is the value that
    becomes 1; 0 means 255 for 8 bits, 65535 for 16, 1 for fractions.
    """

    size: int = 0
    crop: int = 0
    channels: int = 0
    white: float = 0.0


@dataclass(frozen=True)
class Own:
    """What was read: the images, the files that could not be read (name: reason), and
    remarks for the page.
    """

    images: ImageSet
    unreadable: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def load_own(
    where: str,
    *,
    count: int,
    classes: Sequence[str] = (),
    form: Format | None = None,
    unreadable: float = 0.05,
    seed: int = 0,
    split: str = "test",
) -> Own:
    """At most `count` images, with equal shares of the classes as far as they divide,
    drawn from `seed`.

    `where` is `folder:DIR` (a sub-folder a class, or `labels.csv` with the columns file
    and label), `npz:FILE` (arrays `images` and `labels`), or a name that `load` knows.
    `classes` are the network's classes in their order: names of classes are looked up
    there; without them whole numbers are classes, and other names are numbered in
    alphabetical order.

    Raises DataError in one line if there is nothing to read, more than the share
    `unreadable` of the files cannot be read, sizes differ, or pixels are out of range.

    >>> own = load_own("digits", count=20)
    >>> own.images.image_shape
    (1, 8, 8)
    """
    form = form or Format()
    kind, _, place = where.partition(":")
    if kind == "folder" and place:
        return _of_folder(files.given(place), count, classes, form, unreadable, seed)
    if kind == "npz" and place:
        found = _of_npz(files.given(place), classes, form)
    elif ":" in where or "/" in where:
        raise DataError(
            "data must be folder:DIR, npz:FILE or the name of a data set, got "
            f"{quoted(where)}"
        )
    else:
        found = _fitted(store.load(where, split), form)
    taken = found.take(min(count, len(found)), seed)
    return Own(taken, remarks=tuple(_too_few(count, len(found))))


def read_classes(path: str) -> tuple[str, ...]:
    """Names of the network's classes, one a line of a text file, in the order of its
    outputs; `imagenet` stands for the 1,000 names of torchvision.

    Raises DataError where the file cannot be read or has a name twice.
    """
    if path == "imagenet":
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return tuple(_IMAGENET_CATEGORIES)
    try:
        text = files.read(files.given(path), LARGEST_TABLE).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"classes: {quoted(path)} cannot be read: {error}") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or len(names) < 2:
        raise DataError(
            f"classes: {quoted(path)} has "
            + (f"{quoted(twice[0])} twice" if twice else "fewer than two lines")
        )
    return names


# Folders
# --------------------------------------------------------------------------------------


def _of_folder(
    folder: Path,
    count: int,
    classes: Sequence[str],
    form: Format,
    unreadable: float,
    seed: int,
) -> Own:
    if not folder.is_dir():
        raise DataError(f"data: there is no folder {quoted(str(folder))}")
    listed, others = _listed(folder)
    if not listed:
        raise DataError(
            f"data: no picture (PNG, JPEG, TIFF or DICOM) in {quoted(folder.name)}: "
            f"put each class into a sub-folder of its name, or write {TABLE}"
        )
    names, labels = _numbered([label for _, label in listed], classes)
    read: dict[int, Tensor] = {}
    failed: list[str] = []
    content = hashlib.sha256("\n".join(f"{p}\t{c}" for p, c in listed).encode())
    for place in _in_turn(labels, seed):
        if len(read) == count:
            break
        name = listed[place][0]
        try:
            pixels = _pixels(folder / name)
        except _UnreadableError as problem:
            failed.append(f"{name}: {problem}")
            continue
        content.update(hashlib.sha256(pixels.tobytes()).digest())
        # Sized at once: photographs as they are would fill the memory.
        read[place] = _sized(_unit(pixels, form.white, name)[None], form)[0]
    _check_share(failed, len(read), unreadable)
    images = _stacked(list(read.values()), form.channels)
    found = ImageSet(
        name=f"folder {folder.name}",
        title=f"Images of the folder {folder.name}",
        split="all",
        images=images,
        labels=torch.tensor([labels[place] for place in read], dtype=torch.int64),
        class_names=names,
        digest=content.hexdigest(),
        licence=OF_THE_READER,
        shareable=True,
    )
    remarks = _too_few(count, len(read)) + _dark(images)
    if others:
        kinds = sorted({Path(name).suffix or "no ending" for name in others})
        told = shortened(", ".join(kinds), 60)
        remarks.append(f"{len(others)} other files are left out ({told}).")
    return Own(found, tuple(failed), tuple(remarks))


def _too_few(asked: int, there: int) -> list[str]:
    return (
        [f"{asked} images were asked for, there are {there}."] if there < asked else []
    )


def _listed(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Pictures with their classes by path in the folder, and what else lies there."""
    if (folder / TABLE).exists():
        return _of_table(folder), []
    pictures, others = [], []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith((".", "__MACOSX")) for part in inside.parts):
            continue
        if path.is_file() and path.suffix.lower() in (*PICTURES, *DICOM):
            if len(inside.parts) < 2:
                raise DataError(
                    f"data: {quoted(path.name)} lies in no sub-folder: put each class "
                    f"into a sub-folder of its name, or write {TABLE} (file, label)"
                )
            pictures.append((inside.as_posix(), inside.parts[0]))
        elif path.is_file():
            others.append(inside.as_posix())
    return pictures, others


def _of_table(folder: Path) -> list[tuple[str, str]]:
    try:
        text = files.read(folder / TABLE, LARGEST_TABLE).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data: {TABLE} cannot be read: {error}") from error
    lines = [line for line in csv.reader(text.splitlines()) if any(line)]
    if lines and lines[0][0].strip().lower() in ("file", "filename", "image", "path"):
        lines = lines[1:]
    found = []
    for number, line in enumerate(lines, 1):
        if len(line) < 2 or not line[0].strip() or not line[1].strip():
            raise DataError(
                f"data: line {number} of {TABLE} must be file,label, got "
                f"{quoted(','.join(line))}"
            )
        path = (folder / line[0].strip()).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise DataError(
                f"data: {TABLE} names {quoted(line[0])}, which lies outside the folder"
            )
        found.append((line[0].strip(), line[1].strip()))
    return found


def _numbered(
    texts: Sequence[str], classes: Sequence[str]
) -> tuple[tuple[str, ...], list[int]]:
    """Names of the classes, and the number of each text among them."""
    different = sorted(set(texts))
    if classes:
        places = {_plain(name): place for place, name in enumerate(classes)}
        unknown = [text for text in different if _plain(text) not in places]
        times = Counter(map(_plain, classes))
        double = [name for name in different if times[_plain(name)] > 1]
        if unknown or double:
            which = quoted((unknown or double)[0])
            raise DataError(
                f"data: {which} is "
                + ("no class of" if unknown else "two classes among")
                + f" the {len(classes)} names in classes"
                + (f" ({len(unknown)} such names)" if len(unknown) > 1 else "")
            )
        return tuple(classes), [places[_plain(text)] for text in texts]
    if all(text.isascii() and text.isdecimal() and len(text) < 7 for text in different):
        numbers = [int(text) for text in texts]
        return tuple(str(number) for number in range(max(numbers) + 1)), numbers
    return tuple(different), [different.index(text) for text in texts]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def _in_turn(labels: Sequence[int], seed: int) -> list[int]:
    """Places in a random order in which classes take turns, the same for a seed."""
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(labels)).tolist()
    seen: dict[int, int] = {}
    turns = []
    for place in shuffled:
        turns.append(seen.setdefault(labels[place], 0))
        seen[labels[place]] += 1
    return [shuffled[index] for index in np.argsort(turns, kind="stable").tolist()]


def _check_share(failed: Sequence[str], read: int, share: float) -> None:
    if failed and len(failed) > share * (read + len(failed)):
        more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise DataError(
            f"data: {len(failed)} of {read + len(failed)} files cannot be read, more "
            f"than the share {share:g} that unreadable allows: "
            + "; ".join(shortened(each, 80) for each in failed[:NAMED])
            + more
        )


# One file
# --------------------------------------------------------------------------------------


class _UnreadableError(DataError):
    """A file that cannot be read; the message is the reason alone."""


def _unreadable(what: str, error: Exception) -> _UnreadableError:
    return _UnreadableError(f"no readable {what} ({type(error).__name__})")


def _pixels(path: Path) -> NDArray[Any]:
    """Grey levels (H, W) or colours (H, W, 3) of a file, as they are stored.

    Raises _UnreadableError with the reason alone where the file cannot be read.
    """
    if not path.is_file():
        raise _UnreadableError("there is no such file")
    if path.suffix.lower() in DICOM:
        return _dicom(path)
    if path.suffix.lower() not in PICTURES:
        raise _UnreadableError("no PNG, JPEG, TIFF or DICOM")
    return _picture(path)


def _picture(path: Path) -> NDArray[Any]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):  # 16 bits or fractions.
                return np.asarray(opened)
            upright = ImageOps.exif_transpose(opened)
            grey = upright.mode in ("1", "L", "LA")
            return np.asarray(upright.convert("L" if grey else "RGB"))
    except Exception as error:  # Damaged files raise errors of every kind.
        if path.suffix.lower().startswith(".tif"):
            return _deep_tiff(path)
        raise _unreadable("picture", error) from error


def _deep_tiff(path: Path) -> NDArray[Any]:
    """A TIFF with several channels of 16 bits, which Pillow cannot read."""
    import tifffile

    try:
        found = tifffile.imread(path)
    except Exception as error:
        raise _unreadable("picture", error) from error
    if found.ndim == 3 and found.shape[2] >= 3:
        return np.asarray(found[..., :3])
    if found.ndim != 2:
        raise _UnreadableError(f"no image (H, W) or (H, W, 3) but {found.shape}")
    return np.asarray(found)


def _dicom(path: Path) -> NDArray[Any]:
    """Grey levels of a DICOM file, stretched to 16 bits; bright is large."""
    try:
        import pydicom
    except ImportError as error:
        told = "DICOM needs pydicom: pip install 'robustbook[dicom]'"
        raise _UnreadableError(told) from error
    try:
        data = pydicom.dcmread(path)
        grey = np.asarray(data.pixel_array)
    except Exception as error:  # So do missing decoders.
        raise _unreadable("DICOM", error) from error
    if grey.ndim != 2:
        raise _UnreadableError(f"no single grey image but {grey.shape}")
    most = 2 ** int(getattr(data, "BitsStored", 16)) - 1
    if str(getattr(data, "PhotometricInterpretation", "")) == "MONOCHROME1":
        grey = most - grey
    return (grey.astype(np.float64) / most * 65535).round().clip(0, 65535).astype("u2")


# From pixels to images
# --------------------------------------------------------------------------------------


def _stacked(read: Sequence[Tensor], channels: int) -> Tensor:
    """Images of one size and of so many channels, 0 for as many as most have."""
    colour = sum(len(image) == 3 for image in read) * 2 > len(read)
    images = [_coloured(image, channels or (3 if colour else 1)) for image in read]
    shapes = sorted({tuple(image.shape[1:]) for image in images})
    if len(shapes) > 1:
        raise DataError(
            f"data: images differ in size ({shapes[0][0]} x {shapes[0][1]}, "
            f"{shapes[-1][0]} x {shapes[-1][1]} ...): give size and crop, such as "
            "-p size 256 -p crop 224"
        )
    return torch.stack(images)


def _coloured(image: Tensor, channels: int) -> Tensor:
    """An image (C, H, W) of so many channels, 1 or 3: grey repeated, or luminance."""
    if channels == 1 and len(image) == 3:
        weights = image.new_tensor([0.299, 0.587, 0.114])[:, None, None]
        return (image * weights).sum(0, keepdim=True)
    return image.expand(channels, -1, -1).contiguous()


def _unit(pixels: NDArray[Any], white: float, name: str) -> Tensor:
    """Pixels (H, W) or (H, W, 3) as an image (C, H, W), arrays of more axes as they
    are, float32 in [0, 1]; DataError where they leave it.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype.kind not in "uif":
        raise DataError(f"data: {quoted(name)} holds no numbers ({pixels.dtype})")
    known = {"uint8": 255.0, "uint16": 65535.0, "int32": 65535.0}
    level = white or known.get(pixels.dtype.name, 1.0)
    values = pixels.astype(np.float64) / level
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (np.isfinite(values).all() and low >= 0 and high <= 1):
        raise DataError(
            f"data: {quoted(name)} has values from {low * level:g} to "
            f"{high * level:g}, must lie between 0 and {level:g}: -p white says which "
            "value is white (images come before any normalisation)"
        )
    found = torch.from_numpy(values.astype(np.float32))
    if pixels.ndim > 3:
        return found
    return found[None] if pixels.ndim == 2 else found.permute(2, 0, 1)


def _sized(images: Tensor, form: Format) -> Tensor:
    """Images (N, C, H, W) whose shorter side has `size` pixels, and their middle."""
    height, width = images.shape[2:]
    if form.size and min(height, width) != form.size:
        scale = form.size / min(height, width)
        sides = [max(1, round(side * scale)) for side in (height, width)]
        images = F.interpolate(
            images, sides, mode="bilinear", antialias=True, align_corners=False
        ).clamp(0, 1)
        height, width = sides
    if form.crop:
        if form.crop > min(height, width):
            raise DataError(
                f"data: crop {form.crop} is larger than an image of {height} x "
                f"{width}: give a size that is at least as large"
            )
        top, left = (height - form.crop) // 2, (width - form.crop) // 2
        images = images[..., top : top + form.crop, left : left + form.crop]
    return images


def _dark(images: Tensor) -> list[str]:
    high = float(images.max())
    return (
        [f"The brightest pixel of all is {high:.2g} of white: is white right?"]
        if high < 0.3
        else []
    )


def _fitted(data: ImageSet, form: Format) -> ImageSet:
    images = data.images
    if form.channels == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    elif form.channels not in (0, images.shape[1]):
        raise DataError(
            f"data: {data.title} has {images.shape[1]} channels, not {form.channels}"
        )
    return replace(data, images=_sized(images, form).contiguous())


# Arrays
# --------------------------------------------------------------------------------------


def _of_npz(path: Path, classes: Sequence[str], form: Format) -> ImageSet:
    if not path.is_file():
        raise DataError(f"data: there is no file {quoted(str(path))}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = list(stored.files)
            arrays = {
                part: np.asarray(stored[key])
                for key, part in ARRAYS.items()
                if key in names
            }
    except Exception as error:  # Damaged archives raise errors of every kind.
        raise DataError(
            f"data: {quoted(path.name)} cannot be read as .npz without pickled objects "
            f"({type(error).__name__})"
        ) from error
    if len(arrays) < 2:
        raise DataError(
            f"data: {quoted(path.name)} needs the arrays images and labels, it has "
            f"{shortened(', '.join(names), 80) or 'none'}"
        )
    images = _images_of(arrays["images"], form, path.name)
    labels, class_names = _labels_of(arrays["labels"], len(images), classes, path.name)
    return ImageSet(
        name=f"npz {path.name}",
        title=f"Images of {path.name}",
        split="all",
        images=images,
        labels=labels,
        class_names=class_names,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence=OF_THE_READER,
        shareable=True,
    )


def _images_of(given: NDArray[Any], form: Format, name: str) -> Tensor:
    """Images (N, C, H, W) from (N, H, W), (N, H, W, C) or (N, C, H, W)."""
    if given.ndim == 3:
        given = given[:, None]
    if given.ndim != 4 or not given.size:
        raise DataError(
            f"data: images of {quoted(name)} must be (N, H, W), (N, H, W, C) or "
            f"(N, C, H, W), got {given.shape}"
        )
    if given.shape[1] not in (1, 3) and given.shape[3] in (1, 3):
        given = given.transpose(0, 3, 1, 2)
    if given.shape[1] not in (1, 3):
        raise DataError(
            f"data: images of {quoted(name)} must have 1 or 3 channels, got "
            f"{given.shape[1]}"
        )
    images = _unit(given, form.white, name)
    if form.channels and form.channels != images.shape[1]:
        if form.channels == 1:
            raise DataError(f"data: images of {quoted(name)} have colours: channels 3")
        images = images.expand(-1, 3, -1, -1)
    return _sized(images, form).contiguous()


def _labels_of(
    given: NDArray[Any], count: int, classes: Sequence[str], name: str
) -> tuple[Tensor, tuple[str, ...]]:
    if given.shape != (count,):
        raise DataError(
            f"data: labels of {quoted(name)} must be ({count},), one an image, got "
            f"{given.shape}"
        )
    if given.dtype.kind in "US":
        names, numbers = _numbered([str(each) for each in given.tolist()], classes)
        return torch.tensor(numbers, dtype=torch.int64), names
    if given.dtype.kind not in "ui" or given.min() < 0 or given.max() > 10**6:
        raise DataError(
            f"data: labels of {quoted(name)} must be whole numbers from 0 (or names), "
            f"got {given.dtype} from {given.min()} to {given.max()}"
        )
    labels = torch.from_numpy(given.astype(np.int64))
    known = tuple(classes) or tuple(str(each) for each in range(int(labels.max()) + 1))
    if int(labels.max()) >= len(known):
        raise DataError(
            f"data: label {int(labels.max())} of {quoted(name)} is beyond the "
            f"{len(known)} names in classes"
        )
    return labels, known
