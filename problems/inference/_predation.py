"""Two populations that grow at rates linear in each other, integrated for whole batches at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

ORDER = 20
TOLERANCE = 1e-10
"""Of the last terms of a step's series, relative to the population."""
BLOCK = 8192
"""Trajectories integrated together; more leave the processor's cache."""


def trajectories(rates: Tensor, start: tuple[float, float], times: Sequence[float]) -> Tensor:
    """Solve u' = u (a + b v), v' = v (c + d u), shape (n, times, 2).

    The Taylor series of order 20 at each step follows from the equations by recursion,
    (k + 1) u_(k+1) = a u_k + b Σ_j u_j v_(k-j); each trajectory has its own steps, as long as the last two terms
    stay below 1e-10 of the population. It differentiates through to the rates.
    Source: À. Jorba, M. Zou, A software package for the numerical integration of ODEs by means of high-order
    Taylor methods, Experimental Mathematics 14, 2005.

    Args:
        rates: a, b, c and d, shape (n, 4).
        start: u and v at time 0, both positive.
        times: increasing, the first of them at least 0.
    """
    return torch.cat([_block(block, start, rates.new_tensor(list(times))) for block in rates.split(BLOCK)])


def _block(rates: Tensor, start: tuple[float, float], times: Tensor) -> Tensor:
    out = rates.new_empty(len(rates), len(times), 2)
    rows, a, b, c, d = torch.arange(len(rates)), *rates.T
    u, v = (rates.new_full((len(rates),), value) for value in start)
    now, aim = torch.zeros_like(u), torch.zeros_like(rows)
    while len(rows):
        series = _series(u, v, a, b, c, d)
        gap = times[aim] - now
        free = torch.minimum(*(_step(terms) for terms in series))
        step = torch.minimum(free, gap)
        u, v = (_horner(terms, step) for terms in series)
        arrived = free >= gap
        now = torch.where(arrived, times[aim], now + step)
        out[rows[arrived], aim[arrived]] = torch.stack([u, v], dim=1)[arrived]
        aim = aim + arrived
        going = aim < len(times)
        if going.sum() < 0.8 * len(rows):
            rows, a, b, c, d, u, v, now, aim = (z[going] for z in (rows, a, b, c, d, u, v, now, aim))
        else:
            aim = aim.clamp_max(len(times) - 1)
    return out


def _series(u: Tensor, v: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the Taylor coefficients of both populations, from the zeroth on."""
    us, vs = [u], [v]
    for k in range(ORDER):
        product = us[0] * vs[k]
        for j in range(1, k + 1):
            product = torch.addcmul(product, us[j], vs[k - j])
        us.append(torch.addcmul(a * us[k], b, product) / (k + 1))
        vs.append(torch.addcmul(c * vs[k], d, product) / (k + 1))
    return us, vs


@torch.no_grad()
def _step(terms: list[Tensor]) -> Tensor:
    """Return how far a series may be used."""
    size = TOLERANCE * terms[0]
    lengths = [(size / terms[k].abs()).pow(1 / k) for k in (ORDER - 1, ORDER)]
    return torch.minimum(*lengths)


def _horner(terms: list[Tensor], step: Tensor) -> Tensor:
    total = terms[-1]
    for term in reversed(terms[:-1]):
        total = torch.addcmul(term, total, step)
    return total
