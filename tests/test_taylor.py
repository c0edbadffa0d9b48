"""Derivatives of networks by Taylor series against closed forms and against nested torch.func."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from sciml.errors import UserError
from sciml.networks import MLP, FourierFeatures, GatedNetwork, Normalise, PirateNet
from sciml.pde.taylor import derivatives

ORDERS = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 3), (2, 2), (1, 3), (4, 0)]


class Unruly(nn.Module):
    """The same function, behind an operation that has no rule for series."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flip(0).flip(0))


class Arithmetic(nn.Module):
    """Products, quotients, powers, slices and constants on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 8)
        self.gate = nn.Linear(2, 8)
        self.last = nn.Linear(8, 2)
        self.slope = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        h, g = torch.tanh(self.first(x)), self.slope * torch.sigmoid(self.gate(x))
        h = (1 - g) * h + g * torch.exp(-h) / (2 + torch.sin(h) ** 2) - 1 / (3.0 + g)
        left, right = torch.chunk(torch.cat([h[:, :4], h[..., 4:].cos() - 0.5], dim=-1), 2, dim=1)
        return self.last(torch.cat([left * right[:, :1], right + x[:, 1:]], dim=1)) + x[:, :1] * 2.0


def double(network: nn.Module) -> nn.Module:
    return network.to(torch.float64)


def awake(network: PirateNet) -> PirateNet:
    """Give the blocks a part in the result."""
    for name, parameter in network.named_parameters():
        if name.endswith("alpha"):
            nn.init.constant_(parameter, 0.3)
    return network


NETWORKS = {
    "tanh": lambda: MLP(2, 2, 12, 3, "tanh", torch.float64),
    "sin": lambda: MLP(2, 2, 12, 3, "sin", torch.float64),
    "silu": lambda: MLP(2, 1, 12, 2, "silu", torch.float64),
    "plain modules": lambda: double(
        nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 1))
    ),
    "dgm": lambda: GatedNetwork(2, 1, 8, 2, torch.float64),
    "fourier": lambda: nn.Sequential(
        FourierFeatures(2, 8, 1.5, True, torch.float64), MLP(8, 1, 8, 2, "tanh", torch.float64)
    ),
    "piratenet": lambda: awake(
        PirateNet(FourierFeatures(2, 8, 1.5, True, torch.float64), 1, 2, "tanh", False, torch.float64)
    ),
    "factored piratenet": lambda: awake(
        PirateNet(FourierFeatures(2, 6, 1.0, False, torch.float64), 2, 1, "silu", True, torch.float64)
    ),
    "arithmetic": lambda: double(Arithmetic()),
    "periodic": lambda: nn.Sequential(
        Normalise(torch.tensor([[-1.0, 2.0], [0.0, 3.0]]).numpy(), (True, False), torch.float64, harmonics=2),
        MLP(5, 1, 8, 2, "tanh", torch.float64),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_series_and_nested_jvp_agree_in_derivatives_and_in_gradients(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]()
        points, cotangent = (
            torch.rand(24, 2, dtype=torch.float64),
            torch.randn(len(ORDERS), 24, 1, dtype=torch.float64),
        )
    series, nested = derivatives(network, points, ORDERS), derivatives(Unruly(network), points, ORDERS)
    error = (series - nested).abs().amax((1, 2)) / nested.abs().amax((1, 2)).clamp_min(1e-300)
    assert error.max() < 1e-12
    for order, ours, theirs in zip(ORDERS, series, nested, strict=True):
        weights = list(network.parameters())
        a = torch.autograd.grad(
            (ours * cotangent[0]).sum(), weights, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        b = torch.autograd.grad(
            (theirs * cotangent[0]).sum(),
            weights,
            retain_graph=True,
            materialize_grads=True,
            allow_unused=True,
        )
        a, b = (torch.cat([g.flatten() for g in gradient]) for gradient in (a, b))
        assert (a - b).norm() < 1e-12 * b.norm(), order


class Wave(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.speeds = nn.Parameter(torch.tensor([[2.0, 3.0, -1.0]], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(nn.functional.linear(x, self.speeds))


class Elementary(nn.Module):
    """Functions that stand in conditions, each of an argument between 0.2 and 0.9."""

    def forward(self, x: Tensor) -> Tensor:
        z = 0.2 + 0.5 * x[:, :1] + 0.1 * x[:, :1] * x[:, 1:]
        parts = [torch.log(z), torch.asin(z), torch.acos(z), torch.atan(z), torch.asinh(z), torch.erf(z), torch.tan(z)]
        parts += [torch.sinh(z), torch.cosh(z), torch.sqrt(z), torch.pow(z, 2), torch.pow(z, 1.5), z**-2, 2.0**z, z**0]
        return torch.cat(parts, dim=1)


def test_elementary_functions_agree_with_nested_jvp() -> None:
    points = torch.rand(24, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    series, nested = derivatives(Elementary(), points, ORDERS), derivatives(Unruly(Elementary()), points, ORDERS)
    error = (series - nested).abs().amax(1) / (1 + nested.abs().amax(1))
    assert error.max() < 1e-12


def test_mixed_derivatives_of_a_plane_wave_match_their_closed_form() -> None:
    points = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    orders = [order for order in itertools.product(range(4), repeat=3) if sum(order) <= 6]
    phase = points @ torch.tensor([2.0, 3.0, -1.0], dtype=torch.float64)
    for order, value in zip(orders, derivatives(Wave(), points, orders), strict=True):
        factor = math.prod(speed**k for speed, k in zip((2.0, 3.0, -1.0), order, strict=True))
        exact = factor * torch.sin(phase + sum(order) * torch.pi / 2)
        assert (value[:, 0] - exact).abs().max() < 1e-12 * abs(factor), order


def test_many_points_in_blocks_equal_few_at_a_time() -> None:
    network = MLP(2, 1, 64, 2, "tanh", torch.float64)
    points = torch.rand(9_001, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    orders = [(0, 0), (1, 1), (0, 4)]
    together = derivatives(network, points, orders)
    apart = torch.cat([derivatives(network, part, orders) for part in points.split(100)], dim=1)
    assert together.shape == (3, 9_001, 1)
    assert (together - apart).abs().max() < 1e-12 * apart.abs().max()


def test_derivatives_beyond_the_degree_of_a_polynomial_vanish() -> None:
    network = nn.Linear(2, 3, dtype=torch.float64)
    found = derivatives(network, torch.rand(7, 2, dtype=torch.float64), [(0, 0), (0, 1), (2, 0)])
    assert torch.equal(found[1], network.weight[:, 1].expand(7, 3))
    assert torch.equal(found[2], torch.zeros(7, 3, dtype=torch.float64))


@pytest.mark.parametrize("order", [(1,), (1, 0, 0), (2, -1)])
def test_a_multi_index_that_does_not_fit_is_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="multi-indices of 2"):
        derivatives(nn.Linear(2, 1), torch.rand(3, 2), [order])
