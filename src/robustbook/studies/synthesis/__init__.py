"""The same networks under the measures of all six papers, and what one measure tells
about another.

A study of our own: no paper is reproduced, so there is no `PAPER`.
"""

from robustbook.studies.synthesis.claims import CLAIMS, ROWS
from robustbook.studies.synthesis.parameters import Parameters

TITLE = "What do six measures say of each other?"

__all__ = ["CLAIMS", "ROWS", "TITLE", "Parameters"]
