"""The strong attack on a posterior: Auto-PGD, which adapts its steps and has momentum,
on the margin of the averaged prediction.

Read `averaged_apgd` first, then `lead` (how its ends are compared), then
`alarm_matching`, which also gives the alarm the value that it should have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from robustbook import checks
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Posterior
from robustbook.perturb.apgd import apgd
from robustbook.perturb.ascent import random_starts, rows_of
from robustbook.perturb.gradient import margin
from robustbook.perturb.posterior import (
    CHUNK,
    Predictive,
    Sampled,
    log_mean,
    weight_samples,
)

JUDGES = 50
"""Fresh samples that choose between the ends of several ascents."""
FLOOR = 1e-3
"""Mutual information (nats) below which differences count for little."""
CONFIDENCE = 1.0
"""How far (nats) an image should be wrong before the alarm is all that counts."""
WEIGHTS = (0.3, 1.0)
"""What a unit of the alarm's logarithm costs, in nats of the margin; both are tried."""


def averaged_apgd(
    posterior: Posterior,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    samples: int,
    generator: Generator,
    steps: int = 50,
    restarts: int = 3,
    starts: Sequence[Tensor] = (),
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images (N, C, H, W) by Auto-PGD on the margin of the log predictive
    probabilities, averaged over `samples` networks drawn afresh at every step.

    `restarts` ascents begin at random points of the ball, one more at each of the given
    `starts`. An image keeps the end that is worst under fresh samples. It costs `steps`
    * `samples` passes for each ascent. A single network is attacked in the same way, as
    a posterior of one.

    Raises ArgumentError if there is no ascent, and as `apgd` does.
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    restarts = checks.whole(restarts, "restarts", at_least=0 if starts else 1)
    epsilon = checks.real(epsilon, "epsilon", at_least=0)
    samples = checks.whole(samples, "samples", at_least=1)
    model = Predictive(posterior, samples, generator)
    begins = [random_starts(images, epsilon, generator) for _ in range(restarts)]
    best, worst = images.clone(), images.new_full((len(images),), -torch.inf)
    for start in (*begins, *starts):
        ends = apgd(
            model,
            images,
            labels,
            epsilon=epsilon,
            steps=steps,
            generator=generator,
            objective=margin,
            starts=start,
            stop_when_fooled=False,
            chunk=chunk,
        )
        found = lead(posterior, ends, labels, count=JUDGES, generator=generator)
        better = found > worst
        best[better], worst[better] = ends[better], found[better].to(worst)
    return best


def lead(
    posterior: Posterior,
    images: Tensor,
    labels: Tensor,
    *,
    count: int,
    generator: Generator,
) -> Tensor:
    """By how many nats of log predictive probability another class leads the label
    (N,), under `count` fresh samples; positive where the answer is wrong.
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    fresh = weight_samples(posterior, count, generator)
    mean = sampled_probabilities(fresh, images).mean(dim=0)
    return margin(mean.clamp_min(1e-30).log(), labels)


def alarm_matching(
    posterior: Posterior,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    alarm: Tensor,
    starts: Tensor,
    samples: int,
    generator: Generator,
    steps: int = 50,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images whose mutual information comes near `alarm` (N,), in nats:
    that of other clean images, say, or 0.

    Two ascents from `starts` (adversarial already, best) trade the margin, up to
    `CONFIDENCE`, for the distance between the logarithms. Of starts and ends an image
    keeps, under fresh samples, the wrong one nearest to its alarm; where none is wrong,
    its start. Shapes, ball, cost and errors as in `averaged_apgd`.
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    alarm = rows_of(checks.tensor(alarm, "alarm", dimensions=1), images, "alarm")
    starts = rows_of(checks.tensor(starts, "starts", dimensions=4), images, "starts")
    samples = checks.whole(samples, "samples", at_least=1)
    sampled = Sampled(posterior, samples, generator)
    model = nn.Sequential(sampled, nn.Flatten())
    ends = [starts.to(images)]
    for weight in WEIGHTS:

        def objective(flat: Tensor, aims: Tensor, weight: float = weight) -> Tensor:
            logs = flat.unflatten(1, (sampled.count, -1))
            wrong = margin(log_mean(logs), aims[:, 0].long()).clamp(max=CONFIDENCE)
            return wrong - weight * _distance(_information(logs), aims[:, 1])

        ends.append(
            apgd(
                model,
                images,
                labels,
                epsilon=epsilon,
                steps=steps,
                generator=generator,
                objective=objective,
                targets=torch.stack([labels.to(alarm), alarm], dim=1),
                starts=starts,
                stop_when_fooled=False,
                chunk=chunk,
            )
        )
    judges = weight_samples(posterior, JUDGES, generator)
    scores = []
    for points in ends:
        said = sampled_probabilities(judges, points)
        right = said.mean(dim=0).argmax(dim=1) == labels
        logs = said.clamp_min(1e-30).log().transpose(0, 1)
        far = _distance(_information(logs), alarm)
        scores.append(torch.where(right, torch.inf, far))
    chosen = torch.stack(scores).argmin(dim=0)
    return torch.stack(ends)[chosen, torch.arange(len(images), device=images.device)]


def _information(logs: Tensor) -> Tensor:
    """Mutual information (N,) of log-probabilities (N, S, K), with a gradient."""
    mean = log_mean(logs)
    total = -(mean.exp() * mean).sum(dim=-1)
    return total + (logs.exp() * logs).sum(dim=-1).mean(dim=1)


def _distance(information: Tensor, alarm: Tensor) -> Tensor:
    """How far apart two alarms are, in logarithms that end at `FLOOR`."""
    above = (information.clamp_min(0) + FLOOR).log()
    return (above - (alarm + FLOOR).log()).abs()
