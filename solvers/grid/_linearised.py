"""The load flow linearised once, and what outages change in it, exactly, by small systems of their own."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import block_array
from torch import Tensor, nn

from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from sciml.grid.sensitivity import OperatingPoint, operating_point

_SINGULAR = 1e-4
"""Pivot of the small system under which a bus is cut off: zero then, but for rounding."""


@dataclass(frozen=True)
class Outages:
    """The branches that are open in each of n scenarios, as many places as the scenario with most of them needs.

    Args:
        branch: shape (n, places); the number of branches where a place is vacant.
        share: how much of the branch is gone, 1 for an outage, -1 where one out of service is closed, 0 where
            vacant, shape (n, places).
        factors: LU of 1 - WᵀZ for the open branches, shape (n, 3 places, 3 places).
        pivots: shape (n, 3 places).
    """

    branch: Tensor
    share: Tensor
    factors: Tensor
    pivots: Tensor

    @property
    def cut_off(self) -> Tensor:
        """Which scenarios have a bus with no way to the slack, shape (n,), bool."""
        return self.factors.diagonal(dim1=1, dim2=2).abs().amin(1) < _SINGULAR


class Linearised(nn.Module):
    """J = ∂S/∂x at the load flow of the nominal state.

    x are all angles in rad, then all magnitudes in p.u.; S the active, then the reactive power that leaves the
    buses, in p.u. The flows of a branch depend on x by three differences Wᵀx = (θ_i - θ_j, v_i, v_j) with
    derivative U, so that its outage takes U Wᵀ off J, and d with (J - Σ U Wᵀ) d = r follows from
    h = J⁻¹ r as

    d = h + Z c,  (1 - WᵀZ) c = Wᵀh,  Z = J⁻¹U

    with three components of c for each open branch (Woodbury's identity). All tensors are buffers outside the
    state dictionary: they follow from the grid.

    Args:
        flow: in float64.
        real: dtype of the buffers.

    Raises:
        SolveError: the nominal state has no load flow.
    """

    state: Tensor
    free: Tensor
    inverse: Tensor
    response: Tensor
    shares: Tensor
    intact: Tensor
    admittance: Tensor
    own: Tensor
    ends: Tensor
    loads: Tensor
    regulated: Tensor

    def __init__(self, flow: PowerFlow, real: torch.dtype) -> None:
        super().__init__()
        grid, point, free = flow.grid, operating_point(flow), flow.unknown.numpy().T.ravel()
        self.sections, self.base, self.buses = grid.sections, grid.base, len(grid.numbers)
        self._place(torch.long, free=np.flatnonzero(free), loads=grid.loads, regulated=grid.regulated)
        self._place(torch.long, ends=np.pad([grid.source, grid.target], ((0, 0), (0, 1))))
        self._place(real, state=np.concatenate([point.angle, point.magnitude]), intact=grid.in_service)
        shares = point.shares[:, 0]
        self._place(real, shares=np.stack([np.real(shares), np.imag(shares)], axis=1))
        own = np.pad(grid.admittances.reshape(-1, 4), ((0, 1), (0, 0)))
        self._place(real, own=np.stack([np.real(own), np.imag(own)], axis=-1))
        y = grid.admittance(grid.in_service)
        matrix = block_array([[y.real, -y.imag], [y.imag, y.real]]).tocoo()
        places, values = torch.from_numpy(np.stack([matrix.row, matrix.col])), torch.as_tensor(matrix.data)
        sparse = torch.sparse_coo_tensor(places, values, matrix.shape, dtype=real, check_invariants=True)
        self.register_buffer("admittance", sparse.coalesce(), persistent=False)
        inverse, response = _inverted(grid, point, free)
        self._place(real, inverse=inverse, response=response.reshape(-1, len(free)))

    def _place(self, dtype: torch.dtype, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self.register_buffer(name, torch.as_tensor(array, dtype=dtype), persistent=False)

    def read(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return P and Q injected, (2 buses, n), x to start from, (n, 2 buses), and shares gone, (n, branches)."""
        p_load, q_load, generation, setpoint, status = inputs.split(self.sections, dim=1)
        injected = inputs.new_zeros(2 * self.buses, len(inputs)).index_add_(0, self.loads, p_load.T, alpha=-1)
        injected.index_add_(0, self.buses + self.loads, q_load.T, alpha=-1)
        injected.index_add_(0, self.regulated[1:], generation.T)
        state = self.state.repeat(len(inputs), 1).index_copy_(1, self.buses + self.regulated, setpoint)
        return injected.div_(self.base), state, self.intact - status

    def outages(self, gone: Tensor) -> Outages:
        """Return the open branches and their small systems, of shares gone, (n, branches)."""
        n, vacant = gone.shape
        row, open_branch = gone.nonzero(as_tuple=True)
        count = torch.bincount(row, minlength=n)
        places = max(1, int(count.max())) if n else 1
        place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        branch = row.new_full((n, places), vacant)
        share = gone.new_zeros(n, places)
        branch[row, place], share[row, place] = open_branch, gone[row, open_branch]
        units = self._units(branch)
        i, j = self.ends[:, branch, None]
        seen, width = (i, j, self.buses + i, self.buses + j), self.response.shape[1]
        angle_i, angle_j, v_i, v_j = (self.response.take(units[:, None] * width + at) for at in seen)
        coupling = torch.stack([angle_i - angle_j, v_i, v_j], dim=2).flatten(1, 2)
        coupling = coupling * share.repeat_interleave(3, dim=1)[:, None]
        system = torch.eye(3 * places, dtype=gone.dtype, device=gone.device) - coupling
        factors, pivots, _ = torch.linalg.lu_factor_ex(system)
        return Outages(branch, share, factors, pivots)

    def _units(self, branch: Tensor) -> Tensor:
        """Return the rows of the response that belong to branches, (n, places), shape (n, 3 places)."""
        return (3 * branch[..., None] + torch.arange(3, device=branch.device)).flatten(1)

    def differences(self, x: Tensor, branch: Tensor) -> Tensor:
        """Return (θ_i - θ_j, v_i, v_j) of branches, (n, places), one after the other, shape (n, 3 places)."""
        i, j = self.ends[:, branch]
        angle = x.gather(1, i) - x.gather(1, j)
        return torch.stack([angle, x.gather(1, self.buses + i), x.gather(1, self.buses + j)], dim=-1).flatten(1)

    def leap(self, h: Tensor, out: Outages) -> Tensor:
        """Return d, (n, 2 buses), of h = J⁻¹r, (n, 2 buses), which is d without outages."""
        right = self.differences(h, out.branch)
        c = torch.linalg.lu_solve(out.factors, out.pivots, right[..., None])[..., 0]
        weights = c * out.share.repeat_interleave(3, dim=1)
        units = self._units(out.branch)
        return h + nn.functional.embedding_bag(units, self.response, per_sample_weights=weights, mode="sum")

    def lack(self, x: Tensor, injected: Tensor, out: Outages) -> Tensor:
        """Return what Kirchhoff's law misses at unknown components, shape (unknown, n).

        Args:
            x: shape (n, 2 buses).
            injected: P, then Q, in p.u., shape (2 buses, n).
            out: the open branches.
        """
        angle, magnitude = x.T.contiguous().split(self.buses)
        voltage = torch.cat([magnitude * torch.cos(angle), magnitude * torch.sin(angle)])
        current = self.admittance @ voltage
        e, f = voltage.split(self.buses)
        a, b = current.split(self.buses)
        lack = injected - torch.cat([e * a + f * b, f * a - e * b])
        i, j = self.ends[:, out.branch.T]
        at_i, at_j = torch.stack([i, self.buses + i]), torch.stack([j, self.buses + j])
        v_i, v_j = (torch.complex(*(voltage.gather(0, part) for part in at)) for at in (at_i, at_j))
        y = torch.view_as_complex(self.own)[out.branch.T] * out.share.T[..., None]
        s_i = v_i * (y[..., 0] * v_i + y[..., 1] * v_j).conj()
        s_j = v_j * (y[..., 2] * v_i + y[..., 3] * v_j).conj()
        freed = torch.cat([s_i.real, s_i.imag, s_j.real, s_j.imag])
        return lack.scatter_add(0, torch.cat([*at_i, *at_j]), freed).index_select(0, self.free)


def _inverted(grid: PowerGrid, point: OperatingPoint, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return J⁻¹ of the unknown components, and Zᵀ of each branch and of none, (branches + 1, 3, 2 buses)."""
    (i, j), buses, branches = (grid.source, grid.target), len(grid.numbers), np.arange(len(grid.source))
    u = np.zeros((len(branches) + 1, 3, 2 * buses))
    for end, bus in enumerate((i, j)):
        u[branches, :, bus] += np.real(point.derivative[:, end])
        u[branches, :, buses + bus] += np.imag(point.derivative[:, end])
    jacobian = np.zeros((2 * buses, 2 * buses))
    for unit, column, sign in ((0, i, 1), (0, j, -1), (1, buses + i, 1), (2, buses + j, 1)):
        np.add.at(jacobian.T, column, sign * u[:-1, unit] * grid.in_service[:, None])
    p, q = np.arange(buses), buses + np.arange(buses)
    jacobian[p, q] += 2 * np.real(grid.shunt) * point.magnitude
    jacobian[q, q] -= 2 * np.imag(grid.shunt) * point.magnitude
    inverse = np.linalg.inv(jacobian[np.ix_(free, free)])
    response = np.zeros_like(u)
    response[..., free] = u[..., free] @ inverse.T
    return inverse, response
