"""Self-scaled quasi-Newton methods with full memory: a dense inverse Hessian and a strong Wolfe line search."""

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import line_search
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import Optimizer

from sciml.errors import UserError

Update = Literal["bfgs", "broyden"]
SHRINKS = 8
"""Tenfold shorter steps that are tried where the line search finds none."""
MOST_BYTES = 1 << 32
"""The largest inverse Hessian that is kept."""


class SelfScaledQuasiNewton(Optimizer):
    """Minimises by steps ``-α H g``, where H nears the inverse Hessian and is scaled anew at every step.

    H⁺ = (H - H y yᵀ H / yᵀHy + φ v vᵀ) / τ + s sᵀ / yᵀs,  v = √(yᵀHy) (s / yᵀs - H y / yᵀHy)

    with s the step and y the change of the gradient. For ``bfgs`` φ = 1 and ``τ = min(1, yᵀs / sᵀH⁻¹s)``; for
    ``broyden`` both follow from what is expected of the eigenvalues, see ``scaling``.
    Source: J. F. Urbán, P. Stefanou, J. A. Pons, Unveiling the optimization process of physics informed neural
    networks: How accurate and competitive can PINNs be? (2024), arXiv 2405.04230; E. Kiyani et al., Optimizing the
    optimizer for physics-informed neural networks and Kolmogorov-Arnold networks (2025), arXiv 2501.16371; after
    M. Al-Baali. The line search is that of J. Nocedal, S. Wright, Numerical Optimization (2006), 3.5 and 3.6, by scipy.

    Args:
        parameters: what is minimised over, all of one dtype.
        update: how H is renewed.
        curvature: the line search ends where the slope has fallen to this fraction.
        evaluations: trials of a line search after which the best point is taken.

    Raises:
        UserError: so many parameters that H would take more than 4 GiB.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        update: Update = "broyden",
        curvature: float = 0.9,
        evaluations: int = 25,
    ) -> None:
        super().__init__(parameters, {"update": update, "curvature": curvature, "evaluations": evaluations})
        self._trained: list[Tensor] = self.param_groups[0]["params"]
        size = sum(p.numel() for p in self._trained)
        if size**2 * self._trained[0].element_size() > MOST_BYTES:
            raise UserError(
                f"expected a network whose inverse Hessian fits in {MOST_BYTES >> 30} GiB, got {size} parameters; "
                "use L-BFGS or a smaller network"
            )

    @property
    def memory(self) -> dict[str, Any]:
        """What is kept between steps: their number, as for L-BFGS, and the inverse Hessian once there is one."""
        return self.state[self._trained[0]]

    def step(self, closure: Callable[[], float] | None = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step and return the loss where it began; the parameters stay where no trial lowers the loss.

        Args:
            closure: evaluates the loss and leaves its gradient in the parameters.
        """
        assert closure is not None
        group, memory = self.param_groups[0], self.memory
        memory["n_iter"] = memory.get("n_iter", 0) + 1
        ray = _Ray(self._trained, closure)
        gradient = ray.gradient(0.0)
        inverse: Tensor | None = memory.get("inverse")
        direction = -gradient if inverse is None else -(inverse @ gradient)
        if inverse is None or not gradient @ direction < 0:  # rounding may cost H its definiteness
            inverse = None
            direction = -gradient / gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)
        ray.aim(direction)
        length = ray.search(group["curvature"], group["evaluations"], memory.get("before"))
        memory["before"] = ray.loss(0.0)
        ray.move(length)
        step, change = length * direction, ray.gradient(length) - gradient
        curvature = change @ step
        if length and curvature > torch.finfo(step.dtype).eps * change.norm() * step.norm():
            if inverse is None:
                eye = torch.eye(len(step), dtype=step.dtype, device=step.device)
                memory["inverse"] = eye * (curvature / (change @ change))
                bending = step @ step * (change @ change) / curvature
            else:
                bending = -length * (gradient @ step)
            _renew(memory["inverse"], step, change, float(bending), group["update"])
        return ray.loss(0.0)


class _Ray:
    """The loss along a ray from where the parameters are; each of its points is evaluated once."""

    def __init__(self, parameters: list[Tensor], closure: Callable[[], float]) -> None:
        self._parameters, self._closure = parameters, closure
        self._start = parameters_to_vector(parameters).detach()
        self._known: dict[float, tuple[float, Tensor]] = {0.0: self._evaluate()}
        self._direction = torch.zeros_like(self._start)

    def aim(self, direction: Tensor) -> None:
        self._direction = direction

    def loss(self, length: float) -> float:
        return self._at(length)[0]

    def gradient(self, length: float) -> Tensor:
        return self._at(length)[1]

    def move(self, length: float) -> None:
        vector_to_parameters(self._start + length * self._direction, self._parameters)

    def search(self, curvature: float, evaluations: int, before: float | None) -> float:
        """Return a length that meets the strong Wolfe conditions, else the best that was tried.

        Args:
            curvature: the share of the slope that may be left.
            evaluations: the most trials.
            before: the loss where the last step began; the first trial expects as great a fall again.
        """
        slope = float(self.gradient(0.0) @ self._direction)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # that it has failed is told by the length
            length, *_ = line_search(
                lambda x: self.loss(float(x[0])),
                lambda x: np.array([float(self.gradient(float(x[0])) @ self._direction)]),
                np.zeros(1),
                np.ones(1),
                gfk=np.array([slope]),
                old_fval=self.loss(0.0),
                old_old_fval=before,
                c1=min(1e-4, curvature / 2),
                c2=curvature,
                maxiter=evaluations,
            )
        if length is not None:
            return float(length)
        best = min(self._known, key=self.loss)
        for _ in range(SHRINKS if best == 0 else 0):
            best = min(length for length in self._known if length) / 10
            if self.loss(best) < self.loss(0.0):
                return best
        return best if self.loss(best) < self.loss(0.0) else 0.0

    def _at(self, length: float) -> tuple[float, Tensor]:
        if length not in self._known:
            self.move(length)
            self._known[length] = self._evaluate()
        return self._known[length]

    def _evaluate(self) -> tuple[float, Tensor]:
        loss = float(self._closure())
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        return loss, torch.cat([part.detach().reshape(-1) for part in parts])


def scaling(b: float, h: float, size: int) -> tuple[float, float]:
    """Return τ and φ of the self-scaled Broyden update.

    a = b h - 1,  ρ = min(1, h (1 - √(a / (1 + a)))),  θ = max((ρ - 1) / a, min(1 / ρ, (1 - b) / b)),  σ = 1 + a θ

    φ = (1 - θ) / σ,  and with t = min(1, 1/b) and q = σ^(-1 / (size - 1)):
    τ = t min(q, 1/θ) where θ > 0, else min(t q, σ).
    Source: formulas 13 to 23 of arXiv 2405.04230.

    Args:
        b: ``sᵀH⁻¹s / yᵀs``.
        h: ``yᵀHy / yᵀs``.
        size: how many parameters.
    """
    a = max(b * h - 1, np.finfo(float).eps)  # not negative, but for rounding
    rho = min(1.0, h / ((1 + a) * (1 + math.sqrt(a / (1 + a)))))  # as above, but nothing cancels where a is large
    theta = max((rho - 1) / a, min(1 / rho, (1 - b) / b))
    sigma = 1 + a * theta
    shrink, whole = sigma ** (-1 / max(size - 1, 1)), min(1.0, 1 / b)
    tau = whole * min(shrink, 1 / theta) if theta > 0 else min(whole * shrink, sigma)
    return tau, (1 - theta) / sigma


def _renew(inverse: Tensor, step: Tensor, change: Tensor, bending: float, update: Update) -> None:
    """Renew H in place; ``bending`` is sᵀH⁻¹s."""
    product = inverse @ change
    along, across = float(change @ step), float(change @ product)
    b, h = bending / along, across / along
    tau, phi = (min(1.0, 1 / b), 1.0) if update == "bfgs" else scaling(b, h, len(step))
    v = math.sqrt(across) * (step / along - product / across)
    inverse.addr_(product, product, alpha=-1 / across)
    inverse.addr_(v, v, alpha=phi)
    inverse.div_(tau).addr_(step, step, alpha=1 / along)
