"""The Wiener filter undoes what the low-pass filter damped, and no more than noise
allows.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustbook.perturb.lowpass import low_pass, quantised
from robustbook.perturb.restoration import (
    cosine_frequencies,
    cosines,
    restored,
    wiener_gain,
)


def test_gain_by_hand() -> None:
    gain = wiener_gain(np.array([1.0, 0.5, 0.1, 0.0]), np.full(4, 4.0), 1.0)
    assert gain == pytest.approx([4 / 5, 2 / 2, 0.4 / 1.04, 0])
    assert wiener_gain(np.array([0.25]), np.array([1.0]), 0.0) == pytest.approx([4.0])


def test_cosines_are_orthonormal_and_know_their_frequencies() -> None:
    waves = cosines(12)
    assert torch.allclose(waves @ waves.T, torch.eye(12, dtype=waves.dtype))
    # Half a period over 12 pixels of 0.2 mm.
    assert cosine_frequencies(12, 8, 0.2)[1, 0] == pytest.approx(1 / (2 * 12 * 0.2))
    assert cosine_frequencies(12, 8, 0.2)[3, 4] == pytest.approx(
        np.hypot(3 / 4.8, 4 / 3.2)
    )


def test_without_later_noise_the_image_comes_back() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(2, 1, 24, 16, generator=generator).double()
    blurred = low_pass(images, 0.8, pitch=0.2)
    assert (blurred - images).abs().max() > 0.03
    back = restored(blurred, 0.8, np.ones((24, 16)), pitch=0.2, later=0.0)
    assert torch.allclose(back, images, atol=1e-6)


def test_with_rounding_it_is_nearer_than_the_filtered_image_and_the_inverse() -> None:
    generator = torch.Generator().manual_seed(1)
    images = 0.5 + 0.05 * torch.randn(4, 1, 32, 32, generator=generator).double()
    rounded = quantised(low_pass(images, 2.0, pitch=0.2))
    later, power = 1 / 12 / 4095**2, np.full((32, 32), 0.05**2)

    def error(found: torch.Tensor) -> float:
        return float((found - images).square().mean())

    wiener = error(restored(rounded, 2.0, power, pitch=0.2, later=later))
    inverse = error(restored(rounded, 2.0, power, pitch=0.2, later=0.0))
    assert wiener < 0.8 * error(rounded)
    assert wiener < inverse
