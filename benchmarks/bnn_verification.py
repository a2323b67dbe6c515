"""Times the oracles and HMC of `bnn_verification`: `python -m
benchmarks.bnn_verification` prints ours over theirs.

Batched attacks against a loop over the networks, HMC against Pyro's at equal leapfrog
steps, and (not a time) the samples of the stopping rules against Massart's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import (
    Comparison,
    Measurement,
    Row,
    compare,
    difference,
    growth,
    run,
)
from robustbook.bayes import hmc
from robustbook.bayes.weights import WeightSamples, stack
from robustbook.measure import sequential
from robustbook.measure.certificate import certify
from robustbook.measure.region_attack import attack
from robustbook.measure.verification import Region, ball

STEPS, STEP_SIZE, SAMPLES = 10, 0.05, 50
LEAPFROG, DRAWS = 20, 20


def network(
    seed: int, inputs: int = 784, hidden: int = 512, outputs: int = 10
) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    ).eval()


def loop(networks: list[nn.Sequential], region: Region) -> Tensor:
    """Largest margin that PGD reaches, one network after the other, with autograd."""
    return torch.stack([one_network(model, region) for model in networks])


def one_network(model: nn.Sequential, region: Region) -> Tensor:
    with torch.no_grad():
        classes = model(region.images).argmax(1)
    points, best = region.images.clone(), torch.full((len(region.images),), -torch.inf)
    for step in range(STEPS + 1):
        points.requires_grad_(step < STEPS)
        logits = model(points)
        own = logits.gather(1, classes[:, None]).squeeze(1)
        margin = logits.scatter(1, classes[:, None], -torch.inf).amax(1) - own
        best = torch.maximum(best, margin.detach())
        if step < STEPS:
            (gradient,) = torch.autograd.grad(margin.sum(), points)
            points = torch.clamp(
                points.detach() + STEP_SIZE * gradient.sign(), region.low, region.high
            )
    return best


def attacks(repeats: int) -> Iterator[Comparison]:
    """PGD on 50 networks of 784-512-10: all at once against one after the other, for
    one image and for sixteen.
    """
    networks = [network(seed) for seed in range(SAMPLES)]
    for model in networks:
        model.requires_grad_(False)
    samples = stack(networks)
    for images, limit in ((1, 1.0), (16, 0.4)):
        region = ball(
            torch.rand(images, 1, 28, 28, generator=torch.Generator().manual_seed(0)),
            0.1,
        )
        assert torch.allclose(
            batched(samples, region), loop(networks, region), atol=1e-4
        )
        yield compare(
            f"PGD-{STEPS}, {SAMPLES} networks x {images} images / loop",
            lambda region=region: batched(samples, region),
            lambda region=region: loop(networks, region),
            limit=limit,
            repeats=repeats,
            agreement=difference(batched(samples, region), loop(networks, region)),
        )
        yield compare(
            f"the {2 * STEPS + 1} bare products, {images} images / loop",
            lambda images=images: products(networks, images),
            lambda region=region: loop(networks, region),
            limit=None,
            repeats=repeats,
            agreement="nothing to compare: what every attack in full precision needs",
        )
        yield _certificates(samples, region, limit, repeats)


def _certificates(
    samples: WeightSamples, region: Region, limit: float, repeats: int
) -> Comparison:
    """Interval bounds of all networks at once against one network at a time."""
    alone = [samples.take(slice(place, place + 1)) for place in range(len(samples))]

    def together() -> Tensor:
        return certify(samples, region, method="interval").margin

    def in_turn() -> Tensor:
        return torch.cat(
            [certify(one, region, method="interval").margin for one in alone]
        )

    return compare(
        f"interval bounds, {len(samples)} networks x {len(region.images)} images / "
        "loop",
        together,
        in_turn,
        limit=limit,
        repeats=repeats,
        agreement=difference(together(), in_turn()),
    )


@torch.no_grad()
def products(networks: list[nn.Sequential], images: int) -> None:
    """The matrix products of the attack and nothing else: no way of running it in full
    precision can be faster.
    """
    for model in networks:
        first, last = model[1].weight, model[3].weight
        points, hidden, slope = (
            torch.rand(images, 784),
            torch.rand(images, 512),
            torch.rand(images, 10),
        )
        for step in range(STEPS + 1):
            points @ first.T
            hidden @ last.T
            if step < STEPS:
                slope @ last
                hidden @ first


def batched(samples: WeightSamples, region: Region) -> Tensor:
    return attack(samples, region, steps=STEPS, step_size=STEP_SIZE).margin


def rules() -> Iterator[Measurement]:
    """Samples of the rules beyond the paper, as shares of Massart's, at p up to 0.1."""
    p = np.linspace(0, 0.1, 11)
    made = sequential.rules(0.075, 0.075, 0.05)
    costs = {
        name: sequential.operating(rule, p).mean_count for name, rule in made.items()
    }
    for name in ("betting", "group-sequential"):
        share = float((costs[name] / costs["Massart"]).max())
        yield Measurement(f"{name}: samples at p <= 0.1", share, "of Massart's", 0.6)


def sampling(repeats: int) -> Comparison:
    """One chain of HMC on 196-128-2 with 200 images against Pyro's, with the same steps
    and step size.
    """
    import pyro
    import pyro.distributions as dist
    from pyro.infer.mcmc import HMC, MCMC
    from pyro.infer.mcmc.util import initialize_model

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 1, 14, 14, generator=generator)
    labels = (images.sum((1, 2, 3)) > 98).long()
    target = hmc.Network(network(0, 196, 128, 2), images, labels, prior_sd=1.0)
    shapes = {
        name: tuple(part.shape) for name, part in target.architecture.named_parameters()
    }

    def model() -> None:
        weights = {
            name: pyro.sample(
                name, dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape))
            )
            for name, shape in shapes.items()
        }
        logits = torch.func.functional_call(target.architecture, weights, images)
        pyro.sample("labels", dist.Categorical(logits=logits).to_event(1), obs=labels)

    def theirs() -> None:
        kernel = HMC(model, step_size=0.002, num_steps=LEAPFROG, adapt_step_size=False)
        MCMC(kernel, num_samples=DRAWS, warmup_steps=0, disable_progbar=True).run()

    def ours() -> None:
        hmc.network_posterior(
            target,
            chains=1,
            draws=DRAWS,
            warmup=0,
            steps=LEAPFROG,
            step_size=0.002,
            seed=0,
        )

    position = torch.randn(1, target.dimension, generator=generator)
    weights = {name: part[0] for name, part in target.weights(position).weights.items()}
    potential = float(initialize_model(model)[1](weights))
    # Ours leaves out the constant of the prior.
    mine = (
        float(target.potential(position)) + target.dimension * math.log(2 * math.pi) / 2
    )
    agreement = (
        f"the potential at a draw of the prior is {mine:.3f} and {potential:.3f}; "
        "the chains have other random numbers"
    )
    name = f"HMC, {DRAWS} x {LEAPFROG} leapfrog steps / Pyro"
    return compare(name, ours, theirs, limit=1.0, repeats=repeats, agreement=agreement)


def growths(repeats: int) -> Iterator[Row]:
    """How attacks and linear bounds grow with the number of posterior samples."""
    samples = stack([network(seed) for seed in range(64)])
    region = ball(
        torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)), 0.1
    )
    parts = {count: samples.take(slice(0, count)) for count in (8, 16, 32, 64)}
    for name, oracle in (
        ("PGD-10 on 784-512-10, 4 images", batched),
        ("linear bounds on 784-512-10, 4 images", certify),
    ):
        works = {
            count: lambda oracle=oracle, part=part: oracle(part, region)
            for count, part in parts.items()
        }
        yield growth(name, "samples", works, repeats=repeats)


def rows(repeats: int) -> Iterator[Row]:
    """All rows of this study."""
    yield from rules()
    yield from attacks(repeats)
    yield sampling(repeats)
    yield from growths(min(repeats, 4))


if __name__ == "__main__":
    run({"bnn_verification": rows})
