"""Networks on sets of particles and on the trees that join them."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from problems.inference._shower import square
from problems.inference.jets import Jets
from sciml.inference.embeddings import SetNetwork, TreeNetwork, joins

NETWORKS = [SetNetwork, TreeNetwork]


@pytest.fixture(scope="module")
def momenta() -> Tensor:
    return Jets().joint(100, torch.Generator().manual_seed(0))[1].unflatten(1, (8, 4)).float()


def test_joins_end_with_the_whole_at_the_first_place(momenta: Tensor) -> None:
    found = list(joins(momenta))
    due = torch.stack([join.due for join in found])
    assert torch.equal(due.sum(dim=0), (momenta[..., 0] > 0).sum(dim=1) - 1)
    last = due.sum(dim=0) - 1
    rows = torch.arange(len(momenta))
    whole = torch.stack([join.first + join.second for join in found])[last, rows]
    torch.testing.assert_close(whole, momenta.sum(dim=1), rtol=1e-5, atol=1e-3)
    assert (torch.stack([join.kept for join in found])[last, rows] == 0).all()


def test_the_first_join_has_the_least_mass(momenta: Tensor) -> None:
    first = next(joins(momenta))
    for row in range(10):
        there = range(int((momenta[row, :, 0] > 0).sum()))
        pairs = sorted(combinations(there, 2), key=lambda pair: float(square(momenta[row, list(pair)].sum(dim=0))))
        assert (int(first.kept[row]), int(first.dropped[row])) == pairs[0]


@pytest.mark.parametrize("kind", NETWORKS)
def test_places_without_a_particle_change_nothing(kind: type[SetNetwork | TreeNetwork], momenta: Tensor) -> None:
    network = kind(16, 5, 400.0)
    more = torch.cat([momenta, torch.zeros_like(momenta[:, :2])], dim=1)
    torch.testing.assert_close(network(more), network(momenta))
    assert network(momenta).shape == (100, 5)


def test_a_set_has_no_order(momenta: Tensor) -> None:
    network = SetNetwork(16, 5, 400.0)
    torch.testing.assert_close(network(momenta.flip(1)), network(momenta), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_weight_is_trained(kind: type[SetNetwork | TreeNetwork], momenta: Tensor) -> None:
    network = kind(16, 5, 400.0)
    network(momenta).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name
