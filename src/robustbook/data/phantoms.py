"""Procedural mammograms: four-view screening exams whose lesions, masks and physics are
known exactly.

Read `Settings` (size and physics of a view), `draw_exam` (one exam, from attenuation to
12-bit grey levels), `generate` (many of them), then the parts: outline, strands,
texture, lesions. Everything is drawn by area, on a grid `FINER` times finer than the
pixels or by integrals, passes one detector, then noise is added, then grey levels are
rounded. An exam depends on its seed and number alone, never on the batch. Breasts are
miniatures that fill the view; pixel pitch, lesions, texture and noise are to scale.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft
from scipy.special import erf

from robustbook.data.image_set import ImageSet
from robustbook.data.store import DataSource
from robustbook.errors import UserError

Pixels = NDArray[np.float32]
TITLE = "Mammogram phantoms (drawn)"
LICENCE = "drawn by this package, MIT"
VIEWS = ("L-CC", "R-CC", "L-MLO", "R-MLO")
SUBGROUPS = ("no lesion", "soft tissue", "microcalcification")
WHITE = 4095
"""Largest grey level of 12 bits."""
ATTENUATION_RANGE = 4.5
"""Attenuation (nepers) that is shown as white; air is black."""
FAT, GLAND = 0.45, 0.75
"""Linear attenuation of fat and of glandular tissue, per cm."""
SKIN = 0.5
"""Attenuation (nepers) that the skin, seen edge on, adds to the breast's outline."""
STRAND_WIDTHS = np.array([0.09, 0.16, 0.3])
"""Deviations in mm of the Gaussian profiles of ducts, vessels and fibres."""
FINER = 3
"""Points along a pixel's side at which outlines, strands and masses are drawn before
they are averaged over its area.
"""
MASK_LEVEL = 0.02
"""A pixel belongs to a lesion's mask where the lesion adds more than this attenuation
(nepers).
"""


class PhantomError(UserError):
    """An exam that cannot be drawn or used: a view is missing, or grey levels are not
    12-bit.
    """


@dataclass(frozen=True)
class Settings:
    """Size and physics of a view: `height` x `width` pixels of `pitch` mm.

    The anatomical texture has power spectrum `texture_power` * f**-`exponent` (nepers^2
    mm^2, f in cycles/mm). `strands` lines (ducts, vessels, fibres) of mean attenuation
    `strand_peak` cross a square centimetre. The detector blurs by a Gaussian of
    deviation `blur` mm; a pixel gets `photons` before the breast, and electronic noise
    of `electronic` photons.
    """

    height: int = 64
    width: int = 48
    pitch: float = 0.2
    exponent: float = 3.3
    texture_power: float = 1e-4
    strands: float = 14.0
    strand_peak: float = 0.04
    blur: float = 0.07
    photons: float = 40000.0
    electronic: float = 20.0

    def __post_init__(self) -> None:
        if not 32 <= self.height <= 256 or not 32 <= self.width <= 256:
            raise PhantomError(
                f"a view has 32 to 256 pixels a side, got {self.height} x {self.width}"
            )
        if (
            not self.pitch > 0
            or not self.photons > 0
            or min(self.electronic, self.texture_power, self.blur) < 0
            or min(self.strands, self.strand_peak) < 0
        ):
            raise PhantomError(
                "pitch and photons must be positive and noise, texture, strands and "
                f"blur not negative, got {self}"
            )

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width in mm."""
        return self.height * self.pitch, self.width * self.pitch


@dataclass(frozen=True)
class Exam:
    """One exam: `images` (4, H, W) uint16 in 0..4095 in the order of `VIEWS`, `masks`
    (4, H, W), and what was drawn.

    `labels` (2, 2): left and right x benign and malignant; `subgroups` (2,) index
    `SUBGROUPS`; `signals` (4, H, W) are the grey levels that the lesion adds before
    noise and rounding; `tissue` (4, H, W) is the texture alone, in nepers.
    """

    images: NDArray[np.uint16]
    masks: NDArray[np.bool_]
    signals: Pixels
    tissue: Pixels
    labels: NDArray[np.int64]
    subgroups: NDArray[np.int64]


@dataclass(frozen=True)
class Exams:
    """Many exams: the fields of `Exam` with one more axis in front, without the
    texture.
    """

    images: NDArray[np.uint16]
    masks: NDArray[np.bool_]
    signals: Pixels
    labels: NDArray[np.int64]
    subgroups: NDArray[np.int64]
    settings: Settings = field(default_factory=Settings)
    title: str = TITLE
    split: str = "drawn"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def digest(self) -> str:
        """SHA-256 of the grey levels."""
        return hashlib.sha256(self.images.tobytes()).hexdigest()


def generate(
    count: int, seed: int, settings: Settings | None = None, first: int = 0
) -> Exams:
    """Exams number `first` to `first` + `count` - 1 of the series `seed`.

    Raises PhantomError if `count` is less than 1 or `first` negative.
    """
    if count < 1 or first < 0:
        raise PhantomError(
            f"count must be at least 1 and first not negative, got {count} and {first}"
        )
    settings = settings or Settings()
    exams = [
        draw_exam(seed, number, settings) for number in range(first, first + count)
    ]
    return Exams(
        images=np.stack([exam.images for exam in exams]),
        masks=np.stack([exam.masks for exam in exams]),
        signals=np.stack([exam.signals for exam in exams]),
        labels=np.stack([exam.labels for exam in exams]),
        subgroups=np.stack([exam.subgroups for exam in exams]),
        settings=settings,
    )


def draw_exam(seed: int, number: int, settings: Settings) -> Exam:
    """Exam `number` of the series `seed`: attenuation of breast, texture and lesions,
    then the detector's blur, photons, and 12-bit grey levels.
    """
    rng = np.random.default_rng([seed, number])
    kinds = rng.choice(5, size=2, p=(0.4, 0.15, 0.15, 0.15, 0.15))
    subgroups, malignant = (kinds + 1) // 2, kinds % 2 == 0
    breast, tissue, frame = _breast(rng, settings)
    lesions = blurred(_lesions(rng, kinds, frame, settings), settings)
    noise = rng.standard_normal((4, settings.height, settings.width), dtype=np.float32)
    masks = lesions > MASK_LEVEL
    return Exam(
        images=_detected(blurred(breast + tissue, settings) + lesions, noise, settings),
        masks=masks,
        signals=(lesions * (WHITE / ATTENUATION_RANGE)).astype(np.float32),
        tissue=tissue,
        labels=np.stack(
            [(kinds > 0) & ~malignant, (kinds > 0) & malignant], axis=1
        ).astype(np.int64),
        subgroups=subgroups.astype(np.int64),
    )


def transfer(frequency: NDArray[np.floating], blur: float) -> NDArray[np.floating]:
    """Share of an oscillation of `frequency` (cycles/mm) that a detector of deviation
    `blur` (mm) records.
    """
    return np.exp(-2 * (np.pi * blur * frequency) ** 2)


def blurred(attenuation: NDArray[np.floating], settings: Settings) -> Pixels:
    """What the detector records of `attenuation` (4, H, W), mirrored at its borders."""
    down, across = (
        transfer(np.arange(side) / (2 * side * settings.pitch), settings.blur)
        for side in attenuation.shape[1:]
    )
    waves = fft.dctn(attenuation, axes=(1, 2), norm="ortho")
    found = fft.idctn(waves * down[:, None] * across, axes=(1, 2), norm="ortho")
    return found.astype(np.float32)


def _detected(
    attenuation: Pixels, noise: Pixels, settings: Settings
) -> NDArray[np.uint16]:
    """Grey levels of `attenuation` (nepers) with quantum and electronic noise (Gaussian
    approximation of both).
    """
    inverse = np.exp(attenuation) / settings.photons
    deviation = np.sqrt(inverse + (settings.electronic * inverse) ** 2)
    grey = (attenuation + deviation * noise) * (WHITE / ATTENUATION_RANGE)
    return np.clip(np.rint(grey), 0, WHITE).astype(np.uint16)


# Breast
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """Where the breast lies in each view: half axes `depth` and `span` and the `middle`
    row, in mm, (4, 1, 1) each; `within` (4, H, W) rises from 0 at the skin to 1.
    """

    depth: NDArray[np.float64]
    span: NDArray[np.float64]
    middle: NDArray[np.float64]
    within: NDArray[np.floating]


def _mirrored(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Right views are mirrored: their chest wall lies at the right edge."""
    values[1::2] = values[1::2, :, ::-1].copy()
    return values


@lru_cache(maxsize=8)
def _grid(settings: Settings) -> tuple[Pixels, Pixels]:
    """Distance of the fine grid's points from the upper edge (FINER * H, 1) and from
    the chest wall (1, FINER * W), in mm.
    """
    step = np.float32(settings.pitch / FINER)
    rows = (np.arange(FINER * settings.height, dtype=np.float32)[:, None] + 0.5) * step
    columns = (np.arange(FINER * settings.width, dtype=np.float32)[None] + 0.5) * step
    return rows, columns


def averaged(fine: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over the area of every pixel (..., H, W) of values on the fine grid (...,
    FINER * H, FINER * W).
    """
    *others, height, width = fine.shape
    shape = (*others, height // FINER, FINER, width // FINER, FINER)
    return fine.reshape(shape).mean(axis=(-3, -1))


def _breast(rng: Generator, settings: Settings) -> tuple[Pixels, Pixels, Frame]:
    """Attenuation of the breast without lesions, its texture (both (4, H, W), nepers),
    and where it lies.
    """
    height, width = settings.extent
    rows, columns = _grid(settings)
    depth = (
        np.repeat([rng.uniform(0.78, 0.94, size=2)], 2, axis=0).ravel()[:, None, None]
        * width
    )
    span = rng.uniform(0.42, 0.47, size=(4, 1, 1)) * height
    middle = np.array([0.5, 0.5, 0.54, 0.54])[:, None, None] * height
    across, along = (columns / depth).astype(np.float32), (rows - middle) / span
    bent = np.abs(along).astype(np.float32) ** np.float32(2.3)
    inward = (1 - np.sqrt(across**2 + bent)) * np.minimum(depth, span)
    inward = inward.astype(np.float32)
    inside = 1 - np.exp(-np.maximum(inward, 0) / (0.05 * height))
    thickness = rng.uniform(4.0, 5.5) * inside
    cone = np.exp(
        -(((columns - 0.42 * depth) / (0.42 * depth)) ** 2)
        - ((rows - middle) / (0.6 * span)) ** 2
    ).astype(np.float32)
    density = rng.uniform(0.15, 0.6)
    breast = thickness * (FAT + (GLAND - FAT) * density * cone)
    breast += SKIN * np.exp(-(((inward - 0.35) / 0.2) ** 2))
    breast[2:] += _pectoral(rng, rows, columns, settings)
    breast = averaged(np.where(inward > 0, breast, 0))
    frame = Frame(depth, span, middle, averaged(inside * (inward > 0)))
    tissue = texture(rng, settings) + strands(rng, frame, settings)
    tissue = tissue * frame.within
    return (
        _mirrored(breast).astype(np.float32),
        _mirrored(tissue).astype(np.float32),
        frame,
    )


def _pectoral(
    rng: Generator, rows: Pixels, columns: Pixels, settings: Settings
) -> NDArray[np.floating]:
    """Attenuation of the pectoral muscle in the two MLO views: a triangle in the upper
    corner at the chest wall.
    """
    height, width = settings.extent
    reach = rng.uniform(0.25, 0.4, size=(2, 1, 1)) * width
    fall = rng.uniform(0.5, 0.65, size=(2, 1, 1)) * height
    edge = (1 - columns / reach - rows / fall) * np.minimum(reach, fall)
    return 0.45 / (1 + np.exp(-np.clip(edge / 0.25, -30, 30)))


def texture(rng: Generator, settings: Settings) -> Pixels:
    """Four fields (4, H, W) of anatomical texture in nepers, of mean 0, with a
    power-law spectrum.

    White noise is shaped in the frequency domain, so the spectrum is exact and the
    field periodic.
    """
    white = rng.standard_normal((4, settings.height, settings.width), dtype=np.float32)
    spectrum = np.fft.rfft2(white) * _amplitude(settings)
    return np.fft.irfft2(spectrum, s=white.shape[1:]).astype(np.float32)


@lru_cache(maxsize=8)
def _amplitude(settings: Settings) -> Pixels:
    """Square root of the texture's power over that of white noise of variance 1, on the
    grid of rfft2.
    """
    rows = np.fft.fftfreq(settings.height, settings.pitch)[:, None]
    columns = np.fft.rfftfreq(settings.width, settings.pitch)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    return (
        np.sqrt(settings.texture_power * frequency**-settings.exponent) / settings.pitch
    ).astype(np.float32)


def strands(rng: Generator, frame: Frame, settings: Settings) -> Pixels:
    """Ducts, vessels and fibres (4, H, W) in nepers: curved lines of `STRAND_WIDTHS`
    that run towards the nipple.

    Each is laid down point by point on the fine grid, widened there, and averaged over
    the pixels; the mean of a view is taken away, as the texture has none.
    """
    height, width = settings.extent
    shape = (FINER * settings.height, FINER * settings.width)
    step = settings.pitch / FINER
    count = max(1, round(settings.strands * height * width / 100))
    laid = np.zeros((4, len(STRAND_WIDTHS), *shape), dtype=np.float32)
    place = np.linspace(0, 1, int(2 * np.hypot(height, width) / step), dtype=np.float32)
    for view in range(4):
        ends = np.array([frame.middle[view, 0, 0], frame.depth[view, 0, 0]])
        start = rng.uniform(-0.1, 1, size=(count, 2)) * (height, 0.9 * width)
        end = ends + rng.normal(size=(count, 2)) * (0.3 * height, 0.15 * width)
        bend = (start + end) / 2 + rng.normal(size=(count, 2)) * 0.12 * height
        share = place[:, None, None]
        points = (1 - share) ** 2 * start + 2 * share * (1 - share) * bend
        cells = ((points + share**2 * end) / step).astype(np.int64)
        lengths = np.linalg.norm(end - start, axis=1)
        kind = rng.integers(len(STRAND_WIDTHS), size=count)
        peaks = settings.strand_peak * rng.exponential(size=count)
        # So much per point that the middle of the widened line is `peaks` high.
        mass = peaks * np.sqrt(2 * np.pi) * STRAND_WIDTHS[kind] * lengths
        weights = np.broadcast_to(mass / (len(place) * step**2), cells.shape[:2])
        there = ((cells >= 0) & (cells < shape)).all(axis=-1)
        layer = np.broadcast_to(kind, there.shape)[there]
        flat = (layer * shape[0] + cells[there][:, 0]) * shape[1] + cells[there][:, 1]
        laid[view] = np.bincount(flat, weights[there], laid[view].size).reshape(
            laid.shape[1:]
        )
    waves = fft.rfft2(laid) * _widening(settings)
    found = averaged(fft.irfft2(waves.sum(axis=1), s=shape))
    return (found - found.mean(axis=(1, 2), keepdims=True)).astype(np.float32)


@lru_cache(maxsize=8)
def _widening(settings: Settings) -> Pixels:
    """Transfer of the Gaussian profile of each of `STRAND_WIDTHS`, on the fine grid."""
    step = settings.pitch / FINER
    rows = np.fft.fftfreq(FINER * settings.height, step)[:, None]
    columns = np.fft.rfftfreq(FINER * settings.width, step)[None]
    frequency = np.hypot(rows, columns)
    return np.stack([transfer(frequency, each) for each in STRAND_WIDTHS]).astype(
        np.float32
    )


# Lesions
# --------------------------------------------------------------------------------------


def _lesions(
    rng: Generator, kinds: NDArray[np.integer], frame: Frame, settings: Settings
) -> Pixels:
    """Attenuation (4, H, W) that the lesions add; a lesion lies at the same depth in
    both views of its breast.
    """
    added = np.zeros((4, settings.height, settings.width), dtype=np.float64)
    for side, kind in enumerate(kinds):
        depth = rng.uniform(0.3, 0.68)
        heights = rng.uniform(-0.42, 0.42, size=2)
        views = (side, side + 2)
        places = [
            (
                float(frame.middle[view, 0, 0] + height * frame.span[view, 0, 0]),
                float(depth * frame.depth[view, 0, 0]),
            )
            for view, height in zip(views, heights, strict=True)
        ]
        if kind == 0:
            continue
        draw = _mass if kind <= 2 else _cluster
        for view, lesion in zip(
            views, draw(rng, kind % 2 == 0, places, settings), strict=True
        ):
            added[view] = lesion
    return _mirrored(added * frame.within).astype(np.float32)


def _mass(
    rng: Generator,
    malignant: bool,
    places: list[tuple[float, float]],
    settings: Settings,
) -> list[NDArray[np.floating]]:
    """A mass in each view (H, W): benign round with a smooth edge; malignant either
    lobed, denser and with spicules, or large and diffuse, without an edge.
    """
    rows, columns = _grid(settings)
    diffuse = malignant and rng.random() < 0.5
    radius = rng.uniform(1.8, 2.6) if diffuse else rng.uniform(1.0, 1.6)
    peak = rng.uniform(*((0.24, 0.4) if malignant else (0.18, 0.3)))
    lobes = 0.12 if malignant else 0.03
    drawn = []
    for row, column in places:
        y, x = rows - row, columns - column
        angle, distance = np.arctan2(y, x), np.hypot(y, x)
        phases = rng.uniform(0, 2 * np.pi, size=3)
        edge = radius * (
            1
            + lobes
            * sum(np.cos(k * angle + p) for k, p in zip((2, 3, 5), phases, strict=True))
        )
        if diffuse:
            lesion = peak * np.exp(-2 * (distance / edge) ** 2)
        else:
            lesion = peak * np.sqrt(np.clip(1 - (distance / edge) ** 2, 0, 1))
        if malignant and not diffuse:
            lesion = np.maximum(
                lesion, 0.6 * peak * _spicules(rng, angle, distance, radius)
            )
        drawn.append(averaged(lesion))
    return drawn


def _spicules(
    rng: Generator,
    angle: NDArray[np.floating],
    distance: NDArray[np.floating],
    radius: float,
) -> NDArray[np.floating]:
    """Eight to twelve thin radial strands (H, W) with values in [0, 1] that fade with
    the distance from the mass.
    """
    count = int(rng.integers(8, 13))
    directions = (
        2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, size=count)) / count
    )
    directions = directions.astype(np.float32)
    lengths = (radius * rng.uniform(0.6, 1.3, size=count)).astype(np.float32)
    turned = angle[None] - directions[:, None, None]
    across = distance * np.sin(turned)
    strands = np.exp(-((across / 0.12) ** 2)) * (np.cos(turned) > 0)
    fade = np.clip(1 - (distance - 0.8 * radius) / lengths[:, None, None], 0, 1)
    return np.max(strands * fade, axis=0)


def _cluster(
    rng: Generator,
    malignant: bool,
    places: list[tuple[float, float]],
    settings: Settings,
) -> list[NDArray[np.floating]]:
    """A cluster of specks in each view (H, W): benign few, round and coarse, malignant
    many, fine and of uneven density.
    """
    count = int(rng.integers(9, 15) if malignant else rng.integers(3, 6))
    spread = rng.uniform(0.6, 0.9) if malignant else rng.uniform(0.9, 1.3)
    sizes = (
        rng.uniform(0.2, 0.36, size=count)
        if malignant
        else rng.uniform(0.4, 0.55, size=count)
    )
    density = rng.uniform(0.6, 1.4, size=count) if malignant else np.ones(count)
    peaks = 12.0 * sizes / 10 * density
    depths = rng.standard_normal(count) * spread
    drawn = []
    for row, column in places:
        heights = rng.standard_normal(count) * spread
        lesion = specks(row + heights, column + depths, sizes, peaks, settings)
        drawn.append(lesion)
    return drawn


def specks(
    rows: NDArray[np.floating],
    columns: NDArray[np.floating],
    sizes: NDArray[np.floating],
    peaks: NDArray[np.floating],
    settings: Settings,
) -> NDArray[np.floating]:
    """Sum (H, W) of Gaussian specks at `rows`, `columns` (mm), each averaged over the
    area of every pixel.

    `sizes` are full widths at half maximum in mm, `peaks` in nepers before that
    average.
    """
    deviations = sizes / (2 * np.sqrt(2 * np.log(2)))

    def averaged(centres: NDArray[np.floating], pixels: int) -> NDArray[np.floating]:
        edges = (np.arange(pixels + 1) * settings.pitch - centres[:, None]) / (
            np.sqrt(2) * deviations[:, None]
        )
        steps = np.diff(erf(edges), axis=1)
        return steps * deviations[:, None] * np.sqrt(np.pi / 2) / settings.pitch

    down, across = averaged(rows, settings.height), averaged(columns, settings.width)
    return np.einsum("s,sh,sw->hw", peaks, down, across)


# Hand-over
# --------------------------------------------------------------------------------------


def unit_images(images: NDArray[np.integer]) -> torch.Tensor:
    """Exams (N, 4, H, W) of 12-bit grey levels as float32 in [0, 1].

    Raises PhantomError if a view is missing, or the grey levels are not integers in
    0..4095.
    """
    if images.ndim != 4 or images.shape[1] != len(VIEWS):
        raise PhantomError(
            f"an exam has the four views {', '.join(VIEWS)}: expected (N, 4, H, W), "
            f"got {images.shape}"
        )
    if not np.issubdtype(images.dtype, np.integer) or images.dtype.itemsize < 2:
        raise PhantomError(f"grey levels must be 12-bit integers, got {images.dtype}")
    if images.size and (images.min() < 0 or images.max() > WHITE):
        raise PhantomError(
            f"grey levels must be 12-bit (0 to {WHITE}), got {images.min()} to "
            f"{images.max()}"
        )
    return torch.from_numpy(images.astype(np.float32) / WHITE)


COUNTS = {"train": 400, "test": 200}
SEEDS = {"train": 2003, "test": 10041}


def _read(_paths: tuple[Path, ...], split: str) -> ImageSet:
    """Exams as images of four channels, labelled by whether any breast holds a
    malignant lesion.
    """
    exams = generate(COUNTS[split], SEEDS[split])
    return ImageSet(
        name="phantoms",
        title=TITLE,
        split=split,
        images=unit_images(exams.images),
        labels=torch.from_numpy(exams.labels[:, :, 1].max(axis=1)),
        class_names=("no malignant lesion", "malignant lesion"),
        digest=exams.digest,
        licence=LICENCE,
        shareable=True,
    )


SOURCE = DataSource(
    name="phantoms",
    title=TITLE,
    class_names=("no malignant lesion", "malignant lesion"),
    licence=LICENCE,
    shareable=True,
    splits=("train", "test"),
    files={},
    read=_read,
)

SOURCES = {"phantoms": (SOURCE,)}
