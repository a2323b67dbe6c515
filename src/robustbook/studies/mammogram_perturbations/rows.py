"""The rows of the study, declared once; `measure` fills them."""

from __future__ import annotations

from robustbook.results import Row

ROWS = (
    Row("texture exponent", "", "band leg"),
    Row("texture contrast", "share of the grey range", "leg"),
    Row("texture grain", "share of the grey range", "leg"),
    Row("seeds", "", "leg"),
    Row("similarity", "", "leg perturbation severity"),
    Row("clean AUC", "", "leg subgroup"),
    Row("AUC loss", "", "leg perturbation severity subgroup"),
    Row("natural accuracy loss", "", "perturbation severity"),
    Row("natural accuracy", "", ""),
    Row("natural low-pass accuracy", "", "severity training"),
    Row("natural low-pass accuracy loss", "", "severity training"),
    Row("natural accuracy left lost", "share of the loss", "severity"),
    Row("KS", "", "leg network severity subgroup training"),
    Row("AUC of one seed", "", "leg network seed severity subgroup"),
    Row("KS of one seed", "", "leg network seed severity subgroup"),
    Row("low-pass AUC", "", "leg network severity subgroup training"),
    Row("low-pass AUC loss", "", "leg network severity subgroup training"),
    Row("brittleness", "", "leg network severity subgroup"),
    Row("region AUC loss", "", "leg network severity subgroup where"),
    Row("blur-augmented AUC loss", "", "leg network severity subgroup"),
    Row("excess loss of microcalcification", "", "leg network severity"),
    Row("published network's accuracy", "", ""),
    Row("detectability", "", "later observer severity subgroup"),
    Row("visibility kept", "share of d'", "later observer severity subgroup"),
    Row("observer AUC", "", "later observer severity subgroup"),
    Row("middle frequency", "cycles/mm", "subgroup"),
    Row("contrast to noise", "", "severity subgroup"),
    Row(
        "channelised detectability",
        "d', n counts views of lesions",
        "later severity subgroup",
    ),
    Row("region KS", "", "leg network severity subgroup where"),
    Row("readers' positive rate", "", "leg severity subgroup"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""
