"""Levenberg-Marquardt: Gauss-Newton steps on residuals, damped as far as the last step was foreseen badly."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Residuals = Callable[[bool], tuple[Tensor, Tensor | None]]
"""Returns the residuals, shape (n,), and with True their derivatives by the parameters, shape (n, parameters)."""
TRIALS = 12
"""Dampings tried before a step counts as impossible."""


class LevenbergMarquardt(Optimizer):
    """Minimises ``|r(θ)|²`` by steps ``δ = -(JᵀJ + λ)⁻¹ Jᵀ r``, in the kernel form ``-Jᵀ (JJᵀ + λ)⁻¹ r`` where shorter.

    The damping λ falls where the gain was as foreseen and rises where it was not. Each factorisation serves a
    few chord steps with fresh residuals, which cost a forward pass each.
    Source: H. B. Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05 (1999); K. Madsen, H. B. Nielsen,
    O. Tingleff, Methods for non-linear least squares problems, 2nd ed. (2004).

    Args:
        parameters: θ.
        damping: λ at the start, relative to the greatest diagonal element of JᵀJ.
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
        loss = value.square().sum()
        here = torch.nn.utils.parameters_to_vector(self._trained).detach()
        kernel = len(jacobian) < len(here)
        matrix = jacobian @ jacobian.T if kernel else jacobian.T @ jacobian
        diagonal = matrix.diagonal()
        greatest = diagonal.max()
        scale = torch.finfo(matrix.dtype).eps
        damping = state.get("damping", group["damping"])
        growth = 2.0
        for _ in range(TRIALS):
            shifted = matrix.clone()
            shifted.diagonal().add_(damping * greatest)
            factor, failed = torch.linalg.cholesky_ex(shifted)
            if not failed:
                step = _step(factor, jacobian, value, kernel)
                foreseen = loss - (value + jacobian @ step).square().sum()
                self._move(here + step)
                after, _ = residuals(False)
                new = after.square().sum()
                gain = float((loss - new) / foreseen)
                if new < loss and gain > 0:
                    state["damping"] = max(damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), scale)
                    self._chords(residuals, here + step, after, lambda r: _step(factor, jacobian, r, kernel))
                    return True
            damping, growth = max(damping, scale) * growth, growth * 2
        self._move(here)
        state["damping"] = damping
        return False

    def _chords(self, residuals: Residuals, here: Tensor, value: Tensor, step: Callable[[Tensor], Tensor]) -> None:
        """Take further steps with one factorisation while the loss falls to less than half each time."""
        loss = value.square().sum()
        for _ in range(self.param_groups[0]["chords"]):
            there = here + step(value)
            self._move(there)
            value, _ = residuals(False)
            new = value.square().sum()
            if not new < loss:
                self._move(here)
                return
            enough = new > 0.5 * loss
            here, loss = there, new
            if enough:
                return

    def _move(self, to: Tensor) -> None:
        torch.nn.utils.vector_to_parameters(to, self._trained)

    def step(self, closure: Any = None) -> Any:
        raise NotImplementedError("Levenberg-Marquardt needs residuals; call advance")


def _step(factor: Tensor, jacobian: Tensor, value: Tensor, kernel: bool) -> Tensor:
    if kernel:
        return -jacobian.T @ torch.cholesky_solve(value[:, None], factor)[:, 0]
    return -torch.cholesky_solve((jacobian.T @ value)[:, None], factor)[:, 0]
