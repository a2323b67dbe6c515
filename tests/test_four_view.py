"""The four-view network, its training, the universal perturbation, and the readers of
mini-MIAS and published predictions.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustbook import stats
from robustbook.checks import ArgumentError
from robustbook.data import load, mini_mias, nyu_predictions
from robustbook.data.nyu_predictions import load_predictions, read_arrays
from robustbook.data.store import DataError
from robustbook.models import build, four_view
from robustbook.models.four_view import FourViewNetwork, PatchNetwork, Recipe
from robustbook.models.network import accuracy
from robustbook.models.training import Recipe as PlainRecipe
from robustbook.models.training import TrainingDiverged
from robustbook.models.training import train as train_plainly
from robustbook.perturb.universal import apply, universal_perturbation

EXAMS = torch.rand(3, 4, 32, 24, generator=torch.Generator().manual_seed(0))


def network(seed: int = 0) -> nn.Module:
    return four_view.build(FourViewNetwork, seed, widths=(4, 8), hidden=8).eval()


def test_exchanging_left_and_right_exchanges_the_answers() -> None:
    mirrored = EXAMS[:, [1, 0, 3, 2]].flip(-1)
    answers, exchanged = network()(EXAMS), network()(mirrored)
    assert torch.allclose(answers[:, [2, 3, 0, 1]], exchanged, atol=1e-6)
    assert not torch.allclose(answers, exchanged, atol=1e-4)


def test_exchanging_the_view_angles_changes_the_answers() -> None:
    assert not torch.allclose(
        network()(EXAMS), network()(EXAMS[:, [2, 3, 0, 1]]), atol=1e-4
    )


def test_brightness_and_contrast_of_a_view_do_not_matter() -> None:
    assert torch.allclose(network()(EXAMS), network()(0.2 + 0.3 * EXAMS), atol=1e-4)


def test_a_missing_view_is_refused() -> None:
    with pytest.raises(ValueError, match="four views"):
        network()(EXAMS[:, :3])


def test_training_learns_a_bright_spot_and_depends_on_its_seed_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(96, 1, 24, 24, generator=generator) * 0.2
    targets = (torch.arange(96) % 2)[:, None]
    images[targets[:, 0] == 1, :, 8:10, 10:12] += 0.6
    trained = [
        four_view.train(
            four_view.build(PatchNetwork, 0, classes=1, widths=(4, 8)),
            images,
            targets,
            Recipe(8, 1e-2),
            seed=seed,
        )
        for seed in (0, 0, 1)
    ]
    with torch.no_grad():
        answers = [model(images) for model in trained]
    assert stats.auc(targets.ravel(), answers[0].ravel()) > 0.95
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_training_that_diverges_says_so() -> None:
    model = four_view.build(PatchNetwork, 0, classes=1, widths=(4, 8))
    task = torch.rand(8, 1, 16, 16), torch.ones(8, 1)
    with pytest.raises(TrainingDiverged, match="epoch 1"):
        four_view.train(
            model,
            *task,
            Recipe(1),
            seed=0,
            loss=lambda logits, _targets: logits.sum() * torch.nan,
        )


# Universal perturbation
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digit_network() -> nn.Module:
    train = load("digits", "train", limit=600)
    model = build("cnn", train.image_shape, 10, seed=0)
    return train_plainly(
        model, train.images, train.labels, PlainRecipe("natural", 10), seed=0
    )


def universal(model: nn.Module, epsilon: float) -> torch.Tensor:
    train = load("digits", "train", limit=300)
    return universal_perturbation(
        model,
        train.images,
        train.labels,
        epsilon=epsilon,
        epochs=5,
        generator=torch.Generator().manual_seed(0),
        chunk=32,
    )


def test_one_pattern_fools_images_it_was_not_made_from_better_than_noise(
    digit_network: nn.Module,
) -> None:
    test = load("digits", "test", limit=300)
    pattern = universal(digit_network, 0.2)
    assert pattern.shape == test.image_shape
    assert pattern.abs().max() <= 0.2 + 1e-6
    signs = (
        0.2
        * torch.rand(test.image_shape, generator=torch.Generator().manual_seed(3))
        .sub(0.5)
        .sign()
    )
    attacked, noisy = (
        accuracy(digit_network, apply(test.images, each), test.labels)
        for each in (pattern, signs)
    )
    assert attacked < noisy - 0.15
    assert apply(test.images, pattern).min() >= 0


def test_a_linear_network_gets_the_pattern_of_its_weights() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    images, labels = torch.full((64, 1, 4, 4), 0.5), torch.zeros(64, dtype=torch.long)
    pattern = universal_perturbation(
        model,
        images,
        labels,
        epsilon=0.1,
        epochs=10,
        generator=torch.Generator().manual_seed(0),
        chunk=8,
    )
    weights = model[1].weight.detach()
    assert torch.equal(pattern.ravel().sign(), (weights[1] - weights[0]).sign())


def test_universal_perturbation_refuses_nonsense_and_leaves_the_network_as_it_was(
    digit_network: nn.Module,
) -> None:
    with pytest.raises(ArgumentError, match="epsilon must be"):
        universal(digit_network, -0.1)
    digit_network.train()
    universal(digit_network, 0.1)
    assert digit_network.training
    digit_network.eval()


@pytest.mark.peer
def test_is_at_least_as_strong_as_arts(digit_network: nn.Module) -> None:
    from art.attacks.evasion import UniversalPerturbation
    from art.estimators.classification import PyTorchClassifier

    train, test = load("digits", "train", limit=100), load("digits", "test", limit=300)
    classifier = PyTorchClassifier(
        digit_network,
        nn.CrossEntropyLoss(),
        train.image_shape,
        10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    attack = UniversalPerturbation(
        classifier,
        attacker="fgsm",
        attacker_params={"eps": 0.2},
        eps=0.2,
        norm=np.inf,
        max_iter=5,
        delta=0.1,
        verbose=False,
    )
    attack.generate(train.images.numpy(), train.labels.numpy())
    theirs = (
        torch.from_numpy(np.asarray(attack.noise)).reshape(train.image_shape).float()
    )
    ours = universal_perturbation(
        digit_network,
        train.images,
        train.labels,
        epsilon=0.2,
        epochs=5,
        generator=torch.Generator().manual_seed(0),
        chunk=32,
    )
    left = [
        accuracy(digit_network, apply(test.images, each), test.labels)
        for each in (ours, theirs)
    ]
    assert left[0] <= left[1] + 0.02


# Mini-MIAS
# --------------------------------------------------------------------------------------


def test_folds_never_share_a_woman() -> None:
    women = np.random.default_rng(0).integers(0, 60, size=300)
    folds = mini_mias.fold_of(women)
    assert set(folds) == set(range(mini_mias.FOLDS))
    assert all(len(set(folds[women == woman])) == 1 for woman in set(women))


@pytest.mark.data("mini-mias")
def test_mini_mias_is_as_described(data_root: Path) -> None:
    patches = mini_mias.read_patches(data_root / mini_mias.FILE.path)
    assert patches.images.shape == (533, 128, 128)
    assert np.bincount(patches.labels).tolist() == [414, 68, 51]
    assert (patches.kinds == "CALC").sum() == 27
    train, test = load("mini-mias", "train"), load("mini-mias", "test")
    assert len(train) + len(test) == 533
    assert not train.shareable


# Published predictions
# --------------------------------------------------------------------------------------


class Harmful:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("pickle-was-executed",)


@pytest.mark.parametrize(
    "content",
    [
        Harmful(),
        [np.zeros(3), Harmful()],
        {"a": np.zeros(2)},
        np.array([Harmful()], dtype=object),
        "text",
        [],
        (1, 2.5),
    ],
)
def test_anything_but_arrays_is_refused_and_nothing_runs(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="refused"):
        read_arrays(pickle.dumps(content))
    assert not list(tmp_path.iterdir())


def test_damaged_pickles_are_refused() -> None:
    whole = pickle.dumps(np.arange(10))
    for part in (b"", whole[:20], b"garbage", b"cos\nsystem\n(S'true'\ntR."):
        with pytest.raises(DataError, match="refused"):
            read_arrays(part)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back_as_they_were(protocol: int) -> None:
    arrays = (np.random.default_rng(0).normal(size=(2, 3)), np.arange(4))
    back = read_arrays(pickle.dumps(arrays, protocol=protocol))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, back, strict=True))
    assert read_arrays(pickle.dumps([3, 1, 2]))[0].tolist() == [3, 1, 2]


def small_files(root: Path, exams: int = 6) -> dict[str, str]:
    """Files of the published format below `root` with random answers, and their
    digests.
    """
    import hashlib

    rng, folder, digests = np.random.default_rng(0), root / nyu_predictions.FOLDER, {}
    outcomes = ["malignant", "benign", "nonbiopsied"] * 2
    table = "test_set_idx,y_l,y_r,subgroup_l,subgroup_r\n" + "".join(
        f"{exam},{outcomes[exam]},nonbiopsied,microcalcifications,nonbiopsied\n"
        for exam in range(exams)
    )
    for name in nyu_predictions.DIGESTS:
        if name.endswith(".csv"):
            content = table.encode()
        elif "idxs" in name:
            content = pickle.dumps([0, 3])
        elif "annotation" in name:
            content = pickle.dumps(rng.random((7, 5, 9, 2, 2)))
        else:
            raters = 10 if "radiologists" in name else 5
            mask = (
                (rng.random((raters, 9, exams)) < 0.5).astype(int)
                if raters == 10
                else np.ones((5, 9, exams), int)
            )
            content = pickle.dumps((rng.random((raters, 9, exams, 2)), mask))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def test_predictions_are_read_breast_by_breast(tmp_path: Path) -> None:
    found = load_predictions(tmp_path, small_files(tmp_path))
    assert found.outcome.tolist()[:4] == [
        "malignant",
        "nonbiopsied",
        "benign",
        "nonbiopsied",
    ]
    assert found.networks["dmv", "filtered"].shape == (5, 9, 12)
    assert found.region_breasts.tolist() == [0, 1, 6, 7]
    assert 0 < np.isnan(found.readers).mean() < 1
    chosen, positive = found.task("microcalcifications")
    assert positive.sum() == 2
    assert chosen.all()  # with one subgroup nobody is left out
    assert found.exams.tolist()[:4] == [0, 0, 1, 1]


def test_missing_damaged_and_misshapen_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        load_predictions(tmp_path)
    digests = small_files(tmp_path)
    name = next(each for each in digests if each.endswith("filtered.pkl"))
    path = tmp_path / nyu_predictions.FOLDER / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        load_predictions(tmp_path, digests)
    import hashlib

    buffer = io.BytesIO()
    pickle.dump(np.zeros((5, 9, 6, 2)), buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="mask"):
        load_predictions(
            tmp_path, digests | {name: hashlib.sha256(buffer.getvalue()).hexdigest()}
        )


PUBLISHED = {
    ("dmv", "unperturbed", "microcalcifications"): (
        0.894,
        0.887,
        0.878,
        0.842,
        0.749,
        0.628,
        0.498,
        0.474,
        0.492,
    ),
    ("dmv", "filtered", "microcalcifications"): (
        0.894,
        0.903,
        0.899,
        0.903,
        0.877,
        0.839,
        0.723,
        0.596,
        0.534,
    ),
    ("dmv", "unperturbed", "soft_tissue_lesions"): (
        0.807,
        0.809,
        0.813,
        0.810,
        0.790,
        0.753,
        0.615,
        0.523,
        0.539,
    ),
    ("dmv", "filtered", "soft_tissue_lesions"): (
        0.807,
        0.810,
        0.798,
        0.782,
        0.788,
        0.800,
        0.812,
        0.810,
        0.779,
    ),
    ("dmv", "unperturbed", "all"): (
        0.835,
        0.833,
        0.832,
        0.819,
        0.776,
        0.711,
        0.582,
        0.510,
        0.519,
    ),
    ("dmv", "filtered", "all"): (
        0.835,
        0.842,
        0.834,
        0.831,
        0.821,
        0.817,
        0.780,
        0.723,
        0.686,
    ),
    ("gmic", "unperturbed", "microcalcifications"): (
        0.926,
        0.931,
        0.928,
        0.912,
        0.848,
        0.746,
        0.550,
        0.466,
        0.460,
    ),
    ("gmic", "filtered", "microcalcifications"): (
        0.926,
        0.931,
        0.918,
        0.927,
        0.876,
        0.861,
        0.790,
        0.591,
        0.528,
    ),
    ("gmic", "unperturbed", "soft_tissue_lesions"): (
        0.833,
        0.827,
        0.821,
        0.803,
        0.803,
        0.810,
        0.804,
        0.724,
        0.605,
    ),
    ("gmic", "filtered", "soft_tissue_lesions"): (
        0.833,
        0.846,
        0.832,
        0.831,
        0.818,
        0.816,
        0.849,
        0.843,
        0.832,
    ),
    ("gmic", "unperturbed", "all"): (
        0.870,
        0.865,
        0.858,
        0.838,
        0.813,
        0.779,
        0.705,
        0.628,
        0.556,
    ),
    ("gmic", "filtered", "all"): (
        0.870,
        0.878,
        0.870,
        0.876,
        0.850,
        0.841,
        0.828,
        0.750,
        0.729,
    ),
}
"""AUC by severity, mean of five seeds, worked out from the published files
independently of this code.
"""
PUBLISHED_KS = {
    ("dmv", "all exams", "microcalcifications"): (
        0.681,
        0.672,
        0.659,
        0.601,
        0.434,
        0.297,
        0.126,
        0.142,
        0.157,
    ),
    ("dmv", "all exams", "soft_tissue_lesions"): (
        0.546,
        0.551,
        0.556,
        0.530,
        0.504,
        0.465,
        0.312,
        0.132,
        0.137,
    ),
    ("gmic", "all exams", "microcalcifications"): (
        0.757,
        0.757,
        0.755,
        0.716,
        0.620,
        0.431,
        0.187,
        0.205,
        0.190,
    ),
    ("gmic", "all exams", "soft_tissue_lesions"): (
        0.549,
        0.563,
        0.524,
        0.513,
        0.504,
        0.531,
        0.534,
        0.400,
        0.274,
    ),
    ("dmv", "interior", "microcalcifications"): (
        0.778,
        0.768,
        0.757,
        0.721,
        0.614,
        0.499,
        0.430,
        0.451,
        0.495,
    ),
    ("dmv", "exterior", "microcalcifications"): (
        0.778,
        0.787,
        0.790,
        0.794,
        0.776,
        0.757,
        0.731,
        0.686,
        0.675,
    ),
    ("dmv", "entire", "microcalcifications"): (
        0.778,
        0.763,
        0.754,
        0.697,
        0.499,
        0.342,
        0.157,
        0.138,
        0.155,
    ),
    ("dmv", "interior", "soft_tissue_lesions"): (
        0.669,
        0.666,
        0.663,
        0.665,
        0.649,
        0.615,
        0.582,
        0.549,
        0.547,
    ),
    ("dmv", "exterior", "soft_tissue_lesions"): (
        0.669,
        0.677,
        0.687,
        0.687,
        0.674,
        0.661,
        0.617,
        0.546,
        0.506,
    ),
    ("dmv", "entire", "soft_tissue_lesions"): (
        0.669,
        0.661,
        0.664,
        0.629,
        0.592,
        0.509,
        0.341,
        0.160,
        0.162,
    ),
    ("gmic", "interior", "microcalcifications"): (
        0.816,
        0.808,
        0.803,
        0.777,
        0.705,
        0.575,
        0.477,
        0.465,
        0.520,
    ),
    ("gmic", "exterior", "microcalcifications"): (
        0.816,
        0.828,
        0.840,
        0.852,
        0.831,
        0.801,
        0.747,
        0.706,
        0.660,
    ),
    ("gmic", "entire", "microcalcifications"): (
        0.816,
        0.822,
        0.821,
        0.795,
        0.696,
        0.505,
        0.221,
        0.194,
        0.209,
    ),
    ("gmic", "interior", "soft_tissue_lesions"): (
        0.627,
        0.621,
        0.612,
        0.622,
        0.620,
        0.620,
        0.607,
        0.563,
        0.512,
    ),
    ("gmic", "exterior", "soft_tissue_lesions"): (
        0.627,
        0.634,
        0.630,
        0.623,
        0.606,
        0.586,
        0.543,
        0.457,
        0.389,
    ),
    ("gmic", "entire", "soft_tissue_lesions"): (
        0.627,
        0.638,
        0.600,
        0.594,
        0.577,
        0.599,
        0.577,
        0.425,
        0.285,
    ),
}
"""KS by severity: mean of five seeds over all exams, and of seeds and annotators over
the 120 exams with regions.
"""
PUBLISHED_RATES = {
    "microcalcifications": (0.83, 0.50, 0.70, 0.50, 0.50, 0.38, 0.22, 0.20, 0.30),
    "soft_tissue_lesions": (0.75, 0.67, 0.76, 0.77, 0.77, 0.59, 0.72, 0.66, 0.58),
}
"""Share of malignant breasts that the readers called malignant, by severity, readings
pooled.
"""


@pytest.fixture(scope="module")
def predictions() -> nyu_predictions.Predictions:
    if not nyu_predictions.present():
        pytest.skip(
            "no published predictions under ROBUSTBOOK_DATA "
            "(nyukat/perception_comparison, folder data)"
        )
    return load_predictions()


@pytest.mark.data
@pytest.mark.parametrize("key", PUBLISHED)
def test_auc_of_published_predictions(
    predictions: nyu_predictions.Predictions, key: tuple[str, str, str]
) -> None:
    chosen, positive = predictions.task(key[2])
    scores = predictions.networks[key[:2]][..., chosen]
    found = [
        np.mean([stats.auc(positive[chosen], row) for row in scores[:, place]])
        for place in range(9)
    ]
    assert found == pytest.approx(PUBLISHED[key], abs=0.001)


@pytest.mark.data
@pytest.mark.parametrize("key", PUBLISHED_KS)
def test_ks_of_published_predictions(
    predictions: nyu_predictions.Predictions, key: tuple[str, str, str]
) -> None:
    network, where, subgroup = key
    chosen, positive = predictions.task(subgroup)
    table = predictions.networks[network, "unperturbed"]
    if where != "all exams":
        chosen, positive = (
            chosen[predictions.region_breasts],
            positive[predictions.region_breasts],
        )
        entire = table[..., predictions.region_breasts]
        table = entire if where == "entire" else predictions.regions[network, where]
    found = [
        np.mean([stats.ks(positive[chosen], row) for row in table[:, place][:, chosen]])
        for place in range(9)
    ]
    assert found == pytest.approx(PUBLISHED_KS[key], abs=0.001)


@pytest.mark.data
@pytest.mark.parametrize("subgroup", PUBLISHED_RATES)
def test_rates_of_published_readers(
    predictions: nyu_predictions.Predictions, subgroup: str
) -> None:
    answers = predictions.readers[:, :, predictions.task(subgroup)[1]]
    given = np.isfinite(answers).sum(axis=(0, 2))
    assert ((given >= 20) & (given <= 33)).all()
    assert np.nanmean(answers, axis=(0, 2)) == pytest.approx(
        PUBLISHED_RATES[subgroup], abs=0.0051
    )
    healthy = predictions.readers[:, :, predictions.outcome != "malignant"]
    assert ((rates := np.nanmean(healthy, axis=(0, 2))) > 0.145).all() and (
        rates < 0.185
    ).all()


@pytest.mark.data
def test_published_counts(predictions: nyu_predictions.Predictions) -> None:
    assert [
        int((predictions.outcome == name).sum())
        for name in ("nonbiopsied", "benign", "malignant")
    ] == [
        1048,
        331,
        61,
    ]
    assert predictions.task("microcalcifications")[1].sum() == 22
    assert predictions.task("soft_tissue_lesions")[1].sum() == 30
    filtered, clean = (
        predictions.networks["gmic", name][:, 0] for name in ("filtered", "unperturbed")
    )
    assert np.array_equal(filtered, clean)
