"""Which filter of a network can go, and does a Taylor expansion know? (Molchanov et al. 2019)

Read `parameters` and `claims` first, then `networks`, `agreement`, `curves`, `tuning` and `removal` in the order of the
page, then `latency`, `figures` and `exercises`.
"""

from robustbook.studies.taylor_pruning.agreement import (
    add_correlations,
    add_placement,
    add_single_network,
    add_training_length,
    measure_lenet3,
    measure_normed,
)
from robustbook.studies.taylor_pruning.claims import CLAIMS, PLACEMENTS
from robustbook.studies.taylor_pruning.curves import add_curves, add_subsets, measure_curves, measure_subsets
from robustbook.studies.taylor_pruning.networks import BATCH, load_images, tasks
from robustbook.studies.taylor_pruning.parameters import Parameters
from robustbook.studies.taylor_pruning.removal import add_removal, check_removal
from robustbook.studies.taylor_pruning.tuning import (
    add_sanity,
    add_streams,
    add_tuning,
    add_vgg,
    measure_sanity,
    measure_streams,
    measure_tuning,
    measure_vgg_pruning,
)

TITLE = "Which filter can go?"
PAPER = "molchanov2019importance"

__all__ = [
    "BATCH",
    "CLAIMS",
    "PAPER",
    "PLACEMENTS",
    "TITLE",
    "Parameters",
    "add_correlations",
    "add_curves",
    "add_placement",
    "add_removal",
    "add_sanity",
    "add_single_network",
    "add_streams",
    "add_subsets",
    "add_training_length",
    "add_tuning",
    "add_vgg",
    "check_removal",
    "load_images",
    "measure_curves",
    "measure_lenet3",
    "measure_normed",
    "measure_sanity",
    "measure_streams",
    "measure_subsets",
    "measure_tuning",
    "measure_vgg_pruning",
    "tasks",
]
