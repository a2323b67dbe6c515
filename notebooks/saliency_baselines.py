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
# # How much of a saliency map is the baseline?
#
# *Perturbation methods and their baseline images, after
# {cite:t}`brunke2021evaluating`.*

# %% jupyter={"source_hidden": true} tags=["remove-input"]
from robustbook import exercises, page
from robustbook.plots import style
from robustbook.studies import saliency_baselines as study

style.use_style()
page.opening()

# %% [markdown]
# **You need** to know what a classifier is and how it is trained. **You will be able
# to** make saliency maps by covering, tell what in a map is chance, and judge maps
# without fooling yourself. Twenty minutes to read, one to run.
#
# ## See it once
#
# Train a small network to name drawn shapes. It takes a few seconds.

# %%
import torch

from robustbook.data import load
from robustbook.models import build
from robustbook.models.training import Recipe, train

shapes, unseen = load("shapes", "train"), load("shapes", "test")
network = build("cnn", shapes.image_shape, shapes.classes, seed=0)
recipe = Recipe("natural", epochs=5, learning_rate=2e-3)
network = train(network, shapes.images, shapes.labels, recipe, seed=0)
right = network(unseen.images).argmax(1) == unseen.labels
print(f"{right.float().mean():.0%} of unseen shapes are named correctly")

# %% [markdown]
# Now slide a square window over one of them and watch the probability of its class.
# Where covering hurts most is where the answer comes from. But the window has to show
# something: grey, say, or black.

# %%
from robustbook.studies.saliency_baselines import figures

image, label = unseen.images[1], int(unseen.labels[1])


def slide(colour, size=5):
    """Fall of the probability by the window's place."""
    places = [(y, x) for y in range(25 - size) for x in range(25 - size)]
    covered = image.repeat(len(places), 1, 1, 1)
    for number, (y, x) in enumerate(places):
        covered[number, :, y : y + size, x : x + size] = colour
    fall = network(image[None]).softmax(1) - network(covered).softmax(1)
    return fall[:, label].reshape(25 - size, -1)


figures.windows(image, {"grey": slide(0.5), "black": slide(0.0), "white": slide(1.0)})

# %% [markdown]
# **Try.** Add the image's mean colour to the last line, `"mean": slide(image.mean((1,
# 2))[:, None, None])`. Which of the three maps is it like?
#
# What the window shows is called the **baseline**. RISE {cite:p}`petsiuk2018rise`
# covers with many random masks instead of one window, and averages them. So its maps
# have noise, and before we compare baselines we must know how much. Two draws of 200
# masks:

# %%
from robustbook.measure.adjusted_rise import adjusted_maps
from robustbook.measure.saliency import mask_scores, rise_maps
from robustbook.perturb.masks import draw_masks

generator = torch.Generator().manual_seed(0)
settings = {"cells": 7, "probability": 0.5, "generator": generator}
grey, target = torch.full_like(image, 0.5)[None], torch.tensor([label])
many = draw_masks(4000, (24, 24), **settings)
maps = {"plain": [], "adjusted": []}
for _ in range(2):
    masks = draw_masks(200, (24, 24), **settings)
    scores = mask_scores(network, image[None], target, masks, grey)
    maps["plain"].append(rise_maps(scores, masks)[0])
    maps["adjusted"].append(adjusted_maps(scores, masks, many)[0])
figures.two_draws(maps)

# %% [markdown]
# **Try.** Take 50 masks in place of 200, or 2000. How many does the plain map need to
# repeat itself as well as the adjusted one with 200?
#
# ## The idea
#
# A mask $M$ with values in $[0, 1]$ mixes the image $x$ with the baseline $B$:
#
# $$x_M = x \odot M + B \odot (1 - M).$$
#
# The map is the mean of $N$ masks, weighted by the probability $P_y$ of the class; a
# pixel is shown with probability $p$:
#
# $$A = \frac{1}{N p} \sum_{i=1}^{N} P_y(x_{M_i})\, M_i .$$

# %%
page.source(rise_maps)

# %% [markdown]
# Most of the noise can be avoided, from the same passes. *Centring* takes the mean
# score off. What is left is mostly linear in the mask: fit that part, average its map
# over masks that no network needs to see, and leave only the rest to chance (a control
# variate). We call that *adjusted*. In expectation the plain, centred and adjusted map
# differ by a constant alone.
#
# The paper speaks of *neutral* baselines, which can mean two things: the network's
# answer to the baseline is near-uniform, or it gives the class explained a low
# probability. We measure both. The paper names RISE and the two removal metrics below;
# its baselines, networks and numbers we could not read, so those are ours.
#
# ## Measured properly
#
# One shape proves nothing. From here on several networks are measured. The cell below
# has quick settings, the table under it the values of this page. Change one and run the
# cells after it: all that follows changes with it.

# %% tags=["parameters"]
dataset: str = "digits"
seeds: int = 3
train_images: int = 1500
epochs: int = 10
images: int = 6
masks: int = 200
cells: int = 7
probability: float = 0.5
setting_images: int = 4
setting_masks: int = 640
learned_steps: int = 60
cifar_images: int = 0
cifar_masks: int = 300
transformer_images: int = 0
transformer_masks: int = 400
photographs: int = 0
photograph_masks: int = 100

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.parameters(study.Parameters.of(globals()))

# %%
from robustbook.results import Results
from robustbook.run import finish
from robustbook.studies.saliency_baselines import exercises as checks
from robustbook.studies.saliency_baselines import networks
from robustbook.studies.saliency_baselines.measure import (
    controls,
    examples,
    judging,
    shift,
)
from robustbook.studies.saliency_baselines.measure import maps as measuring
from robustbook.studies.saliency_baselines.measure import settings as varying
from robustbook.workers import map_in_workers

# %%
results = Results(rows=study.ROWS, rerun=True)

# %% [markdown]
# ### Networks, images, masks
#
# Small networks name handwritten digits, drawn shapes, and shapes beside a planted
# patch that alone decides the class. The reference run adds CIFAR-10 with a published
# ResNet-20, shapes with a small vision transformer, and photographs with a published
# SqueezeNet. Every seed has its own images and masks, and its own network where we
# train it; intervals are over seeds.

# %%
small = {
    "dataset": dataset,
    "seeds": seeds,
    "train_images": train_images,
    "epochs": epochs,
    "images": images,
    "masks": masks,
    "cells": cells,
    "probability": probability,
    "learned_steps": learned_steps,
}

# %%
large = {
    "cifar_images": cifar_images,
    "cifar_masks": cifar_masks,
    "transformer_images": transformer_images,
    "transformer_masks": transformer_masks,
    "photographs": photographs,
    "photograph_masks": photograph_masks,
}
tasks = networks.tasks(**small, **large)

# %% [markdown]
# The agreement of two draws of masks is the **ceiling**: no two maps can be expected to
# agree better. *Balanced* masks show every cell equally often; *paired* masks come with
# their complement.

# %%
measured = map_in_workers(measuring.measure_maps, tasks, title="sets of maps")
measuring.add_networks(results, measured)
measuring.add_passes(results, measured)
figures.passes(results)

# %% [markdown]
# Every comparison below uses the adjusted map.
#
# ### Does the baseline change the map?
#
# Compare the map of one baseline with that of another, from other masks. What is
# missing to the ceiling (the geometric mean of both baselines' own) is the **gap**, and
# due to the baseline. With the *same* masks, as such comparisons are often made, both
# maps would share their noise. A data set with one measure of similarity is a
# *comparison*; it counts where the ceiling is high enough.

# %%
measuring.add_similarity(results, measured)
figures.gaps(results)

# %%
page.verdict(study.CLAIMS[0], results)

# %%
page.table(
    figures.overview(results),
    caption="Agreement of two draws (ceiling) and the gap, by estimator: the same "
    "passes, another average.",
)

# %% [markdown]
# ### Is it different for neutral baselines?
#
# A baseline that looks like nothing to us need not be nothing to the network. Six (on
# large networks four) are optimised until the answer is uniform, most from random
# starts, so that there are many neutral pairs.

# %%
measuring.add_neutral(results, measured)
figures.neutrality(results)

# %%
page.verdict(study.CLAIMS[1], results)

# %% [markdown]
# ### Do covered images leave the data?
#
# Half grey, half photograph: no network was trained on that. Perhaps maps diverge
# because the network is asked about images unlike any it knows. Measure, in its
# features before the last layer, how far covered images lie from the nearest real ones;
# unseen real images have distance 1, and a pair of baselines has the sum of both. If
# distance is the cause, it should predict which pairs of baselines diverge, and better
# than the difference of their pixels does.

# %%
with_data = shift.with_data(measured)
shifts = map_in_workers(shift.measure_shift, with_data, title="sets of distances")
shift.add_shift(results, with_data, shifts)
figures.distance(results, with_data, shifts)

# %%
page.verdict(study.CLAIMS[7], results)

# %% [markdown]
# ### Choose for yourself
#
# Change the baseline and watch two things at once: the map, and the curve that is used
# to judge it.

# %%
figures.explore(examples.examples(measured))

# %% [markdown]
# ### Does a map find what decides?
#
# Differing is not failing. On the planted images we know what decides: put another
# patch in its place and the answer follows. A map should find the patch whatever
# covers. Seeds differ, so the intervals below are wide; the verdict compares baselines
# within a seed.

# %%
measuring.add_recovery(results, measured)
figures.patch(results)

# %%
page.verdict(study.CLAIMS[6], results)

# %% [markdown]
# ### Does the baseline change the score?
#
# Without a truth, maps are judged by removal. Pixels give way to a baseline in the
# order of the map: with the **most relevant first** (MoRF) the probability should fall
# fast, with the **least relevant first** (LeRF) slowly {cite:p}`samek2017evaluating`.
# Here the baseline belongs to the *metric*; the maps are fixed. ROAD
# {cite:p}`rong2022consistent` needs none: it continues what is removed from its
# neighbours.

# %%
judged = map_in_workers(
    judging.measure_judging, judging.judged_tasks(measured), title="sets of judged maps"
)
judging.add_rankings(results, judged)
figures.ranking(results)

# %% [markdown]
# Thirteen maps are ranked; three (random, edges, centre) know nothing of the network.
# The colours change along the rows. But would a ranking repeat itself at all? Rank on
# one half of a seed's images, and again on the other: once under the same baseline,
# once under another.

# %%
page.verdict(study.CLAIMS[2], results)

# %% [markdown]
# ### Judge and judged
#
# Both factors at once: maps by their own baseline, metrics by theirs. The means of rows
# (some maps are better) and columns (some metrics are kinder) are taken off; the
# diagonal shows what a shared baseline gains.

# %%
judging.add_matrix(results, judged)
figures.matrix(results)

# %%
page.verdict(study.CLAIMS[3], results)

# %% [markdown]
# ### Do metrics agree?
#
# Per image, correlate the methods' MoRF scores with their LeRF scores. The yardstick
# is a metric repeated: with other step sizes, or another draw of a noise baseline.
# Deletion and insertion, as RISE defines them, are MoRF with the mean colour and LeRF,
# read backwards, with a blur.

# %%
judging.add_disagreement(results, judged)
figures.agreement(results)

# %%
page.verdict(study.CLAIMS[5], results)

# %% [markdown]
# ### Do the settings of RISE matter?
#
# Official examples of RISE disagree by a factor of five in $p$; the grid's `cells` (s
# in the figure) are a choice, too. From few masks two settings differ by noise alone,
# so watch the gap while $N$ grows: noise sinks to zero, a real difference stays.

# %%
work = varying.setting_tasks(
    tasks, setting_images=setting_images, setting_masks=setting_masks
)
curves = map_in_workers(varying.measure_settings, work, title="sets of settings")
varying.add_settings(results, curves)
figures.settings(results)

# %%
page.verdict(study.CLAIMS[4], results)

# %% [markdown]
# ## What held, what did not

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.verdicts(study.CLAIMS, results)

# %% [markdown]
# Rules that were faulty were changed in the open:
# [corrections](../corrections.md) has the old ones and what they said.
#
# ## What could overturn this
#
# **Removal is not the only judge.** *Infidelity* asks whether a map foretells how far
# the answer falls {cite:p}`yeh2019fidelity`; it needs something to cover with as well,
# so it has a column for each baseline: is the same method best in all? *Sensitivity*
# says how far the map moves when every pixel moves a little. And a map that stays the
# same when the network's layers are *randomised*, from the last to the first, does not
# explain the network {cite:p}`adebayo2018sanity`: watch the edges, which never look at
# it.

# %%
work = controls.control_tasks(tasks)
checked = map_in_workers(controls.measure_controls, work, title="sets of checks")
controls.add_controls(results, checked)
page.table(
    figures.checks(results),
    caption="Low infidelity and sensitivity are good; so is a low correlation with the "
    "map of the trained network after its last layer, or all, were randomised.",
)

# %% [markdown]
# ## Limits
#
# - The networks that are trained here are small. Intervals over seeds do not speak for
#   other architectures. ResNet-20 and SqueezeNet are one network each: their seeds are
#   other images and masks.
# - CIFAR-10 is a JPEG copy; its accuracy must not be compared with published ones. The
#   photographs were chosen among those that SqueezeNet knows, and are not shown here.
# - Photographs take part in the first two claims only, the planted images in these and
#   in those of the patch and of distance.
# - A neutral baseline is neutral alone. Mixed with an image it is not.
# - Predicting divergence from distance shows no cause; distance in another layer may
#   say something else.
# - Our learned masks (*extremal*, *meaningful*) are simpler than the published ones.
#   Layer-wise relevance propagation is left out.
#
# ## What to remember
#
# - A map by covering is an answer to "compared with what?". Name the baseline.
# - Two maps differ by chance. Measure how well one repeats itself before you say that
#   two disagree.
# - A metric that covers has a baseline too, and favours maps that share it.
#
# Next: [how far radiologists and networks follow the same
# frequencies](../studies/mammogram_perturbations.ipynb), and [what six measures say of
# each other](../studies/synthesis.ipynb). The article *Visualizing the Impact of
# Feature Attribution Baselines* (Distill, 2020) asks the same of integrated gradients.
#
# ## Exercises
#
# Each has a check. Replace `answer` and run the cell; solutions are folded below.
#
# ### 1. Predict: the same area
#
# Under one baseline the LeRF curve of a map has the area 0.7. What is the area of its
# insertion curve under the same baseline?

# %% tags=["exercise"] exercise="insertion"
answer = None  # one number
exercises.report(checks.check_insertion, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="insertion"
# after k steps of insertion the k most relevant steps show the image: what LeRF has
# left after all but k
answer = 0.7
exercises.report(checks.check_insertion, answer)

# %% [markdown]
# ### 2. Predict: four times as many masks
#
# If a map is a signal plus noise that falls with the number of masks, two draws
# correlate to $r(N) = 1 / (1 + c/N)$. With $N = 500$ it is 0.6. What is it for $N =
# 2000$?

# %% tags=["exercise"] exercise="four-times"
answer = None  # one number
exercises.report(checks.check_ceiling, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="four-times"
noise = 500 * (1 / 0.6 - 1)
answer = 1 / (1 + noise / 2000)
exercises.report(checks.check_ceiling, answer)

# %% [markdown]
# ### 3. Try and explain: centring
#
# `checks.sample_problem()` gives a network, an image, its class, two draws of masks,
# and a grey baseline. Correlate (Spearman) the RISE maps of the two draws, once plain
# and once with `centred=True`, and explain the difference. The network is untrained,
# and its answer hardly depends on the mask.

# %% tags=["exercise"] exercise="centring"
answer = None  # two numbers (plain, centred)
exercises.report(checks.check_centred, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="centring"
from robustbook.measure.saliency import mask_scores, rise_maps
from robustbook.measure.similarity import spearman

model, image, target, draws, grey = checks.sample_problem()
scores = [mask_scores(model, image, target, draw, grey) for draw in draws]
answer = tuple(
    float(
        spearman(
            *(
                rise_maps(score, draw, centred=centred)
                for score, draw in zip(scores, draws, strict=True)
            )
        )
    )
    for centred in (False, True)
)
# Plain maps mostly show how often each pixel happened to be covered, times the mean
# answer. Centring takes that off.
exercises.report(checks.check_centred, answer)

# %% [markdown]
# ### 4. Implement: removal
#
# Write the MoRF curve of one image `(C, H, W)`, a pixel at a time, given a saliency map
# `(H, W)` and a baseline image: the probabilities of the class from nothing covered to
# all.

# %% tags=["exercise"] exercise="removal"
# a function (model, image, target, saliency, baseline) -> probabilities (pixels + 1,)
answer = None
exercises.report(checks.check_removal, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="removal"
import torch


@torch.no_grad()
def my_curve(model, image, target, saliency, baseline):
    """Probability of the class while the most salient pixels give way to the
    baseline.
    """
    current, found = image.clone(), []
    found.append(torch.softmax(model(current[None]), dim=1)[0, target])
    for pixel in saliency.flatten().argsort(descending=True, stable=True).tolist():
        row, column = divmod(pixel, saliency.shape[1])
        current[:, row, column] = baseline[:, row, column]
        found.append(torch.softmax(model(current[None]), dim=1)[0, target])
    return torch.stack(found)


answer = my_curve
exercises.report(checks.check_removal, answer)

# %% [markdown]
# ### 5. Implement: RISE
#
# Given the scores $P_y(x_{M_i})$ `(N,)`, the masks `(N, H, W)` and $p$, write the map.

# %% tags=["exercise"] exercise="rise"
answer = None  # a function (scores, masks, p) -> map (H, W)
exercises.report(checks.check_rise, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="rise"
def my_rise(scores, masks, p):
    """Mean of the masks, weighted by their scores, over p."""
    return (scores[:, None, None] * masks).sum(0) / (len(masks) * p)


answer = my_rise
exercises.report(checks.check_rise, answer)

# %% [markdown]
# ## Provenance

# %% jupyter={"source_hidden": true} tags=["remove-input"]
record = finish(
    "saliency_baselines",
    study.Parameters.of(globals()),
    results,
    networks.image_sets(tasks),
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
picture = figures.hero(examples.hero(measured))
sentences = figures.in_short(results)
page.in_short(sentences, study.CLAIMS, results, picture=picture)
page.provenance(record)
