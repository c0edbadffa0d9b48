"""Levenberg-Marquardt: Gauss-Newton steps on residuals, damped as far as the last step was foreseen badly."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.linalg import get_blas_funcs
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import Optimizer

Residuals = Callable[[bool], tuple[Tensor, Tensor | None]]
"""Returns the residuals, shape (n,), and with True their derivatives by the parameters, shape (n, parameters)."""
TRIALS = 16
"""Dampings tried before a step counts as impossible."""
SHORTEST = 1e-2
"""The least length of a column of the Jacobian, relative to the longest, to which damping is scaled."""
PROBE = 0.1
"""The part of a step after which the curvature along it is measured."""
BENT = 0.75
"""The greatest length of the acceleration, doubled, relative to that of the step."""


@dataclass(frozen=True)
class Linearisation:
    """Residuals near one point, ``r(θ + δ) ≈ r + J δ``, with D the inverse lengths of the columns of J.

    Args:
        value: r, shape (n,).
        jacobian: J, shape (n, parameters).
        scale: the diagonal of D.
        gram: the lower triangle of ``DJᵀJD``, or of ``JDDJᵀ`` where that is shorter.
    """

    value: Tensor
    jacobian: Tensor
    scale: Tensor
    gram: Tensor

    @classmethod
    def of(cls, value: Tensor, jacobian: Tensor) -> "Linearisation":
        if jacobian.shape[0] < jacobian.shape[1]:
            scale = _inverse(jacobian.square().sum(dim=0))
            return cls(value, jacobian, scale, gram((jacobian * scale).T))
        products = gram(jacobian)
        scale = _inverse(products.diagonal())
        return cls(value, jacobian, scale, products.mul_(scale).mul_(scale[:, None]))

    def solver(self, damping: float) -> Callable[[Tensor], Tensor] | None:
        """Return the map ``r -> -D (DJᵀJD + λ)⁻¹ DJᵀ r``; None where the damped matrix is not positive."""
        damped = self.gram.clone()
        damped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            return None
        jacobian, scale = self.jacobian, self.scale
        if len(damped) < jacobian.shape[1]:
            return lambda r: -scale.square() * (jacobian.T @ torch.cholesky_solve(r[:, None], factor)[:, 0])
        return lambda r: -scale * torch.cholesky_solve((scale * (jacobian.T @ r))[:, None], factor)[:, 0]


def _inverse(squares: Tensor) -> Tensor:
    """Return the inverse lengths of columns, of short ones as if they were longer."""
    lengths = squares.sqrt()
    return 1 / lengths.clamp(min=SHORTEST * float(lengths.max()))


def gram(columns: Tensor) -> Tensor:
    """Return the lower triangle of ``AᵀA``, on one thread of a CPU for half the work of the whole.

    On several threads SciPy's would wait for torch's, and torch's for SciPy's, longer than the work saved.

    Args:
        columns: A, shape (n, m).
    """
    if columns.device.type != "cpu" or torch.get_num_threads() > 1:
        return columns.T @ columns
    transposed, rows = (False, columns) if columns.is_contiguous() else (True, columns.T.contiguous())
    (product,) = get_blas_funcs(["syrk"], [rows.numpy()])
    return torch.from_numpy(product(1.0, rows.numpy().T, trans=transposed).T)


class LevenbergMarquardt(Optimizer):
    """Minimises ``|r(θ)|²`` by damped Gauss-Newton steps, bent along the geodesic of the residuals.

    ``δ = -(JᵀJ + λ D⁻²)⁻¹ Jᵀ r``, in the kernel form ``-D²Jᵀ (J D² Jᵀ + λ)⁻¹ r`` where there are fewer residuals
    than parameters. The second-order correction ``½ a``, ``a = -(JᵀJ + λ D⁻²)⁻¹ Jᵀ r''(δ, δ)``, costs one evaluation,
    and a step is refused where it is long: the path bends too much. λ falls where the gain was as foreseen and
    rises where it was not. Each factorisation serves a few chord steps with fresh residuals.
    Source: H. B. Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05 (1999); M. K. Transtrum,
    J. P. Sethna, Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares minimization (2012),
    arXiv 1201.5885.

    Args:
        parameters: θ.
        damping: λ at the start, relative to the squared lengths of the columns of J.
        chords: steps with each factorisation after the first.
    """

    def __init__(self, parameters: Iterable[Tensor], damping: float = 1e-3, chords: int = 3) -> None:
        super().__init__(parameters, {"damping": damping, "chords": chords})
        self._trained: list[Tensor] = self.param_groups[0]["params"]

    def advance(self, residuals: Residuals) -> bool:
        """Take one step and its chords; return False, at the same point, where no damping lowers the loss."""
        group, state = self.param_groups[0], self.state[self._trained[0]]
        value, jacobian = residuals(True)
        assert jacobian is not None
        here = parameters_to_vector(self._trained).detach()
        near = Linearisation.of(value, jacobian)
        least = torch.finfo(value.dtype).eps
        damping, growth = state.get("damping", group["damping"]), 2.0
        for _ in range(TRIALS):
            solve = near.solver(damping)
            gain, there, after = self._trial(residuals, here, near, solve) if solve else (-1.0, here, value)
            if solve and gain > 0:
                state["damping"] = max(damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), least)
                self._chords(residuals, there, after, solve)
                return True
            damping, growth = max(damping, least) * growth, growth * 2
        vector_to_parameters(here, self._trained)
        state["damping"] = group["damping"]  # for the next batch, if there is one
        return False

    def _trial(
        self, residuals: Residuals, here: Tensor, near: Linearisation, solve: Callable[[Tensor], Tensor]
    ) -> tuple[float, Tensor, Tensor]:
        """Return the gain relative to the one foreseen, the new point and the residuals there."""
        value = near.value
        step = solve(value)
        slope = near.jacobian @ step
        vector_to_parameters(here + PROBE * step, self._trained)
        curvature = 2 / PROBE * ((residuals(False)[0] - value) / PROBE - slope)
        acceleration = solve(curvature)
        if not 2 * (acceleration / near.scale).norm() <= BENT * (step / near.scale).norm():
            return -1.0, here, value
        there = here + step + acceleration / 2
        vector_to_parameters(there, self._trained)
        after, _ = residuals(False)
        loss = value.square().sum()
        foreseen = loss - (value + slope).square().sum()
        return float((loss - after.square().sum()) / foreseen), there, after

    def _chords(self, residuals: Residuals, here: Tensor, value: Tensor, solve: Callable[[Tensor], Tensor]) -> None:
        """Take further steps with one factorisation while the loss falls to less than half each time."""
        loss = value.square().sum()
        for _ in range(self.param_groups[0]["chords"]):
            there = here + solve(value)
            vector_to_parameters(there, self._trained)
            value, _ = residuals(False)
            new = value.square().sum()
            if not new < loss:
                vector_to_parameters(here, self._trained)
                return
            halved = new < loss / 2
            here, loss = there, new
            if not halved:
                return

    def step(self, closure: Any = None) -> Any:
        raise NotImplementedError("Levenberg-Marquardt needs residuals; call advance")
