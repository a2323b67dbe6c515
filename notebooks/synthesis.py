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
# # What do six measures say of each other?
#
# *A question of our own, asked of the same networks; no paper is reproduced here.*

# %% jupyter={"source_hidden": true} tags=["remove-input"]
from robustbook import exercises, page
from robustbook.plots import style
from robustbook.studies import synthesis as study

style.use_style()
page.opening()

# %% [markdown]
# **You need** to know what a classifier, an attack and a correlation are. **You will be
# able to** compare networks by what they do under six kinds of perturbation, say how
# far two such measures agree, and tell when a correlation must not be trusted. Fifteen
# minutes to read, one to run.
#
# Each of the six papers of this book perturbs something and measures what a network
# does: its prediction {cite:p}`yu2019interpreting`, its answers to filtered images
# {cite:p}`oleszkiewicz2020understanding`, its accuracy under attack
# {cite:p}`pang2021evaluating`, its saliency maps {cite:p}`brunke2021evaluating`, what
# can be certified {cite:p}`cardelli2019statistical`, the units that can go
# {cite:p}`molchanov2019importance`. The papers used different networks, so nobody could
# ask what one of these numbers says about another.
#
# ## See it once
#
# Train one small network on handwritten digits twice: as usual, and on digits that an
# attack perturbs at every step (MinMax). A few seconds.

# %%
import torch

from robustbook.data import load
from robustbook.models.training import Recipe, train
from robustbook.perturb.gradient import pgd
from robustbook.studies.synthesis import networks

digits, unseen = load("digits", "train"), load("digits", "test")


def attack(model, images, labels, generator):
    """Digits pushed by at most 0.2 a pixel, seven steps uphill on the loss."""
    found = {"epsilon": 0.2, "steps": 7, "step_size": 0.07, "generator": generator}
    return pgd(model, images, labels, **found)


# %%
models = {}
for name, training in (("natural", "natural"), ("MinMax", "minmax")):
    fresh = networks.build(digits.image_shape, digits.classes, seed=0)
    recipe = Recipe(training, epochs=30, learning_rate=3e-3, epsilon=0.2, steps=7)
    models[name] = train(
        fresh, digits.images, digits.labels, recipe, seed=0, attack=attack
    )

# %% [markdown]
# Now look at both through some *lenses*: attack a digit, take its fine detail away,
# cover a part of it.

# %%
from robustbook.perturb.lowpass import low_pass
from robustbook.studies.synthesis import figures

digit = 3
image, label = unseen.images[digit : digit + 1], unseen.labels[digit : digit + 1]
covered = image.clone()
covered[..., 2:5, 2:5] = 0.5

# %%
views = {
    name: {
        "as it is": image,
        "attacked": attack(model, image, label, torch.Generator().manual_seed(0)),
        "low-passed": low_pass(image, 8.0, pitch=1.0),
        "covered": covered,
    }
    for name, model in models.items()
}
figures.one_digit(views, models)

# %% [markdown]
# **Try.** Take another digit, `digit = 2`. Which lens changes the answers of which
# network? Now many digits, so that each lens gives a number:


# %%
def right(model, images):
    """Share of the first hundred unseen digits that are read correctly."""
    answers = model(images).argmax(1)
    return (answers == unseen.labels[:100]).float().mean().item()


# %%
some, labels = unseen.images[:100], unseen.labels[:100]
for name, model in models.items():
    pushed = attack(model, some, labels, torch.Generator().manual_seed(0))
    passed = low_pass(some, 8.0, pitch=1.0)
    print(
        f"{name:8} {right(model, some):.0%} right, {right(model, pushed):.0%} under "
        f"attack, {right(model, passed):.0%} without fine detail"
    )

# %% [markdown]
# The second network is better under attack. Is it better through the other lenses, too?
# Two networks cannot say: any two measures agree on them, or disagree. It takes many.
#
# ## The idea
#
# Rank all networks by one measure, then by another. *Spearman's ρ* is the correlation
# of the two orders, in which network $i$ of $n$ has ranks $R_i$ and $R'_i$. Without
# ties it is
#
# $$\rho = 1 - \frac{6 \sum_i (R_i - R'_i)^2}{n\,(n^2 - 1)}.$$

# %%
import numpy as np


def rank_correlation(first, second):
    """Spearman's rho of two measures of the same networks."""
    ranks = [np.argsort(np.argsort(each)) for each in (first, second)]
    n, gap = len(first), ranks[0] - ranks[1]
    return 1 - 6 * (gap**2).sum() / (n * (n**2 - 1))


print(rank_correlation([0.2, 0.5, 0.9, 0.4], [1.0, 30.0, 20.0, 2.0]))

# %% [markdown]
# It is 1 for the same order and −1 for the reverse. We call two measures alike beyond
# 0.5: then, of two networks, the one with the larger value of one measure has the
# larger value of the other in two cases of three.
#
# ### Exercise 1. Predict: what leaves a rank correlation alone?
#
# psi is replaced by its `logarithm`, its `cube`, its `inverse`, by `times 2 plus 1`, or
# `rounded to one digit`. Which of these never change its rank correlations, their sign
# included?

# %%
from robustbook.studies.synthesis import exercises as checks

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
# ## Measured properly
#
# From here on every number comes from many networks, and from the parameters below.

# %% tags=["parameters"]
dataset: str = "digits"
epsilon: float = 0.1
train_images: int = 1000
epochs: int = 15
vi_epochs: int = 40
tune_epochs: int = 4
prior_sd: float = 0.3
seeds: int = 2
accuracy_images: int = 200
images: int = 40
bound_images: int = 12
map_images: int = 16
steps: int = 10
restarts: int = 1
queries: int = 60
posterior_samples: int = 4
bound_samples: int = 2
halvings: int = 3
resamples: int = 300
first_seed: int = 0

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.parameters(study.Parameters.of(globals()))

# %%
from robustbook.results import Results
from robustbook.run import finish
from robustbook.studies.synthesis import rows
from robustbook.studies.synthesis.measure import lenses

# %%
results = Results(rows=study.ROWS, rerun=True)

# %% [markdown]
# ### The networks
#
# One small architecture, sixteen *ways of training*, each from several seeds. Natural
# training, also shorter, on few images, in a narrow and in a wide network. On other
# data: half of the images noisy, blurred, shifted or partly covered, or a fifth of the
# labels wrong. With a penalty: L2, or on the gradient {cite:p}`ross2018improving`.
# Against attacks: FGSM, and MinMax {cite:p}`madry2018towards` at half and at full
# budget. And one Bayesian network, by mean-field variational inference. From two of
# these, units were taken out and the rest tuned: four *pruned* kinds, which belong to
# the family of their parent.

# %%
training = {
    "dataset": dataset,
    "epsilon": epsilon,
    "train_images": train_images,
    "epochs": epochs,
    "vi_epochs": vi_epochs,
    "tune_epochs": tune_epochs,
    "prior_sd": prior_sd,
    "seeds": seeds,
    "first_seed": first_seed,
}
zoo, controls = networks.zoo(**training), networks.controls(**training)
networks.train_all(zoo + controls)

# %% [markdown]
# ### The lenses
#
# - *Robust accuracy*: right under PGD on two losses and under Square attack
#   ([chapter](../studies/bnn_attacks.ipynb)). *Black-box accuracy*: under Square attack
#   {cite:p}`croce2020reliable` alone, which tries random squares and sees no gradient.
# - *psi*: one over the largest divergence of the prediction that a gradient ascent
#   finds ([chapter](../studies/loss_metric.ipynb)). *Sound psi*: the same from a bound
#   that is proved, at half the budget.
# - *Certified share*: decisions that no perturbation can change, proved by bounds, mean
#   of 0.3 and 0.5 of the budget ([chapter](../studies/bnn_verification.ipynb)).
# - *Saliency stability*: how alike occlusion maps with five baselines are
#   ([chapter](../studies/saliency_baselines.ipynb)).
# - *Low-pass loss*: accuracy lost to a low-pass filter, mean of four cut-offs
#   ([chapter](../studies/mammogram_perturbations.ipynb)).
# - *Prunable share*: units that can go, lowest Taylor score first, until accuracy is
#   two points lower ([chapter](../studies/taylor_pruning.ipynb)).
# - *Clean accuracy*: no lens, but the control of all.

# %%
size = {
    "epsilon": epsilon,
    "accuracy_images": accuracy_images,
    "images": images,
    "bound_images": bound_images,
    "map_images": map_images,
    "steps": steps,
    "restarts": restarts,
    "queries": queries,
    "posterior_samples": posterior_samples,
    "bound_samples": bound_samples,
}
measured = lenses.measure_all(zoo, **size)
compared = lenses.measure_robustness(controls, **size)

# %%
rows.record_networks(results, measured)
figures.zoo(results)

# %% [markdown]
# Radii and cut-offs were set on one natural network, so that each lens tells networks
# apart; nothing was tuned by the correlations. This is how the prunable share is read:

# %%
page.source(lenses.removal_curve, lenses.prunable_share)

# %% [markdown]
# ### Choose two lenses
#
# Networks of one way of training are no independent witnesses: four markers in one
# corner may be one witness. So intervals draw whole families with replacement, and
# seeds (the pigeonhole bootstrap, {cite:p}`owen2007pigeonhole`).

# %%
rows.record_correlations(results, measured, halvings=halvings, resamples=resamples)
figures.explore(results)

# %% [markdown]
# **Try.** Set *Across* to psi and *Up* to robust accuracy, and show MinMax alone. Is
# there a tie left among its seeds? Then choose prunable share.
#
# ### Exercise 2. Implement: an interval that knows about families
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
# ### Does a measure agree with itself?
#
# Before two measures are compared, each must repeat itself. Cut the images into two
# halves, measure every network on both, and correlate the halves; with all images the
# *reliability* is $2\rho/(1 + \rho)$ for a correlation $\rho$ of halves. Then train
# again from another seed. And ask the hard question: do the halves also agree on
# networks that differ in their seed alone?

# %%
figures.reliability(results)

# %% [markdown]
# ### Exercise 3. Predict: the ceiling
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
# ### Does psi say more than its own attack?
#
# psi and the usual robust accuracy both follow gradients within one budget; that they
# agree says little. So psi is held against two references that follow none: random
# search, and proofs. Three controls: the same clean accuracy, the same way of training
# (each measure then on its own half of the images, so that no noise is common), and a
# rival that costs one gradient step.

# %%
figures.psi_ties(results)

# %%
page.verdict(study.CLAIMS[0], results, own=True)

# %% [markdown]
# At equal clean accuracy means the *partial* correlation. With correlations $\rho_{ij}$
# of measures $i$ and $j$, and a third measure $k$:
#
# $$\rho_{ij \cdot k} =
# \frac{\rho_{ij} - \rho_{ik}\,\rho_{jk}}{\sqrt{(1 - \rho_{ik}^2)(1 - \rho_{jk}^2)}}.$$
#
# ### Exercise 4. Work out: what is left at equal accuracy?
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
# ### Do two proofs agree?
#
# One bounds how far the prediction moves, the other whether the decision can change.
# Both come from the same relaxation of the network, so they share what makes it loose.
# The control asks what is left of their tie among networks that an attack at the same
# radius finds equally hard to move.

# %%
figures.proofs(results)

# %%
page.verdict(study.CLAIMS[1], results, own=True)

# %% [markdown]
# ### Do maps, filters and pruning tell of robustness?
#
# Three lenses have nothing to do with attacks. Each is held against robust accuracy and
# against the certified share. No tie is a finding, too, but only where the interval
# leaves out what would matter and the lens repeats itself: of all three the same limit
# and the same reliability are asked.

# %%
figures.ties(results)

# %%
page.verdict(study.CLAIMS[2], results, own=True)

# %%
page.verdict(study.CLAIMS[3], results, own=True)

# %%
page.verdict(study.CLAIMS[4], results, own=True)

# %% [markdown]
# ### What does pruning change?
#
# Pruned networks were tuned after their units went, and tuning alone changes a network.
# Each is therefore compared with its own parent *tuned as long with nothing taken out*,
# and beside the Taylor score stands luck: as many units taken out at random.

# %%
rows.record_pruning(results, measured, compared)
figures.pruning(results)

# %%
page.verdict(study.CLAIMS[5], results, own=True)

# %% [markdown]
# ## What held, what did not

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.verdicts(study.CLAIMS, results, own=True)

# %% [markdown]
# Rules that were faulty were changed in the open:
# [corrections](../corrections.md) has the old ones and what they said.
#
# ## What could overturn this
#
# **One family may make a tie.** Every correlation was taken again without one family at
# a time.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.prose(figures.influence(results))

# %% [markdown]
# **A missing tie may hang on the reference.** S4 is decided against robust accuracy
# alone. The figure of the three lenses shows what certified share, and equal clean
# accuracy, say instead: where one of these intervals holds the dotted line, "did not
# hold" is the answer of one reference, and not of all.
#
# **The Bayesian network may be half trained.**

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.prose(figures.convergence(results))

# %% [markdown]
# **Another zoo may say something else.** Correlations are those of these ways of
# training. Most differ in robustness because they were trained for it or not, so that a
# tie says what such trainings change together, not that one measure causes another.
#
# ## Limits
#
# - One architecture in three widths, one data set. The paper of psi claims its ranking
#   for networks of any structure; [its chapter](../studies/loss_metric.ipynb) tests it.
# - Sixteen ways of training are few. Percentile intervals over so few are somewhat too
#   narrow.
# - Robust accuracy and psi come from attacks and bound the truth from one side; proofs
#   bound it from the other.
# - Of the Bayesian network accuracies, psi and maps are those of the mean prediction,
#   proofs those of single posterior samples, the prunable share that of the network at
#   the posterior mean.
# - Intervals draw families and seeds; the images are the same for all networks.
# - Occlusion windows, cut-offs and the two points of accuracy are ours.
#
# ## What to remember
#
# - A measure must agree with itself before it can agree with another.
# - Many networks of one kind are one witness: count ways of training, not networks.
# - "No correlation" needs an interval that leaves out the correlation that would
#   matter.
#
# Next: [how this book is made](../how-this-book-is-made.md), and
# [how to re-run it](../how-to-rerun.md) with networks of your own.
#
# ## Provenance

# %% jupyter={"source_hidden": true} tags=["remove-input"]
from dataclasses import replace

used = [
    replace(each, title=f"{each.title}, {each.split}")
    for each in (zoo[0].plain, lenses.test_images(dataset, accuracy_images))
]
record = finish(
    "synthesis",
    study.Parameters.of(globals()),
    results,
    used,
    timing=lenses.seconds_of_lenses(measured),
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
picture = figures.hero(results)
sentences = figures.in_short(results)
page.in_short(sentences, study.CLAIMS, results, picture=picture, own=True)
page.provenance(record)
