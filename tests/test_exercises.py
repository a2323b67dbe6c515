"""Checks of exercises are fair: right answers in any form pass, typical wrong ones get
the hint that names their cause, and an error is shown with its line.
"""

from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbook import exercises
from robustbook.measure.divergence import kl_divergence, normalise_logits

ROOT = Path(__file__).parents[1]
STUDIES = (
    *("loss_metric", "saliency_baselines", "taylor_pruning"),
    *("bnn_attacks", "mammogram_perturbations"),
)


# Answers in any form
# --------------------------------------------------------------------------------------

HALF = [
    *(0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), Fraction(1, 2)),
    *(Decimal("0.5"), torch.tensor(0.5), torch.tensor(0.5, requires_grad=True)),
]


def check_half(answer):
    assert isinstance(answer, float), "Give one number."
    assert answer == 0.5, "Halve it."


@pytest.mark.parametrize("answer", HALF, ids=lambda value: type(value).__name__)
def test_every_real_number_is_a_number(answer):
    assert exercises.report(check_half, answer).correct


@pytest.mark.parametrize("answer", [1, np.int64(1), torch.tensor(1)])
def test_whole_numbers_get_the_hint_of_their_value(answer):
    assert exercises.report(check_half, answer).message == "Halve it."


@pytest.mark.parametrize("answer", [True, None, "0.5", 0.5j, torch.tensor([0.5])])
def test_what_is_no_number_stays_none(answer):
    assert exercises.report(check_half, answer).message == "Give one number."


WAYS = ("transfer", "own gradient")


def check_ways(answer, allowed=None):
    assert set(answer) <= {"Way", "CNN"} and answer["Way"] in WAYS, "unknown"
    assert answer["Way"] == "transfer" and answer["CNN"] == {"High": 2.0}, "no"


def test_texts_are_read_whatever_their_case():
    given = {"way": " Transfer", "Cnn": {"high": np.int8(2)}}
    assert exercises.report(check_ways, given).correct
    assert exercises.report(lambda answer: check_ways(answer), given).correct
    other = {"way": "OWN GRADIENT", "CNN": {"High": 2.0}}
    assert exercises.report(check_ways, other).message == "no"
    assert exercises.report(check_ways, {"other": 1}).message == "unknown"


def test_two_texts_that_differ_in_case_alone_stay_apart():
    def check(answer):
        assert answer in ("n", "N"), "unknown"
        assert answer == "N", "the other one"

    assert exercises.report(check, "N").correct
    assert exercises.report(check, "n").message == "the other one"


# Errors in an answer
# --------------------------------------------------------------------------------------


def check_call(answer):
    assert callable(answer), "Give the function itself."
    assert answer([1.0, 2.0]) == 3.0, "Sum them."


def test_an_error_in_an_answer_is_shown_with_its_line():
    def broken(values):
        return inner(values)

    def inner(values):
        return values["total"]

    message = exercises.report(check_call, broken).message
    line = inner.__code__.co_firstlineno + 1
    assert message.startswith("Your function stopped with TypeError: list indices")
    assert f'line {line}, `return values["total"]`' in message


def test_an_assertion_in_an_answer_is_no_hint():
    def broken(values):
        assert len(values) == 3, "three"

    message = exercises.report(check_call, broken).message
    assert "Your function stopped with AssertionError: three" in message


def test_an_error_of_the_check_itself_is_said_to_be_one():
    def check(answer):
        raise ZeroDivisionError

    message = exercises.report(check, 1.0).message
    assert message == "The check stopped with ZeroDivisionError"


# What is wrong with numbers
# --------------------------------------------------------------------------------------

RIGHT = np.array([[0.2, 1.5, 0.7], [2.0, 0.1, 3.0], [0.3, 0.9, 4.0]])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (RIGHT, ""),
        (np.ones((3, 3)), ""),
        (-RIGHT, "sign is the other way round"),
        (RIGHT / 8, "divided by 8: a mean where a sum belongs?"),
        (RIGHT * 49, "times 49: a sum where a mean belongs (over 7, before a square)?"),
        (RIGHT / np.log(2), "times 1.44: mind units"),
        (-RIGHT / 3, "times -0.333: mind the sign"),
        (RIGHT**0.5, "Square your numbers"),
        (RIGHT**2, "root of your numbers"),
        (np.exp(RIGHT), "logarithm of your numbers"),
        (RIGHT.T, "Rows and columns are exchanged."),
        (RIGHT[::-1], "right numbers in another order"),
        (RIGHT + 2, "off by 2."),
        (RIGHT.reshape(9, 1), "(9, 1) in place of (3, 3)"),
        (torch.tensor(-RIGHT, requires_grad=True), "sign"),
        ("text", ""),
    ],
)
def test_a_relation_to_the_right_numbers_is_named(found, said):
    shown = exercises.relation(found, RIGHT)
    assert said in shown and bool(said) is bool(shown)


def test_an_order_turned_round_or_shifted_is_named():
    right = list(RIGHT[0])
    assert "turned round" in exercises.relation(right[::-1], right)
    assert "off by one" in exercises.relation([9.0, *right[:-1]], right)
    assert "off by one" in exercises.relation([*right[1:], 9.0], right)


def test_a_hint_for_one_wrong_answer_stands_before_a_relation():
    def check(answer):
        found, expected = answer, 2.0
        assert not bool(found == -2.0), "Minus."
        assert found == expected, "Add one and one."

    assert exercises.report(check, -2.0).message == "Minus."
    assert "times 2: a sum" in exercises.report(check, 4.0).message
    assert exercises.report(check, 0.0).message == "Add one and one."


# Typical wrong answers to what the chapters ask to implement
# --------------------------------------------------------------------------------------


def right_answer(study, name):
    """The function in the folded solution, and the check of the exercise."""
    checks = import_module(f"robustbook.studies.{study}.exercises")
    found = exercises.cells(ROOT / "notebooks" / f"{study}.py")[name]
    space = {"torch": torch, "checks": checks, "exercises": exercises}
    space |= {"kl_divergence": kl_divergence, "normalise_logits": normalise_logits}
    body, last = found.solution.rsplit("exercises.report", 1)
    exec(body, space)
    check = eval(last.strip().removeprefix("(").partition(",")[0], space)
    return space["answer"], check


def test_right_answers_pass():
    for study in STUDIES:
        for name, found in exercises.cells(ROOT / "notebooks" / f"{study}.py").items():
            if "a function" in found.stub:
                answer, check = right_answer(study, name)
                assert exercises.report(check, answer).correct, (study, name)


def changed(way):
    """An answer that changes what the right one returns."""
    return lambda right: lambda *given: way(right(*given))


def images_of_half(right):
    def answer(model, images, epsilon, steps, generator):
        return right(model, images, epsilon / 2, steps, generator)

    return answer


def widened(right):
    def answer(layer, low, high):
        lower, upper = right(layer, low, high)
        return 2 * lower - upper, 2 * upper - lower

    return answer


def ends_only(right):
    def answer(layer, low, high):
        return layer(low), layer(high)

    return answer


def single_losses(right):
    def answer(samples, images, labels):
        points = images.detach().requires_grad_()
        logs = samples.logits(points).log_softmax(-1).mean(0)
        loss = -logs.gather(1, labels[:, None]).sum()
        return torch.autograd.grad(loss, points)[0]

    return answer


def squared_first(right):
    def answer(model, images, labels):
        each = [
            right(model, images[i : i + 1], labels[i : i + 1])
            for i in range(len(images))
        ]
        return torch.stack(each).mean(0)

    return answer


def per_bin(right):
    def answer(images, wavelength, pitch):
        rows = torch.fft.fftfreq(images.shape[-2])[:, None] * images.shape[-2]
        columns = torch.fft.fftfreq(images.shape[-1])[None] * images.shape[-1]
        gain = torch.exp(-0.5 * (wavelength / 30) ** 2 * (rows**2 + columns**2))
        return torch.fft.ifft2(torch.fft.fft2(images) * gain).real

    return answer


def strictly(right):
    def answer(positive, scores):
        gaps = scores[positive][:, None] - scores[~positive][None]
        return float((gaps > 0).mean())

    return answer


def no_minus(right):
    return lambda model, image, label, saliency, grey: right(
        model, image, label, -saliency, grey
    )


def other_class(right):
    return lambda model, image, label, saliency, grey: right(
        model, image, (label + 1) % 4, saliency, grey
    )


def least_of_all(right):
    return lambda probabilities: right(probabilities.transpose(0, 1))


def entropy_of_mean(right):
    def answer(probabilities):
        mean = probabilities.mean(0)
        return -(mean * mean.log()).sum(-1)

    return answer


WRONG = [
    ("loss_metric", "divergence-ascent", changed(lambda x: x[:1]), "one for each"),
    ("loss_metric", "divergence-ascent", changed(lambda x: x + 0.3), "ball"),
    ("loss_metric", "divergence-ascent", images_of_half, "the book's ascent finds"),
    (
        "loss_metric",
        "divergence-ascent",
        lambda right: lambda model, images, *_: images,
        "random point",
    ),
    ("loss_metric", "interval-linear", widened, "loose"),
    ("loss_metric", "interval-linear", ends_only, "not sound"),
    ("loss_metric", "interval-linear", changed(lambda x: x[::-1]), "not sound"),
    (
        "loss_metric",
        "interval-linear",
        changed(lambda x: (x[0][0], x[1][0])),
        "shape of the layer's output",
    ),
    ("saliency_baselines", "removal", no_minus, "most salient pixels go first"),
    ("saliency_baselines", "removal", changed(lambda x: x.flip(0)), "turned round"),
    ("saliency_baselines", "removal", changed(lambda x: x[:-1]), "baseline last"),
    ("saliency_baselines", "removal", other_class, "untouched image"),
    ("saliency_baselines", "rise", changed(lambda x: x * 400), "times 400: a sum"),
    ("saliency_baselines", "rise", changed(lambda x: x / 2), "Divide by p"),
    ("saliency_baselines", "rise", changed(lambda x: x.T), "Rows and columns"),
    ("saliency_baselines", "rise", changed(lambda x: x[None]), "(1, 16, 16) in place"),
    ("saliency_baselines", "rise", changed(torch.neg), "sign"),
    ("taylor_pruning", "first-order", changed(torch.sqrt), "square it"),
    ("taylor_pruning", "first-order", changed(lambda x: x * 32**2), "not the sum"),
    ("taylor_pruning", "first-order", changed(torch.neg), "sign"),
    ("taylor_pruning", "first-order", squared_first, "mean loss"),
    ("taylor_pruning", "first-order", changed(lambda x: x[:-1]), "one score a unit"),
    ("taylor_pruning", "first-order", changed(lambda x: -x.sqrt()), "Square your"),
    ("taylor_pruning", "oracle", changed(torch.sqrt), "Square your numbers"),
    ("taylor_pruning", "oracle", changed(lambda x: x * 32**2), "(over 32, before"),
    ("taylor_pruning", "oracle", changed(lambda x: x.mean()), "each of the units"),
    ("taylor_pruning", "oracle", changed(lambda x: x.roll(1)), "off by one"),
    ("bnn_attacks", "averaged-gradient", changed(torch.neg), "other way"),
    ("bnn_attacks", "averaged-gradient", changed(lambda x: x / 8), "divided by 8"),
    ("bnn_attacks", "averaged-gradient", changed(lambda x: x.sum(0)), "each image"),
    ("bnn_attacks", "averaged-gradient", single_losses, "another attack"),
    ("bnn_attacks", "mutual-information", entropy_of_mean, "no information"),
    ("bnn_attacks", "mutual-information", least_of_all, "for each image"),
    ("bnn_attacks", "mutual-information", changed(torch.mean), "for each image"),
    ("bnn_attacks", "mutual-information", changed(torch.neg), "H of the mean"),
    ("mammogram_perturbations", "low-pass", per_bin, "cycles/mm"),
    ("mammogram_perturbations", "low-pass", changed(lambda x: x[0]), "same shape"),
    ("mammogram_perturbations", "low-pass", changed(lambda x: 2 * x), "book's filter"),
    (
        "mammogram_perturbations",
        "low-pass",
        lambda right: lambda images, wavelength, pitch: images,
        "book's filter",
    ),
    ("mammogram_perturbations", "auc", strictly, "half"),
    ("mammogram_perturbations", "auc", changed(lambda x: 1 - x), "higher score"),
    ("mammogram_perturbations", "auc", changed(lambda x: 2 * x - 1), "higher score"),
    ("mammogram_perturbations", "auc", changed(lambda x: 100 * x), "higher score"),
]


@pytest.mark.parametrize(("study", "name", "wrong", "hint"), WRONG)
def test_a_typical_wrong_answer_gets_the_hint_of_its_cause(study, name, wrong, hint):
    right, check = right_answer(study, name)
    outcome = exercises.report(check, wrong(right))
    assert not outcome.correct
    assert hint in outcome.message


def test_every_exercise_to_implement_has_four_wrong_answers():
    counted = [(study, name) for study, name, *_ in WRONG]
    for study in STUDIES:
        for name, found in exercises.cells(ROOT / "notebooks" / f"{study}.py").items():
            if "a function" in found.stub:
                assert counted.count((study, name)) >= 4, (study, name)
