"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.

In the order of the page: two to predict, one to try and explain, two to implement.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.data.phantoms import Settings, generate, unit_images
from robustbook.perturb.lowpass import low_pass
from robustbook.stats import auc
from robustbook.studies.mammogram_perturbations.measure import visibility

Array = NDArray[np.float64]


def check_width(answer: float | None) -> None:
    """Standard deviation in pixels of a filter of 2 mm on pixels of 0.2 mm."""
    assert isinstance(answer, float), (
        "Give one number, the standard deviation in pixels."
    )
    assert abs(answer - 10) > 0.5, "That is the cut-off wavelength itself in pixels."
    assert abs(answer - 2 / (2 * np.pi) / 0.2) < 0.01, (
        "A Gaussian exp(-(f w)^2 / 2) is the transform of one of deviation w / (2 pi)."
    )


def check_hides(answer: set[str] | None) -> None:
    """What makes a Gaussian filter cost information to an observer who knows the
    filter.
    """
    assert isinstance(answer, set), (
        "Give a set of names, such as {'filter', 'rounding'}."
    )
    unknown = answer - {"filter", "rounding", "noise before", "noise after"}
    assert not unknown, f"Unknown names: {unknown}."
    assert "filter" not in answer, (
        "A Gaussian is zero at no frequency: the filter alone can be undone."
    )
    assert "noise before" not in answer, (
        "Noise that is there before the filter is damped as the lesion is: it "
        "lowers d′, but by as much without the filter."
    )
    assert answer == {"rounding", "noise after"}, "Two things come after the filter."


def check_later_noise(answer: float | None) -> None:
    """Share of d' that microcalcifications keep at 2 mm when nothing is added after the
    filter.
    """
    assert isinstance(answer, float), "Give the share as a float."
    assert answer > 0.999, (
        "With nothing added later the Hotelling observer loses nothing: is `later` "
        "0, and both spectra filtered?"
    )
    assert answer < 1.001, (
        "A filter cannot make a lesion more visible to the Hotelling observer."
    )


def sample_lesions() -> tuple[Array, Array]:
    """Malignant microcalcifications (n, side, side) in grey levels, and the noise power
    (side, side) they lie in.
    """
    exams = generate(40, seed=5)
    return visibility.lesion_patches(
        exams, "microcalcification", malignant=True
    ), visibility.noise_power(Settings())


def check_low_pass(answer: Callable[[Tensor, float, float], Tensor] | None) -> None:
    """An own low-pass filter must be isotropic in mm and agree with the book's away
    from the borders.
    """
    assert callable(answer), "Give the function itself."
    images = unit_images(generate(1, seed=3).images)
    found = answer(images, 1.5, 0.2)
    assert isinstance(found, Tensor) and found.shape == images.shape, (
        "Return images of the same shape."
    )
    point = torch.zeros(1, 1, 64, 48)
    point[0, 0, 32, 24] = 1
    spot = answer(point, 1.5, 0.2)[0, 0]
    assert abs(float(spot[32, 27] - spot[35, 24])) < 1e-4, (
        "A point is blurred differently along rows and columns: count frequencies "
        "in cycles/mm, not in bins."
    )
    inner = (..., slice(16, 48), slice(12, 36))
    gap = (found[inner] - low_pass(images, 1.5, pitch=0.2)[inner]).abs().max()
    assert gap < 0.01, (
        f"Up to {gap:.3f} away from the book's filter in the middle of the image."
    )


def check_auc(answer: Callable[[NDArray[np.bool_], Array], float] | None) -> None:
    """An own AUC must count ties half."""
    assert callable(answer), "Give the function itself."
    rng = np.random.default_rng(0)
    positive, scores = rng.random(60) < 0.3, rng.normal(size=60)
    assert abs(answer(positive, scores) - auc(positive, scores)) < 1e-9, (
        "Count the pairs in which the positive has the higher score."
    )
    assert (
        abs(answer(positive, np.round(scores)) - auc(positive, np.round(scores))) < 1e-9
    ), "Ties count half."
