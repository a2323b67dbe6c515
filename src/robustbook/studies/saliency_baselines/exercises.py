"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.

In the order of the page: two to predict, one to try and explain, two to implement.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module

from robustbook.measure.saliency import mask_scores, rise_maps
from robustbook.measure.saliency_metrics import removal_curves, steps_of
from robustbook.measure.similarity import spearman
from robustbook.models import build
from robustbook.perturb.masks import RiseMasks, draw_masks


def check_insertion(answer: float | None) -> None:
    """Area of insertion from the area of LeRF under the same baseline."""
    assert isinstance(answer, float), "Give one number, with a decimal point."
    assert abs(answer - 0.3) > 1e-6, (
        "Turning a curve round does not turn it upside down."
    )
    assert abs(answer - 0.7) < 1e-6, (
        "Write down which pixels show the image after each step of either metric."
    )


def check_ceiling(answer: float | None) -> None:
    """The ceiling at four times as many masks, from r = 1 / (1 + c / N)."""
    assert isinstance(answer, float), "Give one number."
    assert abs(answer - 0.8) > 0.02, (
        "Doubling the precision is not doubling one over the distance from 1; solve "
        "for c first."
    )
    assert abs(answer - 6 / 7) < 0.005, (
        "c follows from 0.6 = 1 / (1 + c / 500); put N = 2000 in."
    )


def sample_problem() -> tuple[
    Module, Tensor, Tensor, tuple[RiseMasks, RiseMasks], Tensor
]:
    """An untrained network, one image (1, 3, 16, 16), its class, two independent draws
    of 400 masks, and grey.
    """
    generator = torch.Generator().manual_seed(3)
    model = build("cnn", (3, 16, 16), 4, seed=3).eval()
    image = torch.rand(1, 3, 16, 16, generator=generator)
    draws = [
        draw_masks(400, (16, 16), cells=4, probability=0.5, generator=generator)
        for _ in range(2)
    ]
    return (
        model,
        image,
        torch.tensor([1]),
        (draws[0], draws[1]),
        torch.full((1, 3, 16, 16), 0.5),
    )


def check_centred(answer: tuple[float, float] | None) -> None:
    """Correlation of maps of two draws, plain and centred."""
    assert isinstance(answer, tuple) and len(answer) == 2, (
        "Give two numbers: plain, centred."
    )
    model, image, target, draws, grey = sample_problem()
    for given, centred in zip(answer, (False, True), strict=True):
        maps = [
            rise_maps(
                mask_scores(model, image, target, masks, grey), masks, centred=centred
            )
            for masks in draws
        ]
        expected = float(spearman(maps[0], maps[1]))
        assert abs(float(given) - expected) < 0.01, (
            f"The {'centred' if centred else 'plain'} correlation is not "
            f"{float(given):.3f}. Use both draws of masks."
        )


def check_removal(
    answer: Callable[[Module, Tensor, int, Tensor, Tensor], Tensor] | None,
) -> None:
    """An own MoRF curve, a pixel at a time, must equal the book's."""
    assert callable(answer), "Give the function itself."
    model, image, target, _, grey = sample_problem()
    saliency = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = removal_curves(model, image, target, steps_of(saliency), grey)[0]
    found = answer(model, image[0], int(target), saliency[0], grey[0])
    assert isinstance(found, Tensor) and found.shape == expected.shape, (
        f"Return {len(expected)} probabilities: the whole image first, the whole "
        "baseline last."
    )
    assert abs(float(found[0] - expected[0])) < 1e-5, (
        "The first entry is the probability of the untouched image."
    )
    assert (found - expected).abs().max() < 1e-4, (
        "Some entry differs. Do the most salient pixels go first?"
    )


def check_rise(answer: Callable[[Tensor, Tensor, float], Tensor] | None) -> None:
    """An own RISE map from scores and masks must equal the book's."""
    assert callable(answer), "Give the function itself."
    model, image, target, (masks, _), grey = sample_problem()
    scores = mask_scores(model, image, target, masks, grey)
    expected = rise_maps(scores, masks)[0]
    found = answer(scores[0], masks.render(0, len(masks))[:, 0], masks.probability)
    assert isinstance(found, Tensor) and found.shape == (16, 16), (
        "Return one map, 16 x 16."
    )
    assert not torch.allclose(found, expected * masks.probability, atol=1e-5), (
        "Divide by p as well as by N."
    )
    assert torch.allclose(found, expected, atol=1e-5), (
        "S = sum of f(I_M) M, divided by N p."
    )
