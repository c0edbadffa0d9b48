"""Methods of training beyond Adam and L-BFGS: what they do at one step, and that they resume in the same bits."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml.errors import UserError
from sciml.training.natural_gradient import NaturalGradient
from sciml.training.quasi_newton import SelfScaledQuasiNewton, Update, scaling


def minimise(
    function: Callable[[Tensor], Tensor], start: list[float], steps: int, update: Update, curvature: float = 0.9
) -> tuple[list[float], SelfScaledQuasiNewton, Tensor]:
    """Return the loss at the start of each step, the optimiser and the point where it ends."""
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = SelfScaledQuasiNewton([x], update, curvature)

    def closure() -> float:
        x.grad = None
        loss = function(x)
        loss.backward()
        return loss.item()

    return [optimizer.step(closure) for _ in range(steps)], optimizer, x.detach()


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("update", ["bfgs", "broyden"])
def test_rosenbrocks_valley_is_followed_to_its_end(update: Update) -> None:
    losses, _, x = minimise(rosenbrock, [-1.2, 1.0], 45, update)
    assert losses[0] == pytest.approx(24.2)
    assert all(after <= before for before, after in pairwise(losses))
    assert torch.allclose(x, torch.ones(2, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("update", ["bfgs", "broyden"])
def test_a_quadratic_ends_in_as_many_exact_steps_as_it_has_dimensions(update: Update) -> None:
    root = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hessian = root @ root.T + torch.eye(6)
    losses, *_ = minimise(lambda x: x @ hessian @ x / 2, [1.0, 2, 3, 4, 5, 6], 7, update, curvature=1e-10)
    assert losses[5] > 1e-3
    assert losses[6] < 1e-20 * losses[0]


@pytest.mark.parametrize("update", ["bfgs", "broyden"])
def test_the_inverse_hessian_meets_the_secant_equation_and_stays_positive(update: Update) -> None:
    start = [-1.2, 1.0, 0.5]
    before = minimise(rosenbrock, start, 4, update)[2]
    _, optimizer, after = minimise(rosenbrock, start, 5, update)
    points = [point.clone().requires_grad_() for point in (before, after)]
    change = torch.autograd.grad(rosenbrock(points[1]), points[1])[0]
    change = change - torch.autograd.grad(rosenbrock(points[0]), points[0])[0]
    inverse = optimizer.memory["inverse"]
    assert torch.allclose(inverse @ change, after - before, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(inverse).min() > 0


def test_the_scaling_is_that_of_the_formulas() -> None:
    # b = 2, h = 1: a = 1, ρ = 1 - √½, θ = -½ within [-√½, 1/ρ], σ = ½, q = √2, t = ½
    assert scaling(2.0, 1.0, 3) == pytest.approx((0.5, 3.0), rel=1e-12)
    # b = ½, h = 3: a = ½, ρ = 1, θ = 1, σ = 3/2, q = √⅔, t = 1
    assert scaling(0.5, 3.0, 3) == pytest.approx((math.sqrt(2 / 3), 0.0), rel=1e-12)
    # b = 1, h = 2: a = 1, ρ = 2 - √2, θ = 0: BFGS, unscaled
    assert scaling(1.0, 2.0, 3) == pytest.approx((1.0, 1.0), rel=1e-12)


def test_an_inverse_hessian_too_large_to_keep_is_refused() -> None:
    with pytest.raises(UserError, match="4 GiB"):
        SelfScaledQuasiNewton([torch.nn.Parameter(torch.zeros(30_000, dtype=torch.float64))])


def test_the_natural_gradient_is_the_damped_least_squares_step_near_the_momentum() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, right = torch.randn(5, 8, generator=generator).double(), torch.randn(5, generator=generator).double()
    x = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
    optimizer = NaturalGradient([x], damping=0.1, momentum=0.5, norm=1e6)
    steps = []
    for _ in range(2):
        before = x.detach().clone()
        optimizer.advance(lambda wanted: (matrix @ x.detach() - right, matrix if wanted else None))
        steps.append((before, optimizer.state[x]["step"].clone()))
    (start, first), (middle, second) = steps
    damping = 0.1 * float((matrix @ matrix.T).diagonal().mean())
    # φ minimises |J φ - r|² + λ |φ - μ φ₋|²
    normal = matrix.T @ matrix + damping * torch.eye(8, dtype=torch.float64)
    for at, found, kept in ((start, first, torch.zeros_like(first)), (middle, second, 0.5 * first)):
        expected = torch.linalg.solve(normal, matrix.T @ (matrix @ at - right) + damping * kept)
        assert torch.allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_a_natural_step_is_no_longer_than_allowed() -> None:
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    eye = torch.eye(2, dtype=torch.float64)
    optimizer = NaturalGradient([x], norm=0.25)
    optimizer.advance(lambda wanted: (x.detach() - torch.tensor([3.0, 4.0]).double(), eye if wanted else None))
    assert float(x.detach().norm()) == pytest.approx(0.25, rel=1e-6)
    assert np.allclose(x.detach().numpy(), [0.15, 0.2])
