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
    chosen = Settings(128, 96, strand_peak=0.0)
    window = np.hanning(48)[:, None] * np.hanning(40)[None]
    inner = np.concatenate(
        [draw_exam(3, number, chosen).tissue[::2, 40:88, 8:48] for number in range(60)]
    )
    inner -= inner.mean(axis=(1, 2), keepdims=True)
    # The first bins lose power to the mean that was taken away, the last to the
    # window's finite side lobes.
    assert abs(slope(inner, 0.2, 0.35, 2.2, window) + chosen.exponent) < 0.2


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
            chosen.texture_power * at**-chosen.exponent, rel=0.35
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


def test_no_lesion_reaches_beyond_the_skin() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        _, _, frame = phantoms._breast(rng, Settings())
        kinds = np.array([2, 4])  # a malignant mass and a malignant cluster
        added = phantoms._lesions(rng, kinds, frame, Settings())
        beyond = phantoms._mirrored(frame.within.copy()) == 0
        assert beyond.any() and added.any(axis=(1, 2)).all()
        assert not added[beyond].any()


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


def test_a_mass_is_drawn_by_area_wherever_it_falls_between_pixels() -> None:
    chosen = Settings(32, 32)
    found = []
    for shift in (0.0, 0.05, 0.1, 0.15):
        rng = np.random.default_rng(1)  # one and the same spiculated mass
        places = [(3.0 + shift, 3.0), (3.0, 3.0 + shift)]
        found.append(phantoms._mass(rng, True, places, chosen))
    total = np.array([[view.sum() for view in views] for views in found])
    # Sampled at the pixels' middles the strands' sums differ by ten per cent.
    assert np.ptp(total, axis=0).max() < 0.02 * total.mean()
    centres = (np.arange(32) + 0.5) * 0.2
    moved = [(views[0].sum(1) * centres).sum() / views[0].sum() for views in found]
    assert moved[2] - moved[0] == pytest.approx(0.1, abs=0.01)


def test_averages_over_a_pixels_area() -> None:
    fine = np.arange(36.0).reshape(1, 6, 6)
    assert phantoms.FINER == 3
    assert phantoms.averaged(fine).tolist() == [[[7, 10], [25, 28]]]


def test_the_detector_damps_every_oscillation_by_its_transfer() -> None:
    chosen = Settings(64, 48, blur=0.1)
    place = np.arange(64) + 0.5
    for order in (0, 3, 40):
        wave = np.cos(np.pi * order * place / 64)[None, :, None] * np.ones((4, 1, 48))
        frequency = order / (2 * 64 * chosen.pitch)
        gain = np.exp(-2 * (np.pi * 0.1 * frequency) ** 2)
        assert phantoms.blurred(wave, chosen) == pytest.approx(gain * wave, abs=1e-5)
        assert phantoms.transfer(np.array(frequency), 0.1) == pytest.approx(gain)


def test_strands_run_towards_the_nipple_and_carry_the_stated_attenuation() -> None:
    chosen = Settings(64, 48)
    _, _, frame = phantoms._breast(np.random.default_rng(0), chosen)
    rngs = [np.random.default_rng(seed) for seed in range(12)]
    fields = np.stack([phantoms.strands(rng, frame, chosen)[0] for rng in rngs])
    assert fields.mean(axis=(1, 2)) == pytest.approx(np.zeros(12), abs=1e-6)
    # They meet at the nipple, the middle of the far edge, so that side is brighter.
    near = fields[:, 20:44, 30:42].mean()
    assert near > fields[:, :10, :12].mean() + 0.005
    none = Settings(64, 48, strand_peak=0.0)
    assert not phantoms.strands(np.random.default_rng(0), frame, none).any()


def test_spectra_are_as_steep_as_those_of_mini_mias() -> None:
    """Slopes of healthy breasts' middles in two bands; mini-MIAS has -3.36, -2.02."""
    exams = generate(36, 5, Settings(128, 96))
    healthy = np.flatnonzero(exams.subgroups[:, 0] == 0)
    pieces = exams.images[healthy, 0, 44:84, 10:50] / 4095
    pieces = pieces - pieces.mean(axis=(1, 2), keepdims=True)
    window = np.hanning(40)[:, None] * np.hanning(40)
    assert slope(pieces, 0.2, 0.25, 1.0, window) == pytest.approx(-3.36, abs=0.3)
    assert slope(pieces, 0.2, 1.0, 2.4, window) == pytest.approx(-2.02, abs=0.3)


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
    photons, electronic = exams.settings.photons, exams.settings.electronic
    expected = np.sqrt(1 / photons + (electronic / photons) ** 2)
    expected *= phantoms.WHITE / phantoms.ATTENUATION_RANGE
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
