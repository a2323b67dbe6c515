"""The rows of the study, declared once; `measure` fills them."""

from __future__ import annotations

from robustbook.results import Row

ROWS = (
    # Rules: what they promise, cost and miss
    Row("promised failure", "share", "pair"),
    Row("promised half-width", "", "pair"),
    Row("lower limit of samples", "samples", "p pair"),
    Row("mean samples", "samples", "p pair rule"),
    Row("mean samples, mirrored Massart", "samples", "p"),
    Row("worst failure, mirrored Massart", "share"),
    Row("samples relative to Massart", "", "p pair rule"),
    Row("samples saved by the inequality", "samples", "pair rule"),
    Row("samples saved by stopping", "samples", "p pair rule"),
    Row("largest error of the estimate", "", "of pair rule"),
    Row("worst failure", "share", "pair rule"),
    Row("simulated failure", "share", "p pair rule"),
    Row("declared robust", "share", "eta of pair rule"),
    Row("reference probability", "", "image"),
    Row("failure on a posterior", "share", "rule"),
    Row("samples on a posterior", "samples", "rule"),
    Row("wrongly declared robust on a posterior", "share", "eta rule"),
    # Five pixels
    Row("violation probability", "share", "delta epsilon posterior problem"),
    Row("undecided by exact search", "share", "delta"),
    Row("violations of monotonicity", "", "oracle"),
    Row("rise of the violation probability over the budgets", "share", ""),
    Row("probability by oracle", "share", "epsilon oracle posterior problem"),
    Row("share of violations overlooked", "share", "oracle problem"),
    Row("widest gap of exact bounds", "logits", ""),
    Row("boxes of branch and bound", "", ""),
    Row("attacks beyond the exact bound", "", ""),
    Row("oracle calls", "", "rule"),
    Row("violations found", "share", "image rule"),
    # Fits
    Row("accuracy", "share", "of posterior task"),
    Row("mean acceptance", "share", "task"),
    Row("step size", "prior standard deviations", "task"),
    Row("worst R-hat", "", "quantity task"),
    Row("median R-hat", "", "quantity task"),
    Row("least effective sample size", "samples", "quantity task"),
    Row("median effective sample size", "samples", "quantity task"),
    Row("draws of each chain", "samples", "task"),
    Row("chains", "", "task"),
    Row("p-value of uniform ranks", "", "quantity sampler"),
    Row("evidence lower bound", "nats per image", "task"),
    Row("balance of deviations", "", "layer task"),
    Row("deviation without information", "prior standard deviations", "task"),
    # Methods compared
    Row("robustness under PGD", "share", "posterior problem"),
    Row("robustness difference", "share", "delta posterior problem rival task"),
    Row("robustness of the rival", "share", "delta posterior problem rival task"),
    Row("accuracy difference", "share", "posterior rival task"),
    # Whole images, the mean prediction, proofs
    Row("violation bracket", "share", "end epsilon posterior problem task"),
    Row("brackets broken", "", "epsilon posterior task"),
    Row("mean prediction bracket", "share", "end epsilon posterior"),
    Row("mean brackets broken", "", "epsilon posterior"),
    Row("mean prediction bracket, whole images", "share", "end epsilon posterior task"),
    Row("mean brackets broken, whole images", "", "epsilon posterior task"),
    Row("proved robust probability", "share", "hidden"),
    Row("largest proved robust probability", "share", "hidden"),
    Row("sampled robust probability", "share", "hidden"),
    Row("proved beyond the sampled", "", "hidden"),
    Row("variables of a box", "", "hidden"),
    Row("passes of the proof", "passes", "hidden"),
    # Accuracy against robustness
    Row("accuracy in the sweep", "share", "posterior setting"),
    Row("robustness in the sweep", "share", "posterior setting"),
    Row("worst R-hat in the sweep", "", "posterior setting"),
    Row("balance in the sweep", "", "layer posterior setting"),
    Row("posteriors left out of the sweep", "", ""),
    Row("agreement of two seeds in the sweep", "", "of"),
    Row("rank correlation of accuracy and robustness", "", "family"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""
