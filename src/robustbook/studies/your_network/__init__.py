"""How strong is a network of your own, and how weak, under each of six measures?"""

from robustbook.studies.your_network.claims import CLAIMS
from robustbook.studies.your_network.parameters import Parameters
from robustbook.studies.your_network.rows import ROWS

TITLE = "Your network under six lenses"

__all__ = ["CLAIMS", "ROWS", "TITLE", "Parameters"]
