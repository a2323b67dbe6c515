# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One zoo under six lenses
#
# *A question of our own; no paper is reproduced here.*
#
# Each of the six papers perturbs something and measures what a network does: the
# divergence of its prediction {cite:p}`yu2019interpreting`, its answers to filtered
# images {cite:p}`oleszkiewicz2020understanding`, its accuracy under attacks on a
# posterior {cite:p}`pang2021evaluating`, the stability of its saliency maps
# {cite:p}`brunke2021evaluating`, the probability that its decision can be certified
# {cite:p}`cardelli2019statistical`, the units that can go
# {cite:p}`molchanov2019importance`. The papers used different networks, so nobody could
# ask what one of these numbers says about another. This chapter takes all of them of
# the *same* networks.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
from robustbook import exercises, page
from robustbook.studies import synthesis as study

page.claims_box(study.CLAIMS, own=True)

# %% [markdown]
# ## The question
#
# If a network is known to be certifiable, or to have stable saliency maps, or to be
# prunable, is it known to be robust? Put as a measurement: rank a zoo of networks by
# each measure. How alike are the rankings, and is what they share more than clean
# accuracy, which all measures could follow?

# %% [markdown]
# ## Set-up

# %%
from dataclasses import replace

import numpy as np
from IPython.display import display

from robustbook.plots import style
from robustbook.results import Results
from robustbook.run import finish
from robustbook.studies.synthesis import claims, figures, measure, networks, rows
from robustbook.studies.synthesis import exercises as checks

style.use_style()
results = Results(rows=study.ROWS)

# %% [markdown]
# ## Parameters
#
# The values below make the quick run; on the page of any other run, the reference run
# included, its own values are folded below them and stand in the provenance box at the
# end. `robustbook describe synthesis` lists ranges and meanings.

# %% tags=["parameters"]
dataset: str = "digits"
epsilon: float = 0.1
train_images: int = 1000
epochs: int = 20
vi_epochs: int = 25
tune_epochs: int = 8
prior_sd: float = 0.3
seeds: int = 3
accuracy_images: int = 300
images: int = 60
bound_images: int = 12
map_images: int = 16
steps: int = 20
restarts: int = 2
posterior_samples: int = 5
bound_samples: int = 2
resamples: int = 1000
first_seed: int = 0

# %% jupyter={"source_hidden": true} tags=["remove-input"]
parameters = study.Parameters(
    **{name: globals()[name] for name in study.Parameters.model_fields}
)
page.parameters(parameters)

# %% [markdown]
# ## Data and networks
#
# All networks have one architecture: two strided convolutions and two linear layers,
# small enough that bounds can be walked through every one of them. Twelve kinds differ
# in their training. Eight are trained from nothing: natural training, the same for a
# sixth of the epochs, with an L2 penalty (the most probable network under the Bayesian
# one's prior), FGSM, gradient-regularised {cite:p}`ross2018improving`, MinMax
# {cite:p}`madry2018towards` at the full and at half the budget, and a Bayesian network
# by mean-field variational inference. Four more are made from these: the natural
# network without 25, 50 and 75 % of the units of each layer (lowest Taylor importance
# first) and the MinMax network without half of them, each tuned briefly as its parent
# was trained.
#
# Budgets and epochs were set by what fits the run's time; the learning rate by clean
# accuracy of two networks; nothing was tuned by the results but for the low-pass
# cut-offs (below). The deviations of variational inference have a learning rate of
# their own, set by whether they reach the optimum of the bound.

# %%
networks.train_all(parameters)
zoo = networks.networks(parameters)
measured = measure.measure_all(zoo, parameters)
tuned = measure.measure_controls(parameters)
data = measure.test_images(parameters)
rows.record_networks(results, measured, parameters)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.prose(
    f"Data: {data.title}. Networks: {len(networks.KINDS)} kinds × {seeds} seeds, "
    f"trained on {train_images:,} images; ε = {epsilon:g}. "
    f"Test images: {len(data):,} for accuracies, the first {images} of them for "
    f"attacks, {bound_images} for bounds "
    f"and {map_images} for saliency maps, each with equal shares of the classes as far "
    "as they divide. For the Bayesian network accuracies, attacks and maps are those "
    f"of the mean prediction over {posterior_samples} posterior samples, psi and the "
    "share of units are those of the network at the posterior mean, and certified are "
    f"pairs of an image and one of {bound_samples} samples."
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
balance = [row.value for row in results.select("balance of deviations")]
page.prose(
    "Did variational inference last long enough? A layer's deviations are balanced "
    "at 1 where the bound is stationary in them, below 1 they are still too small. "
    f"Over the layers of all {seeds} Bayesian networks the balance lies between "
    f"{min(balance):.2f} and {max(balance):.2f}."
)

# %% [markdown]
# ## The lenses
#
# ### 1 · psi, between a proof and an attack
#
# $$\psi(x) = \Big(\max_{\|\delta\|_\infty \le \epsilon}
# D_{KL}\big(P(x) \,\|\, P(x + \delta)\big)\Big)^{-1}$$
#
# Ascent attains an upper end of $\psi$, sound bounds prove a lower one ([the
# study](../studies/loss_metric.ipynb)). A network's psi is the median over images. As
# lenses we take the attained end at the full budget and the proved end at half of it
# (*sound psi*), where bounds still say something of natural networks.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
half, full = (
    figures.bracket_table(results, measure.RADII[-1]),
    figures.bracket_table(results, 1.0),
)
violated = sum(row.value for row in results.select("images that break a bracket"))
page.figure(
    figures.draw_brackets(results, (measure.RADII[-1], 1.0)),
    alt=(
        "Brackets of psi for twelve kinds of network at half and at the full "
        "budget, from the proved to the attained end."
    ),
    caption=f"psi lies between a proved and an attained end: at "
    f"{measure.RADII[-1]:g} ε they are "
    f"{(half.high / half.low).median():.3g}-fold apart (median over "
    f"kinds), at ε {(full.high / full.low).median():.3g}-fold. Medians over "
    f"{bound_images} images, means over seeds (right: first seed). Brackets "
    f"broken by any image: {violated:.0f}.",
)

# %% [markdown]
# ### 2 · Robust accuracy
#
# PGD on the cross-entropy and on the margin, with restarts; an image counts as robust
# if it survives both. The posterior is attacked by EOT-PGD, whose gradient is averaged
# over fresh weight samples ([the study](../studies/bnn_attacks.ipynb)).
#
# ```{literalinclude} /../src/robustbook/studies/synthesis/measure.py
# :pyobject: attacked
# ```

# %% jupyter={"source_hidden": true} tags=["remove-input"]
alarm = results.select("alarm under attack")
page.prose(
    "The posterior also has an alarm that no other network has: its mutual "
    "information tells attacked from clean images with AUROC "
    + ", ".join(page.number(row.value, 2) for row in alarm)
    + (
        f" (one number a seed, {alarm[0].n} images each). It is no lens here, since "
        "eleven kinds have none."
    )
)

# %% [markdown]
# ### 3 · Certified share
#
# The share of pairs (image, posterior sample) whose decision no perturbation can
# change, proved by bounds ([the study](../studies/bnn_verification.ipynb)); a
# deterministic network is one sample. The lens is the mean over two radii, 0.3 ε and
# 0.5 ε. They were chosen on one natural network before anything was compared: at 0.1 ε
# all its decisions were certified and at ε none, so neither would tell networks apart.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
proved, left = (
    [
        np.mean([row.value for row in results.select(name, radius=radius)])
        for radius in measure.RADII
    ]
    for name in ("decisions certified", "decisions unmoved by PGD")
)
page.prose(
    "Over all networks bounds certify "
    + " and ".join(
        f"{share:.0%} of decisions at {radius:g} ε"
        for share, radius in zip(proved, measure.RADII, strict=True)
    )
    + ", where PGD leaves "
    + " and ".join(f"{share:.0%}" for share in left)
    + " as they are: the truth lies between."
)

# %% [markdown]
# ### 4 · Stability of saliency maps
#
# Occlusion maps of the predicted class with five baselines (black, grey, white, the
# image's mean, its blur) and the mean Spearman correlation of all pairs ([the
# study](../studies/saliency_baselines.ipynb)): 1 means that what covers the image does
# not matter.
#
# ```{literalinclude} /../src/robustbook/studies/synthesis/measure.py
# :pyobject: stability
# ```
#
# ### 5 · Low-pass loss
#
# Accuracy lost, mean over four cut-off wavelengths of a Gaussian low-pass filter ([the
# study](../studies/mammogram_perturbations.ipynb)): a quarter of the image's side to
# all of it. (They were widened once, after the first quick run: with cut-offs half as
# long digits hardly lost any accuracy.)
#
# ### 6 · Prunable share
#
# Units go in order of their first-order Taylor importance ([the
# study](../studies/taylor_pruning.ipynb)), without tuning in between. The share is the
# largest up to which accuracy never fell by more than two points. Of a pruned network
# it is the share of the units that it still has.
#
# ```{literalinclude} /../src/robustbook/studies/synthesis/measure.py
# :pyobject: prunable_share
# ```
#
# ### All of them

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.table(
    rows.overview(results),
    caption=(
        f"Every kind under every lens: mean over {seeds} seeds ± half the distance "
        "between the smallest and the largest. psi in 1/nats. Each network's "
        "interval over images is in the record."
    ),
)

# %% [markdown]
# ## What one tells about another
#
# Spearman's rank correlation over all networks. Networks of one kind are no independent
# witnesses, and neither are a network and what was pruned from it with the same seed,
# so the intervals come from drawing kinds *and* seeds with replacement (the pigeonhole
# bootstrap, {cite:p}`owen2007pigeonhole`).
#
# ```{literalinclude} /../src/robustbook/measure/rank_agreement.py
# :pyobject: agreement
# ```

# %%
rows.record_correlations(results, parameters)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
ranked = rows.strongest(results)
ceilings = sorted(results.select("agreement of two seeds"), key=lambda row: row.value)
page.figure(
    figures.draw_matrix(results),
    alt=(
        "Lower triangle of a matrix of rank correlations between eight measures "
        "with their intervals in the cells; the framed diagonal is the agreement of "
        "two seeds."
    ),
    caption=f"The strongest tie is that of {ranked[0].factors['first']} and "
    f"{ranked[0].factors['second']} (ρ = {claims.within(ranked[0])}), the "
    f"weakest that of {ranked[-1].factors['first']} and "
    f"{ranked[-1].factors['second']} ({claims.within(ranked[-1])}). Intervals "
    f"over {ranked[0].n} kinds and {seeds} seeds. Framed: how well two seeds "
    f"agree on a measure (intervals over {ceilings[0].n} families); least on "
    f"{ceilings[0].factors['lens']} ({claims.within(ceilings[0])}).",
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
apart = [
    row for row in results.select("rank correlation") if row.low > 0 or row.high < 0
]
page.figure(
    figures.draw_pairs(results),
    alt=(
        "Six scatter plots of networks coloured by kind: robust accuracy against "
        "psi, certified share, saliency stability, low-pass loss, prunable share "
        "and clean accuracy."
    ),
    caption="Every network, robust accuracy against the other lenses. Of the "
    f"{len(results.select('rank correlation'))} pairs of measures {len(apart)} "
    "have an interval that leaves out 0. Hollow: pruned networks, in the "
    "colour of their parent.",
)

# %% [markdown]
# ### Is it more than clean accuracy, or more than the kind of training?
#
# Three controls for each tie with robust accuracy. Whole *families* are drawn, a
# trained kind with all that was pruned from it. The *partial* correlation asks what is
# left among networks of equal clean accuracy:
#
# $$\rho_{ij \cdot k} =
# \frac{\rho_{ij} - \rho_{ik}\,\rho_{jk}}{\sqrt{(1 - \rho_{ik}^2)(1 - \rho_{jk}^2)}}.$$
#
# And *within one kind* every kind's mean is taken off first: do the two measures agree
# on networks that differ in their seed alone? A pruned network shares its parent with
# the same seed, so here too whole families are drawn, and seeds.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
inside = {
    row.factors["second"]: row
    for row in results.select("within-kind rank correlation", first=claims.ROBUST)
}
clear = [
    lens
    for lens, row in inside.items()
    if lens != claims.CLEAN and (row.low > 0 or row.high < 0)
]
page.figure(
    figures.draw_controls(results),
    alt=(
        "Dots with intervals: rank correlation of six measures with robust "
        "accuracy, for all networks and under three controls."
    ),
    caption=(
        "Robust accuracy and each other lens. Among networks that differ in their "
        "seed alone "
    )
    + (
        f"only {' and '.join(clear)} {'goes' if len(clear) == 1 else 'go'} with it "
        "(interval without 0), the others show no clear tie"
        if clear
        else "none has a clear tie with it (every interval holds 0)"
    )
    + f". Intervals over {ranked[0].n} kinds and {seeds} seeds (all networks, given "
    f"clean accuracy) or over {inside[claims.PSI].n} families and {seeds} seeds "
    "(families drawn, within one kind).",
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
display(*[page.verdict(claim, results, own=True) for claim in study.CLAIMS[:5]])

# %% [markdown]
# ### What pruning changes
#
# Pruned networks were tuned after their units went, and tuning alone changes a network.
# Each is therefore compared with its own parent *tuned as long with nothing taken out*.

# %%
rows.record_pruning(results, measured, tuned, parameters)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
ratios = results.select("psi after pruning over before")
lost = [
    results.one("accuracy lost by pruning", kind=row.factors["kind"]) for row in ratios
]
kept = sum(row.value <= claims.ACCURACY_KEPT for row in lost)
page.figure(
    figures.draw_pruning(results),
    alt=(
        "Two panels with intervals for four pruned kinds: psi after over before "
        "pruning, and accuracy lost."
    ),
    caption=(
        f"{kept} of {len(lost)} pruned kinds keep their accuracy within "
        f"{100 * claims.ACCURACY_KEPT:.0f} points; psi after over before is "
    )
    + ", ".join(
        f"{claims.within(row)} ({figures.LOOKS[row.factors['kind']].label})"
        for row in ratios
    )
    + (
        f". Green: what counts as unchanged. Intervals over {seeds} seeds and the "
        "images."
    ),
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.verdict(study.CLAIMS[5], results, own=True)

# %% [markdown]
# ## Did it hold?

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.verdicts(study.CLAIMS, results, own=True)

# %% [markdown]
# ## Sensitivity
#
# *Seeds.* The framed diagonal above says how well two seeds agree on each measure. If
# two measures were the same but for seed noise of their own, their correlation would be
# about the root of the product of their frames (last column); it can lie above that
# only where both see the same accidents of single networks.
#
# *Families.* The intervals over families are the ones to trust where a claim hangs on
# the pruned networks.
#
# *The Bayesian kind.* The lenses look at it in different ways: psi and its bounds at
# the network of the posterior mean, certified share at posterior samples, attacks at
# their mean prediction. The column without it was added after the first reference run
# was seen, to tell what that does. It decides no verdict.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
display(
    page.table(
        figures.sensitivity_table(results),
        caption=(
            "Spearman's ρ of the pairs of claims S1 to S5: over kinds and seeds, "
            "over families and seeds, without the Bayesian kind, and what two seeds "
            "share of both measures."
        ),
    )
)
page.prose(figures.without_posterior(results))

# %% [markdown]
# ### The same quantity in the papers' studies
#
# Where the reference record of a study holds the same quantity at the same budget on
# the same data, both are below. The networks differ in size, training images and epochs
# (those here are half as wide), so values need not be equal; the order of the trainings
# should be.
#
# ```{same-quantity}
# ```

# %% [markdown]
# ## Limits
#
# - One architecture and one data set. What ranks these networks alike could fail among
#   networks of different size; the paper of psi claims it for those, and [its
#   study](../studies/loss_metric.ipynb) tests it.
# - Twelve kinds are few. Most differ in robustness by training for it, so a correlation
#   over kinds says what such trainings change together, not that one measure causes
#   another.
# - Robust accuracy and the attained end of psi come from attacks and bound the truth
#   from one side; certified share and the proved end bound it from the other.
# - The network at the posterior mean is a stand-in for the posterior in two lenses
#   (psi, prunable share). A Bayesian network trained against attacks is left out.
# - Intervals draw kinds and seeds; the images are the same for all networks and stay.
#   With so few kinds percentile intervals are somewhat too narrow.
# - Occlusion windows, cut-offs and the two points of accuracy are ours. The prunable
#   share is read off a curve of at most 20 steps.

# %% [markdown]
# ## Exercises
#
# Each exercise has a check. Open the notebook, replace `answer`, run the cell.
# Solutions are folded below each.
#
# ### 1. Work out: what is left at equal accuracy?
#
# Two measures have rank correlation 0.8. With clean accuracy one has 0.7, the other
# 0.9. What is their partial correlation given clean accuracy?

# %% tags=["exercise"] exercise="partial"
answer = None  # one number
exercises.report(checks.check_partial, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="partial"
answer = float((0.8 - 0.7 * 0.9) / np.sqrt((1 - 0.7**2) * (1 - 0.9**2)))
exercises.report(checks.check_partial, answer)

# %% [markdown]
# ### 2. Predict: what leaves a rank correlation alone?
#
# psi is replaced by its `logarithm`, its `cube`, its `inverse`, by `times 2 plus 1`, or
# `rounded to one digit`. Which of these never change its rank correlations, their sign
# included?

# %% tags=["exercise"] exercise="invariance"
answer = None  # a set of names, such as {"cube", "inverse"}
exercises.report(checks.check_invariance, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="invariance"
answer = {
    "logarithm",
    "cube",
    "times 2 plus 1",
}  # every rising function keeps the order
exercises.report(checks.check_invariance, answer)

# %% [markdown]
# ### 3. Change and explain: the ceiling
#
# Two measures see one quality of a kind of network, each with seed noise of its own.
# Two seeds agree with correlation 0.81 on the first and 0.49 on the second. What
# correlation between the two measures should one expect?
# (`checks.noisy_measures(noise)` gives such values (kinds, seeds, 2) to try it on.)

# %% tags=["exercise"] exercise="ceiling"
answer = None  # one number
exercises.report(checks.check_ceiling, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="ceiling"
answer = float(
    np.sqrt(0.81 * 0.49)
)  # the variance that is not noise is a share 0.81 of one and 0.49 of the other
exercises.report(checks.check_ceiling, answer)

# %% [markdown]
# ### 4. Implement: an interval that knows about kinds
#
# Given values (kinds, seeds, 2) and a number of resamples, return a 95 % interval of
# the rank correlation of the two measures that draws kinds and seeds, not single
# networks.

# %% tags=["exercise"] exercise="interval"
answer = None  # a function (values, resamples) -> (low, high)
exercises.report(checks.check_interval, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="interval"
def my_interval(values, resamples):
    """Percentile interval of Spearman's rho, kinds and seeds drawn with replacement."""
    from scipy.stats import spearmanr

    generator, found = np.random.default_rng(1), []
    for _ in range(resamples):
        kinds, chosen = (
            generator.integers(count, size=count) for count in values.shape[:2]
        )
        part = values[kinds][:, chosen].reshape(-1, 2)
        found.append(spearmanr(part[:, 0], part[:, 1]).statistic)
    return tuple(np.quantile(found, [0.025, 0.975]))


answer = my_interval
exercises.report(checks.check_interval, answer)

# %% [markdown]
# ## Provenance

# %% jupyter={"source_hidden": true} tags=["remove-input"]
used = [
    replace(each, title=f"{each.title}, {each.split}")
    for each in (networks.train_set(parameters), data)
]
record = finish(
    "synthesis", parameters, results, used, timing=measure.seconds_of_lenses(measured)
)
page.provenance(record)
