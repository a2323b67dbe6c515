"""The six lenses in the order of the page, and the plan of a run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from robustbook.studies.your_network.measure import (
    attack,
    certificate,
    degradation,
    posterior,
    pruning,
    saliency,
)
from robustbook.studies.your_network.measure.looking import Lens, LensPlan
from robustbook.studies.your_network.networks import Examined, load

LENSES: Mapping[str, Lens] = {
    each.NAME: each
    for each in (attack, degradation, posterior, saliency, certificate, pruning)
}


def plan(
    subject: Examined,
    *,
    lenses: Sequence[str],
    epsilon: float,
    steps: int,
    queries: int,
    samples: int,
    explained: int,
    masks: int,
    certified: int,
    units: int,
) -> LensPlan:
    """Look through `lenses`: attacks within a quarter, a half and all of `epsilon`, the
    middle one where a lens needs one attack alone.
    """
    middle = epsilon / 2
    settings: dict[str, dict[str, Any]] = {
        "attack": {
            "budgets": (epsilon / 4, middle, epsilon),
            "steps": steps,
            "queries": queries,
        },
        "degradation": {"budget": middle},
        "posterior": {"samples": samples, "budget": middle, "steps": steps},
        "saliency": {"explained": explained, "masks": masks},
        "certificate": {"budget": epsilon, "certified": certified},
        "pruning": {"units": units},
    }
    chosen = LENSES if "all" in lenses else lenses
    return LensPlan(subject, LENSES, settings, tuple(chosen))


def plan_of(values: Mapping[str, Any]) -> LensPlan:
    """The plan of a run with these parameters by name; it loads network and images."""
    kinds = inspect.signature(plan).parameters
    looked = {name: values[name] for name in kinds if name in values}
    loaded = {name: each for name, each in values.items() if name not in looked}
    return plan(load(**loaded), **looked)
