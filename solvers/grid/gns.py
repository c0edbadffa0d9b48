"""The graph neural solver, trained on the law of balance alone."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sciml.grid.balance import Given
from sciml.parameters import Count, Fraction, Positive
from sciml.views.graph import Graph

from ._on_scenarios import OnScenarios


class Step(nn.Module):
    """One correction of the state, from messages along the edges.

    m_i = W Σ_(j→i) σ(Φ(h_i, h_j, a_ij)),  (x_i, z_i) ← (x_i, z_i) + tanh C(h_i, m_i)

    with h = (x, D⁻¹ΔF(x), z, known). D is the diagonal of ΔF's Jacobian at the start, which makes of an
    imbalance the correction that would cure it were it not for the neighbours. The bound on a correction
    keeps a step from running away.

    Args:
        components: of a node's state x, and of its imbalance ΔF.
        known: features given for each node.
        edge: features of each edge.
        latent: components of a node's latent vector z, and of a message.
        hidden: width of the hidden layers.
        real: dtype.
    """

    def __init__(self, components: int, known: int, edge: int, latent: int, hidden: int, real: torch.dtype) -> None:
        super().__init__()
        node = 2 * components + latent + known
        self.at_target = nn.Linear(node, hidden, dtype=real)
        self.at_source = nn.Linear(node, hidden, bias=False, dtype=real)
        self.along = nn.Linear(edge, hidden, bias=False, dtype=real)
        self.message = nn.Linear(hidden, latent, dtype=real)
        self.within = nn.Linear(node + latent, hidden, dtype=real)
        self.correction = nn.Linear(hidden, components + latent, dtype=real)
        with torch.no_grad():  # the untrained corrections are small
            self.correction.weight.mul_(0.1)
            self.correction.bias.zero_()

    def forward(self, node: Tensor, features: Tensor, edges: Tensor, presence: Tensor) -> Tensor:
        """Return the corrections of x and z, (n, nodes, components + latent).

        Args:
            node: h, shape (n, nodes, features).
            features: a, shape (edges, features).
            edges: source and target of the edges, shape (2, edges).
            presence: of each edge, shape (n, edges, 1).
        """
        source, target = edges
        ends = self.at_target(node).index_select(1, target) + self.at_source(node).index_select(1, source)
        sent = presence * nn.functional.leaky_relu(ends + self.along(features), 0.1)
        received = sent.new_zeros(*node.shape[:2], sent.shape[-1]).index_add(1, target, sent)
        hidden = self.within(torch.cat([node, self.message(received)], dim=-1))
        return torch.tanh(self.correction(nn.functional.leaky_relu(hidden, 0.1)))


class GNS(OnScenarios):
    """Corrects a state step by step with small graph networks, trained without any solved example.

    minimise Σ_k γ^(K-k) mean |ΔF(x_k)|²,  k = 1 ... K

    The imbalance ΔF counts what compensates by itself: on a power grid the slack supplies the active power
    that loads and losses ask for, and generators supply reactive power. Source: B. Donon, R. Clément, B.
    Donnot, A. Marot, I. Guyon and M. Schoenauer, Neural networks for power flow: Graph neural solver, 2020,
    doi:10.1016/j.epsr.2020.106547.

    Args:
        corrections: K.
        latent: components of a node's latent vector.
        hidden: width of the hidden layers.
        discount: γ.
        rows: scenarios in a batch.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    def __init__(
        self,
        corrections: Count = 10,
        latent: Count = 16,
        hidden: Count = 32,
        discount: Fraction = 0.9,
        rows: Count = 32,
        steps: Count = 6000,
        learning_rate: Positive = 5e-3,
    ) -> None:
        super().__init__(rows, steps, learning_rate)
        self.corrections = corrections
        self.width = latent
        self.hidden = hidden
        self.discount = discount

    def build(self, problem: Graph) -> None:
        super().build(problem)
        self.balance = problem.balance(self.real)
        blank = torch.zeros(1, len(problem.inputs), dtype=self.real)
        known = self.balance.node_features(self.balance.read(blank)).shape[-1]
        edge = self.balance.edge_features().shape[-1]
        components = self.balance.unknown.shape[-1]
        sizes = components, known, edge, self.width, self.hidden
        self.network = nn.ModuleList(Step(*sizes, self.real) for _ in range(self.corrections))

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        *_, imbalances = self.iterate(batch["scenarios"])
        weights = [self.discount ** (self.corrections - k) for k in range(1, self.corrections + 1)]
        terms = [w * (f**2).mean() for w, f in zip(weights, imbalances, strict=True)]
        return {"imbalance": torch.stack(terms).sum()}

    def iterate(self, scenarios: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last state, (n, nodes, components), and the imbalance after each correction."""
        balance = self.balance
        given = balance.read(scenarios)
        start, known, features = balance.start(given), balance.node_features(given), balance.edge_features()
        presence = balance.presence(given)[..., None]
        diagonal = self._diagonal(start, given)
        state, latent = start, start.new_zeros(*start.shape[:2], self.width)
        imbalances = [balance.imbalance(state, given)]
        for step in self.network:
            cure = 10 * imbalances[-1] / diagonal  # corrections of a tenth are usual, features of one
            node = torch.cat([state - start, cure, latent, known], dim=-1)
            change = step(node, features, balance.edges, presence)
            state = state + balance.unknown * change[..., : state.shape[-1]]
            latent = latent + change[..., state.shape[-1] :]
            imbalances.append(balance.imbalance(state, given))
        return state, imbalances[1:]

    def _diagonal(self, start: Tensor, given: Given) -> Tensor:
        """Return the Jacobian's diagonal at the start, its mean where the state is known, like ``start``."""
        pattern, values = self.balance.jacobian(start, given)
        entries = values[:, pattern.rows == pattern.columns].abs()
        diagonal = entries.mean(1)[:, None, None].expand_as(start).clone()
        diagonal[:, self.balance.unknown] = entries
        return diagonal

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def function(points: np.ndarray) -> np.ndarray:
            scenarios = torch.from_numpy(points).to(next(self.network.parameters()))
            with torch.no_grad():
                states = [self.iterate(part)[0] for part in scenarios.split(4096)]  # bounds the memory
                return self.balance.outputs(torch.cat(states)).double().cpu().numpy()

        return function
