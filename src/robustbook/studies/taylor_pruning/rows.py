"""The rows of the study, declared once; `measure` fills them."""

from __future__ import annotations

from robustbook.results import Row

ROWS = (
    Row("accuracy", "share", "data network"),
    Row("correlation", "", "coefficient criterion data network scope"),
    Row("layer gap", "", "coefficient criterion data network"),
    Row("correlation lead", "", "coefficient data network rival"),
    Row("pruned loss", "nats", "criterion images removed"),
    Row("area", "nats", "criterion"),
    Row("area lead", "nats", "rival"),
    Row("area ratio", "", "criterion"),
    Row("subset loss", "nats", "removed way"),
    Row("placement wins", "share", "coefficient"),
    Row("tuned accuracy", "share", "way"),
    Row("tuned multiply-adds", "", "way"),
    Row("tuned lead", "share", "rival"),
    Row("oracle sanity", "", ""),
    Row("stream accuracy", "share", "way"),
    Row("stream multiply-adds", "", "way"),
    Row("stream parameters", "", "way"),
    Row("stream memory", "bytes", "way"),
    Row("stream lead", "share", "rival"),
    Row("vgg accuracy", "share", "way"),
    Row("vgg multiply-adds", "", "way"),
    Row("vgg parameters", "", "way"),
    Row("vgg memory", "bytes", "way"),
    Row("vgg lead", "share", "budget rival"),
    Row("removal agrees", "share", "network"),
    Row("correlation after epochs", "", "criterion epochs"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""
