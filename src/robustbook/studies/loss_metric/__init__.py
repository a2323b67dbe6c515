"""Loss visualisation in input space and the robustness metric psi (Yu et al. 2019)."""

from robustbook.studies.loss_metric.claims import CLAIMS, ROWS
from robustbook.studies.loss_metric.parameters import Parameters

TITLE = "Loss surfaces in input space and a KL robustness metric"
PAPER = "yu2019interpreting"

__all__ = ["CLAIMS", "PAPER", "ROWS", "TITLE", "Parameters"]
