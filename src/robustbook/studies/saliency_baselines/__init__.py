"""How much of a saliency map is the baseline image? (Brunke et al. 2020)"""

from robustbook.studies.saliency_baselines.claims import CLAIMS
from robustbook.studies.saliency_baselines.parameters import Parameters
from robustbook.studies.saliency_baselines.rows import ROWS

TITLE = "How much of a saliency map is the baseline?"
PAPER = "brunke2021evaluating"

__all__ = ["CLAIMS", "PAPER", "ROWS", "TITLE", "Parameters"]
