"""Networks, training and checkpoints: what each training does to a network, and that
damage is never used.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Generator, Tensor, nn

import robustbook
from robustbook.data import load
from robustbook.models import ARCHITECTURES, Scale, build, checkpoints, parameter_count
from robustbook.models.checkpoints import DamagedCheckpoint, cached
from robustbook.models.network import accuracy
from robustbook.models.training import (
    Recipe,
    TrainingDiverged,
    distillation_loss,
    gradient_regularised_loss,
    train,
)
from robustbook.perturb import gradient
from robustbook.perturb.gradient import fgsm


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_architectures_fit_every_data_set(
    architecture: str, shape: tuple[int, int, int]
) -> None:
    model = build(architecture, shape, 10, seed=0)
    assert model(torch.rand(2, *shape)).shape == (2, 10)
    assert all(
        isinstance(layer, nn.Linear | nn.Conv2d | nn.ReLU | nn.Flatten)
        for layer in model
    )
    assert parameter_count(model) == sum(
        weights.numel() for weights in model.state_dict().values()
    )


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, second = (
        build("mlp", (1, 8, 8), 10, seed=4),
        build("mlp", (1, 8, 8), 10, seed=4),
    )
    assert checkpoints.digest(first.state_dict()) == checkpoints.digest(
        second.state_dict()
    )
    assert checkpoints.digest(
        build("mlp", (1, 8, 8), 10, 5).state_dict()
    ) != checkpoints.digest(first.state_dict())
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_architectures_and_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="architecture must be one of mlp"):
        build("transformer", (1, 8, 8), 10, 0)
    with pytest.raises(ValueError, match="divisible by 4"):
        build("cnn", (1, 10, 8), 10, 0)


def test_scale_multiplies_logits() -> None:
    logits = torch.randn(3, 10)
    assert torch.equal(Scale(2.0)(logits), 2 * logits)


def small_problem() -> tuple[nn.Module, Tensor, Tensor]:
    digits = load("digits", "train", limit=300)
    return build("mlp", digits.image_shape, 10, seed=0), digits.images, digits.labels


def fgsm_attack(
    model: nn.Module, images: Tensor, labels: Tensor, generator: Generator
) -> Tensor:
    return fgsm(model, images, labels, epsilon=0.1)


def test_training_learns_and_repeats() -> None:
    model, images, labels = small_problem()
    train(model, images, labels, Recipe("natural", epochs=20), seed=1)
    again, _, _ = small_problem()
    train(again, images, labels, Recipe("natural", epochs=20), seed=1)
    assert accuracy(model, images, labels) > 0.85
    assert not model.training
    assert checkpoints.digest(model.state_dict()) == checkpoints.digest(
        again.state_dict()
    )


def test_adversarial_training_makes_the_attack_harder() -> None:
    natural, images, labels = small_problem()
    defended, _, _ = small_problem()
    train(natural, images, labels, Recipe("natural", epochs=40), seed=1)
    train(
        defended,
        images,
        labels,
        Recipe("minmax", epochs=40, epsilon=0.15, steps=1),
        seed=1,
        attack=fgsm_attack,
    )
    robust = [
        accuracy(model, fgsm_attack(model, images, labels, Generator()), labels)
        for model in (natural, defended)
    ]
    assert robust[1] > robust[0] + 0.1


def test_gradient_penalty_is_the_squared_gradient_of_a_linear_network() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images, labels = torch.rand(1, 1, 2, 2), torch.tensor([1])
    weights = model[1].weight.detach()
    residual = torch.softmax(model(images).detach(), 1)[0] - torch.tensor([0.0, 1.0])
    expected = (
        F.cross_entropy(model(images), labels)
        + 0.5 * (residual @ weights).square().sum()
    )
    assert gradient_regularised_loss(
        model, images, labels, 0.5
    ).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_penalty_reaches_the_weights() -> None:
    model, images, labels = small_problem()
    plain, penalised = (
        torch.autograd.grad(
            gradient_regularised_loss(model, images[:8], labels[:8], weight),
            model[1].weight,
        )[0]
        for weight in (0.0, 5.0)
    )
    assert not torch.allclose(plain, penalised)


def test_distillation_is_least_at_the_teacher_itself() -> None:
    teacher, images, _ = small_problem()
    other = build("mlp", (1, 8, 8), 10, seed=9)
    assert distillation_loss(teacher, teacher, images, 2.0) < distillation_loss(
        other, teacher, images, 2.0
    )


def test_diverging_training_names_epoch_and_recipe() -> None:
    model, images, labels = small_problem()
    with pytest.raises(
        TrainingDiverged, match=r"epoch \d of Recipe\(training='natural'"
    ):
        train(
            model,
            images,
            labels,
            Recipe("natural", epochs=5, learning_rate=1e30),
            seed=0,
        )


def test_recipes_without_what_they_need_are_refused() -> None:
    model, images, labels = small_problem()
    with pytest.raises(ValueError, match="attack must be given to"):
        train(model, images, labels, Recipe("minmax", epochs=1), seed=0)
    with pytest.raises(ValueError, match="teacher must be given to"):
        train(model, images, labels, Recipe("distilled", epochs=1), seed=0)


def test_diverged_training_leaves_no_checkpoint() -> None:
    model, images, labels = small_problem()
    recipe = Recipe("natural", epochs=5, learning_rate=1e30)
    with pytest.raises(TrainingDiverged):
        cached(
            {"a": 1},
            model,
            lambda untrained: train(untrained, images, labels, recipe, seed=0),
        )
    assert not list(checkpoints.cache_folder().glob("*.safetensors"))
    assert not list(checkpoints.cache_folder().glob("*.tmp"))


def never(model: nn.Module) -> nn.Module:
    raise AssertionError("a cached network was trained again")


def test_checkpoint_is_read_back_exactly() -> None:
    made = cached({"name": "a"}, build("mlp", (1, 8, 8), 10, 0), lambda model: model)
    read = cached({"name": "a"}, build("mlp", (1, 8, 8), 10, 1), never)
    assert checkpoints.digest(made.state_dict()) == checkpoints.digest(
        read.state_dict()
    )
    for specification, code in (({"name": "b"}, ()), ({"name": "a"}, (gradient,))):
        with pytest.raises(AssertionError, match="trained again"):
            cached(specification, build("mlp", (1, 8, 8), 10, 0), never, code=code)


@pytest.mark.parametrize("place", [0.01, 0.3, 0.9])
def test_flipped_bit_is_reported_and_rebuilt(place: float) -> None:
    cached({"name": "a"}, build("mlp", (1, 8, 8), 10, 0), lambda model: model)
    (path,) = checkpoints.cache_folder().glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="damaged checkpoint is made again"):
        rebuilt = cached(
            {"name": "a"}, build("mlp", (1, 8, 8), 10, 0), lambda model: model
        )
    assert checkpoints.digest(checkpoints.read(path)) == checkpoints.digest(
        rebuilt.state_dict()
    )


def test_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoints.write(path, build("mlp", (1, 8, 8), 10, 0).state_dict())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedCheckpoint):
        checkpoints.read(path)


def test_a_renamed_checkpoint_is_damage() -> None:
    cached({"name": "a"}, build("mlp", (1, 8, 8), 10, 0), lambda model: model)
    (path,) = checkpoints.cache_folder().glob("*.safetensors")
    path.rename(path.with_stem(checkpoints.key({"name": "b"})))
    with (
        pytest.warns(UserWarning, match="is not the checkpoint that it is named"),
        pytest.raises(AssertionError, match="trained again"),
    ):
        cached({"name": "b"}, build("mlp", (1, 8, 8), 10, 0), never)


@pytest.mark.parametrize(
    ("module", "change", "same"),
    [
        ("models.training", "# A comment.\n{}", True),
        ("models.training", "{}\nLIMIT = 2\n", False),
        ("models.network", "{}\nLIMIT = 2\n", False),
        ("perturb.lowpass", "{}\nLIMIT = 2\n", True),
    ],
)
def test_code_that_trains_or_is_imported_there_gives_another_key(
    module: str,
    change: str,
    same: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`perturb.gradient`, the attack of a training, imports `models.network`."""
    folder = Path(robustbook.__file__).parent
    shutil.copytree(folder, tmp_path / "package")
    before = checkpoints.key({}, (gradient,))
    path = (tmp_path / "package" / module.replace(".", "/")).with_suffix(".py")
    path.write_text(change.replace("{}", path.read_text()))
    monkeypatch.setattr(robustbook, "__path__", [str(tmp_path / "package")])
    checkpoints._code.cache_clear()
    assert (checkpoints.key({}, (gradient,)) == before) is same
    checkpoints._code.cache_clear()


def test_unwritable_cache_trains_without_keeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("ROBUSTBOOK_CACHE", str(blocked))
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert isinstance(
            cached({}, build("mlp", (1, 8, 8), 10, 0), lambda model: model), nn.Module
        )


def test_a_read_only_cache_is_read_and_a_full_one_loses_no_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cached({"name": "a"}, build("mlp", (1, 8, 8), 10, 0), lambda model: model)

    def refuse(*words: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.warns(UserWarning, match="cannot be kept .* [(]No space left"):
        cached({"name": "b"}, build("mlp", (1, 8, 8), 10, 0), lambda model: model)
    monkeypatch.setattr(FileLock, "acquire", refuse)
    cached({"name": "a"}, build("mlp", (1, 8, 8), 10, 1), never)
    assert len(list(checkpoints.cache_folder().glob("*.safetensors"))) == 1


def make_slowly(folder: str) -> None:
    os.environ["ROBUSTBOOK_CACHE"] = folder

    def slow(model: nn.Module) -> nn.Module:
        with (Path(folder) / "trainings").open("a") as log:
            log.write("x")
        multiprocessing.Event().wait(0.5)
        return model

    cached({"shared": True}, build("mlp", (1, 8, 8), 10, 0), slow)


def test_two_processes_train_one_checkpoint_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=make_slowly, args=(str(tmp_path),)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "trainings").read_text() == "x"
