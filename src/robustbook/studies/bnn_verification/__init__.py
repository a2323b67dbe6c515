"""Statistical guarantees for the robustness of Bayesian networks (Cardelli et al.
2019).
"""

from robustbook.studies.bnn_verification.claims import CLAIMS
from robustbook.studies.bnn_verification.parameters import Parameters

TITLE = "Statistical guarantees for Bayesian networks"
PAPER = "cardelli2019statistical"

__all__ = ["CLAIMS", "PAPER", "TITLE", "Parameters"]
