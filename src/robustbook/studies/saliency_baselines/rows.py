"""The rows of the study, declared once; `measure` fills them."""

from __future__ import annotations

from robustbook.results import Row

ROWS = (
    # Maps of two baselines
    Row("rounding", "", "data"),
    Row("accuracy", "share", "data"),
    Row("neutrality", "share", "baseline data"),
    Row("probability of the class", "share", "baseline data"),
    Row("ceiling", "", "data estimator measure"),
    Row("similarity", "", "data estimator masks measure"),
    Row("baseline gap", "", "data estimator measure"),
    Row("retraining gap", "", "data"),
    Row("network gap", "", "data seed"),
    Row("pair similarity", "", "data first second"),
    Row("neutral pairs", "pairs", "data reading"),
    Row("neutral gap", "", "data reading"),
    Row("neutral ceiling", "", "data reading"),
    Row("gap by neutrality", "", "data"),
    # What a ceiling costs
    Row("ceiling at passes", "", "data design estimator masks"),
    Row("passes to the plain ceiling", "share", "data design estimator"),
    # Distance from the data
    Row("distance from the data", "", "baseline data"),
    Row("gap reliability", "", "data"),
    Row("divergence explained", "", "by data"),
    Row("gap at no distance", "", "data"),
    # Planted truth
    Row("recovery", "", "baseline data generator"),
    Row("follows the patch", "share", ""),
    Row("recovery range", "", "baselines generator"),
    Row("lowest recovery above random", "", "baseline"),
    # Judging maps
    Row("method score", "", "baseline data method metric"),
    Row("ranking agreement", "", "data kind metric pairs"),
    Row("ranking gap", "", "data metric pairs"),
    Row("best method differs", "share", "data metric pairs"),
    Row("diagonal advantage", "", "data maps"),
    Row("matrix", "", "data generator metric"),
    Row("metric agreement", "", "comparison data"),
    Row("metric gap", "", "comparison data"),
    # Settings of RISE
    Row("setting similarity", "", "data masks pair"),
    Row("setting ceiling", "", "data setting"),
    Row("reliable pairs", "share", "data varied"),
    Row("setting gap", "", "data masks varied"),
    # Other checks of a map
    Row("infidelity", "", "baseline data method"),
    Row("sensitivity", "", "data method"),
    Row("similarity after randomising", "", "data layers method"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""
