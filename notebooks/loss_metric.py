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
# # Loss surfaces in input space and a KL robustness metric
#
# *A reproduction of {cite:t}`yu2019interpreting`.*
#
# Attacks and defences are usually compared by one number, the accuracy that is left
# under some attack. That number depends on the attack. Yu and colleagues propose to
# look at the network itself: draw its loss over the space of inputs, and measure by how
# much its prediction can change within a small ball around an image. This chapter
# rebuilds both and tests seven claims on networks of our own. The claims come from the
# paper's abstract and introduction, one from memory of its figures; the box says which.
# Two things are added: a bracket that holds the metric between a proved and an attained
# end, and networks built to fool it.
#
# The paper describes the surfaces and the metric in words, and these words are what we
# follow. The formulas for $S$, $V$, psi and the normalisation below are written from
# memory, and so are the $L_\infty$ ball and the direction of the divergence: none of
# them was compared with the paper's text.

# %% tags=["remove-input"]
from robustbook import exercises, page
from robustbook.studies import loss_metric as study

page.claims_box(study.CLAIMS)

# %% [markdown]
# ## The question
#
# A classifier gives logits $Z(x) \in \mathbb{R}^K$ for an image $x$ with pixels in $[0,
# 1]$. An adversary may move every pixel by at most $\epsilon$. Is there one number per
# network that tells how much such an adversary can achieve, that does not need to be
# told which attack to run, and that means the same for a small perceptron as for a wide
# convolutional network?

# %% [markdown]
# ## Set-up

# %%
import torch
from IPython.display import display

from robustbook.plots import style
from robustbook.results import Results
from robustbook.run import finish
from robustbook.studies.loss_metric import claims, figures, networks, rows
from robustbook.studies.loss_metric import exercises as checks
from robustbook.studies.loss_metric.measure import controls, evaluation, landscape

style.use_style()
results = Results(rows=study.ROWS)

# %% [markdown]
# ## Parameters
#
# The values below make the quick run; on the page of any other run, the reference run
# included, its own values are folded below them and stand in the provenance box at the
# end. `robustbook run loss_metric -p epsilon 0.2` runs the chapter with another;
# `robustbook describe loss_metric` lists ranges and meanings. The paper's own settings
# are not known, so every one of these is ours.

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
images: int = 32
bound_images: int = 4
clever_images: int = 1
steps: int = 15
restarts: int = 3
strong_steps: int = 20
queries: int = 100
grid: int = 21
slices: int = 3
first_seed: int = 0

# %% tags=["remove-input"]
parameters = study.Parameters(
    **{name: globals()[name] for name in study.Parameters.model_fields}
)
page.parameters(parameters)

# %% [markdown]
# ## Data and networks
#
# The main zoo has three architectures (a perceptron, a small and a wide convolutional
# network) and four trainings: natural, FGSM {cite:p}`goodfellow2015explaining`,
# gradient-regularised {cite:p}`ross2018improving`, and MinMax with seven PGD steps
# {cite:p}`madry2018towards`. Every kind is trained from several seeds. All networks are
# measured on the same test images, which are drawn with equal shares of the classes and
# play no part in training. Budgets, epochs and the number of images were set by what
# fits the run's time; only the distilled control was adjusted (temperature and epochs),
# since it had learned its training images too slowly.

# %%
zoo, second_zoo = networks.zoo(parameters), networks.colour_zoo(parameters)
controls_zoo = networks.masked_networks(parameters) + networks.two_class_networks(
    parameters
)
networks.train_all(zoo + second_zoo + controls_zoo)
data = networks.images_of(dataset, "test", images)
data_sets = [data] + (
    [networks.images_of(colour_dataset, "test", images)] if second_zoo else []
)
trained_on = [networks.images_of(dataset, "train", train_images)]
trained_on += (
    [networks.images_of(colour_dataset, "train", colour_train_images)]
    if second_zoo
    else []
)

# %% tags=["remove-input"]
page.prose(
    f"Data: {' and '.join(each.title for each in data_sets)}. Networks: "
    f"{len(zoo)} in the main zoo ({len(zoo) // seeds} kinds × {seeds} seeds) "
    f"trained on {train_images:,} images for {epochs} epochs, {len(second_zoo)} in the "
    f"second zoo; {images} test images each; ε = {epsilon:g}"
    + (f" ({colour_epsilon:g} for {data_sets[1].title})." if second_zoo else ".")
)

# %% [markdown]
# ## Loss surfaces in input space
#
# From an image $x$ of true class $t$ we walk along two directions, the sign of the loss
# gradient $d_1$ (the direction of FGSM) and random signs $d_2$, and look at a quantity
# $F$ on the plane that they span:
#
# $$V(\alpha, \beta) = F(x + \alpha d_1 + \beta d_2).$$
#
# For $F$ the paper contrasts the cross-entropy with a **decision surface**, which holds
# the decision boundary. We take it to be (from memory)
#
# $$S(x) = Z_t(x) - \max_{i \ne t} Z_i(x),$$
#
# which is positive where the prediction is right, negative where it is wrong, and zero
# exactly on the decision boundary.
#
# ```{literalinclude} /../src/robustbook/measure/surfaces.py
# :pyobject: decision_surface
# ```

# %%
shown = [
    networks.main_network(parameters, "cnn", training, first_seed)
    for training in networks.TRAININGS
]
planes = {
    network.training: landscape.slice_of(network, 0, parameters).surface
    for network in shown
}
paths = {
    network.training: landscape.attack_path(network, 0, parameters) for network in shown
}

# %% tags=["remove-input"]
inside = {name: float((~plane.wrong).mean()) for name, plane in planes.items()}
widest = max(inside, key=inside.get)
page.figure(
    figures.draw_surfaces(planes, paths),
    alt="Eight maps of the plane through one image: cross-entropy above, decision "
    "surface below, one column per training. A black line marks the decision "
    "boundary, an orange line the path of BIM as it falls on the plane.",
    caption="One image, four trainings of the same network: the region of right "
    f"answers fills {inside['natural']:.0%} of the plane after natural and "
    f"{inside['minmax']:.0%} after MinMax training (largest: "
    f"{style.label(widest)}). Black: decision boundary. Orange: the path of "
    f"BIM, which stays within {landscape.REACH / 2:g} ε and in [0, 1] and so "
    "leaves the plane; drawn are the nearest points on it, and where they "
    "cross the black line is not where BIM crosses the boundary. The "
    "cross-entropy shows no edge where the boundary runs.",
)

# %% tags=["remove-input"]
page.figure(
    figures.draw_reliefs(planes),
    alt=(
        "Four reliefs: cross-entropy and decision surface of the naturally trained "
        "and of the MinMax-trained network."
    ),
    caption="The same planes as reliefs. Cross-entropy climbs to "
    f"{planes['natural'].cross_entropy.max():.3g} nats on the natural "
    f"network's plane and to {planes['minmax'].cross_entropy.max():.3g} on the "
    "MinMax network's; only the decision surface shows where the answer "
    "changes (black).",
)

# %% tags=["remove-input"]
far = landscape.REACH * epsilon
page.prose(
    "The planes are flat, so they leave the range of pixels: along one direction a "
    f"pixel comes to lie between {-far:.2g} and {1 + far:.2g}, in a "
    f"corner between {-2 * far:.2g} and {1 + 2 * far:.2g}. No image looks like "
    "that, and no attack of this chapter goes there. The next test is therefore "
    "made twice, on the flat planes and with every point cut to [0, 1]."
)

# %% [markdown]
# Is the boundary really hidden in the cross-entropy? If one level of it separated right
# from wrong cells, that contour would *be* the boundary. We look for the best level on
# planes through several images of every kind of network, and do the same for networks
# with only two classes, where cross-entropy is a function of $S$ and must separate
# perfectly.

# %%
firsts = [network for network in zoo if network.seed == first_seed]
all_slices = [
    landscape.slice_of(network, image, parameters)
    for network in firsts
    for image in range(slices)
]
two_class = [
    landscape.slice_of(network, image, parameters)
    for network in networks.two_class_networks(parameters)
    for image in range(slices)
]
cut = [
    landscape.slice_of(network, image, parameters, clip=True)
    for network in firsts
    for image in range(slices)
]
rows.record_slices(results, all_slices, "all")
rows.record_slices(results, two_class, "two")
rows.record_slices(results, cut, "all, points cut to [0, 1]")
display(page.verdict(study.CLAIMS[0], results))

# %% tags=["remove-input"]
inside_errors = results.select(
    "smallest cross-entropy threshold error", classes="all, points cut to [0, 1]"
)
inside_planes = results.select(
    "planes where cross-entropy errs", classes="all, points cut to [0, 1]"
)
page.prose(
    f"With points cut to [0, 1] the best level errs on {inside_errors[0].value:.2%} "
    f"of cells [{inside_errors[0].low:.2%}, {inside_errors[0].high:.2%}] and on "
    f"{inside_planes[0].value:.0%} of {inside_planes[0].n} planes with right and "
    "wrong cells. This decides nothing."
    if inside_errors
    else "With points cut to [0, 1] too few planes have wrong cells to say more."
)

# %% [markdown]
# ## Measuring every network
#
# Each network is now attacked (FGSM, BIM, PGD short and long, the Carlini–Wagner
# margin; three budgets), its metric is computed at as many settings, its smallest
# adversarial distance is found by bisection, its CLEVER score
# {cite:p}`weng2018evaluating` estimated, and sound bounds are propagated. Networks of
# the second zoo are measured at the usual number of steps and two budgets alone; no
# claim is decided on them. Clean accuracy is taken on the whole test set: on a few
# images many networks share one value. In the table, `cifar10` stands for the data set
# that is named above: its JPEG copy, where that is what was found.

# %%
measured = evaluation.evaluate_all(zoo, parameters)
measured_second = evaluation.evaluate_all(second_zoo, parameters)
rows.record_networks(results, measured + measured_second)
rows.record_kinds(results, measured + measured_second)

# %% tags=["remove-input"]
whole_sets = [
    f"{len(each.clean_whole):,} images of {each.network.dataset}"
    for each in measured[:1] + measured_second[:1]
]
page.table(
    rows.overview(results),
    caption="What was measured: mean over seeds, 95 % intervals over images. Clean "
    f"accuracy on the whole test set ({', '.join(whole_sets)}), all else on "
    f"{images} images. Distances and budgets in pixel units, psi in 1/nats.",
)

# %% [markdown]
# ### Along one direction
#
# The distance at which $S$ crosses zero along the adversarial direction, and how
# steeply it falls on the way there. To compare networks, logits are normalised first
# (next section); the distance does not depend on that, the slope does. These lines too
# are straight and leave $[0, 1]$, so a distance on them is not one that an attack could
# use.

# %%
rows.record_lines(results, measured)

# %% tags=["remove-input"]
reach = {
    training: sum(row.value for row in found) / len(found)
    for training in networks.TRAININGS
    if (
        found := results.select(
            "distance to S = 0", training=training, direction="adversarial"
        )
    )
}
page.figure(
    figures.draw_lines(measured),
    alt=(
        "Two panels of S against distance, along the adversarial and along a random "
        "direction, one line per training."
    ),
    caption="Along the adversarial direction the boundary lies at "
    f"{reach['natural']:.3g} for natural and {reach['minmax']:.3g} for MinMax "
    "networks (pixel units, median image, mean of networks). Bands: middle "
    "half of images.",
)

# %% tags=["remove-input"]
page.verdict(study.CLAIMS[1], results)

# %% [markdown]
# ## The metric psi
#
# The paper's metric rests on the largest divergence of the prediction within a given
# range of perturbations, made consistent when the network is scaled. Our reading, with
# the divergence, its direction, the ball and the normalisation from memory:
#
# $$\psi(x) = \frac{1}{\max_{\|\delta\|_\infty \le \epsilon}
# D_{KL}\big(P(x) \,\|\, P(x + \delta)\big)},
# \qquad
# P = \mathrm{softmax}\Big(\frac{Z - \mathrm{mean}(Z)}{\mathrm{std}(Z)}\Big).$$
#
# Normalising the logits cancels any scaling of the last layer. (The function's
# docstring names the paper for this idea.)
#
# ```{literalinclude} /../src/robustbook/measure/divergence.py
# :pyobject: normalise_logits
# ```
#
# The maximum is sought by ascent along the sign of the gradient. At $\delta = 0$ the
# divergence has its minimum, so its gradient is zero there: the ascent has to start at
# a random point.
#
# ```{literalinclude} /../src/robustbook/measure/divergence.py
# :pyobject: worst_divergence
# ```
#
# ### A bracket instead of a point
#
# Ascent finds *a* large divergence, not the largest, so the psi it gives is an upper
# end: the true psi can only be lower. From below it is held by bounds that hold for
# every perturbation of the ball at once. Intervals are pushed through the network
# {cite:p}`gowal2018effectiveness`, or tightened by linear relaxations of each ReLU
# {cite:p}`zhang2018efficient`; the resulting box of logits, together with what
# normalisation allows (mean 0, deviation 1), limits the divergence. The bounds take
# seconds an image for the wide network, so they are computed for a few images and the
# networks of the first seed.

# %%
rows.record_gaps(results, measured)

# %% tags=["remove-input"]
half, full = (
    results.one("psi attained over its sound lower bound", budget=budget)
    for budget in (0.5, 1.0)
)
violated = sum(row.value for row in results.select("images whose bracket is violated"))
page.figure(
    figures.draw_brackets(results, dataset, (0.5, 1.0)),
    alt=(
        "Brackets of psi for twelve kinds of network at half and full budget: a "
        "wall at the sound lower end, a marker at the attained upper end."
    ),
    caption="psi lies between a proved and an attained end (medians over "
    f"{full.factors['images']} images, networks of the first seed). At half "
    f"the budget the ends are {half.value:.3g}-fold apart, at the full budget "
    f"{full.value:.3g}-fold (median over images of their ratio, then over "
    f"{full.n} kinds). Images whose bracket is violated: {violated:.0f}.",
)

# %% [markdown]
# ### Does it rank networks?
#
# Two strong references: robust accuracy under long PGD on two losses with restarts, and
# the smallest adversarial distance. A useful metric ranks the zoo as they do, and
# better than two null metrics: clean accuracy, and the inverse of the cross-entropy
# under attack. Only the first of these leads enters the rule of Y3, the second is shown
# beside it.

# %%
rows.record_rankings(results, measured, parameters)
scores = rows.agreement_scores(measured)

# %% tags=["remove-input"]
rho = results.one("rank agreement", measure="median psi", reference="minimal distance")
display(
    page.figure(
        figures.draw_agreement(measured, scores),
        alt=(
            "Two scatter plots of networks: psi against minimal distance, and clean "
            "accuracy against minimal distance."
        ),
        caption="psi against the smallest adversarial distance: Spearman's ρ = "
        f"{rho.value:.2f} [{rho.low:.2f}, {rho.high:.2f}] (interval over "
        f"{rho.n} kinds of network). Right: clean accuracy against the same "
        "distance.",
    )
)
best = {
    reference: max(
        results.select("rank agreement", reference=reference), key=lambda row: row.value
    )
    for reference in ("minimal distance", "strong robust accuracy")
}
page.figure(
    figures.draw_rank_agreement(results),
    alt=f"Forest plot of Spearman's rho of {len(scores)} measures with two references.",
    caption=(
        "Agreement with both references, intervals over kinds of network. Best agrees "
    )
    + " and ".join(
        f"{row.factors['measure']} with the {name} (ρ = {row.value:.3f})"
        for name, row in best.items()
    )
    + (
        ". Clean accuracy is on the whole test set; CLEVER rests on "
        f"{clever_images} of the {images} images."
    ),
)

# %% tags=["remove-input"]
display(
    page.table(
        rows.leads(results),
        caption=(
            "psi's lead in Spearman's ρ over both null metrics, 95 % intervals "
            f"over {rho.n} kinds of network."
        ),
    )
)
same = results.one(
    "rank agreement",
    measure="clean accuracy, same images",
    reference="minimal distance",
)
whole = results.one(
    "rank agreement", measure="clean accuracy", reference="minimal distance"
)
different = {
    name: len(set(scores[name].tolist()))
    for name in ("clean accuracy", "clean accuracy, same images")
}
page.prose(
    f"On the whole test set the {len(measured)} networks have "
    f"{different['clean accuracy']} different clean accuracies, on "
    f"the {images} images {different['clean accuracy, same images']}; their ρ with "
    f"the minimal distance is {whole.value:.3f} and {same.value:.3f}."
)

# %% tags=["remove-input"]
page.verdict(study.CLAIMS[2], results)

# %% [markdown]
# ### Does the ranking depend on the test settings?

# %% tags=["remove-input"]
settings = evaluation.Settings(steps, strong_steps)
by_setting = rows.setting_scores(measured, settings)
stability = {name: results.one("rank stability", measure=name) for name in by_setting}
page.figure(
    figures.draw_stability(by_setting, len(settings.step_counts)),
    alt=(
        "Three maps of Kendall's tau between the rankings under all pairs of "
        "settings, for adversarial accuracy, the null metric and psi."
    ),
    caption=(
        "How alike the zoo is ranked under two settings, from few to many steps "
        "within each budget. Mean τ: "
    )
    + ", ".join(
        f"{figures.MEASURES[name]} {row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for name, row in stability.items()
    )
    + f" (over {rho.n} kinds of network).",
)

# %% tags=["remove-input"]
display(
    page.table(
        rows.stability_by_part(results),
        caption=(
            "Mean τ over pairs of settings within one budget, and over pairs of "
            f"different budgets, 95 % intervals over {rho.n} kinds of network."
        ),
    )
)
more = results.one("rank stability with other step sizes")
floors = results.select("networks without robust accuracy")
page.prose(
    f"Networks that {floors[0].factors['attack']} leaves no accuracy at all: "
    + ", ".join(
        f"{row.value:.0f} of {row.n} at {row.factors['budget']:g} ε" for row in floors
    )
    + ". Their ranks by accuracy are ties, which no order can agree with. "
    + rows.where_psi_leads(results)
    + " psi at two more step sizes, which its rivals do not have, is left out of the "
    f"comparison; with them its mean τ over {more.factors['settings']} settings is "
    f"{page.interval(more)}."
)

# %% tags=["remove-input"]
page.verdict(study.CLAIMS[3], results)

# %% [markdown]
# ### Is it invariant to scaling?
#
# Multiplying the last layer by a constant changes no prediction. It does change every
# loss, and at large constants it starves attacks of gradient.

# %%
controls.record_scaling(results, parameters)

# %% tags=["remove-input"]
scaling = results.table("FGSM accuracy of scaled logits")[["scale", "value"]]
plain = results.table("median psi without normalisation")[["scale", "value"]]
joined = scaling.merge(plain, on="scale", how="left", suffixes=(" FGSM", " psi"))
joined.columns = ["logits times", "FGSM accuracy", "median psi, plain logits"]
display(
    page.table(
        joined.fillna("not measured"),
        caption=(
            "Scaled logits: the same predictions, another FGSM accuracy, another "
            "psi if logits are not normalised."
        ),
    )
)
page.verdict(study.CLAIMS[4], results)

# %% [markdown]
# ### Is it fast?
#
# Cost is counted in passes: how many forward and backward passes per image until a
# measure ranks the zoo about as the minimal distance does. psi pays one forward pass
# more than an attack of as many steps, for the prediction on the image itself.

# %% tags=["remove-input"]
needed = {
    name: results.one("passes to rank quality", measure=name)
    for name in ("median psi", "robust accuracy")
}
display(
    page.figure(
        figures.draw_cost(results),
        alt=(
            "Rank agreement against passes per image for psi and for adversarial "
            "accuracy, with bands."
        ),
        caption=f"Passes until ρ = {claims.RANK_QUALITY}: psi "
        f"{needed['median psi'].value:.0f}, adversarial accuracy "
        f"{needed['robust accuracy'].value:.0f} "
        f"({needed['median psi'].factors['never']} means never). Bands: 95 % "
        "over kinds of network.",
    )
)
page.verdict(study.CLAIMS[5], results)

# %% [markdown]
# ### Is it a bound, and can it be fooled?
#
# More search can only find larger divergences, so psi falls with steps and restarts;
# the question is whether it settles. And a network whose gradients vanish could make
# the ascent fail and psi look good. We build two: defensive distillation, and the
# natural network with logits multiplied by 100. Attacks that use no gradient of theirs
# (images transferred from another network, and random search) tell how robust they
# really are.
#
# The scaled network is a weak test: psi does not see the scale of the logits (Y5), so
# its ratio must be 1. Distillation at a high temperature enlarges logits too; how much
# of its masking is that, white-box PGD on its logits divided by the temperature tells.
# Masking inside a network (saturated units, rounding, random layers) is not tested
# here.

# %%
rows.record_search(results, measured, parameters)
controls.record_masked(results, parameters)

# %% tags=["remove-input"]
level = results.one("psi at long over usual ascent")
display(
    page.figure(
        figures.draw_search(measured, settings.step_counts),
        alt=(
            "Median psi relative to its value at the longest ascent, against the "
            "number of ascent steps, per training."
        ),
        caption=f"psi settles: {level.factors['long']} instead of "
        f"{level.factors['usual']} steps leave {level.value:.3f} of it "
        f"[{level.low:.3f}, {level.high:.3f}] (mean over "
        f"{level.factors['networks']} networks, interval over {level.n} "
        "kinds). Bands: range over networks.",
    )
)
ratio = {
    row.factors["network"]: row for row in results.select("psi of masked over natural")
}
white = results.one("white-box robust accuracy", network="logits x100").value
blind = results.one("robust accuracy without gradients", network="logits x100").value
page.figure(
    figures.draw_masked(results),
    alt=(
        "Bars of accuracy for natural, distilled and scaled networks: clean, under "
        "white-box PGD, under attacks without gradients."
    ),
    caption=(
        f"White-box PGD leaves the scaled network {white:.0%}, attacks without its "
        f"gradients {blind:.0%}: masking. psi of the masked networks is "
    )
    + " and ".join(f"{row.value:.3g} times ({name})" for name, row in ratio.items())
    + " that of the natural ones. Intervals over images.",
)

# %% tags=["remove-input"]
distilled = results.one("white-box robust accuracy", network="distilled")
divided = results.one(
    "white-box robust accuracy of divided logits", network="distilled"
)
page.prose(
    f"White-box PGD leaves the distilled networks {distilled.value:.0%} "
    f"[{distilled.low:.0%}, {distilled.high:.0%}], with their logits divided by the "
    f"temperature {divided.factors['temperature']:g} it leaves {divided.value:.0%} "
    f"[{divided.low:.0%}, {divided.high:.0%}] ({divided.n} images, mean of seeds)."
)

# %% tags=["remove-input"]
display(page.verdict(study.CLAIMS[6], results))
page.prose(
    "What this verdict covers is what the rule asks: whether the search settles, "
    "and whether a masked network fools it. That ascent identifies an *upper bound* "
    "of the divergence is not shown, and cannot be: it gives a divergence that "
    "exists, a lower bound of the largest one. The upper bound comes from "
    f"propagation, and is {full.value:.3g} times as large ({full.n} kinds of "
    f"network, {full.factors['images']} images each)."
)

# %% [markdown]
# ## Did the claims hold?

# %% tags=["remove-input"]
page.verdicts(study.CLAIMS, results)

# %% [markdown]
# ## Sensitivity
#
# ### The second zoo

# %% tags=["remove-input"]
if second_zoo:
    rows.record_second_zoo(results, measured_second, parameters)
    in_second = {
        (row.factors["measure"], row.factors["reference"]): page.interval(row)
        for row in results.select("second zoo: rank agreement")
    }
    crossed = results.one("second zoo: seeds where distance to S = 0 is ordered")
    sloped = results.one("second zoo: seeds where slope of S is ordered")
    kinds_there = len(rows.by_kind(measured_second))
    shown_there = (
        f"{data_sets[1].title}, {len(measured_second)} networks of {kinds_there} "
        "kinds. Spearman's ρ: "
        + "; ".join(
            f"{measure} with the {reference} {value}"
            for (measure, reference), value in in_second.items()
        )
        + f". Intervals over only {kinds_there} kinds, so they say little. Along the "
        "adversarial direction MinMax networks have the farther boundary in "
        f"{crossed.value:.0f} of {crossed.n} seeds and the smaller slope (normalised "
        f"logits) in {sloped.value:.0f}. No claim is decided on these networks."
    )
page.prose(shown_there if second_zoo else "This run has no second zoo.")

# %% [markdown]
# ### Seeds
#
# Every kind of network was trained from several seeds. The spread between seeds is not
# part of the intervals above, which are over images or over kinds; here it is on its
# own.

# %% tags=["remove-input"]
page.table(
    rows.spread_over_seeds(results, dataset),
    caption=(
        f"Smallest and largest value over {seeds} seeds, main data set "
        f"({data.title}). CLEVER: median over {clever_images} images."
    ),
)

# %% [markdown]
# ## Limits
#
# - The paper's budget, steps, networks and tables are not known; the claims are tested,
#   its numbers are not compared.
# - Of the metric the paper's words are known to us, its formulas only from memory: $S$,
#   the plane $V$, psi with its $L_\infty$ ball and the direction of its divergence, and
#   the normalisation by mean and deviation. If the paper's differ, what is tested here
#   is a close relative.
# - Networks are small and trained briefly on a subset. Natural, regularised and
#   attacked trainings differ in clean accuracy (see the table), and a less accurate
#   network can look more robust: this is why clean accuracy is one of the null metrics.
# - The references are attacks. They bound robustness from one side only, as psi's
#   attained end does; the certified end is sound but loose at the full budget.
# - Kinds of network are few, so intervals of rank correlations are wide; they are over
#   kinds, since networks of one kind are no independent witnesses. The planes of Y1
#   cross few images with few networks.
# - Surfaces and lines are straight and leave the range of pixels; distances that decide
#   Y2 are measured on such lines. The attacks, psi and its bounds stay in $[0, 1]$.
# - Of the two masked networks one masks its gradients through the size of the logits
#   alone, to which psi is blind by design, and the other enlarges them too. Saturated
#   units, quantisation and shattered gradients inside the network are not tested, and
#   could fool psi as they fool other ascents.
# - The bracket rests on a few images of the networks of the first seed, CLEVER on fewer
#   images than the other measures.
# - CIFAR-10, where a run has it, appears in the table and under Sensitivity with two
#   architectures and two trainings; no claim is decided on it. Where the page names the
#   JPEG copy, its accuracy must not be compared with published ones.

# %% [markdown]
# ## Exercises
#
# Each exercise has a check. Open the notebook, replace `answer`, run the cell.
# Solutions are folded below each.
#
# ### 1. Predict: a full swap
#
# Ten classes, and a prediction that is as sure as normalised logits allow: one logit at
# 3, nine at −1/3. A perturbation moves it wholly to another class. What is psi?

# %% tags=["exercise"] exercise="full-swap"
answer = None  # one number
exercises.report(checks.check_full_swap, answer)

# %% tags=["solution", "hide-cell"] exercise="full-swap"
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
# (each squared), `one class` (the first plus 7). Which of them never change psi?

# %% tags=["exercise"] exercise="invariance"
answer = None  # a set of names, such as {"scale", "square"}
exercises.report(checks.check_invariance, answer)

# %% tags=["solution", "hide-cell"] exercise="invariance"
answer = {"scale", "shift"}  # the mean takes away the shift, the deviation the scale
exercises.report(checks.check_invariance, answer)

# %% [markdown]
# ### 3. Change a parameter and explain: start at the image
#
# psi's ascent starts at a random point. What would it have to go by at the image
# itself? Give the mean absolute input gradient of the divergence at the images, divided
# by the same at random points of the ball of radius 0.1, and explain. (`model, pixels =
# checks.sample_problem()` gives a network and images.)

# %% tags=["exercise"] exercise="zero-start"
answer = None  # the ratio of the two mean absolute gradients, as a float
exercises.report(checks.check_zero_start, answer)

# %% tags=["solution", "hide-cell"] exercise="zero-start"
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
# Write the ascent yourself: perturbed images that make the divergence of the normalised
# prediction large, inside the ball and inside $[0, 1]$.

# %% tags=["exercise"] exercise="divergence-ascent"
answer = (
    None  # a function (model, images, epsilon, steps, generator) -> perturbed images
)
exercises.report(checks.check_divergence_ascent, answer)


# %% tags=["solution", "hide-cell"] exercise="divergence-ascent"
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
# The lower end of the bracket begins here. Given a linear layer and the ends `low`,
# `high` of a box of inputs, return the ends of the smallest box that holds all outputs.

# %% tags=["exercise"] exercise="interval-linear"
answer = None  # a function (layer, low, high) -> (lower, upper)
exercises.report(checks.check_interval_linear, answer)


# %% tags=["solution", "hide-cell"] exercise="interval-linear"
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

# %% tags=["remove-input"]
record = finish(
    "loss_metric",
    parameters,
    results,
    data_sets + trained_on,
    timing=evaluation.seconds_per_image(measured),
)
page.provenance(record)
