"""The third lens: how sure the network is of itself, whether doubt betrays an attack,
and how often another network of the same posterior decides otherwise.

Two posteriors: a Gaussian around the weights of the last linear layer (Daxberger et al.
2021), and dropout left on, where the network has dropout.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbook.errors import UserError
from robustbook.measure.sequential import betting, estimate
from robustbook.measure.uncertainty import uncertainty
from robustbook.models.network import frozen
from robustbook.perturb.gradient import pgd
from robustbook.stats import Interval, auc, binomial_interval, bootstrap, bootstrap_mean
from robustbook.studies.your_network.measure.looking import Number, Seen
from robustbook.studies.your_network.networks import Examined

NAME = "posterior"
THETA, GAMMA = 0.1, 0.05
"""A probability is promised to be within `THETA` but for a share `GAMMA`."""
GUARANTEED = 12
"""Images whose probability is estimated with the promise."""
FULL = 3000
"""Up to so many weights the covariance of the last layer is a full one."""
DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)

Draw = Callable[[int, int], Tensor]
"""(count, seed) to class probabilities (count, N, K) of so many networks."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The last linear layer of a network and what enters it."""

    layer: nn.Linear
    features: Tensor


def passes(subject: Examined, *, samples: int, budget: float, steps: int) -> int:
    """An attack, and every sample of dropout where there is any."""
    drawn = samples + 300 if dropouts(subject.network) else 0
    fitted = 0 if subject.training is None else len(subject.training)
    return len(subject.images) * (2 * steps + 4 + 2 * drawn) + fitted


def look(subject: Examined, *, samples: int, budget: float, steps: int) -> Seen:
    """What the posteriors say of images as they are and attacked, on images to which
    the Gaussian was not fitted.
    """
    (seen, known), (images, labels) = fitted_and_judged(subject)
    attacked = pgd(
        subject.network,
        images,
        labels,
        epsilon=budget,
        steps=steps,
        step_size=budget / 4,
        generator=subject.generator(400),
        chunk=subject.chunk,
    )
    shown = torch.cat([images, attacked])
    remarks: list[str] = []
    posteriors: dict[str, Draw] = {}
    try:
        posteriors["last-layer Laplace"] = laplace(subject, seen, known, shown)
    except UserError as error:
        remarks.append(f"No last-layer Laplace: {error}.")
    if subject.training is None:
        remarks.append(
            f"The Gaussian has seen {len(seen)} of your images alone: the posterior "
            "given all training images is narrower."
        )
    if dropouts(subject.network):
        posteriors["MC dropout"] = with_dropout(subject, shown)
    else:
        remarks.append("The network has no dropout.")
    if not posteriors:
        raise UserError(remarks[0])
    numbers: list[Number] = []
    doubt: dict[str, Tensor] = {}
    for name, draw in posteriors.items():
        probabilities = draw(samples, subject.seed)
        clean, changed = probabilities.split(len(images), dim=1)
        right = int((clean.mean(0).argmax(1) == labels.cpu()).sum())
        share = binomial_interval(right, len(labels))
        numbers.append(
            Number("posterior accuracy", share, "images", {"posterior": name})
        )
        scores = [uncertainty(each).mutual_information for each in (clean, changed)]
        doubt[name] = scores[0]
        numbers.append(
            Number("alarm", alarm(*scores), "images", {"posterior": name, "score": "I"})
        )
    numbers += _minds(next(iter(posteriors.values())), len(images), subject.seed)
    pictures = {"images": images.cpu(), "labels": labels.cpu(), "doubt": doubt}
    return Seen(NAME, tuple(numbers), pictures, tuple(remarks))


Labelled = tuple[Tensor, Tensor]


def fitted_and_judged(subject: Examined) -> tuple[Labelled, Labelled]:
    """Images with labels to which the Gaussian is fitted, and those on which it is
    judged: the training images and all, or every other image and the rest.
    """
    if subject.training is None:
        first, second = (
            (subject.images[half], subject.labels[half]) for half in subject.halves
        )
        return first, second
    return (
        (subject.training.images.to(subject.images), subject.training.labels),
        (subject.images, subject.labels),
    )


def alarm(clean: Tensor, attacked: Tensor) -> Interval:
    """AUC of a two-sided score, the distance from the median of the clean images, over
    pairs of a clean image and its attacked one.
    """
    middle = clean.median()
    scores = [(each - middle).abs().cpu().numpy() for each in (clean, attacked)]
    truth = np.repeat([0, 1], len(clean))

    def area(places: np.ndarray) -> float:
        return float(auc(truth, np.concatenate([each[places] for each in scores])))

    return bootstrap(area, len(clean), seed=0, resamples=1000).interval()


def _minds(draw: Draw, count: int, seed: int) -> list[Number]:
    """Probability that a drawn network decides otherwise than the mean of them all, on
    clean and on attacked images, each within `THETA` as promised by the stopping rule.
    """
    rule = betting(THETA, GAMMA)
    mean = draw(200, seed + 1).mean(0).argmax(1)
    # One stream of networks answers for all images.
    stream = draw(rule.horizon, seed + 2).argmax(2) != mean
    numbers = []
    for shown, start in (("clean", 0), ("attacked", count)):
        found = []
        for place in range(start, start + min(count, GUARANTEED)):
            outcomes = Stream(stream[:, place].cpu().numpy())
            found.append(estimate(rule, outcomes).value)
        value = bootstrap_mean(found, seed=0)
        numbers.append(Number("change of mind", value, "images", {"shown": shown}))
    return [*numbers, Number("promised error", THETA)]


class Stream:
    """Bernoulli outcomes that were drawn beforehand, handed out in blocks."""

    def __init__(self, outcomes: np.ndarray) -> None:
        self.outcomes, self.used = outcomes, 0

    def __call__(self, count: int) -> np.ndarray:
        """The next `count` outcomes."""
        self.used += count
        return self.outcomes[self.used - count : self.used]


# The last layer
# --------------------------------------------------------------------------------------


@torch.no_grad()
def last_layer(subject: Examined, images: Tensor) -> LastLayer:
    """The linear layer whose output are the logits, with its inputs (N, D).

    Raises UserError that names what the last layer is where there is none.
    """
    seen: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append((name, layer, inputs[0].detach(), output.detach()))

        return hook

    features = []
    found: nn.Module | None = None
    with frozen(subject.network), torch.no_grad():
        handles = [
            layer.register_forward_hook(note(name))
            for name, layer in subject.network.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        ]
        try:
            for part in images.split(subject.chunk):
                seen.clear()
                logits = subject.network(part)
                if not seen:
                    raise UserError("the network has no linear layer")
                name, found, inputs, outputs = seen[-1]
                same = outputs.shape == logits.shape and torch.equal(outputs, logits)
                if not isinstance(found, nn.Linear) or not same:
                    kind = type(found).__name__
                    raise UserError(
                        f"its logits do not come from a linear layer (the last one is "
                        f"the {kind} {name})"
                    )
                features.append(inputs)
        finally:
            for handle in handles:
                handle.remove()
    assert isinstance(found, nn.Linear)
    return LastLayer(found, torch.cat(features))


def laplace(subject: Examined, images: Tensor, labels: Tensor, shown: Tensor) -> Draw:
    """The Gaussian of the last layer given `images` (N, C, H, W) and `labels` (N,),
    asked about the images `shown` (M, C, H, W); laplace-torch does the work.
    """
    from laplace import Laplace
    from torch.utils.data import DataLoader, TensorDataset

    inside = last_layer(subject, torch.cat([images, shown]))
    # The fit is small, and its library expects no other device.
    features = inside.features.cpu().float()
    count = len(images)
    layer = nn.Linear(inside.layer.in_features, inside.layer.out_features)
    with torch.no_grad():
        layer.weight.copy_(inside.layer.weight)
        if inside.layer.bias is None:
            layer.bias.zero_()
        else:
            layer.bias.copy_(inside.layer.bias)
    size = layer.weight.numel() + layer.bias.numel()
    data = TensorDataset(features[:count], labels.cpu())
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = Laplace(
            layer,
            "classification",
            subset_of_weights="all",
            hessian_structure="full" if size <= FULL else "kron",
        )
        found.fit(DataLoader(data, batch_size=64))
        found.optimize_prior_precision(method="marglik", n_steps=30, lr=0.3)
    asked = features[count:]

    @torch.no_grad()
    def draw(number: int, seed: int) -> Tensor:
        drawn = found.sample(number, generator=torch.Generator().manual_seed(seed))
        weights = drawn[:, : layer.weight.numel()].reshape(number, *layer.weight.shape)
        biases = drawn[:, layer.weight.numel() :]
        logits = torch.einsum("nd,skd->snk", asked, weights) + biases[:, None]
        return torch.softmax(logits, dim=2)

    return draw


# Dropout
# --------------------------------------------------------------------------------------


def dropouts(network: nn.Module) -> list[nn.Module]:
    """The layers of dropout that drop something."""
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, DROPOUT) and layer.p > 0
    ]


@contextmanager
def dropping(network: nn.Module) -> Iterator[None]:
    """The network in eval mode with its dropout on."""
    layers = dropouts(network)
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()


def with_dropout(subject: Examined, shown: Tensor) -> Draw:
    """Networks whose dropout is on, asked about the images `shown` (M, C, H, W)."""

    @torch.no_grad()
    def draw(number: int, seed: int) -> Tensor:
        found = []
        network = subject.network
        with frozen(network), dropping(network), torch.random.fork_rng():
            torch.manual_seed(seed)
            for _ in range(number):
                parts = [network(part) for part in shown.split(subject.chunk)]
                found.append(torch.softmax(torch.cat(parts), dim=1).cpu())
        return torch.stack(found)

    return draw
