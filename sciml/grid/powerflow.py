"""Kirchhoff's law on a power grid."""

import numpy as np
import torch
from torch import Tensor

from sciml.grid.balance import Balance, Given, Pattern
from sciml.grid.dc import dc_angles
from sciml.grid.powergrid import PowerGrid


class PowerFlow(Balance):
    """AC load flow: at each bus, what is injected meets what flows into the branches.

    S_i = Σ_j V_i conj(Y_ii V_i + Y_ij V_j) over the branches at i, plus its shunt. Unknown are the angle of
    every bus but the slack (with balance of active power) and the magnitude where no generator holds it (with
    reactive balance). Generators supply whatever reactive power their bus lacks. The slack supplies all
    active power that loads and losses ask for beyond the other generators, so that the imbalances of active
    power add up to zero. Source: W. F. Tinney and C. E. Hart, Power flow solution by Newton's method, 1967,
    doi:10.1109/TPAS.1967.291823.

    A state has components (angle in rad, magnitude in p.u.), an imbalance (P, Q) in p.u. Every branch is two
    directed edges: first all seen from their source, then all seen from their target.

    Args:
        grid: the arrays.
        real: dtype of the buffers.
    """

    def __init__(self, grid: PowerGrid, real: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.grid = grid
        buses = len(grid.numbers)
        y = grid.admittances
        own, mutual = np.concatenate([y[:, 0, 0], y[:, 1, 1]]), np.concatenate([y[:, 0, 1], y[:, 1, 0]])
        ends = np.stack([np.r_[grid.source, grid.target], np.r_[grid.target, grid.source]])
        unknown = np.ones((buses, 2), dtype=bool)
        unknown[grid.regulated[0], 0] = False
        unknown[grid.regulated, 1] = False
        self._buffers_from(torch.bool, unknown=unknown)
        self._buffers_from(torch.long, edges=ends, loads=grid.loads, regulated=grid.regulated)
        self._buffers_from(real, own_g=np.real(own), own_b=np.imag(own))
        self._buffers_from(real, mutual_g=np.real(mutual), mutual_b=np.imag(mutual))
        self._buffers_from(real, shunt_g=np.real(grid.shunt), shunt_b=np.imag(grid.shunt))
        self.pattern, entry_of, kept = _pattern(ends, unknown)
        self._buffers_from(torch.long, entry_of=entry_of, kept=kept)

    own_g: Tensor
    own_b: Tensor
    mutual_g: Tensor
    mutual_b: Tensor
    shunt_g: Tensor
    shunt_b: Tensor
    loads: Tensor
    regulated: Tensor
    entry_of: Tensor
    kept: Tensor

    def _buffers_from(self, dtype: torch.dtype, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self.register_buffer(name, torch.as_tensor(array.copy(), dtype=dtype), persistent=False)

    def read(self, inputs: Tensor) -> Given:
        """Return ``p``, ``q`` injected, ``vm`` (1 where free or zero), (n, buses) in p.u.; ``status``, (n, edges)."""
        p_load, q_load, generation, setpoint, status = inputs.split(self.grid.sections, dim=1)
        zero = inputs.new_zeros(len(inputs), len(self.unknown))
        p = zero.index_add(1, self.loads, -p_load).index_add(1, self.regulated[1:], generation) / self.grid.base
        q = zero.index_add(1, self.loads, -q_load) / self.grid.base
        vm = (zero + 1).index_copy(1, self.regulated, torch.where(setpoint == 0, 1.0, setpoint))
        return {"p": p, "q": q, "vm": vm, "status": torch.cat([status, status], dim=1)}

    def solvable(self, given: Given) -> Tensor:
        """Return which scenarios have no bus cut off from the slack, shape (n,), bool."""
        status = given["status"][:, : len(self.grid.source)].cpu().numpy()
        return torch.from_numpy(~self.grid.islanded(status)).to(self.unknown.device)

    def start(self, given: Given) -> Tensor:
        """Return the flat start: angles zero, magnitudes at their set-points or one."""
        return torch.stack([torch.zeros_like(given["vm"]), given["vm"]], dim=-1)

    def linear_start(self, given: Given) -> Tensor:
        """Return the angles of the DC load flow, with the magnitudes of the flat start."""
        state = self.start(given)
        injection = (given["p"] - self.shunt_g).numpy()
        status = given["status"][:, : len(self.grid.source)].numpy()
        state[..., 0] = torch.from_numpy(dc_angles(self.grid, injection, status))
        return state

    def flows(self, state: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """Return active and reactive power that enters each directed edge at its source, (n, edges) p.u."""
        square, t, u = self._products(state)
        status = given["status"]
        return status * (self.own_g * square + t), status * (u - self.own_b * square)

    def imbalance(self, state: Tensor, given: Given) -> Tensor:
        p, q = self.flows(state, given)
        square = state[..., 1] ** 2
        lack_p = (given["p"] - self.shunt_g * square).index_add(1, self.edges[0], -p)
        lack_q = (given["q"] + self.shunt_b * square).index_add(1, self.edges[0], -q)
        lack = torch.where(self.unknown, torch.stack([lack_p, lack_q], dim=-1), 0.0)
        slack = torch.zeros_like(lack_p).index_fill(1, self.regulated[:1], 1.0) * -lack[..., 0].sum(1, keepdim=True)
        return lack + torch.stack([slack, torch.zeros_like(slack)], dim=-1)

    def _products(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return v_i², Re and Im of V_i conj(Y_ij V_j) for each directed edge i to j, (n, edges)."""
        source, target = state.index_select(1, self.edges[0]), state.index_select(1, self.edges[1])
        angle = source[..., 0] - target[..., 0]
        product = source[..., 1] * target[..., 1]
        cos, sin = product * torch.cos(angle), product * torch.sin(angle)
        return (
            source[..., 1] ** 2,
            self.mutual_g * cos + self.mutual_b * sin,
            self.mutual_g * sin - self.mutual_b * cos,
        )

    def jacobian(self, state: Tensor, given: Given) -> tuple[Pattern, Tensor]:
        _, t, u = self._products(state)
        vm = state[..., 1]
        at_source, at_target = vm[:, self.edges[0]], vm[:, self.edges[1]]
        edges = torch.stack([
            -u, u, t, -t,  # of P and Q, each in the angles of source and target
            2 * self.own_g * at_source + t / at_source, t / at_target,
            -2 * self.own_b * at_source + u / at_source, u / at_target,
        ], dim=1) * given["status"][:, None]  # fmt: skip
        shunts = torch.cat([2 * self.shunt_g * vm, -2 * self.shunt_b * vm], dim=1)
        entries = torch.cat([edges.flatten(1), shunts], dim=1)[:, self.kept]
        values = entries.new_zeros(len(vm), len(self.pattern.rows)).index_add(1, self.entry_of, -entries)
        return self.pattern, values

    def node_features(self, given: Given) -> Tensor:
        """Return how far magnitudes start from one, and which components are known."""
        known = (~self.unknown).to(given["vm"]).expand(len(given["vm"]), -1, -1)
        return torch.cat([10 * (given["vm"] - 1)[..., None], known], dim=-1)

    def edge_features(self) -> Tensor:
        """Return |y| of a branch as shares of the sums at either end, its direction, and its own |y| by the mutual."""
        own, mutual = torch.complex(self.own_g, self.own_b).abs(), torch.complex(self.mutual_g, self.mutual_b)
        size, ends = mutual.abs(), self.edges
        sums = size.new_zeros(2, len(self.unknown)).scatter_add(1, ends, size.expand(2, -1))
        shares = size / sums.gather(1, ends)
        return torch.stack([*shares, mutual.real / size, mutual.imag / size, torch.log(own / size)], dim=-1)

    def presence(self, given: Given) -> Tensor:
        return given["status"]

    def outputs(self, state: Tensor) -> Tensor:
        return torch.cat([state[..., 1], torch.rad2deg(state[..., 0])], dim=1)

    def voltages(self, state: Tensor) -> np.ndarray:
        """Return complex voltages in p.u., shape (n, buses), of a state."""
        angle, magnitude = np.moveaxis(state.numpy(), -1, 0)
        return magnitude * np.exp(1j * angle)


def _pattern(ends: np.ndarray, unknown: np.ndarray) -> tuple[Pattern, np.ndarray, np.ndarray]:
    """Return the Jacobian's pattern, the place in it of each entry that is kept, and which are kept.

    Entries come as ``PowerFlow.jacobian`` lists them: derivatives of P and Q at each edge's source, then of
    shunts.
    """
    i, j = 2 * ends
    bus = 2 * np.arange(len(unknown))
    rows = np.concatenate([i, i, i + 1, i + 1, i, i, i + 1, i + 1, bus, bus + 1])
    columns = np.concatenate([i, j, i, j, i + 1, j + 1, i + 1, j + 1, bus + 1, bus + 1])
    rank = np.where(unknown.ravel(), np.cumsum(unknown) - 1, -1)
    kept = np.flatnonzero((rank[rows] >= 0) & (rank[columns] >= 0))
    return *Pattern.of(rank[rows[kept]], rank[columns[kept]], int(unknown.sum())), kept
