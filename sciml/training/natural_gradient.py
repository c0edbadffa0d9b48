"""Energy natural gradient by Woodbury's identity, with momentum: Gauss-Newton steps on points drawn anew each time."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import Optimizer

from sciml.errors import SolveError
from sciml.training.gauss_newton import TRIALS, Residuals

HALVINGS = 10
"""How often the line search may halve a step."""
ROUNDING = 10.0
"""The least damping, relative to the rounding of a number times the rows of the kernel."""


class NaturalGradient(Optimizer):
    """Descends ``|r(θ)|²`` by steps ``-η φ`` that keep a share of the step before, as far as the rows do not deny it.

    φ = μ φ₋ + Jᵀ (JJᵀ + λ)⁻¹ (r - μ J φ₋)

    The system is as large as there are residuals, not parameters. η halves from 1 while the loss falls by that, and
    at most so far that ``|η φ|`` is the norm allowed.
    Source: J. Müller, M. Zeinhofer, Achieving high accuracy with PINNs via energy natural gradients (2023), arXiv
    2302.13163; A. Guzmán-Cordero, F. Dangel, G. Goldshlager, M. Zeinhofer, Improving energy natural gradient descent
    through Woodbury, momentum, and randomization (2025), arXiv 2505.12149; the momentum is that of G. Goldshlager,
    N. Abrahamsen, L. Lin, A Kaczmarz-inspired approach to accelerate the optimization of neural network wavefunctions
    (2024), arXiv 2401.10190.

    Args:
        parameters: θ.
        damping: λ, relative to the mean diagonal element of JJᵀ; more where rounding asks for it.
        momentum: μ, in [0, 1).
        norm: the greatest length of a step.
    """

    def __init__(
        self, parameters: Iterable[Tensor], damping: float = 1e-8, momentum: float = 0.9, norm: float = 1.0
    ) -> None:
        super().__init__(parameters, {"damping": damping, "momentum": momentum, "norm": norm})
        self._trained: list[Tensor] = self.param_groups[0]["params"]

    def advance(self, residuals: Residuals) -> bool:
        """Take one step; return that it was taken.

        Raises:
            SolveError: the kernel JJᵀ is zero or not finite.
        """
        group, state = self.param_groups[0], self.state[self._trained[0]]
        value, jacobian = residuals(True)
        assert jacobian is not None
        here = parameters_to_vector(self._trained).detach()
        before = group["momentum"] * state.get("momentum", torch.zeros_like(here))
        kernel = jacobian @ jacobian.T
        miss = (value - jacobian @ before)[:, None]
        step = before + jacobian.T @ torch.cholesky_solve(miss, _factor(kernel, group["damping"]))[:, 0]
        state["momentum"] = step
        self._descend(residuals, here, step, min(1.0, group["norm"] / max(float(step.norm()), 1e-300)))
        return True

    def _descend(self, residuals: Residuals, here: Tensor, step: Tensor, length: float) -> None:
        best, lowest = length, float("inf")
        for _ in range(HALVINGS):
            vector_to_parameters(here - length * step, self._trained)
            loss = float(residuals(False)[0].square().sum())
            if not loss < lowest and lowest < float("inf"):
                break
            if loss < lowest:
                best, lowest = length, loss
            length /= 2
        vector_to_parameters(here - best * step, self._trained)

    def step(self, closure: Any = None) -> Any:
        raise NotImplementedError("the natural gradient needs residuals; call advance")


def _factor(kernel: Tensor, damping: float) -> Tensor:
    """Return Cholesky's factor of a damped kernel; damping rises tenfold where that is not positive definite."""
    size = kernel.diagonal().mean()
    if not (kernel.isfinite().all() and size > 0):
        raise SolveError("the kernel of the natural gradient is zero or not finite")
    damping = max(damping, ROUNDING * torch.finfo(kernel.dtype).eps * len(kernel))
    for _ in range(TRIALS):
        damped = kernel.clone()
        damped.diagonal().add_(damping * size)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            return factor
        damping *= 10
    raise SolveError("the kernel of the natural gradient is singular")
