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
# # What should a mammogram classifier be sensitive to?
#
# *Perturbations of screening mammograms, after
# {cite:t}`oleszkiewicz2020understanding`.*

# %% jupyter={"source_hidden": true} tags=["remove-input"]
from robustbook import exercises, page
from robustbook.plots import style
from robustbook.studies import mammogram_perturbations as study

style.use_style()
page.opening()

# %% [markdown]
# **You need** to know what a classifier and an AUC are. **You will be able to** filter
# an image in millimetres, tell whether a filter hid something or a network is only
# brittle, and read a study of ten radiologists. Twenty minutes to read, one to run.
#
# ## See it once
#
# Draw a breast with a malignant cluster of specks (microcalcifications), as a detector
# would record it. We may show it: it is drawn.

# %%
import torch

from robustbook.data import phantoms

one = phantoms.generate(1, seed=11, first=3)
view = phantoms.unit_images(one.images)[0, 0]
print(phantoms.SUBGROUPS[one.subgroups[0, 0]], tuple(view.shape))

# %% [markdown]
# Take away what is finer than `cut_off` millimetres, subtract, look.

# %%
from robustbook.perturb.lowpass import low_pass, quantised
from robustbook.studies.mammogram_perturbations import figures

cut_off, side = 2.0, 0.2  # mm: wavelength of the filter, side of a pixel
blurred = quantised(low_pass(view, cut_off, pitch=side))
figures.one_lesion(view, blurred, severity=cut_off)

# %% [markdown]
# **Try.** Set `cut_off = 0.5` and run the cell again. At which severity do you lose
# the specks? Take another exam, `first=7`, with a mass instead. When do you lose it?
#
# Lost to your eyes, or gone from the image? The filter damps every oscillation by a
# known factor, so it can be undone, up to the rounding that came after it. A *Wiener
# filter* undoes it where there is more image than rounding.

# %%
from robustbook.perturb.restoration import cosines, restored

rows, columns = cosines(view.shape[0]), cosines(view.shape[1])
power = (rows @ view.double() @ columns.T).square().numpy()
later = 1 / 12 / 4095**2  # the variance of rounding to 12 bits
back = restored(blurred, cut_off, power, pitch=side, later=later)
for name, picture in {"filtered": blurred, "brought back": back}.items():
    print(f"{name}: up to {(picture - view).abs().max():.3f} away from the original")

# %% [markdown]
# **Try.** Round to 256 levels instead, as a display does:
# `quantised(low_pass(view, cut_off, pitch=side), 255)`, with `later = 1 / 12 /
# 255**2`. What comes back now?
#
# ## The idea
#
# A network that sees less under a filter may be *brittle*: the finding is in the image,
# and the network does not use it. Such sensitivity is a fault, and one would train it
# away. Or the finding is *gone*, and then a network that notices nothing did not look
# at it. The paper asks which of the two holds for mammograms. Its answer: the filter
# hides microcalcifications, so invariance to it is not desirable.
#
# The filter multiplies the image's Fourier transform $\hat x$ at the frequencies $u,
# v$ (cycles/mm) by a Gaussian; its severity is the cut-off wavelength $\lambda$ in mm:
#
# $$\hat x(u, v)\, \exp\!\Big(-\tfrac12 \lambda^2 (u^2 + v^2)\Big).$$
#
# How visible is a known lesion $s$ in noise of power $W$ after a filter $G$ and later
# noise of variance $\sigma^2$? The *detectability* $d'$ is the distance between the
# answers with and without the lesion, in standard deviations. The best linear observer,
# who first flattens the noise (*prewhitening*), reaches
#
# $$d'^2 = \sum_f \frac{|G(f)\,\hat s(f)|^2}{G(f)^2\,W(f) + \sigma^2}.$$
#
# Without later noise $G$ cancels: the filter alone hides nothing from this *exact*
# observer. A *plain* one cannot undo correlations and does lose.

# %%
from robustbook.measure import observers

page.source(low_pass, observers.detectability)

# %% [markdown]
# What is the paper's here, and what is ours? Its abstract is all that we could read.
# Low-pass filtering is certain to be one of its four perturbations. Attack, universal
# pattern and noise are our reading; strengths, networks and numbers are unknown, and
# its data are private. So the claims are tested on four legs: *phantoms* that we draw,
# patches of real *films* (mini-MIAS), the *published
# predictions* of two networks, and the answers of ten *radiologists*, both from the
# follow-up {cite:p}`makino2022differences`.
#
# ## Measured properly
#
# From here on every number comes from many networks and exams, and from the parameters
# below.

# %% tags=["parameters"]
height: int = 64
pitch: float = 0.2
train_exams: int = 300
test_exams: int = 120
epochs: int = 2
seeds: int = 1
first_seed: int = 0
retrained_severities: int = 1
attack_exams: int = 30
steps: int = 4
universal_epochs: int = 1
observer_exams: int = 80
natural_dataset: str = "digits"
natural_network: str = "cnn"
natural_retrained: int = 1
natural_train_images: int = 1000
natural_test_images: int = 200
natural_attack_images: int = 60
natural_epochs: int = 10
mini_mias_epochs: int = 0
published_predictions: bool = False
rating_draws: int = 500
exam: str = "none"
exam_pitch: float = 0.0
resamples: int = 200

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.parameters(study.Parameters.of(globals()))

# %%
from IPython.display import display

from robustbook.data import nyu_predictions
from robustbook.results import Results
from robustbook.run import finish
from robustbook.studies.mammogram_perturbations import exercises as checks
from robustbook.studies.mammogram_perturbations import networks
from robustbook.studies.mammogram_perturbations.measure import (
    likeness,
    own_exam,
    perturbed,
    published,
    readers,
    severity,
    visibility,
)

# %%
results = Results(rows=study.ROWS, rerun=True)

# %% [markdown]
# ### Exams whose truth is known
#
# A phantom is drawn as attenuation: a breast with skin, fat and gland, strands that run
# to the nipple, texture, and in some breasts a lesion seen in both views. Masses are
# round and smooth if benign; spiculated, or large and diffuse, if malignant. Specks are
# few and coarse if benign, many and fine if malignant. Everything is drawn by area,
# passes one detector that blurs, then gets noise, then is rounded to 12 bits.

# %%
phantom = {
    "height": height,
    "pitch": pitch,
    "train_exams": train_exams,
    "test_exams": test_exams,
    "epochs": epochs,
    "seeds": seeds,
    "first_seed": first_seed,
    "retrained_severities": retrained_severities,
}
exams = networks.test_exams(**phantom)
figures.exam(exams)

# %% [markdown]
# ### The networks
#
# A small four-view network in the manner of {cite:t}`wu2020deep`: one trunk for each
# view angle, the same weights left and right, four yes-or-no answers. It is trained on
# unfiltered exams (*clean*), on exams filtered at one severity, and on exams *blurred*
# at random, each in rounds until the loss on held-out exams stops falling. Films get a
# network of one view, natural images a small network or a published one.

# %%
natural = {
    "pitch": pitch,
    "seeds": seeds,
    "first_seed": first_seed,
    "natural_dataset": natural_dataset,
    "natural_network": natural_network,
    "natural_retrained": natural_retrained,
    "natural_train_images": natural_train_images,
    "natural_test_images": natural_test_images,
    "natural_epochs": natural_epochs,
}
film = {"mini_mias_epochs": mini_mias_epochs, "seeds": seeds, "first_seed": first_seed}

# %%
zoo = networks.phantom_networks(**phantom)
films = networks.patch_networks(**film)
others = networks.natural_networks(**natural)
networks.train_all(zoo + films + others)
seen = networks.images_of(natural_dataset, "test", natural_test_images)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.prose(
    f"This run: {train_exams:,} phantom exams to train on, {test_exams:,} to test on, "
    f"{seeds} training{'s' if seeds > 1 else ''} of each kind; natural images are "
    f"{seen.title}; films {'are measured' if films else 'are left out'}."
)

# %% [markdown]
# How like mammograms are the phantoms? We looked at both side by side (films are for
# research only and not shown), and fitted the slope of the power spectrum in two bands.

# %% jupyter={"source_hidden": true} tags=["remove-input"]
if films:
    likeness.record_likeness(results, resamples)
    display(page.table(likeness.table(results), caption=likeness.CAPTION))
else:
    display(page.prose("This run left the films out, so there is nothing to compare."))

# %% [markdown]
# ### Are mammogram networks sensitive, too?
#
# Four perturbations: an attack (PGD), one universal pattern for all exams, noise, and
# the filter. A strong enough perturbation breaks anything. What counts is the strongest
# severity at which *lesions* stay recognisable: a structural similarity of at least 0.9
# {cite:p}`wang2004image` inside their outlines, on every leg.

# %%
attack = {
    "attack_exams": attack_exams,
    "natural_attack_images": natural_attack_images,
    "steps": steps,
    "universal_epochs": universal_epochs,
}
figures.perturbations(exams, zoo[0], **phantom, **attack)

# %%
measured = {
    leg: perturbed.measure_all(some, **given, **attack)
    for leg, some, given in (
        ("phantoms", zoo, phantom),
        ("films", films, film),
        ("natural", others, natural),
    )
}
draws = {"resamples": resamples}
perturbed.record_phantoms(results, measured["phantoms"], exams, **draws)
perturbed.record_patches(results, measured["films"], **draws)
perturbed.record_natural(results, measured["natural"], **natural, **draws)

# %%
figures.losses(results)

# %%
page.verdict(study.CLAIMS[0], results)

# %%
page.verdict(study.CLAIMS[1], results)

# %% [markdown]
# ### What does the filter cost, and what comes back?
#
# Each network reads filtered exams. So does the clean network after a Wiener filter,
# which needs no training. Specks and masses are scored apart: the AUC of malignant
# breasts of one kind against all breasts that are not malignant.

# %%
curves = severity.measure_all(zoo, **phantom)
on_films = severity.measure_all(films, **film)
on_natural = severity.measure_all(others, **natural)
predictions = nyu_predictions.load_predictions() if published_predictions else None

# %%
severity.record_phantoms(results, curves, exams, **draws)
severity.record_films(results, on_films, **draws)
severity.record_natural(results, on_natural, **draws)
if predictions is not None:
    published.record_predictions(results, predictions, **draws)
figures.severities(results)

# %% [markdown]
# How visible are the lesions without any network? The two observers of *The idea* are
# told each lesion and the noise.

# %%
observed = networks.exams_of("test", observer_exams, height, pitch)
visibility.record_visibility(results, observed)
figures.explore(results, exams, zoo[0])

# %%
page.verdict(study.CLAIMS[2], results)

# %%
page.verdict(study.CLAIMS[3], results)

# %% [markdown]
# Some of these AUCs lie below one half: the network ranks cancers *below* healthy
# breasts. That is no riddle if the other breasts hold something that looks worse. So
# the specks are compared with breasts that hold no lesion, and with benign lesions.

# %%
figures.below_half(results)

# %% [markdown]
# Why specks, of all things? Compare the spectra. Where a filter has left less than what
# comes after it, nobody can bring it back.

# %%
figures.spectra(observed)

# %% [markdown]
# ### What do radiologists and published networks lose?
#
# The follow-up showed 720 filtered exams to ten radiologists and two networks (DMV and
# GMIC, five trainings each), and published every answer. The files are read from the
# data root, never copied; the quick run leaves them out.

# %%
published_auc = figures.published(results)
published_auc

# %%
page.verdict(study.CLAIMS[4], results)

# %% [markdown]
# Each radiologist saw an exam at one severity only, so raw rates mix readers, exams and
# severities. The follow-up's model takes them apart: the logit of a yes is the breast,
# plus the effect of the severity (a running sum of steps), plus the reader, plus a
# level, all with standard normal priors. We fit it by Hamiltonian Monte Carlo (HMC).

# %%
from robustbook.bayes import ratings

page.source(ratings.Ratings.logits, ratings.Ratings.potential)

# %%
if predictions is not None:
    fitted = readers.fit_all(predictions, draws=rating_draws)
    readers.record_model(results, fitted, predictions)
    published.record_regions(results, predictions)
    published.record_readers(results, predictions)
reader_effects = figures.effects(results)
reader_effects

# %%
page.verdict(study.CLAIMS[5], results)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.prose(readers.said(results))

# %% [markdown]
# Does the network look where the readers look? The follow-up filtered the inside or the
# outside of regions that readers drew.

# %%
inside_outside = figures.regions(results)
inside_outside

# %% [markdown]
# ### So should a network ignore the filter?
#
# A loss is *restored* if the Wiener filter, re-training or training with blur leaves
# less than half of it. It is *lasting* if all of them leave more. On natural images,
# the claim says, it comes back.

# %%
if natural_network == "resnet20":
    severity.record_published(results, **natural)
figures.natural(results, title=seen.title)

# %%
page.verdict(study.CLAIMS[6], results)

# %%
page.verdict(study.CLAIMS[7], results)

# %%
page.verdict(study.CLAIMS[8], results)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
page.table(severity.table(results), caption=severity.CAPTION)

# %% [markdown]
# ### Your own exam
#
# Give a folder with four views (PNG, TIFF or DICOM), and the same perturbations are
# applied to it in millimetres: `robustbook run mammogram_perturbations -r mine -p
# exam FOLDER -p exam_pitch 0.07`. A file with "mask" in its name marks a lesion.
# Our networks are not asked: they learned from phantoms of a centimetre, and what they
# would say of a patient means nothing.

# %%
if exam != "none":
    views = own_exam.read_exam(exam, exam_pitch)
    display(figures.own_views(views), page.prose(own_exam.notes(views)))
    display(page.table(own_exam.table(views), caption=own_exam.CAPTION))

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
# **How the phantoms are drawn.** Earlier ones sampled masses at points and averaged
# specks over pixels; thin strands aliased, and masses seemed to hold the finer detail.
# Now all is drawn alike, and the plain observer, who needs no network, has a veto.
#
# **How networks are trained.** Re-training once added noise *after* the filter, which
# no detector does. Now noise comes before it, training goes on until the loss settles,
# and a filter without any training stands beside it.
#
# **A better restorer.** What three arms do not bring back, a fourth may. The exact
# observer bounds that from the other side.
#
# ## Limits
#
# - The paper's networks, data and severities are private; its numbers are not compared.
# - Phantoms are not patients: breasts are miniatures, lesions more frequent than in
#   screening. Their contrast was set so that a clean network is neither at chance nor
#   perfect.
# - Networks are small. Films have 27 calcifications; the folds say what so few could
#   have shown.
# - The observers know the lesion and its place. A reader has to search.
# - Of the published exams only 22 breasts hold malignant specks, 30 malignant masses.
# - Published severities are taken for wavelengths on the breast, which their code
#   suggests and does not say.
# - Natural images at the same cut-off in pixels hold other objects of other sizes.
#
# ## What to remember
#
# - Ask of every lost AUC: gone from the image, or not found by this network?
# - A filter that is known can be undone, up to what came after it. Try that before you
#   train again.
# - Whether a sensitivity is a fault depends on what the perturbation hides.
#
# Next: [where a network looks](../studies/saliency_baselines.ipynb), and
# [what six measures say of each other](../studies/synthesis.ipynb).
#
# ## Exercises
#
# Each has a check. Replace `answer` and run the cell; solutions are folded below.
#
# ### 1. Predict: how wide is the filter?
#
# The cut-off wavelength is 2 mm, a pixel is 0.2 mm. What is the standard deviation, in
# pixels, of the Gaussian that smooths the image?

# %% tags=["exercise"] exercise="filter-width"
answer = None  # one number, in pixels
exercises.report(checks.check_width, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="filter-width"
answer = (
    2 / (2 * 3.14159265) / 0.2
)  # exp(-(f w)^2 / 2) is the transform of a Gaussian of deviation w / (2 pi)
exercises.report(checks.check_width, answer)

# %% [markdown]
# ### 2. Predict: what hides a lesion?
#
# An observer knows the filter, the lesion and the noise. Without a filter it sees the
# lesion with some d′. Which of these make the filter cost it information: the `filter`
# itself, `noise before` the filter, `rounding` after it, `noise after` it? (Noise
# before the filter lowers d′ with and without it; the question is what the filter then
# takes.)

# %% tags=["exercise"] exercise="what-hides"
answer = None  # a set of names, such as {"filter", "rounding"}
exercises.report(checks.check_hides, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="what-hides"
answer = {
    "rounding",
    "noise after",
}  # a Gaussian is nowhere zero: the filter can be undone until something is added
exercises.report(checks.check_hides, answer)

# %% [markdown]
# ### 3. Change a parameter and explain: no rounding
#
# Work out the share of d′ that the Hotelling observer keeps at 2 mm when nothing is
# added after the filter, and explain it with the formula above. (`signals, power =
# checks.sample_lesions()` gives lesions and noise; `visibility.of_lesion` the
# detectability of one.)

# %% tags=["exercise"] exercise="no-rounding"
answer = None  # the mean share over lesions, as a float
exercises.report(checks.check_later_noise, answer)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="no-rounding"
signals, power = checks.sample_lesions()
shares = [
    visibility.of_lesion(signal, power, 2.0, 0.2, 0.0, "hotelling")
    / visibility.of_lesion(signal, power, 0.0, 0.2, 0.0, "hotelling")
    for signal in signals
]
answer = float(sum(shares) / len(shares))  # H cancels between signal and noise
exercises.report(checks.check_later_noise, answer)

# %% [markdown]
# ### 4. Implement: a filter in millimetres
#
# Write the low-pass filter with a fast Fourier transform: `(images, wavelength, pitch)
# -> images`. It has to blur equally along rows and columns of an image that is not
# square.

# %% tags=["exercise"] exercise="low-pass"
answer = None  # a function (images, wavelength, pitch) -> filtered images
exercises.report(checks.check_low_pass, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="low-pass"
import torch


def my_low_pass(images, wavelength, pitch):
    """Gaussian filter in the frequency domain, frequencies in cycles/mm; borders wrap
    around.
    """
    rows = torch.fft.fftfreq(images.shape[-2], pitch)[:, None]
    columns = torch.fft.fftfreq(images.shape[-1], pitch)[None]
    gain = torch.exp(-0.5 * wavelength**2 * (rows**2 + columns**2))
    return torch.fft.ifft2(torch.fft.fft2(images) * gain).real


answer = my_low_pass
exercises.report(checks.check_low_pass, answer)

# %% [markdown]
# ### 5. Implement: the area under the curve
#
# The AUC is the chance that a malignant breast has a higher score than a healthy one,
# ties counting half. Write it without a library: `(positive, scores) -> float`.

# %% tags=["exercise"] exercise="auc"
answer = None  # a function (positive, scores) -> AUC
exercises.report(checks.check_auc, answer)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"] exercise="auc"
def my_auc(positive, scores):
    """Share of pairs in which the positive one has the higher score; ties count
    half.
    """
    gaps = scores[positive][:, None] - scores[~positive][None]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


answer = my_auc
exercises.report(checks.check_auc, answer)

# %% [markdown]
# ## Provenance

# %% jupyter={"source_hidden": true} tags=["remove-input"]
sets = [exams, seen]
sets += [networks.load("mini-mias", "all")] if films else []
sets += [predictions] if predictions is not None else []
record = finish(
    "mammogram_perturbations", study.Parameters.of(globals()), results, sets
)

# %% jupyter={"source_hidden": true} tags=["remove-input"]
picture = figures.hero(exams, zoo[0])
page.in_short(figures.in_short(results), study.CLAIMS, results, picture=picture)
page.provenance(record)
