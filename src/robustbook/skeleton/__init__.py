"""Does an attack cost more accuracy than noise of the same budget?"""

from robustbook.skeleton.claims import CLAIMS
from robustbook.skeleton.parameters import Parameters
from robustbook.skeleton.rows import ROWS

TITLE = "Skeleton"

__all__ = ["CLAIMS", "ROWS", "TITLE", "Parameters"]
