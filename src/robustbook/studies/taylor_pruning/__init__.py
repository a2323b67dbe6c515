"""Which filter of a network can go, and does a Taylor expansion know? (Molchanov et al.
2019)
"""

from robustbook.studies.taylor_pruning.claims import CLAIMS, ROWS
from robustbook.studies.taylor_pruning.parameters import Parameters

TITLE = "Which filter can go?"
PAPER = "molchanov2019importance"

__all__ = ["CLAIMS", "PAPER", "ROWS", "TITLE", "Parameters"]
