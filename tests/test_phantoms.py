"""Phantoms: spectrum, masks, seeds and bit depth are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbook.data import load, phantoms
from robustbook.data.phantoms import (
    PhantomError,
    Settings,
    draw_exam,
    generate,
    specks,
    texture,
    unit_images,
)


def slope(
    fields: np.ndarray,
    pitch: float,
    low: float,
    high: float,
    window: np.ndarray | float = 1.0,
) -> float:
    """Exponent of the mean power of `fields` (n, H, W) over frequencies in
    cycles/mm.
    """
    power = (np.abs(np.fft.fft2(fields * window)) ** 2).mean(axis=0)
    axes = [np.fft.fftfreq(size, pitch) for size in fields.shape[1:]]
    frequency = np.hypot(axes[0][:, None], axes[1][None])
    used = (frequency > low) & (frequency < high)
    return float(np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0])


@pytest.mark.parametrize("exponent", [2.5, 3.0])
def test_texture_has_the_exponent_it_was_given(exponent: float) -> None:
    chosen = Settings(96, 72, exponent=exponent)
    fields = np.concatenate(
        [texture(np.random.default_rng(seed), chosen) for seed in range(40)]
    )
    assert abs(slope(fields, 0.2, 0.1, 2.4) + exponent) < 0.1


def test_texture_inside_a_drawn_breast_has_it_too() -> None:
    chosen = Settings(128, 96)
    window = np.hanning(48)[:, None] * np.hanning(40)[None]
    inner = np.concatenate(
        [draw_exam(3, number, chosen).tissue[::2, 40:88, 8:48] for number in range(60)]
    )
    inner -= inner.mean(axis=(1, 2), keepdims=True)
    # The first bins lose power to the mean that was taken away, the last to the
    # window's finite side lobes.
    assert abs(slope(inner, 0.2, 0.35, 2.2, window) + 3) < 0.2


def test_power_is_the_stated_one_whatever_the_size() -> None:
    for chosen in (Settings(64, 48), Settings(128, 96)):
        fields = np.concatenate(
            [texture(np.random.default_rng(seed), chosen) for seed in range(30)]
        )
        power = (
            (np.abs(np.fft.fft2(fields)) ** 2).mean(0)
            * chosen.pitch**2
            / (chosen.height * chosen.width)
        )
        at = np.fft.fftfreq(chosen.height, chosen.pitch)[8 * chosen.height // 64]
        assert power[8 * chosen.height // 64, 0] == pytest.approx(
            chosen.texture_power * at**-3, rel=0.35
        )


def test_an_exam_depends_on_its_seed_and_number_alone() -> None:
    together, alone = generate(6, seed=4), generate(1, seed=4, first=5)
    assert (together.images[5] == alone.images[0]).all()
    assert (together.masks[5] == alone.masks[0]).all()
    assert not (generate(1, seed=5, first=5).images == alone.images).all()
    assert together.digest == generate(6, seed=4).digest != generate(6, seed=5).digest


def test_masks_are_where_lesions_were_drawn() -> None:
    exams = generate(60, seed=1)
    level = phantoms.MASK_LEVEL * phantoms.WHITE / phantoms.ATTENUATION_RANGE
    assert ((exams.signals > level) == exams.masks).all()
    seen = (
        exams.masks.any(axis=(2, 3)).reshape(-1, 2, 2).all(axis=1)
    )  # both views of each breast
    # A rare lesion may fall off a view; no healthy breast has a mask.
    assert not seen[exams.subgroups == 0].any()
    assert seen[exams.subgroups > 0].mean() > 0.95
    assert (exams.labels.sum(axis=2) == (exams.subgroups > 0)).all()


def test_lesions_brighten_the_image_inside_their_mask_and_nothing_outside() -> None:
    exams = generate(80, seed=2)
    grown = exams.signals[exams.masks].mean()
    assert grown > 3 * phantoms.MASK_LEVEL * phantoms.WHITE / phantoms.ATTENUATION_RANGE
    assert (
        exams.signals[~exams.masks]
        <= phantoms.MASK_LEVEL * phantoms.WHITE / phantoms.ATTENUATION_RANGE
    ).all()


@given(row=st.floats(4, 8), column=st.floats(3, 6), size=st.floats(0.2, 0.6))
@settings(max_examples=25)
def test_a_speck_keeps_its_mass_and_place_wherever_it_falls_between_pixels(
    row: float, column: float, size: float
) -> None:
    chosen = Settings()
    image = specks(
        np.array([row]), np.array([column]), np.array([size]), np.array([1.0]), chosen
    )
    deviation = size / (2 * np.sqrt(2 * np.log(2)))
    assert image.sum() * chosen.pitch**2 == pytest.approx(
        2 * np.pi * deviation**2, rel=1e-6
    )
    centres = (np.arange(chosen.height) + 0.5) * chosen.pitch
    assert (image.sum(axis=1) * centres).sum() / image.sum() == pytest.approx(
        row, abs=0.02
    )


def test_grey_levels_are_12_bit_and_air_is_black() -> None:
    exams = generate(4, seed=0)
    assert exams.images.dtype == np.uint16
    assert exams.images.max() <= 4095
    corner = exams.images[
        :, 0, :3, -3:
    ]  # a left view: the chest wall is at the left edge
    assert np.median(corner) < 100
    assert exams.images[:, 0, 30:34, 2:6].mean() > 1000


def test_noise_of_air_is_the_detectors() -> None:
    exams = generate(30, seed=0)
    air = exams.images[:, 0, :2, -2:].astype(float)
    expected = (
        np.sqrt(1 / 10000 + (20 / 10000) ** 2) * 4095 / phantoms.ATTENUATION_RANGE
    )
    # Half of the noise of air lies below black and is cut.
    assert np.sqrt((air**2).mean()) == pytest.approx(expected / np.sqrt(2), rel=0.25)


def test_bad_input_is_refused() -> None:
    exams = generate(2, seed=0)
    with pytest.raises(PhantomError, match="four views"):
        unit_images(exams.images[:, :3])
    with pytest.raises(PhantomError, match="12-bit"):
        unit_images(exams.images * 8)
    with pytest.raises(PhantomError, match="integers"):
        unit_images(exams.images / 4095)
    with pytest.raises(PhantomError, match="uint8"):
        unit_images((exams.images // 16).astype(np.uint8))
    with pytest.raises(PhantomError, match="32 to 256"):
        Settings(height=16)
    with pytest.raises(PhantomError, match="at least 1"):
        generate(0, seed=0)
    with pytest.raises(PhantomError, match="positive"):
        Settings(pitch=0.0)


def test_phantoms_are_a_data_set() -> None:
    exams = load("phantoms", "test", limit=20)
    assert exams.image_shape == (4, 64, 48)
    assert exams.labels.bincount().tolist() == [10, 10]
    assert exams.shareable
