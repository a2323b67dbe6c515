"""The rows of the study, declared once; `measure` fills them."""

from __future__ import annotations

from robustbook.results import Row

CASE = "leg network subgroup severity"
ROWS = (
    Row("texture exponent", "", "band leg"),
    Row("texture contrast", "share of the grey range", "leg"),
    Row("texture grain", "share of the grey range", "leg"),
    # Four perturbations
    Row("similarity", "", "leg perturbation severity"),
    Row("clean AUC", "", "leg subgroup"),
    Row("AUC loss", "", "leg perturbation severity subgroup"),
    Row("natural accuracy loss", "", "perturbation severity"),
    Row("published network's accuracy", "", ""),
    # Low-pass filtering: AUC, or accuracy on natural images
    Row("score", "", f"{CASE} arm"),
    Row("score loss", "", f"{CASE} arm"),
    Row("score restored", "", f"{CASE} arm"),
    Row("left beyond half", "", f"{CASE} arm"),
    Row("blur-augmented loss", "", CASE),
    Row("excess loss of microcalcification", "", "leg network severity"),
    Row("excess that could be shown", "", "leg network severity"),
    Row("AUC against a part", "", f"{CASE} against"),
    Row("KS", "", f"{CASE} arm"),
    Row("AUC of one seed", "", f"{CASE} seed"),
    Row("KS of one seed", "", f"{CASE} seed"),
    # Visibility without a network
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
    # The follow-up's readers and networks
    Row("region KS", "", f"{CASE} where"),
    Row("readers' positive rate", "", "leg severity subgroup"),
    Row("effect of severity", "logits", "fit series severity subgroup"),
    Row("effect gap of microcalcification", "logits", "series severity"),
    Row("R-hat of effects", "", "series subgroup"),
    Row("predictive KS", "", "draws series severity subgroup"),
    Row("largest distance from the figure", "", "fit quantity series subgroup"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""
