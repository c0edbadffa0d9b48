"""LEAP nets whose leaps are the physics of an outage."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sciml.parameters import Count, Positive
from sciml.views.graph import Graph

from ._linearised import Linearised, Outages
from ._on_load_flow import load_flow, no_load_flow
from ._on_scenarios import OnScenarios

_BLOCK = 1024
"""Scenarios at once, which bounds the memory."""
_MOST = 8000
"""Unknowns of a grid up to which its dense matrices fit in a few GiB."""


class LeapNetPhysics(OnScenarios):
    """Leaps from the nominal state by the response of its Jacobian, in which open branches interact exactly.

    x_k = x_(k-1) + L(M_k ΔF(x_(k-1))),  L(h) = h + Z (1 - WᵀZ)⁻¹ Wᵀh

    from the nominal load flow x₀ with the set-points that are given. A LEAP net has L(h) = h + D((E h + b) ⊙ τ),
    whose changes of structure only add up. Here E and D are the rows Wᵀ and the responses Z = J⁻¹U of the open
    branches, since an outage takes U Wᵀ off the Jacobian J at the nominal load flow, and the small system
    between them lets any number of outages interact. M_k are trained, from J⁻¹ on; untrained the leaps are steps of
    Newton's method with the Jacobian kept, but for the outages. The training needs no labels: the loss is the
    mean apparent error of the branches' flows, as shares of the nominal ones, that J foretells from the imbalance ΔF
    that is left. Scenarios in which a bus is cut off come back as NaN.

    Sources: B. Donnot, B. Donon, I. Guyon, Z. Liu, A. Marot, P. Panciatici and M. Schoenauer, LEAP nets for power
    grid perturbations, 2019, arXiv 1908.08314; O. Alsaç, B. Stott and W. F. Tinney, Sparsity-oriented
    compensation methods for modified network solutions, IEEE Trans. Power Appar. Syst. PAS-102 (5), 1983.

    Args:
        leaps: how many k; after the first the answer is of first order.
        rows: scenarios in a batch.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    def __init__(
        self,
        leaps: Count = 2,
        rows: Count = 128,
        steps: Count = 2000,
        learning_rate: Positive = 3e-5,
    ) -> None:
        super().__init__(rows, steps, learning_rate)
        self.leaps = leaps

    def refuses(self, problem: Graph) -> str | None:
        unknown = int(problem.balance().unknown.sum())
        large = f"the inverse of its Jacobian would have {unknown}² entries" if unknown > _MOST else None
        operated = None if problem.is_plain else "its answer keeps more than the balance that is linearised"
        return no_load_flow(problem) or operated or large

    def build(self, problem: Graph) -> None:
        super().build(problem)
        flow = load_flow(problem)
        self.linear = Linearised(flow, self.real)
        self.maps = nn.ParameterList(self.linear.inverse.clone() for _ in range(self.leaps))

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        linear = self.linear
        state, injected, gone, out = self.iterate(batch["scenarios"])
        error = self._leap(linear.inverse, linear.lack(state, injected, out), out)
        branches = torch.arange(gone.shape[1], device=gone.device).expand(len(gone), -1)
        moved = linear.differences(error, branches).reshape(*gone.shape, 3)
        flow = torch.einsum("nbd,bcd->nbc", moved, linear.shares) * (linear.intact - gone)[..., None]
        return {"flow_error": torch.linalg.vector_norm(flow, dim=-1).mean()}

    def iterate(self, scenarios: Tensor) -> tuple[Tensor, Tensor, Tensor, Outages]:
        """Return the last state, (n, 2 buses), P and Q injected, shares of branches gone, and the outages."""
        injected, state, gone = self.linear.read(scenarios)
        out = self.linear.outages(gone)
        for matrix in self.maps:
            state = state + self._leap(matrix, self.linear.lack(state, injected, out), out)
        return state, injected, gone, out

    def _leap(self, matrix: Tensor, lack: Tensor, out: Outages) -> Tensor:
        h = lack.new_zeros(lack.shape[1], len(self.linear.state)).index_copy(1, self.linear.free, lack.T @ matrix.T)
        return self.linear.leap(h, out)

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def function(points: np.ndarray) -> np.ndarray:
            outputs = np.empty((len(points), 2 * self.linear.buses))
            with torch.no_grad():
                for start in range(0, len(points), _BLOCK):
                    part = torch.from_numpy(points[start : start + _BLOCK]).to(self.linear.state)
                    state, _, _, out = self.iterate(part)
                    state[out.cut_off] = torch.nan
                    angle, magnitude = state.split(self.linear.buses, dim=1)
                    answer = torch.cat([magnitude, torch.rad2deg(angle)], dim=1)
                    outputs[start : start + _BLOCK] = answer.cpu().numpy()
            return outputs

        return function
