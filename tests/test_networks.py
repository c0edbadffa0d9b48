"""Networks: how they start, what they embed, their Jacobians row by row, and which one suits a problem."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from problems.pde.burgers import Burgers
from problems.pde.heat import Heat
from problems.pde.helmholtz import Helmholtz
from problems.pde.wave import Wave
from sciml.api import solve
from sciml.errors import UserError
from sciml.networks import MLP, Factored, FourierFeatures, GatedNetwork, Normalise, PirateNet
from sciml.pde import series
from sciml.pde.oscillation import extrema, is_oscillatory
from sciml.pde.tape import recording
from sciml.pde.taylor import derivatives
from sciml.training.settings import Training
from solvers.pde.pinn import PINN

REAL = torch.float64
ORDERS = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1)]


def made(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def pirate(factored: bool = False) -> PirateNet:
    return PirateNet(FourierFeatures(2, 12, 2.0, True, REAL), 2, 2, "tanh", factored, REAL)


NETWORKS = {
    "tanh": lambda: MLP(2, 2, 8, 2, "tanh", REAL),
    "sin": lambda: MLP(2, 2, 8, 2, "sin", REAL),
    "fourier": lambda: nn.Sequential(FourierFeatures(2, 8, 2.0, True, REAL), MLP(8, 2, 8, 1, "tanh", REAL)),
    "piratenet": pirate,
    "dgm": lambda: GatedNetwork(2, 2, 6, 2, REAL),
}


def points(n: int = 20) -> Tensor:
    return torch.rand(n, 2, dtype=REAL, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_the_jacobian_are_the_gradients_of_single_rows(name: str) -> None:
    network = made(NETWORKS[name])
    for parameter_name, parameter in network.named_parameters():
        if parameter_name.endswith("alpha"):
            nn.init.constant_(parameter, 0.4)
    parameters, x = list(network.parameters()), points(5)
    with recording(parameters) as tape:
        jacobian = tape.jacobian(derivatives(network, x, ORDERS)[3, :, 1].sin())
    for row, found in zip(x, jacobian, strict=True):
        value = derivatives(network, row[None], ORDERS)[3, 0, 1].sin()
        gradient = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        exact = torch.cat([g.flatten() for g in gradient])
        torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12 * float(exact.abs().max()))


def test_factored_weights_start_as_glorots_and_are_refused_row_by_row() -> None:
    layer, network = made(lambda: Factored(40, 40, REAL)), made(lambda: pirate(True))
    weight = layer(torch.eye(40, dtype=REAL)).detach().T
    assert float(weight.std()) == pytest.approx((2 / 80) ** 0.5, rel=0.05)
    with recording(list(network.parameters())), pytest.raises(UserError, match="enter as they are"):
        derivatives(network, points(), ORDERS)


@pytest.mark.parametrize("factored", [False, True])
def test_piratenet_starts_linear_in_its_embedding_and_deepens(factored: bool) -> None:
    network = made(lambda: pirate(factored))
    assert isinstance(network, PirateNet)
    x = points()
    torch.testing.assert_close(network(x), network.last(network.embedding(x)), rtol=0, atol=1e-14)
    network(x).sum().backward()
    assert all(float(block.alpha.grad.abs()) > 1e-6 for block in network.blocks)


@pytest.mark.parametrize("trained", [False, True])
def test_fourier_features_have_the_frequencies_asked_for(trained: bool) -> None:
    embedding = made(lambda: FourierFeatures(3, 4001, 5.0, trained, REAL))
    assert embedding(torch.rand(2, 3, dtype=REAL)).shape == (2, embedding.features) == (2, 4002)
    slopes = derivatives(embedding, torch.zeros(1, 3, dtype=REAL), [(1, 0, 0)])[0, 0, 2001:]
    assert float(slopes.detach().std()) == pytest.approx(5, rel=0.05)
    assert len(list(embedding.parameters())) == trained
    assert set(embedding.state_dict()) == {"frequencies"}


def test_harmonics_are_multiples_of_the_angle() -> None:
    normalise = Normalise(np.array([[0.0, 4.0], [1.0, 3.0]]), (True, False), REAL, harmonics=3)
    found = normalise(torch.tensor([[0.5, 1.5], [4.5, 1.5]], dtype=REAL))
    angle = np.pi * (0.5 - 2) / 2
    exact = [-0.5, *(np.cos(k * angle) for k in (1, 2, 3)), *(np.sin(k * angle) for k in (1, 2, 3))]
    torch.testing.assert_close(found, torch.tensor([exact, exact], dtype=REAL), rtol=0, atol=1e-13)
    assert normalise.features == 7


def test_sines_keep_the_variance_of_their_angles_from_layer_to_layer() -> None:
    network = made(lambda: MLP(2, 1, 400, 5, "sin", REAL))
    x = 2 * points(200) - 1
    spreads = []
    for layer in list(network.layers)[:-1]:
        x = layer(x)
        spreads.append(float(x.detach().std()))
        x = torch.sin(x)
    expected = [1.0]
    for _ in range(3):
        expected.append(1 - np.exp(-2 * expected[-1]))  # twice the variance of the sine of a normal angle
    assert spreads[1:] == pytest.approx(np.sqrt(expected), rel=0.1)


PRODUCTS = {
    "product": lambda f, g, index: series.multiply(f, g, index),
    "sum": lambda f, g, index: series.add(f, g),
    "sine": lambda f, g, index: series.sine(f, index),
    "cosine": lambda f, g, index: series.cosine(f, index),
    "linear": lambda f, g, index: series.linear(f, g[0, :3], g[1, :3, 0]),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_reverse_passes_agree_with_finite_differences(name: str) -> None:
    index = series.index_set(((2, 2), (4, 0), (0, 3)))
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(len(index), 4, 3, dtype=REAL, generator=generator)
    g = torch.randn(len(index), 4, 3, dtype=REAL, generator=generator)
    assert torch.autograd.gradcheck(
        lambda a, b: PRODUCTS[name](a, b, index), (f.requires_grad_(), g.requires_grad_()), atol=1e-6
    )


def test_extrema_are_counted_along_each_axis() -> None:
    assert extrema(Heat()) == {"x": 1, "t": 0}
    assert extrema(Burgers()) == {"x": 2, "t": 0}
    assert extrema(Helmholtz()) == {"x": 2, "y": 8}
    assert extrema(Wave()) == {"x": 4, "t": 0}


@pytest.mark.parametrize(("problem", "activation"), [(Burgers(), "tanh"), (Helmholtz(), "sin"), (Wave(), "sin")])
def test_sines_are_taken_where_data_oscillate(problem: Any, activation: str) -> None:
    assert is_oscillatory(max(extrema(problem).values())) == (activation == "sin")
    for asked, expected in (("auto", activation), ("silu", "silu")):
        network = PINN(activation=asked).fresh(problem, 0, REAL).network
        assert [m.activation for m in network.modules() if isinstance(m, MLP)] == [expected]


@pytest.mark.parametrize("name", ["mlp", "fourier", "piratenet", "dgm"])
def test_each_network_trains_and_comes_back_from_its_state(name: Any) -> None:
    solver = PINN(width=8, depth=1, network=name, points=100, steps=15, method="lm")
    solution = solve(Heat(), solver, seed=0, training=Training(accelerator="cpu"))
    error = Heat().score(solution)["relative_l2"]
    assert error < 1e-2
    place = Heat().evaluation[0][::997]
    np.testing.assert_array_equal(solver.restore(Heat(), solution.state)(place), solution(place))
