"""The low-pass filter: SciPy's Gaussian at the matching width, isotropic in mm, exact
at its limits, strict about input.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from robustbook.checks import ArgumentError
from robustbook.perturb.lowpass import (
    box_region,
    dilated,
    low_pass,
    quantised,
    transfer,
)

IMAGES = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wavelength", [2.0, 3.0, 4.0, 8.0])
def test_equals_scipys_gaussian_of_the_matching_width(wavelength: float) -> None:
    width = wavelength / (2 * np.pi) / 0.2
    expected = gaussian_filter(
        IMAGES.double().numpy(), (0, 0, width, width), mode="reflect", truncate=8
    )
    assert (
        np.abs(low_pass(IMAGES, wavelength, pitch=0.2).numpy() - expected).max() < 1e-4
    )


def test_is_the_identity_at_an_infinite_cut_off_frequency() -> None:
    assert torch.allclose(low_pass(IMAGES, 1e-9, pitch=0.2), IMAGES, atol=1e-6)


@given(wavelength=st.floats(0.3, 5))
@settings(max_examples=20)
def test_keeps_the_mean_and_never_adds_power(wavelength: float) -> None:
    filtered = low_pass(IMAGES, wavelength, pitch=0.2)
    assert torch.allclose(filtered.mean((2, 3)), IMAGES.mean((2, 3)), atol=1e-5)
    assert (filtered.var(dim=(2, 3)) <= IMAGES.var(dim=(2, 3)) + 1e-6).all()


def test_damps_a_wave_by_the_published_factor_along_both_sides() -> None:
    along_rows = torch.cos(torch.pi * (torch.arange(64) + 0.5) * 16 / 64)[
        :, None
    ].expand(64, 48)
    along_columns = torch.cos(torch.pi * (torch.arange(48) + 0.5) * 12 / 48)[
        None
    ].expand(64, 48)
    # Both waves have 8 pixels, 1.6 mm: the same factor, though the sides differ.
    factor = float(transfer(np.array(1 / 1.6), 1.0))
    assert factor == pytest.approx(np.exp(-0.5 / 1.6**2))
    for wave in (along_rows, along_columns):
        assert torch.allclose(low_pass(wave, 1.0, pitch=0.2), factor * wave, atol=1e-5)


def test_twice_is_once_at_the_root_of_the_sum_of_squares() -> None:
    twice = low_pass(low_pass(IMAGES, 1.5, pitch=0.2), 2.0, pitch=0.2)
    assert torch.allclose(twice, low_pass(IMAGES, 2.5, pitch=0.2), atol=1e-5)


def test_contrast_is_not_rescaled() -> None:
    faint = 0.5 + 0.01 * IMAGES
    assert torch.allclose(
        low_pass(faint, 2.0, pitch=0.2),
        0.5 + 0.01 * low_pass(IMAGES, 2.0, pitch=0.2),
        atol=1e-5,
    )


def test_a_region_is_filtered_inside_or_outside() -> None:
    region = box_region(64, 48, 10, 5, 30, 20).expand(IMAGES.shape)
    whole = low_pass(IMAGES, 2.0, pitch=0.2)
    inside = low_pass(IMAGES, 2.0, pitch=0.2, region=region, where="inside")
    outside = low_pass(IMAGES, 2.0, pitch=0.2, region=region, where="outside")
    assert torch.equal(inside[region], whole[region])
    assert torch.equal(inside[~region], IMAGES[~region])
    assert torch.equal(inside + outside, IMAGES + whole) or torch.allclose(
        inside + outside, IMAGES + whole
    )


def test_a_region_grows_by_the_pixels_asked_for() -> None:
    grown = dilated(box_region(20, 20, 8, 8, 10, 12), 3)
    assert torch.equal(grown, box_region(20, 20, 5, 5, 13, 15))


def test_rounding_keeps_4096_levels() -> None:
    found = quantised(torch.linspace(-0.2, 1.2, 100001))
    assert len(found.unique()) == 4096
    assert found.min() == 0 and found.max() == 1


@pytest.mark.parametrize("severity", [0.0, -1.0, float("nan"), float("inf")])
def test_a_severity_that_is_none_is_refused(severity: float) -> None:
    with pytest.raises(ArgumentError, match="wavelength"):
        low_pass(IMAGES, severity, pitch=0.2)


def test_regions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"right must be .* at most 48"):
        box_region(64, 48, 10, 40, 20, 49)
    with pytest.raises(ArgumentError, match=r"bottom must be .* at least 11"):
        box_region(64, 48, 10, 10, 10, 20)
    with pytest.raises(ArgumentError, match="shape"):
        low_pass(IMAGES, 1.0, pitch=0.2, region=torch.ones(64, 64), where="inside")
    with pytest.raises(ArgumentError, match="region must be given"):
        low_pass(IMAGES, 1.0, pitch=0.2, where="outside")
    with pytest.raises(ArgumentError, match="pitch"):
        low_pass(IMAGES, 1.0, pitch=0.0)


def test_integer_images_are_refused_and_double_ones_filtered_in_double() -> None:
    with pytest.raises(ArgumentError, match="images must be of a floating type"):
        low_pass(torch.full((1, 1, 4, 4), 1000, dtype=torch.int16), 2.0, pitch=0.2)
    images = IMAGES.double()
    width = 4.0 / (2 * np.pi) / 0.2
    expected = gaussian_filter(
        images.numpy(), (0, 0, width, width), mode="reflect", truncate=10
    )
    found = low_pass(images, 4.0, pitch=0.2)
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - expected).max() < 1e-8
