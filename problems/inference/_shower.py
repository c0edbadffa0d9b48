"""A parton shower of few generations, and the exact density of what it leaves, summed over all its histories."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.inference.laws import Inverted

GENERATIONS = 3
LEAVES = 2**GENERATIONS
MASS, MOMENTUM, CUT = 80.0, 400.0, 25.0
"""Mass and momentum along the first axis of the parton at the start, in GeV, and the m² below which one is stable."""


@dataclass(frozen=True)
class TruncatedExponential(Inverted):
    """λ e^(-λ v/high) / (high (1 - e^(-λ))) on [0, high], λ > 0 being the rate; arguments broadcast."""

    rate: Tensor
    high: Tensor

    def quantile(self, unit: Tensor) -> Tensor:
        return -self.high * torch.log1p(unit * torch.expm1(-self.rate)) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        return (self.rate / -torch.expm1(-self.rate)).log() - self.high.log() - self.rate * value / self.high


def square(momentum: Tensor) -> Tensor:
    """Return m² of momenta (..., 4), energy first."""
    return momentum[..., 0] ** 2 - (momentum[..., 1:] ** 2).sum(-1)


def shower(rates: Tensor, draw: Draws) -> Tensor:
    """Return the momenta of the stable partons, those of most energy first, zero where there are fewer, (n, 8, 4).

    Args:
        rates: of each generation's masses, shape (n, generations).
        draw: the source of randomness.
    """
    start = rates.new_tensor([math.hypot(MASS, MOMENTUM), MOMENTUM, 0.0, 0.0])
    partons, splits = start.expand(len(rates), 1, 4), rates.new_ones(len(rates), 1, dtype=torch.bool)
    stable = []
    for generation in range(GENERATIONS):
        rate = torch.where(splits, rates[:, generation, None], 1.0)
        idle = rates.new_tensor([1.0, 0.0, 0.0, 0.0])  # splits too, into nothing
        partons = _split(torch.where(splits[..., None], partons, idle), rate, draw)
        there = splits.repeat_interleave(2, dim=1)
        splits = there & (square(partons) >= CUT) & (generation + 1 < GENERATIONS)
        stable.append(torch.where((there & ~splits)[..., None], partons, 0.0))
    whole = torch.cat(stable, dim=1)
    order = whole[..., 0].argsort(dim=1, descending=True)[:, :LEAVES]
    return whole.gather(1, order[..., None].expand(-1, -1, 4))


def _split(parents: Tensor, rate: Tensor, draw: Draws) -> Tensor:
    """Return both children of each parent (n, partons, 4) beside each other, shape (n, 2 partons, 4)."""
    one = torch.ones_like(rate)
    left = draw.draw(TruncatedExponential(rate, one))
    right = draw.draw(TruncatedExponential(rate, _room(left)))
    cosine, angle = draw.uniform(-one, one), draw.uniform(0 * one, 2 * math.pi * one)
    mass = square(parents).sqrt()
    energy = mass * (1 + left - right) / 2
    sine = (1 - cosine**2).sqrt()
    direction = torch.stack([cosine, sine * torch.cos(angle), sine * torch.sin(angle)], dim=-1)
    along = (mass * _momentum(left, right))[..., None] * direction
    total, momentum = parents[..., 0], parents[..., 1:]
    product = (momentum * along).sum(-1)
    boosted = along + momentum * ((product / (total + mass) + energy) / mass)[..., None]
    child = torch.cat([((total * energy + product) / mass)[..., None], boosted], dim=-1)
    return torch.stack([child, parents - child], dim=2).flatten(1, 2)


def _room(left: Tensor) -> Tensor:
    """Return the most that one child's m² can be beside the other's, both by that of their parent."""
    return (1 - left.sqrt()) ** 2


def _momentum(left: Tensor, right: Tensor) -> Tensor:
    """Return the momentum of two children in the frame where their parent rests, by its mass."""
    return ((1 + left - right) ** 2 / 4 - left).clamp_min(0).sqrt()


def log_density(rates: Tensor, stable: Tensor) -> Tensor:
    """Return the log density of stable partons (n, 8, 4) given rates (n, generations), shape (n,).

    A parent of mass M splits into children of m² = l M² and r M² with the density p(l) p(r|l) / 4π, plus the same
    with l and r exchanged, since partons are seen in no order; d⁴p = (|p*|/M) M⁴ dl dr dΩ / 4, with the momentum p*
    where the parent rests, makes it one of momenta. The density of a set of partons that one parton left is the sum,
    over its divisions in two, of this times the densities of both parts, one generation later.
    Source: K. Cranmer et al., Reframing jet physics with new computational methods, 2021, arXiv 2105.10512, where
    these sums are called a trellis.
    """
    counts = (stable[..., 0] > 0).sum(dim=1)
    out = torch.full_like(rates[:, 0], -torch.inf)
    for count in counts[counts > 1].unique().tolist():
        rows = (counts == count).nonzero()[:, 0]
        out = out.index_put((rows,), _summed(rates[rows], stable[rows, :count]).log())
    return out


def _summed(rates: Tensor, partons: Tensor) -> Tensor:
    """Return the density summed over histories, of partons (n, count, 4), shape (n,)."""
    count = partons.shape[1]
    member = (torch.arange(2**count)[:, None] >> torch.arange(count)) & 1
    squares = square(torch.einsum("sc,ncx->nsx", member.to(partons), partons)).clamp_min(0)
    single, unstable = 2 ** torch.arange(count), squares >= CUT
    density = torch.zeros_like(squares).index_fill(1, single, 1.0)
    for generation in reversed(range(GENERATIONS)):
        below, density = density, torch.zeros_like(squares)
        if generation:
            density[:, single] = torch.where(unstable[:, single], 0.0, 1.0).to(squares)
        smallest, largest = (2, min(count, 2 ** (GENERATIONS - generation))) if generation else (count, count)
        for size in range(smallest, largest + 1):
            sets, (first, second) = _divisions(count, size)
            parent = squares[:, sets, None]
            split = _splitting(rates[:, generation, None, None], squares[:, first], squares[:, second], parent)
            total = (split * below[:, first] * below[:, second]).sum(dim=-1)
            density[:, sets] = torch.where(unstable[:, sets], total, 0.0)
    return density[:, -1]


def _splitting(rate: Tensor, first: Tensor, second: Tensor, parent: Tensor) -> Tensor:
    """Return the density of two children's momenta, by the m² of all, shapes that broadcast."""
    pair, one = (first / parent, second / parent), torch.ones_like(first)
    orders = [
        TruncatedExponential(rate, one).log_prob(a) + TruncatedExponential(rate, _room(a)).log_prob(b)
        for a, b in (pair, pair[::-1])
    ]
    return (orders[0].exp() + orders[1].exp()) / (math.pi * _momentum(*pair) * parent**2)


@cache
def _divisions(count: int, size: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the sets of that size among ``count`` partons, and all divisions in two of each.

    Sets are numbers whose bits are partons: shapes (sets,), and twice (sets, divisions).
    """
    sets = [sum(2**k for k in chosen) for chosen in itertools.combinations(range(count), size)]
    first, whole = torch.tensor([list(_firsts(chosen)) for chosen in sets]), torch.tensor(sets)
    return whole, (first, whole[:, None] - first)


def _firsts(chosen: int) -> Iterator[int]:
    """Yield the parts of a set that hold its lowest member, but the set itself."""
    lowest = chosen & -chosen
    rest = part = chosen - lowest
    while part:
        part = (part - 1) & rest
        yield part | lowest
