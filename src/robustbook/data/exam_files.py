"""A reader's own screening exam: four views from PNG, TIFF or DICOM files of a folder.

Read `read_exam`, then `OwnView`. Nothing is sent anywhere or kept: views are read,
checked, and handed over. Every fault is one line that says what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbook.data.phantoms import VIEWS
from robustbook.errors import UserError, quoted

SUFFIXES = (".png", ".tif", ".tiff", ".dcm", ".dicom")
NAME = re.compile(
    r"(?:^|[^a-z])(l|r|left|right)[^a-z]*(cc|mlo)(?:[^a-z]|$)", re.IGNORECASE
)
SMALLEST_SIDE = 32
"""Pixels of the shortest side of a view."""


class ExamError(UserError):
    """A folder that holds no exam that can be read; the message says what is amiss."""


@dataclass(frozen=True)
class OwnView:
    """One view: `image` (H, W) in [0, 1], its name of `VIEWS`, `pitch` of its pixels
    (mm), its grey levels' `bits`, and the `mask` (H, W) of a lesion, if one was given.
    """

    name: str
    image: NDArray[np.float32]
    pitch: float
    bits: int
    mask: NDArray[np.bool_] | None = None


def read_exam(folder: str | Path, pitch: float = 0.0) -> tuple[OwnView, ...]:
    """The four views in `folder`, in the order of `VIEWS`.

    Side and view come from DICOM tags or from file names (L-CC, right_mlo ...). A file
    with "mask" in its name marks a lesion in the view that its name says. `pitch` (mm)
    is the side of a pixel where no tag has it; a tag is believed first.

    Raises ExamError if the folder is none, a view is missing or there twice, a file
    cannot be read, is coloured or has less than 8 bits, or the pitch is unknown.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ExamError(f"exam: there is no folder {quoted(str(folder))}")
    files = [
        path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES
    ]
    masks = {_named(path): path for path in files if "mask" in path.stem.lower()}
    found: dict[str, OwnView] = {}
    for path in files:
        if "mask" in path.stem.lower():
            continue
        view = _read(path, pitch)
        if view.name in found:
            raise ExamError(f"exam: two files are {view.name}; leave one of each view")
        found[view.name] = _with_mask(view, masks.get(view.name))
    missing = [name for name in VIEWS if name not in found]
    if missing:
        raise ExamError(
            f"exam: four views are needed, {', '.join(VIEWS)}; {len(found)} found, "
            f"{', '.join(missing)} missing (PNG, TIFF or DICOM)"
        )
    return tuple(found[name] for name in VIEWS)


def _named(path: Path) -> str:
    """The name of `VIEWS` that a file's name says."""
    match = NAME.search(path.stem)
    if match is None:
        raise ExamError(
            f"exam: the name of {quoted(path.name)} says no side and view; name it "
            "like L-CC.png or R-MLO.dcm"
        )
    return f"{match[1][0].upper()}-{match[2].upper()}"


def _read(path: Path, pitch: float) -> OwnView:
    reader = _dicom if path.suffix.lower() in (".dcm", ".dicom") else _picture
    name, grey, bits, tagged = reader(path)
    if grey.ndim != 2:
        raise ExamError(f"exam: {quoted(path.name)} is not grey: one channel is needed")
    if min(grey.shape) < SMALLEST_SIDE:
        raise ExamError(
            f"exam: {quoted(path.name)} is {grey.shape[0]} x {grey.shape[1]} pixels, "
            f"too small for a view (at least {SMALLEST_SIDE})"
        )
    known = tagged or pitch
    if not known > 0:
        raise ExamError(
            f"exam: {quoted(path.name)} does not say how large a pixel is; give the "
            "side in mm: -p exam_pitch 0.07"
        )
    image = (grey.astype(np.float64) / (2**bits - 1)).clip(0, 1).astype(np.float32)
    return OwnView(name, image, float(known), bits)


Read = tuple[str, NDArray[Any], int, float]
"""Name of the view, grey levels (H, W), bits, and the pitch of the tags or 0."""


def _picture(path: Path) -> Read:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            mode, grey = opened.mode, np.asarray(opened)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as failure:
        raise ExamError(f"exam: {quoted(path.name)} cannot be read as an image") from (
            failure
        )
    if mode == "1":
        raise ExamError(f"exam: {quoted(path.name)} has 1 bit; 8 to 16 are needed")
    if grey.ndim == 2 and (grey.min() < 0 or grey.max() > 65535):
        raise ExamError(f"exam: {quoted(path.name)} has more than 16 bits")
    if mode == "F":
        raise ExamError(f"exam: {quoted(path.name)} holds no whole grey levels")
    return _named(path), grey, 8 if grey.dtype == np.uint8 else _bits(grey), 0.0


def _bits(grey: NDArray[Any]) -> int:
    """Bits that 16-bit files use: 10, 12, 14 or 16, whichever holds the largest."""
    largest = int(grey.max()) if grey.size else 0
    return next(bits for bits in (10, 12, 14, 16) if largest < 2**bits)


def _dicom(path: Path) -> Read:
    try:
        import pydicom
    except ImportError as failure:
        raise ExamError(
            "exam: DICOM files need pydicom: pip install 'robustbook[dicom]'"
        ) from failure
    try:
        data = pydicom.dcmread(path)
    except Exception as failure:  # damaged files raise errors of every kind
        raise ExamError(f"exam: {quoted(path.name)} is no DICOM file") from failure
    try:
        grey = data.pixel_array
    except Exception as failure:  # so do missing decoders
        syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
        said = getattr(syntax, "name", None) or "unknown"
        raise ExamError(
            f"exam: {quoted(path.name)} cannot be decoded ({said}); save it "
            "uncompressed (Explicit VR Little Endian)"
        ) from failure
    bits = int(getattr(data, "BitsStored", 16))
    if str(getattr(data, "PhotometricInterpretation", "")) == "MONOCHROME1":
        grey = 2**bits - 1 - grey
    side = str(
        getattr(data, "ImageLaterality", "") or getattr(data, "Laterality", "")
    ).upper()
    view = str(getattr(data, "ViewPosition", "")).upper()
    known = side in ("L", "R") and view in ("CC", "MLO")
    spacing = getattr(data, "ImagerPixelSpacing", None) or getattr(
        data, "PixelSpacing", None
    )
    pitch = float(spacing[0]) if spacing else 0.0
    if spacing and abs(float(spacing[1]) - pitch) > 0.01 * pitch:
        raise ExamError(f"exam: the pixels of {quoted(path.name)} are not square")
    return f"{side}-{view}" if known else _named(path), grey, bits, pitch


def _with_mask(view: OwnView, path: Path | None) -> OwnView:
    if path is None:
        return view
    _, grey, _, _ = _picture(path)
    if grey.shape != view.image.shape:
        raise ExamError(
            f"exam: mask {quoted(path.name)} is not as large as view {view.name}"
        )
    if not grey.any():
        raise ExamError(f"exam: mask {quoted(path.name)} marks nothing")
    return OwnView(view.name, view.image, view.pitch, view.bits, grey > 0)
