"""The deep Ritz method."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import sympy
import torch
from annotated_types import Ge
from torch import Tensor, nn

from sciml.networks import MLP, Activation
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.pde.domains import Box, Faces, Points, Sampling
from sciml.pde.fields import normal_name, symbol
from sciml.views.energy import Energy, flux
from sciml.views.residual import Residual, Term

from ._groups import Group, grouped
from ._phases import cooled, rounds
from ._residual_network import ResidualNetwork

TENSOR = 3
"""The most dimensions in which a tensor rule is worth its points."""
WEIGHTS = "energy/weights"


class Ritz(ResidualNetwork):
    """A network that minimises a problem's energy, an integral of first derivatives rather than of residuals.

    min_θ  |Ω| Σ_i q_i L(x_i; u_θ) + w Σ_k |Γ_k| mean_j |c_k(x_kj; u_θ)|²

    The weights q are those of Gauss's tensor rule on a box of up to three dimensions, else equal. Values that cannot
    be built into the network are held by the penalty, which leaves an error of order 1/w; natural conditions need
    none.
    Source: W. E, B. Yu, The deep Ritz method: a deep learning-based numerical algorithm for solving variational
    problems, Commun. Math. Stat. 6 (2018), arXiv 1710.00211.

    Args:
        width: of each hidden layer.
        depth: number of hidden layers.
        activation: between the layers.
        points: at which the energy is integrated; Gauss's rule takes the nearest number it can.
        condition_points: points for each condition that is held by the penalty.
        condition_weight: w.
        impose: build conditions on the faces of a box into the network.
        gauss: use Gauss's rule where it is at hand, which errs less than points that are drawn by many digits.
        sampling: how all other points are drawn.
        resample_every: steps after which points are drawn anew; L-BFGS then starts again, too.
        adam_steps: steps of Adam.
        learning_rate: of Adam at the start; it falls along a cosine to a hundredth of that.
        lbfgs_steps: steps of L-BFGS.
    """

    needs = Energy

    def __init__(
        self,
        width: Count = 20,
        depth: Count = 2,
        activation: Activation = "tanh",
        points: Count = 2500,
        condition_points: Count = 1024,
        condition_weight: Positive = 500.0,
        impose: bool = True,
        gauss: bool = True,
        sampling: Sampling = "sobol",
        resample_every: Count = 500,
        adam_steps: Annotated[int, Ge(0)] = 200,
        learning_rate: Positive = 5e-3,
        lbfgs_steps: Annotated[int, Ge(0)] = 1000,
    ) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.activation: Activation = activation
        self.points = points
        self.condition_points = condition_points
        self.condition_weight = condition_weight
        self.impose = impose
        self.gauss = gauss
        self.sampling = sampling
        self.resample_every = resample_every
        self.adam_steps = adam_steps
        self.learning_rate = learning_rate
        self.lbfgs_steps = lbfgs_steps

    def refuses(self, problem: Any) -> str | None:
        if not isinstance(problem, Residual):
            return "an energy needs the domain and the conditions of a Residual beside it"
        if problem.unknowns:
            return "numbers that are sought do not minimise an energy"
        for term in problem.terms:
            if term.condition is not None and not (_is_value(term) or _is_natural(problem, term)):
                return f"{term.name} gives neither values nor the energy's natural condition"
        return None

    def architecture(self, problem: Residual, features: int, outputs: int) -> nn.Module:
        return MLP(features, outputs, self.width, self.depth, self.activation, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        adam = cooled("adam", self.adam_steps, self.learning_rate)
        return (*adam, *rounds(self.lbfgs_steps, self.resample_every))

    def build(self, problem: Residual) -> None:
        super().build(problem)
        assert isinstance(problem, Energy)
        inside = problem.region.interior()
        energy = Group("energy", inside, (Term("energy", problem.density, inside),))
        trained = [term for group in self.groups for term in group.terms if term.condition is not None]
        self.groups = (energy, *grouped([term for term in trained if not _is_natural(problem, term)]))
        self.measures = {term.name: group.part.measure() for group in self.groups for term in group.terms}

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        energy, *held = self.groups
        box = energy.part.box if isinstance(energy.part, Faces) else None
        if self.gauss and box is not None and len(box.axes) <= TENSOR:
            points, weights = gauss_rule(box, self.points, generator.device, self.real)
        else:
            points = energy.part.sample(self.points, generator, self.sampling, self.real)
            weights = torch.ones_like(points.coordinates[:, 0])
        batch = {WEIGHTS: weights, **energy.pack(points)}
        for group in held:
            batch |= group.pack(group.part.sample(self.condition_points, generator, self.sampling, self.real))
        return batch

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the energy and the penalties, integrals over the parts where they hold."""
        values = self.residuals(batch)
        energy = {"energy": values.pop("energy") * batch[WEIGHTS]}
        densities = energy | {name: value.square() for name, value in values.items()}
        return {name: self.measures[name] * density.mean() for name, density in densities.items()}


def gauss_rule(box: Box, n: int, device: torch.device, dtype: torch.dtype) -> tuple[Points, Tensor]:
    """Return about n points of Gauss's tensor rule on a box, and their weights, shape (n,), with mean 1."""
    axes = len(box.axes)
    nodes, weights = np.polynomial.legendre.leggauss(max(1, round(n ** (1 / axes))))
    to = {"device": device, "dtype": dtype}
    middle, half = (torch.as_tensor(a).to(**to) for a in (box.bounds.mean(axis=1), np.ptp(box.bounds, axis=1) / 2))
    grid = torch.cartesian_prod(*[torch.as_tensor(nodes).to(**to)] * axes).reshape(-1, axes)
    products = torch.cartesian_prod(*[torch.as_tensor(weights).to(**to)] * axes).reshape(-1, axes).prod(dim=1)
    return Points(middle + half * grid), products / products.mean()


def _is_value(term: Term) -> bool:
    return not any(sum(need.order) for need in term.relation.needs)


def _is_natural(problem: Any, term: Term) -> bool:
    """Return whether a condition states that the energy has no flux across the boundary."""
    for field in problem.fields:
        across = sum(symbol(normal_name(a)) * f for a, f in flux(problem.density, field.name).items())
        if across != 0 and sympy.simplify(term.relation.expression / across).is_number:
            return True
    return False
