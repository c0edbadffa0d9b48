"""What is believed of parameters before any data."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, LogNormal, Normal, Uniform, biject_to
from torch.distributions.constraints import Constraint

from sciml.errors import UserError


class Prior:
    """Parameters θ = F η of independent η, p(η) = Π p_k(η_k); without a factor F, θ = η.

    Args:
        marginals: the law of each η: scalar, float64, with an inverse distribution (``icdf``).
        factor: F, invertible, shape (parameters, parameters); only of marginals without bounds.

    Raises:
        UserError: no marginals, or a factor that mixes bounded ones or has another shape.
    """

    def __init__(self, marginals: Sequence[Distribution], factor: Tensor | None = None) -> None:
        self.marginals = tuple(marginals)
        if not self.marginals:
            raise UserError("expected a law for each parameter, got none; give one distribution a parameter")
        self.factor = factor
        if factor is None:
            return
        size = len(self.marginals)
        if factor.shape != (size, size):
            raise UserError(f"expected a factor of shape {(size, size)}, got {tuple(factor.shape)}; a row each")
        if any(math.isfinite(edge) for law in self.marginals for edge in _bounds(law)):
            raise UserError("expected unbounded laws under a factor, got bounded ones; leave the factor out")

    @property
    def bounds(self) -> Tensor:
        """The least and the greatest value of each parameter, shape (2, parameters); infinite where there is none."""
        return torch.tensor([_bounds(law) for law in self.marginals], dtype=torch.float64).T

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw parameters, shape (count, parameters), float64 on the CPU, inside the support."""
        unit = torch.rand(count, len(self.marginals), generator=generator, dtype=torch.float64)
        return self.quantile(unit)

    def quantile(self, unit: Tensor) -> Tensor:
        """Map points of the unit cube to parameters by inverse distributions, both (n, parameters)."""
        edge = torch.finfo(unit.dtype).eps / 2  # inverse distributions are infinite at 0 and 1
        inside = unit.clamp(edge, 1 - edge)
        return self._mix(torch.stack([law.icdf(u) for law, u in zip(self.marginals, inside.T, strict=True)], dim=1))

    def quasirandom(self, count: int) -> Tensor:
        """Return the same parameters every time, as evenly spread as scrambled Sobol points, (count, parameters)."""
        unit = torch.quasirandom.SobolEngine(len(self.marginals), scramble=True, seed=0).draw(count)
        return self.quantile(unit.double())

    def normal_scores(self, theta: Tensor) -> Tensor:
        """Return u = Φ⁻¹(F(θ)) of parameters inside the support, both (n, parameters): normal where θ is of the prior.

        F are the distribution functions; the map is smooth, one to one and onto, and takes p(θ) to N(0, I). What
        rounding has put beyond an edge counts as on it.
        """
        edge = torch.finfo(theta.dtype).eps / 2
        low, high = self.bounds.to(theta)
        columns = zip(self.marginals, self._unmix(theta).clamp(low, high).T, strict=True)
        unit = torch.stack([law.cdf(column) for law, column in columns], dim=1)
        return torch.special.ndtri(unit.clamp(edge, 1 - edge))

    def of_normal_scores(self, scores: Tensor) -> Tensor:
        """Map normal scores to parameters, both (n, parameters)."""
        return self.quantile(torch.special.ndtr(scores))

    def scaled(self, theta: Tensor) -> Tensor:
        """Return parameters (n, parameters) in deviations from their means, positive ones as normal scores."""
        mean, deviation = self.moments
        plain = (theta - mean) / deviation
        return torch.where(self.positive, self.normal_scores(theta), plain) if self.positive.any() else plain

    def log_slope(self, theta: Tensor, scores: Tensor) -> Tensor:
        """Return log |det du/dθ| = log p(θ) - log N(u; 0, I) of parameters and their normal scores, shape (n,)."""
        return self.log_prob(theta) - log_standard_normal(scores)

    def contains(self, theta: Tensor) -> Tensor:
        """Return for each row of (n, parameters) whether it lies in the support, shape (n,)."""
        columns = zip(self.marginals, self._unmix(theta).T, strict=True)
        return torch.stack([_support(law).check(column) for law, column in columns], dim=1).all(dim=1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log p(θ) of each row of (n, parameters), shape (n,); minus infinity outside the support."""
        inside = self.contains(theta)
        safe = torch.where(inside[:, None], theta, self.quantile(torch.full_like(theta, 0.5)))
        columns = zip(self.marginals, self._unmix(safe).T, strict=True)
        total = torch.stack([law.log_prob(column) for law, column in columns]).sum(dim=0)
        return torch.where(inside, total - self._log_volume, -torch.inf)

    def within(self, log_density: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
        """Return a log density of (n, parameters), shape (n,); outside the support minus infinity, unevaluated."""
        inside = self.contains(theta)
        found = theta.new_full((len(theta),), -torch.inf)
        if inside.any():
            found[inside] = log_density(theta[inside])
        return found

    def constrain(self, free: Tensor) -> Tensor:
        """Map unconstrained points to parameters, both (n, parameters): onto the support, smoothly, one to one."""
        columns = zip(self.marginals, free.T, strict=True)
        return self._mix(torch.stack([biject_to(_support(law))(c) for law, c in columns], dim=1))

    def unconstrain(self, theta: Tensor) -> Tensor:
        """Return the unconstrained points of parameters inside the support, both (n, parameters)."""
        columns = zip(self.marginals, self._unmix(theta).T, strict=True)
        return torch.stack([biject_to(_support(law)).inv(c) for law, c in columns], dim=1)

    def log_prob_free(self, free: Tensor) -> Tensor:
        """Return the log density of unconstrained points (n, parameters), log p(θ(u)) + log |det dθ/du|, (n,)."""
        total = torch.zeros(len(free), dtype=free.dtype)
        for law, column in zip(self.marginals, free.T, strict=True):
            transform = biject_to(_support(law))
            value = transform(column)
            total = total + law.log_prob(value) + transform.log_abs_det_jacobian(column, value)
        return total

    @property
    def positive(self) -> Tensor:
        """Whether each parameter can take all positive values and no others, shape (parameters,)."""
        low, high = self.bounds
        return (low == 0) & high.isinf()

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each parameter, each of shape (parameters,)."""
        mean = torch.stack([torch.as_tensor(law.mean) for law in self.marginals])
        variance = torch.stack([torch.as_tensor(law.variance) for law in self.marginals])
        if self.factor is not None:
            mean, variance = self.factor @ mean, self.factor**2 @ variance
        return mean, variance.sqrt()

    @property
    def _log_volume(self) -> float:
        return 0.0 if self.factor is None else float(torch.linalg.slogdet(self.factor).logabsdet)

    def _mix(self, independent: Tensor) -> Tensor:
        return independent if self.factor is None else independent @ self.factor.T.to(independent)

    def _unmix(self, theta: Tensor) -> Tensor:
        return theta if self.factor is None else torch.linalg.solve(self.factor.to(theta), theta.T).T


def log_standard_normal(scores: Tensor) -> Tensor:
    """Return log N(u; 0, I) of points (..., parameters), shape (...)."""
    return -(scores**2).sum(dim=-1) / 2 - scores.shape[-1] / 2 * math.log(2 * math.pi)


def box(low: Sequence[float], high: Sequence[float]) -> Prior:
    """Return the uniform prior on a box, with its corners each of shape (parameters,).

    Raises:
        UserError: corners that are no box.
    """
    if len(low) != len(high) or not all(-math.inf < a < b < math.inf for a, b in zip(low, high, strict=False)):
        raise UserError(f"expected finite corners of a box, low < high for each parameter; got {low} and {high}")
    bounds = torch.tensor([list(low), list(high)], dtype=torch.float64).T
    return Prior([Uniform(a, b) for a, b in bounds])


def log_normal(medians: Sequence[float], deviations: Sequence[float]) -> Prior:
    """Return the prior of independent positive parameters whose logarithms are normal, by log medians."""
    pairs = torch.tensor([list(medians), list(deviations)], dtype=torch.float64).T
    return Prior([LogNormal(mean, deviation) for mean, deviation in pairs])


def gaussian(precision: Tensor) -> Prior:
    """Return the prior N(0, P⁻¹) of a precision P of shape (parameters, parameters)."""
    factor = torch.linalg.inv(torch.linalg.cholesky(precision)).T  # P = L Lᵀ, P⁻¹ = L⁻ᵀ L⁻¹
    one = torch.ones((), dtype=torch.float64)
    return Prior([Normal(0 * one, one)] * len(precision), factor)


def _support(law: Distribution) -> Constraint:
    support = law.support
    if support is None:
        raise UserError(f"expected a law with a support, got {law}; use a distribution of torch")
    return support


def _bounds(law: Distribution) -> tuple[float, float]:
    support = vars(_support(law))
    return float(support.get("lower_bound", -math.inf)), float(support.get("upper_bound", math.inf))
