"""Bayesian networks under attack, and their posterior as an alarm (Pang et al. 2021).

Read in this order: `parameters`, `claims` (declared before any result), `posteriors`
(the networks), `evaluation` (one of them attacked), `summaries` (rows of the record),
`figures`, `exercises`.
"""

from robustbook.studies.bnn_attacks.claims import CLAIMS
from robustbook.studies.bnn_attacks.parameters import Parameters

TITLE = "Bayesian networks under attack"
PAPER = "pang2021evaluating"

__all__ = ["CLAIMS", "PAPER", "TITLE", "Parameters"]
