"""Statistical guarantees for the robustness of Bayesian networks (Cardelli et al.
2019).
"""

from robustbook.studies.bnn_verification.claims import CLAIMS
from robustbook.studies.bnn_verification.parameters import Parameters
from robustbook.studies.bnn_verification.rows import ROWS

TITLE = "Statistical guarantees for Bayesian networks"
PAPER = "cardelli2019statistical"

__all__ = ["CLAIMS", "PAPER", "ROWS", "TITLE", "Parameters"]
