"""Input perturbations of mammogram classifiers (Oleszkiewicz et al. 2020) on phantoms,
patches and published predictions.
"""

from robustbook.studies.mammogram_perturbations.claims import CLAIMS
from robustbook.studies.mammogram_perturbations.parameters import Parameters
from robustbook.studies.mammogram_perturbations.rows import ROWS

TITLE = "What should a mammogram classifier be sensitive to?"
PAPER = "oleszkiewicz2020understanding"

__all__ = ["CLAIMS", "PAPER", "ROWS", "TITLE", "Parameters"]
