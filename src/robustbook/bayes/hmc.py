"""Hamiltonian Monte Carlo, several chains at once: `sample` for any potential, and
`network_posterior` for networks.

Read `sample` first (Neal 2011; the step size is adapted during warm-up as in Hoffman
and Gelman 2014), then `leapfrog`, then `Network`, the exact joint posterior of a
network's weights, `Reduced` (only what the data can tell), and `diagnose`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.protocol import Empirical, labels_for, log_likelihood
from robustbook.bayes.weights import WeightSamples
from robustbook.checks import ArgumentError
from robustbook.draws import normal, uniform
from robustbook.errors import UserError
from robustbook.models.input_convolution import plain

R_HAT_LIMIT = 100.0

Potential = Callable[[Tensor], Tensor]
"""`(positions (C, D)) -> (C,)`: minus the log density of each chain's position, up to a
constant.
"""

DIVERGENCE = 1000.0
"""An energy error beyond this, after warm-up, says that the trajectory left the
posterior (as in Stan).
"""


class ChainDivergedError(UserError):
    """A chain's trajectory left the posterior after warm-up; the message names the
    chain and the draw.
    """


@dataclass(frozen=True, eq=False)
class Chains:
    """Kept positions (C, T, D), mean acceptance probability of each chain (C,) after
    warm-up, and its step size (C,).

    `scale` (D,) or () is what the step size was multiplied by in each coordinate;
    `potential` (C, T) is that of the draws.
    """

    draws: Tensor
    acceptance: Tensor
    step_size: Tensor
    scale: Tensor
    potential: Tensor


@dataclass(frozen=True)
class Point:
    """Where the chains are: positions (C, D), the potential (C,) and its gradient (C,
    D) there.
    """

    position: Tensor
    potential: Tensor
    gradient: Tensor


def evaluate(potential: Potential, position: Tensor) -> Point:
    """The potential and its gradient at `position` (C, D).

    Raises ArgumentError if that is no floating, finite tensor, or the potential is not
    (C,).
    """
    checks.tensor(position, "position", dimensions=2)
    return _evaluate(potential, position)


@torch.enable_grad()
def _evaluate(potential: Potential, position: Tensor) -> Point:
    leaf = position.detach().requires_grad_()
    value = potential(leaf)
    if value.shape != position.shape[:1]:
        allowed = f"one number a chain, ({len(position)},)"
        raise ArgumentError("the potential", allowed, value)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return Point(position, value.detach(), gradient)


def leapfrog(
    potential: Potential,
    start: Point,
    momentum: Tensor,
    step_size: float | Tensor,
    steps: int,
) -> tuple[Point, Tensor]:
    """Follow Hamilton's equations for `steps` steps from `start` with `momentum` (C, D)
    and unit mass.

    A `step_size` (D,) of its own for each coordinate amounts to masses that differ
    (Neal 2011, section 4.1).

    Raises ArgumentError if `steps` is less than 1 or the momentum has another shape.
    """
    steps = checks.whole(steps, "steps", at_least=1)
    if momentum.shape != start.position.shape:
        shape = tuple(start.position.shape)
        raise ArgumentError("momentum", f"a tensor {shape}", momentum)
    point, momentum = start, momentum - step_size / 2 * start.gradient
    for step in range(steps):
        point = _evaluate(potential, point.position + step_size * momentum)
        momentum = (
            momentum
            - (step_size if step < steps - 1 else step_size / 2) * point.gradient
        )
    return point, momentum


def transition(
    potential: Potential,
    start: Point,
    step_size: float | Tensor,
    steps: int,
    generator: Generator,
) -> tuple[Point, Tensor, Tensor]:
    """One step of the chains: the next points, the probabilities of acceptance (C,),
    and the energy errors (C,).
    """
    momentum = normal(start.position.shape, start.position, generator)
    end, last = leapfrog(potential, start, momentum, step_size, steps)
    kinetic = (last.square().sum(1) - momentum.square().sum(1)) / 2
    error = end.potential - start.potential + kinetic
    probability = torch.exp(-error).nan_to_num(0.0).clamp(max=1)
    accepted = uniform(error.shape, error, generator) < probability
    moved = Point(
        torch.where(accepted[:, None], end.position, start.position),
        torch.where(accepted, end.potential, start.potential),
        torch.where(accepted[:, None], end.gradient, start.gradient),
    )
    return moved, probability, error


def sample(
    potential: Potential,
    start: Tensor,
    *,
    draws: int,
    warmup: int,
    steps: int,
    step_size: float,
    generator: Generator,
    target: float = 0.8,
    jitter: float = 0.2,
    thin: int = 1,
    groups: Tensor | None = None,
    warmup_steps: int | None = None,
) -> Chains:
    """Run C chains from `start` (C, D): `warmup` transitions that adapt the step size,
    then `draws` kept ones.

    Every transition makes `steps` leapfrog steps and is accepted or rejected by
    Metropolis' rule; during warm-up the step size of each chain moves until its
    acceptance is `target` (with `warmup` 0 it stays), then it varies by `jitter` either
    way so that no trajectory can be a full period. Every `thin`-th position is kept.
    With `groups` (D,), numbers from 0, coordinates of one group get a step size of
    their own (`warm_up`). Transitions of warm-up can have fewer steps.

    Raises ArgumentError if `start` is not floating and finite or a number is out of
    range, ChainDivergedError if a chain diverges after warm-up.
    """
    start = checks.tensor(start, "start", dimensions=2)
    draws, steps = (
        checks.whole(given, name, at_least=1)
        for given, name in ((draws, "draws"), (steps, "steps"))
    )
    thin = checks.whole(thin, "thin", at_least=1)
    jitter = checks.real(jitter, "jitter", at_least=0, below=1)
    warm = warm_up(
        potential,
        start,
        warmup,
        steps if warmup_steps is None else warmup_steps,
        step_size,
        generator,
        target,
        groups,
    )
    point, kept, acceptance = warm.point, [], start.new_zeros(len(start))
    for draw in range(draws * thin):
        varied = warm.step_size * (
            1 + jitter * (2 * float(uniform((), start, generator)) - 1)
        )
        point, probability, error = transition(
            potential, point, varied[:, None] * warm.scale, steps, generator
        )
        _check_energy(error, draw)
        acceptance += probability
        if (draw + 1) % thin == 0:
            kept.append(point)
    return Chains(
        torch.stack([each.position for each in kept], dim=1),
        acceptance / (draws * thin),
        warm.step_size,
        warm.scale,
        torch.stack([each.potential for each in kept], dim=1),
    )


@dataclass(frozen=True)
class WarmUp:
    """What warm-up found: where the chains are, their step sizes (C,), and the factor
    in each coordinate (D,) or ().
    """

    point: Point
    step_size: Tensor
    scale: Tensor


def warm_up(
    potential: Potential,
    start: Tensor,
    count: int,
    steps: int,
    step_size: float,
    generator: Generator,
    target: float,
    groups: Tensor | None,
) -> WarmUp:
    """`count` transitions that adapt the step size and, with `groups`, its factors,
    after a third of them.

    The factor of a group is one over the root of its mean squared gradient. In
    equilibrium that mean is the mean curvature (by parts: the integral of the density
    times the squared gradient is that times the second derivative), so that every group
    is stepped through in proportion to its width.

    Raises ArgumentError for numbers and groups that it cannot take.
    """
    count = checks.whole(count, "warmup", at_least=0)
    steps = checks.whole(steps, "warmup_steps", at_least=1)
    step_size = checks.real(step_size, "step_size", above=0)
    checks.generator(generator)
    if groups is not None:
        _check_groups(groups, start)
    point, scale = evaluate(potential, start), start.new_ones(())
    sizes = start.new_full((len(start),), step_size)
    adaptation = DualAveraging(sizes, target)
    squares = start.new_zeros(start.shape[1])
    for done in range(1, count + 1):
        point, probability, _ = transition(
            potential, point, adaptation.step_size[:, None] * scale, steps, generator
        )
        adaptation.update(probability)
        squares += point.gradient.square().mean(0)
        if groups is not None and done == count // 3:
            scale = _factors(squares, groups)
            adaptation = DualAveraging(adaptation.final, target)
    return WarmUp(point, adaptation.final if count else sizes, scale)


def _factors(squares: Tensor, groups: Tensor) -> Tensor:
    """One over the root mean square of the gradient of each coordinate's group, 1 in
    the mean of the logarithms.
    """
    sums = squares.new_zeros(int(groups.max()) + 1).index_add_(0, groups, squares)
    factors = (sums / groups.bincount()).clamp(min=1e-30).rsqrt()[groups]
    return factors / factors.log().mean().exp()


def _check_groups(groups: Tensor, start: Tensor) -> None:
    allowed = f"a tensor ({start.shape[1]},) of whole numbers from 0"
    checks.having(groups, "groups", "shape", "dtype")
    if groups.shape != start.shape[1:] or groups.dtype != torch.int64:
        raise ArgumentError("groups", allowed, groups)
    if int(groups.min()) < 0:
        raise ArgumentError("groups", allowed, int(groups.min()))


def _check_energy(error: Tensor, draw: int) -> None:
    broken = ~(error <= DIVERGENCE)
    if bool(broken.any()):
        chain = int(broken.nonzero()[0])
        raise ChainDivergedError(
            f"chain {chain + 1} diverged at draw {draw + 1}: energy error "
            f"{float(error[chain]):.3g}; a smaller step size, fewer leapfrog steps or "
            "a longer warm-up may help"
        )


class DualAveraging:
    """Finds the step size of each chain (C,) at which its acceptance is `target`
    (Hoffman and Gelman 2014, algorithm 5).
    """

    def __init__(self, step_size: Tensor, target: float) -> None:
        self.target = checks.real(target, "target", above=0, below=1)
        self.step_size = step_size
        self._centre = (10 * step_size).log()
        self._shortfall = self._log_final = torch.zeros_like(step_size)
        self._count = 0

    def update(self, acceptance: Tensor) -> None:
        """Take the acceptance (C,) of one more transition into account."""
        self._count += 1
        weight = 1 / (self._count + 10)
        self._shortfall = (1 - weight) * self._shortfall + weight * (
            self.target - acceptance
        )
        log_step = self._centre - math.sqrt(self._count) / 0.05 * self._shortfall
        share = self._count**-0.75
        self._log_final = share * log_step + (1 - share) * self._log_final
        self.step_size = log_step.exp()

    @property
    def final(self) -> Tensor:
        """The averaged step sizes (C,), to be used after warm-up."""
        return self._log_final.exp()


# Networks
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Network:
    """The joint posterior of all weights and biases of `architecture` given `images`
    (N, C, H, W) and `labels` (N,).

    All data enter every evaluation, and weights have independent N(0, prior_sd^2)
    priors. Positions are in units of the prior's standard deviation. `temperature`
    divides the whole log density (1 is the Bayesian posterior). Images may leave
    [0, 1].

    Raises ArgumentError for images, labels, networks and numbers that it cannot take.
    """

    architecture: Module
    images: Tensor
    labels: Tensor
    prior_sd: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        images = checks.tensor(self.images, "images", dimensions=4)
        object.__setattr__(self, "images", images)
        checks.real(self.prior_sd, "prior_sd", above=0)
        checks.real(self.temperature, "temperature", above=0)
        labels = labels_for(self.architecture, images, self.labels)
        object.__setattr__(self, "labels", labels)

    def _means(self) -> Tensor:
        """The architecture's own weights as a position (D,)."""
        parts = [each.detach().flatten() for each in self.architecture.parameters()]
        if not parts:
            raise ArgumentError("architecture", "a network with weights", "none")
        return torch.cat(parts) / self.prior_sd

    @property
    def dimension(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.numel() for parameter in self.architecture.parameters())

    def weights(self, positions: Tensor) -> WeightSamples:
        """The networks at positions (C, D)."""
        parts = dict(self.architecture.named_parameters())
        if positions.dim() != 2 or positions.shape[1] != self.dimension:
            allowed = f"a tensor (C, {self.dimension})"
            raise ArgumentError("positions", allowed, positions)
        split = positions.split([part.numel() for part in parts.values()], dim=1)
        shaped = {
            name: (self.prior_sd * values).unflatten(1, part.shape)
            for (name, part), values in zip(parts.items(), split, strict=True)
        }
        return WeightSamples(self.architecture, shaped)

    def prior(self, count: int, seed: int) -> tuple[Generator, Tensor]:
        """A generator of the seed, and what it draws first: positions (count, D)."""
        generator = Generator(device="cpu").manual_seed(
            checks.whole(seed, "seed", at_least=0)
        )
        like = self._means()
        return generator, normal((count, len(like)), like, generator)

    def positions(self, samples: WeightSamples) -> Tensor:
        """The positions (C, D) of given networks: what `weights` undoes."""
        names = [name for name, _ in self.architecture.named_parameters()]
        parts = [
            samples.weights[name].expand(len(samples), *samples.weights[name].shape[1:])
            for name in names
        ]
        return torch.cat([part.flatten(1) for part in parts], dim=1) / self.prior_sd

    def potential(self, positions: Tensor) -> Tensor:
        """Minus the log joint density of data and weights (C,), without the prior's
        constant.
        """
        logits = self.weights(positions).unchecked_logits(self.images)
        fit = log_likelihood(logits, self.labels)
        return (positions.square().sum(1) / 2 - fit) / self.temperature

    @property
    def groups(self) -> Tensor:
        """A number for each coordinate (D,): one an input of the first Linear layer,
        one for each other parameter.
        """
        parts: list[Tensor] = []
        first = True
        for name, part in self.architecture.named_parameters():
            apart = first and part.dim() == 2
            first = first and not name.endswith("weight")
            number = (
                torch.arange(part.shape[1], device=part.device).expand(part.shape)
                if apart
                else torch.zeros_like(part)
            )
            parts.append(
                number.flatten().long() + (1 + int(parts[-1].max()) if parts else 0)
            )
        return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class Reduced:
    """The posterior of a network Flatten, Linear, ... whose first layer has more inputs
    than there are training images.

    The likelihood sees the first weights only within the span of the training images;
    across it their posterior is the prior, independent of all else. So `inner`, a
    network of the images' coordinates, is sampled by HMC, and `lift` adds exact draws
    of the rest: the same joint posterior, with `basis` (inputs, rank) in place of all
    inputs.
    """

    whole: Network
    inner: Network
    basis: Tensor

    @classmethod
    def of(cls, whole: Network) -> Reduced:
        """Turn the inputs to the singular vectors of the images. Raises ArgumentError
        if the first layers are others.
        """
        layers = list(whole.architecture.children())
        if not (
            plain(whole.architecture, nn.Sequential)
            and len(layers) > 2
            and plain(layers[0], nn.Flatten)
            and isinstance(layers[1], nn.Linear)
            and plain(layers[1], nn.Linear)
        ):
            allowed = "a Sequential that begins with Flatten and Linear"
            found = ", ".join(type(layer).__name__ for layer in layers[:2])
            raise ArgumentError("whole.architecture", allowed, found)
        flat = whole.images.flatten(1)
        _, sizes, rows = torch.linalg.svd(flat.double(), full_matrices=False)
        basis = rows[sizes > 1e-6 * sizes[0]].T.to(flat.dtype).contiguous()
        with torch.random.fork_rng(devices=[]):
            first = nn.Linear(
                basis.shape[1], layers[1].out_features, bias=layers[1].bias is not None
            )
        names = [name for name, _ in whole.architecture.named_children()]
        inner = nn.Sequential(
            OrderedDict(zip(names, [layers[0], first, *layers[2:]], strict=True))
        )
        coordinates = (flat @ basis)[:, None, None]
        return cls(
            whole,
            Network(
                inner, coordinates, whole.labels, whole.prior_sd, whole.temperature
            ),
            basis,
        )

    def lift(self, samples: WeightSamples, generator: Generator) -> WeightSamples:
        """Networks of all inputs from samples of `inner`, with exact draws across the
        span of the images.
        """
        first = [name for name, _ in samples.architecture.named_children()][1]
        name = f"{first}.weight"
        inner = samples.weights[name]
        noise = normal((*inner.shape[:2], len(self.basis)), inner, generator)
        noise = noise.mul_(self.whole.prior_sd * math.sqrt(self.whole.temperature))
        noise += (inner - noise @ self.basis) @ self.basis.T
        return WeightSamples(self.whole.architecture, {**samples.weights, name: noise})


@dataclass(frozen=True, eq=False)
class Lifted:
    """The posterior over whole networks that samples of a `Reduced` posterior's inner
    network make with exact draws.
    """

    reduced: Reduced
    samples: WeightSamples

    @property
    def architecture(self) -> Module:
        """The network whose weights are distributed."""
        return self.reduced.whole.architecture

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` of the samples, chosen uniformly and independently, each with draws
        of its own across the span.
        """
        return self.reduced.lift(
            Empirical(self.samples).draw(count, generator), generator
        )


@torch.enable_grad()
def settled(
    target: Network, chains: int, seed: int, steps: int = 80, rate: float = 3e-3
) -> WeightSamples:
    """Starts for chains: independent draws of the prior, moved as little as fits the
    data (Adam on the likelihood).

    In many dimensions the posterior's mass lies about as far out as the prior's; such
    starts are there from the outset and far from each other, as a diagnosis by R-hat
    wants them.

    Raises ArgumentError if a number is out of range.
    """
    chains = checks.whole(chains, "chains", at_least=1)
    steps = checks.whole(steps, "steps", at_least=0)
    rate = checks.real(rate, "rate", above=0)
    positions = target.prior(chains, seed)[1] * math.sqrt(target.temperature)
    positions.requires_grad_()
    optimiser = torch.optim.Adam([positions], lr=rate)
    for _ in range(steps):
        logits = target.weights(positions).unchecked_logits(target.images)
        misfit = -log_likelihood(logits, target.labels).sum()
        optimiser.zero_grad(set_to_none=True)
        misfit.backward()
        optimiser.step()
    return target.weights(positions.detach())


@dataclass(frozen=True, eq=False)
class Run:
    """HMC on a network: the posterior of all chains' samples together, the samples by
    chain, and the chains.
    """

    posterior: Empirical
    by_chain: list[WeightSamples]
    chains: Chains


def network_posterior(
    target: Network,
    *,
    chains: int,
    draws: int,
    warmup: int,
    steps: int,
    step_size: float,
    seed: int,
    start: WeightSamples | None = None,
    thin: int = 1,
    grouped: bool = False,
    warmup_steps: int | None = None,
    target_acceptance: float = 0.8,
) -> Run:
    """Sample the posterior of a network with `chains` chains, from the networks `start`
    or draws of the prior.

    `grouped` adapts a step size to each of `Network.groups`. See `sample` for the other
    arguments.

    Raises ArgumentError if `start` does not hold one network a chain, or as `sample`
    does.
    """
    checks.having(target, "target", "potential", "prior")
    chains = checks.whole(chains, "chains", at_least=1)
    target_acceptance = checks.real(
        target_acceptance, "target_acceptance", above=0, below=1
    )
    if start is not None:
        checks.having(start, "start", "weights", "architecture")
    if start is not None and len(start) != chains:
        raise ArgumentError("start", f"{chains} networks, one a chain", len(start))
    generator, drawn = target.prior(chains, seed)
    positions = drawn if start is None else target.positions(start)
    found = sample(
        target.potential,
        positions,
        draws=draws,
        warmup=warmup,
        steps=steps,
        step_size=step_size,
        generator=generator,
        thin=thin,
        groups=target.groups if grouped else None,
        warmup_steps=warmup_steps,
        target=target_acceptance,
    )
    with torch.no_grad():
        together = target.weights(found.draws.flatten(0, 1))
    by_chain = [
        together.take(slice(start, start + draws))
        for start in range(0, chains * draws, draws)
    ]
    return Run(Empirical(together), by_chain, found)


@dataclass(frozen=True)
class Diagnosis:
    """Worst R-hat and smallest bulk effective sample size over some quantities, and the
    median of each.
    """

    worst_r_hat: float
    median_r_hat: float
    least_ess: float
    median_ess: float


def diagnose(values: Tensor) -> Diagnosis:
    """Rank-normalised split R-hat and bulk effective sample size of `values` (C, T, Q)
    (Vehtari et al. 2021, by arviz).

    Quantities that never change are left out. R-hat is cut at 100, since it is infinite
    where chains stand apart and no chain moves.

    Raises ArgumentError if the values are not finite, none is left, or there are fewer
    than four draws.
    """
    import arviz
    import numpy as np

    values = checks.tensor(values, "values", dimensions=3).double().cpu()
    moving = values[:, :, values.flatten(0, 1).std(dim=0) > 1e-12]
    if moving.shape[2] == 0 or moving.shape[1] < 4:
        allowed = "at least four draws of something that changes"
        raise ArgumentError("values", allowed, values)
    data = arviz.convert_to_dataset({"value": moving.numpy()})
    with np.errstate(divide="ignore", invalid="ignore"):
        r_hat = np.nan_to_num(
            arviz.rhat(data, method="rank")["value"].to_numpy(), nan=R_HAT_LIMIT
        ).clip(max=R_HAT_LIMIT)
    ess = arviz.ess(data, method="bulk")["value"].to_numpy()
    return Diagnosis(
        float(r_hat.max()),
        float(np.median(r_hat)),
        float(ess.min()),
        float(np.median(ess)),
    )
