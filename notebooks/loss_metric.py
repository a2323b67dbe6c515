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
# # How far can a prediction be pushed?
#
# *Loss surfaces in input space and the metric psi, after {cite:t}`yu2019interpreting`.*

# %% jupyter={"source_hidden": true} tags=["remove-input"]
from robustbook import exercises, page
from robustbook.plots import style
from robustbook.studies import loss_metric as study

style.use_style()
page.opening()

# %% [markdown]
# **You need** to know what a classifier, its loss and a gradient are. **You will be
# able to** attack an image, draw the surface on which the attack walks, measure how far
# the whole prediction moves, and say when that number must not be trusted. Twenty
# minutes to read, one to run.
#
# ## See it once
#
# Train a small network on handwritten digits. It takes a second or two.

# %%
import torch

from robustbook.data import load
from robustbook.models import build
from robustbook.models.training import Recipe, train

digits, unseen = load("digits", "train"), load("digits", "test")
network = build("mlp", digits.image_shape, digits.classes, seed=0)
recipe = Recipe("natural", epochs=20)
network = train(network, digits.images, digits.labels, recipe, seed=0)
right = network(unseen.images).argmax(1) == unseen.labels
print(f"{right.float().mean():.0%} of unseen digits are read correctly")

# %% [markdown]
# Now change one of them, every pixel by at most `budget` (black 0, white 1), step by
# step in directions that raise the loss (projected gradient descent, PGD).

# %%
from robustbook.perturb.gradient import pgd
from robustbook.studies.loss_metric import figures

budget, digit = 0.15, 0
image, label = unseen.images[digit : digit + 1], unseen.labels[digit : digit + 1]
generator = torch.Generator().manual_seed(0)
attack = {"epsilon": budget, "steps": 20, "step_size": budget / 5}
attacked = pgd(network, image, label, generator=generator, **attack)
figures.before_and_after(image, attacked, network, budget=budget)

# %% [markdown]
# **Try.** Set `budget = 0.05` and run the cell again. At which budget does the answer
# change? Is it the same for another digit, `digit = 3`?
#
# What does the attack walk on? Walk straight along the sign of the loss gradient, and
# read off two quantities: the cross-entropy, which training lowers, and the *decision
# surface* $S$, the logit of the true class less the largest other one.

# %%
from robustbook.measure import surfaces

gradient = torch.autograd.functional.jacobian(
    lambda x: torch.nn.functional.cross_entropy(network(x), label), image
)
steps_away = torch.linspace(0, 0.3, 61)
line = surfaces.line(network, image[0], int(label), gradient[0].sign(), steps_away)
figures.one_line(line)

# %% [markdown]
# **Try.** Replace `gradient[0].sign()` by `torch.randn_like(image[0]).sign()`, a random
# direction. Does the answer still change before 0.3?
#
# Whether the answer flips is one bit. How far the *whole prediction* moves says more.
# Compare the predictions before and after by their Kullback–Leibler divergence, and
# search for its largest value within the budget; one over that is psi. A small psi
# means that the prediction can be pushed far. (It compares normalised predictions, see
# below, not the percentages of Figure 1.)

# %%
from robustbook.measure.divergence import psi, worst_divergence


def psi_within(model, budget):
    """psi of the digit: one over the largest divergence (1/nats)."""
    search = {"steps": 20, "step_size": budget / 5}
    generator = torch.Generator().manual_seed(0)
    worst = worst_divergence(
        model, image, epsilon=budget, generator=generator, **search
    )
    return psi(worst.kl).item()


for radius in (0.02, 0.05, 0.15):
    print(f"budget {radius:.2f}: psi {psi_within(network, radius):.3g}")

# %% [markdown]
# **Try.** Multiply all logits by ten: `from robustbook.models import Scale`, then
# `psi_within(torch.nn.Sequential(network, Scale(10)), 0.15)`. No answer changes. Does
# psi?
#
# ## The idea
#
# A classifier gives logits $Z(x) \in \mathbb{R}^K$ for an image $x$ of true class $y$.
# Its decision surface is
#
# $$S(x) = Z_y(x) - \max_{i \ne y} Z_i(x),$$
#
# positive where the answer is right, and zero exactly on the decision boundary. psi
# compares softmaxes of *normalised* logits (mean and standard deviation are over the
# $K$ classes), so that a network cannot look better by scaling its last layer. The
# *ball* of budget $\epsilon$ holds every image, pixels in $[0, 1]$, of which no pixel
# differs by more than $\epsilon$:
#
# $$P(x) = \mathrm{softmax}\Big(\frac{Z(x) - \mathrm{mean}\,Z(x)}
# {\mathrm{std}\,Z(x)}\Big),
# \qquad
# \psi(x) = \frac{1}{\max_{\|\delta\|_\infty \le \epsilon}
# D_{KL}\big(P(x) \,\|\, P(x + \delta)\big)}.$$

# %%
from robustbook.measure.divergence import kl_divergence

page.source(surfaces.decision_surface, kl_divergence)

# %% [markdown]
# Walk uphill to the maximum: a step along the sign of the gradient, back into the ball,
# again. At the image itself the divergence has its minimum and no gradient, so the walk
# starts at a random point.

# %%
from robustbook.measure.divergence import normalise_logits


def largest_divergence(model, image, budget, steps=20):
    """The largest divergence (nats) that walking uphill finds in the ball."""
    clean = normalise_logits(model(image)).detach()
    delta = budget * (2 * torch.rand(image.shape, generator=generator) - 1)
    found = 0.0
    for _ in range(steps + 1):
        moved = (image + delta).clamp(0, 1).requires_grad_(True)
        divergence = kl_divergence(clean, normalise_logits(model(moved)))
        found = max(found, divergence.item())
        (uphill,) = torch.autograd.grad(divergence.sum(), moved)
        delta = (moved - image + budget / 5 * uphill.sign()).detach()
        delta = delta.clamp(-budget, budget)
    return found


# %%
ours = 1 / largest_divergence(network, image, budget)
print(
    f"psi by these lines {ours:.3g}, by the package {psi_within(network, budget):.3g}"
)

# %% [markdown]
# The two walks start at different points; the smaller psi is the better search. The
# package's `worst_divergence` takes many images at once, with restarts.
#
# What is the paper's here, and what is ours? Its text gives, in words, the decision
# surface, the largest divergence, and that scaling the logits must not matter.
# Formulas, ball, direction of the divergence and normalisation are our reading; below
# we measure how much depends on it.
#
# ## Measured properly
#
# One digit proves nothing. From here on many networks and images are measured. The cell
# below has quick settings, the table under it the values of this page. Change one and
# run the cells after it: all that follows changes with it.

# %% tags=["parameters"]
dataset: str = "digits"
epsilon: float = 0.1
train_images: int = 1000
epochs: int = 10
colour_dataset: str = "none"
colour_epsilon: float = 0.03
colour_train_images: int = 5000
colour_epochs: int = 5
seeds: int = 2
line_seeds: int = 2
images: int = 32
bound_images: int = 2
clever_images: int = 1
steps: int = 15
restarts: int = 3
strong_steps: int = 20
queries: int = 100
grid: int = 21
slices: int = 3
first_seed: int = 0

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.parameters(study.Parameters.of(globals()))

# %%
from robustbook.results import Results
from robustbook.run import finish
from robustbook.studies.loss_metric import exercises as checks
from robustbook.studies.loss_metric import networks, rows
from robustbook.studies.loss_metric.measure import controls, evaluation, landscape

# %%
results = Results(rows=study.ROWS, rerun=True)

# %% [markdown]
# ### The networks
#
# Three architectures (`mlp`, a multilayer perceptron; `cnn` and `wide-cnn`,
# convolutional) times four trainings: natural, FGSM {cite:p}`goodfellow2015explaining`,
# gradient-regularised {cite:p}`ross2018improving`, and MinMax, adversarial training
# with seven steps {cite:p}`madry2018towards`. An architecture with a training is one
# *kind* of network, trained from several seeds. All meet the same unseen images.
# Networks that hide their gradients, and networks with two classes, serve as controls.

# %%
main = {
    "dataset": dataset,
    "epsilon": epsilon,
    "train_images": train_images,
    "epochs": epochs,
    "seeds": seeds,
    "first_seed": first_seed,
}
zoo = networks.zoo(**main)
masked, two_class = networks.masked(**main), networks.two_class(**main)

# %%
colour = {
    "colour_dataset": colour_dataset,
    "colour_epsilon": colour_epsilon,
    "colour_train_images": colour_train_images,
    "colour_epochs": colour_epochs,
    "seeds": seeds,
    "first_seed": first_seed,
}
second_zoo = networks.colour_zoo(**colour)
more_seeds = networks.more_seeds(main, colour, line_seeds=line_seeds)
networks.train_all(zoo + second_zoo + masked + two_class + more_seeds)

# %%
data = networks.images_of(dataset, "test", images)
sets = [data, networks.images_of(dataset, "train", train_images)]
if second_zoo:
    sets += [
        networks.images_of(colour_dataset, "test", images),
        networks.images_of(colour_dataset, "train", colour_train_images),
    ]

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.prose(
    f"This run: {len(zoo)} networks on {data.title}"
    + (f", {len(second_zoo)} on {sets[2].title}" if second_zoo else "")
    + f"; {images} test images each; budget ε = {epsilon:g}."
)

# %% [markdown]
# ### Does the cross-entropy hide the boundary?
#
# From one image, walk along two directions at once: the sign of the loss gradient and
# random signs. Every point of that plane is an input; colour it by cross-entropy, then
# by $S$.

# %%
cnns = networks.chosen(zoo, architecture="cnn", seed=first_seed)
planes = {
    cnn.training: landscape.slice_of(cnn, 0, images=images, grid=grid) for cnn in cnns
}
paths = {cnn.training: landscape.attack_path(cnn, 0, images=images) for cnn in cnns}
figures.maps(planes, paths)

# %% [markdown]
# If one contour of the cross-entropy ran along the decision boundary, the first row
# would show all that the second does. So on each plane we take the contour that puts
# the fewest cells on the wrong side, and measure how far it runs from the boundary.
# Nobody knows that contour beforehand, so we also take $\log 2$, where two equally
# likely classes meet. Both are measured again with every point cut to [0, 1], for no
# image lies outside. With two classes the cross-entropy is a function of $S$: there the
# distance must be zero.

# %%
walked = networks.chosen(zoo, seed=first_seed) + two_class
size = {"images": images, "grid": grid, "slices": slices}
flat = landscape.planes(walked, **size)
cut = landscape.planes(walked, clip=True, **size)
rows.record_slices(results, flat + cut)
page.verdict(study.CLAIMS[0], results)

# %% [markdown]
# ### Every network, measured
#
# We take psi, attacks, the smallest distance at which an attack succeeds (*minimal
# distance*), CLEVER (an estimate of that distance from gradients,
# {cite:t}`weng2018evaluating`) and proved bounds. *Strong robust accuracy* is what APGD
# on two losses and Square Attack, which needs no gradient, leave
# {cite:p}`croce2020reliable`.

# %%
settings = {
    "images": images,
    "bound_images": bound_images,
    "clever_images": clever_images,
    "steps": steps,
    "restarts": restarts,
    "strong_steps": strong_steps,
    "queries": queries,
    "first_seed": first_seed,
}
measured = evaluation.evaluate_all(zoo, **settings)
measured_second = evaluation.evaluate_all(second_zoo, full=False, **settings)

# %%
rows.record_networks(results, measured + measured_second)
rows.record_kinds(results, measured + measured_second)
rows.record_gaps(results, measured)
page.table(
    rows.overview(results),
    caption="Every kind of network: mean over seeds, 95 % intervals over images. "
    "Distances in pixel units, psi in 1/nats.",
)

# %% [markdown]
# ### Does training move the boundary?
#
# One line says how far the boundary is and how steep the way there; here are the lines
# of all images. Logits are normalised, so that networks can be compared. The verdict
# takes more seeds, and the minimal distance, which follows no line, as well.

# %%
more_lines = evaluation.evaluate_lines(more_seeds, **settings)
rows.record_lines(results, measured + measured_second + more_lines)
figures.lines(measured, results)

# %%
page.verdict(study.CLAIMS[1], results)

# %% [markdown]
# *Wider* and *flatter* are nearly one finding: all lines start about equally high, so
# one that reaches zero later falls less steeply on the way.
#
# Move the budget yourself, and change the training:

# %%
pushed = {
    cnn.training: landscape.attacked_series(cnn, 0, images=images, steps=steps)
    for cnn in cnns
    if cnn.training in ("natural", "minmax")
}
figures.explore(pushed, epsilon=epsilon, names=data.class_names)

# %% [markdown]
# ### Does psi rank networks?
#
# A useful number puts the most robust network first. It should agree with strong robust
# accuracy and with the minimal distance, better than simpler numbers do: clean
# accuracy, accuracy under one FGSM step, and the inverse of the loss under attack.
# Spearman's ρ says how far two orders agree: 1 for the same, 0 for unrelated ones.

# %%
rows.record_rankings(results, measured)
figures.agreement(measured, results)

# %% [markdown]
# More rivals: accuracy under 100 steps of PGD, or under an attack on the margin (C&W).

# %%
figures.ranks(results)

# %% [markdown]
# Does the ranking hold when networks that hide their gradients join? (*Can it be
# fooled?* explains them; the fold at the end has the numbers.)

# %%
search = {"steps": steps, "restarts": restarts, "queries": queries}
controls.record_masked(results, masked, images=images, among=measured, **search)
page.verdict(study.CLAIMS[2], results)

# %% [markdown]
# ### Does the ranking depend on the settings?
#
# Rank the networks under twelve settings: three budgets, four numbers of steps.
# Kendall's τ of two settings is 1 if they order every pair of networks alike.

# %%
figures.stability(measured, results)

# %%
page.verdict(study.CLAIMS[3], results)

# %% [markdown]
# ### Does scaling the logits change it?
#
# Multiply the last layer by a constant: the same answers, another loss. With our
# normalisation psi cannot change: this checks the program, not the paper's formula.

# %%
pair = [cnn for cnn in cnns if cnn.training in ("natural", "minmax")]
controls.record_scaling(results, pair, images=images, steps=steps)
page.verdict(study.CLAIMS[4], results)

# %% [markdown]
# ### Is it fast?
#
# Costs are counted in passes through the network. Each rival runs at its cheapest
# setting that still ranks well.

# %%
figures.cost(results)

# %%
page.verdict(study.CLAIMS[5], results)

# %% [markdown]
# ### Does the search find the largest divergence?
#
# A walk finds *a* large divergence, not the largest, so every psi here is an upper
# bound. Other searches, with other starts and step sizes, show how much it missed.
# *All, over 3 starts* sets the best of all searches against the usual walk from three
# starts.

# %%
rows.record_search(results, measured)
figures.searches(results)

# %%
page.verdict(study.CLAIMS[6], results)

# %% [markdown]
# ### Can it be fooled?
#
# psi follows the gradient. A network whose gradient says nothing looks robust to anyone
# who follows it. We build six that are suspected of it: distilled, logits times a
# hundred (which psi cannot see), input rounded finely and coarsely, activations that
# saturate, and noise on the input. Each is searched along its own gradient, along one
# in which a smooth layer stands for the masking one (BPDA,
# {cite:t}`athalye2018obfuscated`), with images found on another network (transfer), and
# with random squares that need no gradient at all.

# %%
figures.masked(results)

# %%
page.verdict(study.CLAIMS[7], results)

# %% [markdown]
# A partial remedy is the smallest psi of all four searches, the table's best. It costs
# the passes of all four, and may still miss the maximum.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.table(
    rows.masked(results),
    caption="psi (1/nats) of masked networks by each search; last column: how many "
    "times too large psi by the gradient is.",
)

# %% [markdown]
# ## What held, what did not

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.verdicts(study.CLAIMS, results)

# %% [markdown]
# Rules that were faulty were changed in the open:
# [corrections](../corrections.md) has the old ones and what they said.

# %% [markdown]
# ## What could overturn this
#
# **Our reading may not be the paper's.** The divergence can be taken from the image or
# from the perturbed image, and the logits can be left as they are. A column whose rows
# differ is a conclusion that depends on the reading.

# %%
rows.record_readings(results, measured)
page.table(
    rows.readings(results),
    caption="Four readings of the metric. Intervals over kinds of network; of two "
    "references the worse one counts.",
)

# %% [markdown]
# **Not found does not mean not there.** Sound bounds hold for every perturbation of the
# ball at once: intervals pushed through the network {cite:p}`gowal2018effectiveness`,
# or linear relaxations of each ReLU {cite:p}`zhang2018efficient`, at full budget with
# optimised slopes and branch and bound. They bound psi from below, loosely.

# %%
figures.bracket(results, dataset=dataset, budgets=(0.5, 1.0))

# %% [markdown]
# ## Limits
#
# - We could not read the paper's budget, networks and tables. Its claims are tested as
#   it words them; its numbers are not compared.
# - The networks are small and briefly trained. Distances are compared on images that
#   both networks get right.
# - There are few kinds of network, so intervals of rank correlations are wide.
# - The references are attacks, which bound robustness from one side only.
# - Surfaces and lines leave [0, 1]. Attacks, psi and its bounds stay inside it.
# - Accuracies on the JPEG copy of CIFAR-10 must not be compared with published ones.
#
# ## What to remember
#
# - The decision surface is zero where an answer changes. A contour of the loss can run
#   along nearly the same line.
# - A largest divergence within a budget ranks networks well. So does the loss under a
#   single attack: ask what a new number adds to a cheap one.
# - Any number found by following the gradient can be fooled by hiding it. Search
#   without gradients too.
#
# Next: [the same question to a Bayesian network](../studies/bnn_attacks.ipynb), and
# [what six measures say of each other](../studies/synthesis.ipynb).
#
# ## Exercises
#
# Each has a check. Replace `answer` and run the cell; solutions are folded below.
#
# ### 1. Predict: a full swap
#
# Ten classes, and a prediction that is as sure as normalised logits allow: one logit at
# 3, nine at −1/3. The worst perturbation of the ball hands the 3 to another class. What
# is psi, in 1/nats?

# %% tags=["exercise"] exercise="full-swap"
answer = None  # one number
exercises.report(checks.check_full_swap, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="full-swap"
sure = torch.full((10,), -1 / 3)
before, after = sure.clone(), sure.clone()
before[0], after[1] = 3.0, 3.0
p, q = before.softmax(0), after.softmax(0)
answer = float(1 / (p * (p / q).log()).sum())
exercises.report(checks.check_full_swap, answer)

# %% [markdown]
# ### 2. Predict: what leaves psi alone?
#
# Four changes of the logits: `scale` (all times 7), `shift` (all plus 7), `square`
# (each squared), `one class` (the first plus 7). Which of them never change psi,
# whatever the network?

# %% tags=["exercise"] exercise="invariance"
answer = None  # a set of names, such as {"scale", "square"}
exercises.report(checks.check_invariance, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="invariance"
answer = {"scale", "shift"}  # the mean takes away the shift, the deviation the scale
exercises.report(checks.check_invariance, answer)

# %% [markdown]
# ### 3. Try and explain: start at the image
#
# psi's search starts at a random point. What would its first step follow if it started
# at the image itself? Take `model, pixels = checks.sample_problem()`, a network and
# images. Give the mean absolute input gradient of the divergence at the images, divided
# by the same at random points of the ball of radius 0.1, and explain the ratio to
# yourself.

# %% tags=["exercise"] exercise="zero-start"
answer = None  # the ratio of the two mean absolute gradients, as a float
exercises.report(checks.check_zero_start, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="zero-start"
from robustbook.measure.divergence import kl_divergence, normalise_logits

model, pixels = checks.sample_problem()
with torch.no_grad():
    clean = normalise_logits(model(pixels))


def mean_gradient(points):
    """Mean absolute input gradient of the divergence from the clean prediction."""
    points = points.detach().requires_grad_(True)
    divergence = kl_divergence(clean, normalise_logits(model(points))).sum()
    return float(torch.autograd.grad(divergence, points)[0].abs().mean())


nearby = pixels + 0.1 * (
    2 * torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0)) - 1
)
answer = mean_gradient(pixels) / mean_gradient(nearby)
# The divergence has its minimum, 0, at the image: the gradient there is rounding noise,
# and so is its sign.
exercises.report(checks.check_zero_start, answer)

# %% [markdown]
# ### 4. Implement: the ascent of psi
#
# Write the ascent yourself. Out come images of the same shape, inside the ball and with
# pixels from 0 to 1, that make the divergence of the normalised prediction large.

# %% tags=["exercise"] exercise="divergence-ascent"
answer = None  # a function of model, images, epsilon, steps and generator
exercises.report(checks.check_divergence_ascent, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="divergence-ascent"
def my_ascent(model, images, epsilon, steps, generator):
    """Perturbed images after gradient-sign ascent on the divergence from a random
    start.
    """
    with torch.no_grad():
        target = normalise_logits(model(images))
    points = images + epsilon * (2 * torch.rand(images.shape, generator=generator) - 1)
    for _ in range(steps):
        points = points.clamp(0, 1).detach().requires_grad_(True)
        gain = kl_divergence(target, normalise_logits(model(points))).sum()
        (gradient,) = torch.autograd.grad(gain, points)
        moved = points.detach() + epsilon / 5 * gradient.sign()
        points = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon)
    return points.clamp(0, 1)


answer = my_ascent
exercises.report(checks.check_divergence_ascent, answer)

# %% [markdown]
# ### 5. Implement: intervals through a linear layer
#
# The proved end of the bracket begins here. Given a linear layer and the ends `low`,
# `high` (images, inputs) of boxes, return the ends (images, outputs) of the smallest
# boxes that hold all outputs.

# %% tags=["exercise"] exercise="interval-linear"
answer = None  # a function (layer, low, high) -> (lower, upper)
exercises.report(checks.check_interval_linear, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="interval-linear"
def interval_linear(layer, low, high):
    """Bounds of a linear layer: centre through the weights, radius through their
    absolute values.
    """
    centre, radius = (
        layer((low + high) / 2).detach(),
        (high - low) / 2 @ layer.weight.abs().T.detach(),
    )
    return centre - radius, centre + radius


answer = interval_linear
exercises.report(checks.check_interval_linear, answer)

# %% [markdown]
# ## Provenance

# %% jupyter={"source_hidden": true} tags=["remove-input"]
record = finish(
    "loss_metric",
    study.Parameters.of(globals()),
    results,
    sets,
    timing=evaluation.seconds_per_image(measured),
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
picture = figures.hero(planes["natural"], pushed["natural"], data.class_names)
sentences = figures.in_short(results, dataset=dataset)
page.in_short(sentences, study.CLAIMS, results, picture=picture)
page.provenance(record)
