"""Which filter of a network can go, and does a Taylor expansion know? (Molchanov et al. 2019)

Read `parameters` and `claims` first, then `networks`, `agreement`, `curves` and `tuning` in the order of the page, then
`figures` and `checks` (of the exercises).
"""

from robustbook.studies.taylor_pruning.agreement import (
    add_correlations,
    add_placement,
    add_single_network,
    add_training_length,
    measure_lenet3,
    measure_residual,
)
from robustbook.studies.taylor_pruning.claims import CLAIMS, PLACEMENTS
from robustbook.studies.taylor_pruning.curves import add_curves, add_subsets, measure_curves, measure_subsets
from robustbook.studies.taylor_pruning.networks import load_images, tasks
from robustbook.studies.taylor_pruning.parameters import Parameters
from robustbook.studies.taylor_pruning.tuning import (
    add_sanity,
    add_streams,
    add_tuning,
    measure_sanity,
    measure_streams,
    measure_tuning,
)

TITLE = "Which filter can go?"
PAPER = "molchanov2019importance"

__all__ = [
    "CLAIMS",
    "PAPER",
    "PLACEMENTS",
    "TITLE",
    "Parameters",
    "add_correlations",
    "add_curves",
    "add_placement",
    "add_sanity",
    "add_single_network",
    "add_streams",
    "add_subsets",
    "add_training_length",
    "add_tuning",
    "load_images",
    "measure_curves",
    "measure_lenet3",
    "measure_residual",
    "measure_sanity",
    "measure_streams",
    "measure_subsets",
    "measure_tuning",
    "tasks",
]
