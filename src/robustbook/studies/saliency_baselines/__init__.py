"""How much of a saliency map is the baseline image? (Brunke et al. 2020)

Read `parameters` and `claims` first, then `material` (networks, images, baselines), `maps`, `judging` and `settings` in
the order of the page, then `figures` and `exercises`.
"""

from robustbook.studies.saliency_baselines.claims import CLAIMS
from robustbook.studies.saliency_baselines.judging import add_disagreement, add_matrix, add_rankings, measure_judging
from robustbook.studies.saliency_baselines.maps import (
    add_networks,
    add_neutral,
    add_recovery,
    add_similarity,
    measure_maps,
)
from robustbook.studies.saliency_baselines.material import image_sets, tasks
from robustbook.studies.saliency_baselines.parameters import Parameters
from robustbook.studies.saliency_baselines.settings import add_settings, measure_settings, setting_tasks

TITLE = "How much of a saliency map is the baseline?"
PAPER = "brunke2021evaluating"

__all__ = [
    "CLAIMS",
    "PAPER",
    "TITLE",
    "Parameters",
    "add_disagreement",
    "add_matrix",
    "add_networks",
    "add_neutral",
    "add_rankings",
    "add_recovery",
    "add_settings",
    "add_similarity",
    "image_sets",
    "measure_judging",
    "measure_maps",
    "measure_settings",
    "setting_tasks",
    "tasks",
]
