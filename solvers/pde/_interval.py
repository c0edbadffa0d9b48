"""How well measurements determine what a network seeks along with its fields."""

import math
from collections.abc import Mapping, Sequence

import torch
from scipy import stats
from torch import Tensor

from sciml.pde import taylor
from sciml.pde.tape import recording

CONFIDENCE = 0.95
"""With which an interval covers the true number, as far as noise alone moves it."""


def quantile(measurements: int, sought: int, confidence: float = CONFIDENCE) -> float:
    """Return Student's t for two-sided intervals of numbers that are sought with so many measurements."""
    return float(stats.t.ppf((1 + confidence) / 2, max(measurements - sought, 1)))


def stated(name: str, value: float, half: float) -> dict[str, float]:
    """Return a number and the ends of its interval as solutions note them."""
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def covariance(rows: Sequence[tuple[Tensor, Tensor]], sought: int) -> Tensor:
    """Return a factor F of the covariance ``F Fᵀ`` of the parameters, the inverse of ``Σ_k J_kᵀ J_k / s_k²``.

    Residuals of one kind have one variance, ``s_k² = |r_k|² / (n_k - sought)``. It is computed in double precision;
    combinations of parameters about which the Jacobian tells less than its rounding count as known that well.
    Source: D. M. Bates, D. G. Watts, Nonlinear Regression Analysis and Its Applications (1988).

    Args:
        rows: of each kind the residuals, shape (n,), and their Jacobian, shape (n, parameters).
        sought: numbers that the residuals determine.

    Returns:
        Shape (parameters, parameters), in float64.
    """
    least = sum(len(value) for value, _ in rows) * torch.finfo(rows[0][0].dtype).eps
    doubles = [(value.double(), jacobian.double()) for value, jacobian in rows]
    weights = [max(len(value) - sought, 1) / max(float(value.square().sum()), 1e-300) for value, _ in doubles]
    information = torch.stack([w * j.T @ j for w, (_, j) in zip(weights, doubles, strict=True)]).sum(dim=0)
    scale = information.diagonal().clamp(min=1e-300).rsqrt()
    scaled = scale[:, None] * information * scale
    values, vectors = torch.linalg.eigh(scaled)
    return scale[:, None] * vectors * values.clamp(min=least * float(values[-1])).rsqrt()


def intervals(
    parameters: Sequence[Tensor],
    residuals: Mapping[str, tuple[Tensor, Tensor]],
    numbers: Mapping[str, Tensor],
    measurements: int,
) -> tuple[dict[str, float], Tensor]:
    """Return for each number its value and the ends of its interval, and the factor of the covariance.

    The interval is that of the linearised model: it tells what noise does, not the bias of the network.

    Args:
        parameters: of the whole network, in the order of the Jacobian's columns.
        residuals: by name the residuals and their Jacobian.
        numbers: the parameters that are sought, by name.
        measurements: how many measured values there are.
    """
    factor = covariance(list(residuals.values()), len(numbers))
    wide = quantile(measurements, len(numbers))
    found: dict[str, float] = {"confidence": CONFIDENCE} if numbers else {}
    start = 0
    for parameter in parameters:
        for name, number in numbers.items():
            if parameter is number:
                found |= stated(name, float(number.detach()), wide * float(factor[start].norm()))
        start += parameter.numel()
    return found, factor


def deviation(
    network: torch.nn.Module, parameters: Sequence[Tensor], points: Tensor, output: int, factor: Tensor
) -> float:
    """Return the root mean square over points of an output's standard deviation, by noise alone.

    Args:
        network: from points to outputs.
        parameters: in the order of the covariance.
        points: shape (n, axes).
        output: which one.
        factor: of the covariance.
    """
    with recording(parameters) as tape:
        values = taylor.derivatives(network, points, [(0,) * points.shape[1]])[0, :, output]
        jacobian = tape.jacobian(values).double()
    return math.sqrt(float((jacobian @ factor).square().sum()) / len(points))
