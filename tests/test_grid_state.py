"""Loads and the open line of a grid: its flows, and its stored posterior by quadrature."""

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from problems.inference.grid_state import LINES, LOADS, METERS, TOLERANCE, GridState
from sciml.grid.balance import newton
from sciml.grid.cases import published
from sciml.grid.powerflow import PowerFlow
from sciml.references import reference_file

pytest.importorskip("numba")
pytest.importorskip("pandapower")


@pytest.fixture(scope="module")
def problem() -> GridState:
    return GridState(observation=2)


def every_line(loads: Tensor) -> Tensor:
    """Return parameters of all loads (n, loads) with each line open, shape (n * lines, parameters)."""
    lines = torch.arange(LINES).double() + 0.5
    return torch.cat([loads.repeat_interleave(LINES, dim=0), lines.repeat(len(loads))[:, None]], dim=1)


def test_lines_are_all_branches_but_the_one_that_cuts_a_bus_off(problem: GridState) -> None:
    grid = published("ieee14")
    statuses = problem.scenarios(every_line(torch.tensor([[94.2, 47.8, 29.5]]).double()))[:, -len(grid.source) :]
    assert (statuses.sum(dim=1) == len(grid.source) - 1).all()
    assert [grid.branches[k] for k in np.flatnonzero((statuses == 1).all(dim=0).numpy())] == ["7_8"]


def test_flows_are_those_of_another_newton_s_method(problem: GridState) -> None:
    theta = every_line(problem.prior().sample(2, torch.Generator().manual_seed(0))[:, : len(LOADS)])
    inputs, flow = problem.scenarios(theta), PowerFlow(published("ieee14"))
    found = newton(flow, inputs, TOLERANCE)
    assert found.converged.all()
    meters = [flow.grid.branches.index(name) for name in METERS]
    status = inputs[:, -len(flow.grid.source) :].numpy()
    expected = np.real(flow.grid.flows(flow.voltages(found.state), status)[:, 0, meters])
    np.testing.assert_allclose(problem.flows(theta).numpy(), expected, rtol=0, atol=1e-8)
    loads = inputs[:, [list(flow.grid.loads).index(flow.grid.bus(bus)) for bus in LOADS]]
    torch.testing.assert_close(loads, theta[:, : len(LOADS)])


def test_every_corner_of_the_prior_has_a_load_flow_whichever_line_is_open(problem: GridState) -> None:
    corners = torch.cartesian_prod(*torch.tensor(list(LOADS.values())).double())
    assert problem.flows(every_line(corners)).isfinite().all()


def test_the_likelihood_is_flat_on_the_interval_of_a_line(problem: GridState) -> None:
    loads, x = torch.tensor([[94.2, 47.8, 29.5]]).double(), torch.from_numpy(problem.observed())
    codes = torch.linspace(0, LINES, 8 * LINES + 1).double()[:-1]
    theta = torch.cat([loads.expand(len(codes), -1), codes[:, None]], dim=1)
    logs = problem.log_likelihood(theta, x.expand(len(theta), -1)).view(LINES, 8)
    torch.testing.assert_close(logs, logs[:, :1].expand(-1, 8), rtol=0, atol=1e-9)
    assert len(logs[:, 0].unique()) == LINES


def test_the_likelihood_has_the_slope_that_differences_have(problem: GridState) -> None:
    theta, x = problem.joint(30, torch.Generator().manual_seed(1))
    theta.requires_grad_()
    (slope,) = torch.autograd.grad(problem.log_likelihood(theta, x).sum(), theta)
    step = 1e-3
    for k in range(len(LOADS)):
        up, down = (problem.log_likelihood(theta.detach() + sign * step * torch.eye(4)[k], x) for sign in (1, -1))
        torch.testing.assert_close((up - down) / (2 * step), slope[:, k], rtol=1e-4, atol=1e-6)
    assert (slope[:, -1] == 0).all()


def test_stored_posteriors_were_diagnosed(problem: GridState) -> None:
    with h5py.File(reference_file("grid_state.h5", problem.checksum)) as file:
        quality = {name: np.asarray(values) for name, values in file["samples"].attrs.items() if name != "units"}
    assert (quality["effective_share"] > 0.1).all()
    assert (quality["distinct"] > 4500).all()
    assert (quality["r_hat"] < 1.1).all()
    assert (quality["quadrature_line_difference"] < 0.03).all()
    assert (quality["quadrature_mean_difference"] < 0.08).all()


@pytest.mark.parametrize("observation", [3, 6])
def test_stored_posteriors_have_the_lines_and_moments_of_the_midpoint_rule(observation: int) -> None:
    asked = GridState(observation=observation)
    nodes, x, samples = 24, torch.from_numpy(asked.observed()), torch.from_numpy(asked.reference())
    middles = (torch.arange(nodes).double() + 0.5) / nodes
    loads = torch.cartesian_prod(*(a + (b - a) * middles for a, b in LOADS.values()))
    theta = every_line(loads)
    logs = torch.cat([asked.log_likelihood(part, x.expand(len(part), -1)) for part in theta.split(8192)])
    weights = logs.softmax(dim=0)
    shares = torch.zeros(LINES).double().index_add(0, theta[:, -1].long(), weights)
    found = samples[:, -1].long().bincount(minlength=LINES) / len(samples)
    assert (found - shares).abs().max() < 0.03
    loads, drawn = theta[:, :-1], samples[:, :-1]
    mean = weights @ loads
    deviation = (weights @ (loads - mean) ** 2).sqrt()
    assert ((drawn.mean(dim=0) - mean).abs() < 0.07 * deviation).all()  # five errors of 5000 draws
    assert ((drawn.std(dim=0) / deviation - 1).abs() < 0.07).all()
    assert kstest(samples[:, -1] % 1, "uniform").pvalue > 1e-3
