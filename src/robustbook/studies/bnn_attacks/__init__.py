"""Bayesian networks under attack, and their posterior as an alarm (Pang et al.
2021).
"""

from robustbook.studies.bnn_attacks.claims import CLAIMS, ROWS, STATEMENTS
from robustbook.studies.bnn_attacks.parameters import Parameters

TITLE = "Bayesian networks under attack"
PAPER = "pang2021evaluating"

__all__ = ["CLAIMS", "PAPER", "ROWS", "STATEMENTS", "TITLE", "Parameters"]
