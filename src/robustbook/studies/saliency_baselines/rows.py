"""The rows of the study, declared once; `measure` fills them."""

from __future__ import annotations

from robustbook.results import Row

ROWS = (
    Row("rounding", "", "data"),
    Row("accuracy", "share", "data"),
    Row("neutrality", "share", "baseline data"),
    Row("ceiling", "", "data measure"),
    Row("similarity", "", "data masks measure"),
    Row("baseline gap", "", "data measure"),
    Row("corrected similarity", "", "data measure"),
    Row("network gap", "", "data seed"),
    Row("pair similarity", "", "data first second"),
    Row("neutral pairs", "share", "data"),
    Row("neutral pair", "share", "data first second"),
    Row("neutral gap", "", "data measure"),
    Row("gap by neutrality", "", "data measure"),
    Row("recovery", "", "baseline data generator"),
    Row("pointing", "share", "baseline data generator"),
    Row("follows the patch", "share", ""),
    Row("recovery range", "", "generator"),
    Row("recovery range without another image", "", "generator"),
    Row("lowest recovery above random", "", "baseline generator"),
    Row("method score", "", "baseline data method metric"),
    Row("ranking agreement", "", "data kind metric pairs"),
    Row("ranking gap", "", "data metric pairs"),
    Row("ranking tau", "", "data metric pairs"),
    Row("best method flips", "share", "data metric pairs"),
    Row("images that flip", "share", "data metric pairs"),
    Row("diagonal advantage", "", "data maps"),
    Row("matrix", "", "data generator metric"),
    Row("metric agreement", "", "comparison data"),
    Row("metric gap", "", "comparison data"),
    Row("setting similarity", "", "data kind masks pair"),
    Row("plateau", "", "data kind pair"),
    Row("noise", "masks", "data kind pair"),
    Row("plateau gap", "", "data pair"),
    Row("corrected similarity of settings", "", "data pair"),
    Row("centred similarity", "", "data masks"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""
