"""The four perturbations on a reader's own exam.

Read `perturbed_views`, then `table`. Our networks learned from phantoms and films of
other kinds: what they would say of a reader's exam means nothing, so they are not
asked. An attack needs a network; what an attack of some strength may change at most is
shown by a pattern of signs of that strength.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from robustbook import draws
from robustbook.data.exam_files import OwnView, read_exam
from robustbook.measure.observers import contrast_to_noise
from robustbook.perturb.lowpass import dilated, low_pass, quantised
from robustbook.studies.mammogram_perturbations import networks
from robustbook.studies.mammogram_perturbations.measure.perturbed import (
    STRENGTHS,
    mean_similarity,
)

__all__ = ["CAPTION", "notes", "perturbed_view", "read_exam", "table"]
CAPTION = (
    "Your exam under the four perturbations: structural similarity, and the lesion's "
    "contrast to noise where a mask marks it; means over views."
)
RING = 5.0
"""Width in mm of the surround with which a lesion's contrast is compared."""


def perturbed_view(view: OwnView, perturbation: str, severity: float) -> Tensor:
    """The view (1, 1, H, W) under one of the four perturbations, in [0, 1] and in as
    many grey levels as it had; cut-offs in mm.

    Raises KeyError for an unknown perturbation.
    """
    image = torch.from_numpy(view.image)[None, None]
    levels = 2**view.bits - 1
    if perturbation == "low-pass":
        return quantised(low_pass(image, severity, pitch=view.pitch), levels)
    # One pattern for all views is the universal one.
    seed = {"adversarial": hash_of(view.name), "universal": 0, "noise": 1}[perturbation]
    generator = Generator().manual_seed(seed)
    draw = draws.normal if perturbation == "noise" else draws.signs
    changed = image + severity * draw(image.shape, image, generator)
    return quantised(changed, levels)


def notes(views: Sequence[OwnView]) -> str:
    """What was read, and what its depth allows, in words."""
    said = [
        f"{view.name}: {view.image.shape[0]} × {view.image.shape[1]} pixels of "
        f"{view.pitch:g} mm, {view.bits} bits"
        for view in views
    ]
    coarse = [view.name for view in views if view.bits == 8]
    note = (
        f" {', '.join(coarse)} has 8 bits: perturbations below 0.004 are lost in "
        "rounding, and so is more of what the filter damps."
        if coarse
        else ""
    )
    return (
        f"{'; '.join(said)}.{note} An attack needs a network, and ours do not read "
        "patients: its rows show a pattern of signs of the same strength."
    )


def hash_of(name: str) -> int:
    """A number that depends on a view's name alone."""
    return sum(ord(letter) << 8 * place for place, letter in enumerate(name[:4]))


def table(views: Sequence[OwnView]) -> pd.DataFrame:
    """One line per perturbation and severity: structural similarity of the whole view
    and, where masks mark lesions, inside them, and the lesions' contrast to noise.
    """
    lines = []
    for name, severities in STRENGTHS.items():
        for severity in (*severities,) if name != "low-pass" else networks.SEVERITIES:
            shown = [perturbed_view(view, name, severity) for view in views]
            line: dict[str, object] = {"perturbation": name, "severity": severity}
            line["similarity, whole view"] = _similarity(views, shown, lesions=False)
            if any(view.mask is not None for view in views):
                line["inside the lesion"] = _similarity(views, shown, lesions=True)
                line["contrast to noise"] = _contrast(views, shown)
            lines.append(line)
    return pd.DataFrame(lines)


def _similarity(
    views: Sequence[OwnView], shown: Sequence[Tensor], *, lesions: bool
) -> float:
    found = []
    for view, after in zip(views, shown, strict=True):
        before = torch.from_numpy(view.image)[None, None]
        region = torch.ones_like(before, dtype=torch.bool)
        if lesions and view.mask is None:
            continue
        if lesions:
            region = torch.from_numpy(view.mask)[None, None]
        found.append(mean_similarity(before, after, region))
    return float(np.mean(found))


def _contrast(views: Sequence[OwnView], shown: Sequence[Tensor]) -> float:
    return float(
        np.mean(
            [
                contrast_to_noise(
                    after[0, 0].double().numpy(),
                    view.mask,
                    _ring(view.mask, view.pitch),
                )
                for view, after in zip(views, shown, strict=True)
                if view.mask is not None
            ]
        )
    )


def _ring(mask: NDArray[np.bool_], pitch: float) -> NDArray[np.bool_]:
    grown = dilated(torch.from_numpy(mask), max(2, round(RING / pitch)))
    return grown.numpy() & ~dilated(torch.from_numpy(mask), 1).numpy()
