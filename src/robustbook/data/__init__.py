"""Images with labels: `load(name, split)` gives an `ImageSet`, whatever the family of
the data.

Read `image_set` (what is loaded), then `store` (where files lie and how they are
verified), then one module per family.
"""

from robustbook.data.image_set import ImageSet
from robustbook.data.store import load, names

__all__ = ["ImageSet", "load", "names"]
