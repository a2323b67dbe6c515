"""Loss visualisation in input space and the robustness metric psi (Yu et al. 2019)."""

from robustbook.studies.loss_metric.claims import CLAIMS, ROWS
from robustbook.studies.loss_metric.parameters import Parameters

TITLE = "How far can a prediction be pushed?"
PAPER = "yu2019interpreting"

__all__ = ["CLAIMS", "PAPER", "ROWS", "TITLE", "Parameters"]
