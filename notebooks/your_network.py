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
# # Your network under six lenses
#
# *How strong is a network of your own, and how weak, under each of six measures?*

# %% jupyter={"source_hidden": true} tags=["remove-input"]
from robustbook import exercises, page
from robustbook.plots import style
from robustbook.studies import your_network as study

style.use_style()
page.opening()

# %% [markdown]
# **You need** a network and some images with their classes; without them the page shows
# a small network that reads digits. **You will be able to** say what your network
# withstands, by which measure, and how sure that is. Ten minutes to read, one to run.
#
# ## Bring your own
#
# ```bash
# robustbook run your_network -p model torchvision:resnet18 -p weights my.safetensors \
#   -p data folder:photos --name mine
# robustbook run your_network -p model my_models.py:build -p data npz:test.npz --name v2
# robustbook compare mine v2
# ```
#
# A *folder* has a sub-folder for each class, or a table `labels.csv`; an `.npz` file
# has the arrays `images` and `labels`. Of yours nothing is executed but the function
# that you name. It returns an `nn.Module` that turns images into logits; pixels come
# from 0 to 1, and `mean` and `std` are applied for it. `--dry-run` says what a run
# would cost.

# %% tags=["parameters"]
model: str = "book:cnn"
weights: str = "none"
data: str = "digits"
training: str = "auto"
classes: str = "none"
output: str = "auto"
mean: list[float] = [0.0]
std: list[float] = [1.0]
size: int = 0
crop: int = 0
channels: int = 0
white: float = 0.0
unreadable: float = 0.05
device: str = "auto"
images: int = 60
lenses: list[str] = ["all"]
epsilon: float = 0.1
steps: int = 20
queries: int = 100
samples: int = 30
explained: int = 8
masks: int = 300
certified: int = 16
units: int = 24
chunk: int = 64
epochs: int = 8
seed: int = 0

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.parameters(study.Parameters.of(globals()))

# %%
from robustbook.results import Results
from robustbook.run import finish
from robustbook.studies.your_network import claims, figures, networks, rows
from robustbook.studies.your_network import exercises as checks
from robustbook.studies.your_network.measure.lenses import plan

# %%
form = {"size": size, "crop": crop, "channels": channels, "white": white}
look = {"classes": classes, "output": output, "mean": mean, "std": std}
where = {"device": device, "chunk": chunk, "epochs": epochs, "seed": seed}
subject = networks.load(
    model,
    weights=weights,
    data=data,
    images=images,
    training=training,
    unreadable=unreadable,
    **form | look | where,
)
results = Results(rows=study.ROWS, rerun=True)
rows.record_subject(results, subject)
page.prose(figures.of_subject(subject))

# %% [markdown]
# What each lens will cost, in *passes*: one image once through the network, forward or
# backward. The command line says how long that takes on your machine.

# %%
looking = plan(
    subject,
    lenses=lenses,
    epsilon=epsilon,
    steps=steps,
    queries=queries,
    samples=samples,
    explained=explained,
    masks=masks,
    certified=certified,
    units=units,
)
looking.tell()
page.table(looking.table(), caption="Passes that each lens takes at most.")

# %% [markdown]
# ## Attack
#
# How many images stay right when each pixel may move by a budget? Three attacks follow
# one another, each on the images that the one before left: Auto-PGD on the
# cross-entropy, Auto-PGD towards other classes, and Square, which needs no gradient.

# %%
seen = looking.look("attack")
rows.record(results, seen)
figures.attacked(subject, seen)

# %%
figures.attack(results)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.told(results, seen)

# %% [markdown]
# **What it cannot say.** An image that no attack broke may still be broken by another
# one; only a certificate excludes that. The metric psi, and why no
# attack should be trusted alone: [how far can a prediction be
# pushed](../studies/loss_metric.ipynb).
#
# **Try.** Multiply `epsilon` by two. Does the accuracy fall to nothing? If an attack
# with a large budget fails, suspect the attack.
#
# ## Degradation
#
# No adversary, only bad pictures: blur, noise, and one fixed pattern that is added to
# all images. The pattern is made on half of them and judged on the others.

# %%
seen = looking.look("degradation")
rows.record(results, seen)
figures.degraded(subject, seen)

# %%
figures.degradation(results)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.told(results, seen)

# %% [markdown]
# **What it cannot say.** Whether a reader could still see it: similarity is no reader.
# Noise is added to the pixels as the network gets them, after any resizing. Blur and
# noise where readers were asked:
# [perturbed mammograms](../studies/mammogram_perturbations.ipynb).
#
# ## Posterior
#
# Many networks explain the training images about as well as yours. Drawing them says
# how sure an answer is. Here the last layer has a Gaussian (*last-layer Laplace*), and
# dropout stays on where the network has any (*MC dropout*).

# %%
seen = looking.look("posterior")
rows.record(results, seen)
figures.doubt(subject, seen)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.told(results, seen)

# %% [markdown]
# The alarm is two-sided: an attack may make a network too sure as well as too unsure.
# Each probability that a drawn network changes its mind is within 0.1 of the truth but
# for one in twenty, promised before anything is drawn.
#
# **What it cannot say.** The attack did not know of the alarm; one that does is harder
# to tell. And only the last layer is uncertain, so the doubt is a lower estimate. More:
# [Bayesian networks under attack](../studies/bnn_attacks.ipynb) and
# [what can be promised](../studies/bnn_verification.ipynb).
#
# ## Saliency
#
# Which pixels does the answer rest on? *RISE* and *occlusion* cover parts of the image
# with grey, the *gradient* asks about small changes.

# %%
seen = looking.look("saliency")
rows.record(results, seen)
figures.maps(subject, seen)

# %%
figures.removal(results)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.told(results, seen)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.randomised(results)

# %% [markdown]
# **What it cannot say.** That a map is true. A map that destroys the answer fastest
# may do so because covered images look like nothing the network has seen. More: [how
# much of a saliency map is the baseline](../studies/saliency_baselines.ipynb).
#
# ## Certificate
#
# Bounds follow all perturbed images at once through the network. Where they leave the
# right class ahead, no attack can win.

# %%
seen = looking.look("certificate")
rows.record(results, seen)
figures.certificate(results)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.told(results, seen)

# %% [markdown]
# **What it cannot say.** That an image which is not certified can be broken: bounds are
# loose, and looser the deeper the network. They follow chains of layers alone; the
# reason names the first layer that they cannot follow. More: [how far can a prediction
# be pushed](../studies/loss_metric.ipynb).
#
# ## Pruning
#
# Which channels, neurons and heads does the network need? Half of the images say what
# each unit is worth, by the gradient of its gate; the others judge the network when the
# least important ones go.

# %%
seen = looking.look("pruning")
rows.record(results, seen)
figures.pruning(results)

# %%
figures.layers(results)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.told(results, seen)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
figures.reliability(results)

# %% [markdown]
# **What it cannot say.** What tuning would restore: nothing is trained here, and a
# network that is tuned after each removal keeps far more. More: [which filter can
# go](../studies/taylor_pruning.ipynb).
#
# ## What to remember
#
# - One number is no robustness: the six lenses disagree, and each says what it cannot
#   see.
# - An interval over your images says how sure a share is, and nothing of images that
#   are unlike yours.
# - Attacks overstate what a network withstands, bounds understate it.
#
# Next: [what six measures say of each other](../studies/synthesis.ipynb).
#
# ## Exercises
#
# ### 1. Work out: nothing broke
#
# An attack broke none of 50 images. Up to which share of broken images is that still
# possible, by the exact 95 % interval?

# %% tags=["exercise"] exercise="all-held"
answer = None  # a share
exercises.report(checks.check_all_held, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="all-held"
answer = 1 - 0.025 ** (1 / 50)  # about 7 %: fifty images are few
exercises.report(checks.check_all_held, answer)

# %% [markdown]
# ### 2. Predict: a masked gradient
#
# Which of these says that a network hides its gradients: `accuracy falls with the
# budget`, `noise costs less than an attack`, `Square breaks what gradients leave`?

# %% tags=["exercise"] exercise="masked"
answer = None  # a set of sentences
exercises.report(checks.check_masked, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="masked"
answer = {"Square breaks what gradients leave"}
exercises.report(checks.check_masked, answer)

# %% [markdown]
# ### 3. Work out: whose units?
#
# A network divides its inputs by a deviation of 0.25. What is a budget of 8 grey levels
# of 255 in the units that the network sees?

# %% tags=["exercise"] exercise="units"
answer = None  # one number
exercises.report(checks.check_units, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="units"
answer = 8 / 255 / 0.25
exercises.report(checks.check_units, answer)

# %% [markdown]
# ### 4. Implement: a two-sided alarm
#
# Given `scores` and those of `clean` images, return how unusual each score is, whether
# too large or too small.

# %% tags=["exercise"] exercise="two-sided"
answer = None  # a function (scores, clean) -> scores
exercises.report(checks.check_two_sided, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="two-sided"
def two_sided(scores, clean):
    """Distance from the median of the clean scores."""
    return (scores - clean.median()).abs()


answer = two_sided
exercises.report(checks.check_two_sided, answer)

# %% [markdown]
# ## Provenance

# %% jupyter={"source_hidden": true} tags=["remove-input"]
record = finish(
    "your_network",
    study.Parameters.of(globals()),
    results,
    subject.image_sets,
    digests=subject.digests,
    device=str(subject.device),
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.in_short(
    claims.in_short(results), study.CLAIMS, results, picture=figures.hero(results)
)
page.provenance(record)
