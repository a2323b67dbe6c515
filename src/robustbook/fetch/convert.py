"""Originals in their official formats to exactly the arrays that the studies read.

Every function gives arrays by name, as they stand in an array file; `packed` writes
them as bytes that are the same on every machine, so that their digest can be pinned.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbook.data.cifar10 import CLASS_NAMES, read_batch
from robustbook.data.store import DataError

Arrays = dict[str, NDArray[Any]]
FRACTIONS = 2048
"""OpenCV's bilinear resizing counts in such parts of a pixel."""


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An `.npz` file without compression, times or names of a machine: equal arrays
    give equal bytes.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.create_system, entry.external_attr = 3, 0o600 << 16
            content = io.BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(values), (1, 0), allow_pickle=False
            )
            archive.writestr(entry, content.getvalue())
    return stream.getvalue()


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a zip or tar archive.

    Raises DataError if it is neither, or damaged.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as pack:
                for name in pack.namelist():
                    if not name.endswith("/"):
                        yield name, pack.read(name)
            return
        with tarfile.open(archive) as pack:
            for entry in pack:
                if entry.isfile() and (content := pack.extractfile(entry)):
                    yield entry.name, content.read()
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as failure:
        raise DataError(f"{archive.name} cannot be unpacked: {failure}") from failure


def _pixels(content: bytes) -> NDArray[np.uint8]:
    """The image of a PPM or PGM file."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PPM"]) as image:
            return np.asarray(image)
    except (OSError, ValueError) as failure:
        raise DataError(f"an image cannot be read: {failure}") from failure


# German traffic signs
# --------------------------------------------------------------------------------------


def resized(image: NDArray[np.uint8], side: int = 32) -> NDArray[np.uint8]:
    """An image (H, W, 3) at (side, side, 3), to the last bit as OpenCV's `resize` gives
    it with its default, bilinear without smoothing.
    """
    height, width = image.shape[:2]
    wide = image.astype(np.int64)
    if (height, width) == (2 * side, 2 * side):
        # Half the size is a case of its own there: means of two by two pixels.
        sums = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
        return ((sums + 2) >> 2).astype(np.uint8)
    left, right, across = _neighbours(width, side)
    # Beyond the edge columns count whole; rows keep their shares, one row twice.
    across[:, (left < 0) | (left >= width - 1)] = [[FRACTIONS], [0]]
    left, right = left.clip(0, width - 1), right.clip(0, width - 1)
    rows = wide[:, left] * across[0][:, None] + wide[:, right] * across[1][:, None]
    above, below, down = _neighbours(height, side)
    above, below = above.clip(0, height - 1), below.clip(0, height - 1)
    shares = down[:, :, None, None]
    mixed = ((shares[0] * (rows[above] >> 4)) >> 16) + (
        (shares[1] * (rows[below] >> 4)) >> 16
    )
    return ((mixed + 2) >> 2).astype(np.uint8)


def _neighbours(
    size: int, side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each pixel of the new side: the old pixels before and behind its middle, and
    their shares (2, side) in parts of `FRACTIONS`.
    """
    place = ((np.arange(side) + 0.5) * (1 / (side / size)) - 0.5).astype(np.float32)
    before = np.floor(place).astype(np.int64)
    part = place - before.astype(np.float32)
    shares = np.stack([np.float32(1) - part, part]) * np.float32(FRACTIONS)
    return before, before + 1, np.rint(shares).astype(np.int64)


def traffic_signs(
    training: Path,
    test: Path,
    truth: Path,
    *,
    classes: Sequence[int],
    frames: Sequence[int] | None = None,
    every: int = 1,
    boxes: bool = True,
) -> Arrays:
    """GTSRB's official archives at 32 x 32, whole images without a crop: of `classes`,
    and of each track these `frames` (all), and of the test images every so many.

    Training images stand by class, track and frame; test images by class and number
    where all of a class are taken, else by number. With `boxes` the original sizes
    (width, height) and the boxes of the signs (x1, y1, x2, y2) are kept as well.
    """
    frames_of = _training(training, set(classes), frames)
    chosen = [
        (number, row)
        for number, row in enumerate(_table(truth, "GT-final_test.csv"))
        if int(row["ClassId"]) in classes and number % every == 0
    ]
    if every == 1:
        chosen.sort(key=lambda each: (int(each[1]["ClassId"]), each[0]))
    wanted = {row["Filename"] for _, row in chosen}
    images = {
        Path(name).name: resized(_pixels(content))
        for name, content in members(test)
        if Path(name).name in wanted
    }
    try:
        shown = [images[row["Filename"]] for _, row in chosen]
    except KeyError as missing:
        raise DataError(f"{test.name} has no image {missing}") from missing
    rows = [row for *_, row in frames_of]
    training_part: Arrays = {
        "x_train": np.stack([image for *_, image, _ in frames_of]),
        "y_train": _column([row["ClassId"] for row in rows], np.uint8),
        "track_train": _column([track for _, track, *_ in frames_of], np.int16),
        "frame_train": _column([frame for _, _, frame, *_ in frames_of], np.int16),
    }
    test_part: Arrays = {
        "x_test": np.stack(shown),
        "y_test": _column([row["ClassId"] for _, row in chosen], np.uint8),
        "index_test": _column([number for number, _ in chosen], np.int32),
    }
    if boxes:
        training_part |= _boxes(rows, "train")
        test_part |= _boxes([row for _, row in chosen], "test")
    return training_part | test_part


Frame = tuple[int, int, int, NDArray[np.uint8], dict[str, str]]
"""Class, track, frame, image and line of the table."""


def _training(
    archive: Path, classes: set[int], frames: Sequence[int] | None
) -> list[Frame]:
    """The chosen training images, by class, track and frame."""
    tables: dict[tuple[int, str], dict[str, str]] = {}
    images: dict[tuple[int, str], NDArray[np.uint8]] = {}
    for name, content in members(archive):
        path = Path(name)
        if not path.parent.name.isdigit() or int(path.parent.name) not in classes:
            continue
        number = int(path.parent.name)
        if path.suffix == ".csv":
            tables |= {(number, row["Filename"]): row for row in _rows(content)}
        match = re.fullmatch(r"(\d+)_(\d+)\.ppm", path.name)
        if match and (frames is None or int(match[2]) in frames):
            images[number, path.name] = resized(_pixels(content))
    if not images:
        raise DataError(f"{archive.name} has no images of these classes")
    try:
        found = [
            (number, *map(int, Path(name).stem.split("_")), image, tables[number, name])
            for (number, name), image in images.items()
        ]
    except KeyError as missing:
        raise DataError(f"{archive.name} has no line for {missing}") from missing
    return sorted(found, key=lambda frame: frame[:3])  # type: ignore[arg-type]


def _table(archive: Path, name: str) -> list[dict[str, str]]:
    for member, content in members(archive):
        if Path(member).name == name:
            return _rows(content)
    raise DataError(f"{archive.name} has no {name}")


def _rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode()), delimiter=";"))


def _column(values: Sequence[Any], kind: Any) -> NDArray[Any]:
    return np.array([int(value) for value in values], kind)


def _boxes(rows: Sequence[Mapping[str, str]], part: str) -> Arrays:
    sides = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
    return {
        f"{name}_{part}": np.array(
            [[int(row[column]) for column in columns] for row in rows], np.int16
        )
        for name, columns in (("size", ("Width", "Height")), ("roi", sides))
    }


# Mammograms
# --------------------------------------------------------------------------------------


def mammogram_patches(
    archive: Path,
    places: Sequence[tuple[int, int]],
    *,
    side: int = 128,
    extent: int = 1024,
) -> Arrays:
    """Patches (side, side) from the archive of mini-MIAS: around each recorded lesion,
    then two a normal image at `places` (x, y of the corner from the top left).

    The truth table counts y from the bottom. A patch around a lesion at the edge is
    moved inside.
    """
    images: dict[int, NDArray[np.uint8]] = {}
    table: list[list[str]] = []
    for name, content in members(archive):
        base = Path(name).name
        if match := re.fullmatch(r"mdb(\d{3})\.pgm", base):
            images[int(match[1]) - 1] = _pixels(content)
        elif base in ("Info.txt", "README") and not table:
            lines = content.decode("latin1").splitlines()
            table = [line.split() for line in lines if re.match(r"mdb\d{3}\s", line)]
    lesions = [row for row in table if len(row) > 6 and row[4].isdigit()]
    normal = [row for row in table if row[2:3] == ["NORM"]]
    if len(places) != 2 * len(normal) or not images:
        raise DataError(
            f"{archive.name} has {len(images)} images, {len(normal)} of them normal, "
            f"where {len(places) // 2} normal ones are expected"
        )
    around = [(int(row[4]), extent - int(row[5])) for row in lesions]
    middle = np.array(around, np.int64).reshape(-1, 2) - side // 2
    corners = [*middle.clip(0, extent - side).tolist(), *places]
    chosen = [*lesions, *(row for row in normal for _ in range(2))]
    numbers = [int(row[0][3:]) - 1 for row in chosen]
    try:
        patches = [
            images[number][y : y + side, x : x + side]
            for number, (x, y) in zip(numbers, corners, strict=True)
        ]
        return {
            "patches": np.stack(patches),
            "cls": np.array([row[2] for row in chosen]),
            "severity": np.array([row[3] if len(row) > 3 else "" for row in chosen]),
            "image": np.array(numbers, np.int16),
            "corner": np.array(corners, np.int16),
        }
    except (KeyError, ValueError) as failure:
        raise DataError(
            f"{archive.name} lacks an image, or one has another size: {failure}"
        ) from failure


# CIFAR-10
# --------------------------------------------------------------------------------------


def first_images(batch: Path, count: int) -> Arrays:
    """The first images (count, 32, 32, 3) of an official batch of CIFAR-10, with their
    labels.
    """
    images, labels = read_batch(batch.read_bytes())
    return {
        "images": images[:count].transpose(0, 2, 3, 1),
        "labels": labels[:count].astype(np.uint8),
    }


def jpeg_copies(archive: Path, batches: Sequence[Path]) -> tuple[Arrays, Arrays]:
    """JPEG copies of CIFAR-10 as one stream of bytes with offsets and labels: training
    images in official order, which the labels of the official `batches` tell, and test
    images by class.

    In the archive a copy is named `train/airplane/0000.jpg`, by its rank in its class.
    """
    found = {
        "/".join(Path(name).parts[-3:]): content
        for name, content in members(archive)
        if name.endswith(".jpg")
    }
    official = np.concatenate([read_batch(batch.read_bytes())[1] for batch in batches])
    by_class = sum(name.startswith("test/") for name in found) // len(CLASS_NAMES)
    test = np.repeat(np.arange(len(CLASS_NAMES)), by_class)
    train_arrays, _ = _stream(found, "train", official)
    test_arrays, rank = _stream(found, "test", test)
    return train_arrays, {**test_arrays, "rank_in_class": rank}


def _stream(
    found: Mapping[str, bytes], part: str, labels: NDArray[Any]
) -> tuple[Arrays, NDArray[np.int16]]:
    """The copies of these labels, each the next of its class, and their ranks."""
    rank = np.zeros(len(labels), np.int16)
    for number in np.unique(labels):
        rank[labels == number] = np.arange(np.count_nonzero(labels == number))
    try:
        copies = [
            found[f"{part}/{CLASS_NAMES[label]}/{place:04d}.jpg"]
            for label, place in zip(labels, rank, strict=True)
        ]
    except KeyError as missing:
        raise DataError(f"the archive of JPEG copies has no {missing}") from missing
    arrays = {
        "jpeg": np.frombuffer(b"".join(copies), np.uint8),
        "offset": np.cumsum([0, *map(len, copies)]),
        "labels": labels.astype(np.uint8),
    }
    return arrays, rank
