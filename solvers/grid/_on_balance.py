"""Graph networks that learn from equations of balance alone, of one graph or of several."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sciml.grid.balance import Balance, Given
from sciml.views.graph import Graph

from ._on_scenarios import OnScenarios

_BLOCK = 256
"""Scenarios at once, which bounds the memory."""


class Round(nn.Module):
    """One round of messages along the edges, and what each node makes of them.

    m_i = W Σ_(j→i) σ(Φ(h_i, h_j, a_ij) + Δ(x_j - x_i)),  C(h_i, m_i)

    Args:
        node: features h of a node.
        relative: features x that count by their difference along an edge.
        edge: features a of an edge.
        latent: components of a message.
        hidden: width of the hidden layers.
        outputs: of C.
        real: dtype.
    """

    def __init__(
        self, node: int, relative: int, edge: int, latent: int, hidden: int, outputs: int, real: torch.dtype
    ) -> None:
        super().__init__()
        self.at_target = nn.Linear(node, hidden, dtype=real)
        self.at_source = nn.Linear(node, hidden, bias=False, dtype=real)
        self.between = nn.Linear(relative, hidden, bias=False, dtype=real)
        self.along = nn.Linear(edge, hidden, bias=False, dtype=real)
        self.message = nn.Linear(hidden, latent, dtype=real)
        self.within = nn.Linear(node + latent, hidden, dtype=real)
        self.outcome = nn.Linear(hidden, outputs, dtype=real)
        with torch.no_grad():  # untrained, little changes
            self.outcome.weight.mul_(0.1)
            self.outcome.bias.zero_()

    def forward(self, node: Tensor, relative: Tensor, features: Tensor, edges: Tensor, presence: Tensor) -> Tensor:
        """Return C, (n, nodes, outputs).

        Args:
            node: h, shape (n, nodes, features).
            relative: x, shape (n, nodes, features).
            features: a, shape (edges, features).
            edges: source and target of the edges, shape (2, edges).
            presence: of each edge, shape (n, edges, 1).
        """
        source, target = edges
        between = self.between(relative)
        at_target, at_source = self.at_target(node) - between, self.at_source(node) + between
        ends = at_target.index_select(1, target) + at_source.index_select(1, source)
        sent = presence * nn.functional.leaky_relu(ends + self.along(features), 0.1)
        received = sent.new_zeros(*node.shape[:2], sent.shape[-1]).index_add(1, target, sent)
        hidden = self.within(torch.cat([node, self.message(received)], dim=-1))
        return self.outcome(nn.functional.leaky_relu(hidden, 0.1))


class OnBalance(OnScenarios):
    """Approaches a state in balance step by step, each step a graph network of its own.

    minimise Σ_k γ^(K-k) mean |ΔF(x_k)|²,  k = 1 ... K

    No weight belongs to a node and no feature depends on units, so that a network serves any graph. Trained on several
    of them, the loss is the geometric mean of theirs.

    Args:
        corrections: K.
        latent: components of a node's latent vector.
        hidden: width of the hidden layers.
        discount: γ.
        rows: scenarios in a batch, of each graph.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    transfers: ClassVar[bool] = True

    def __init__(
        self,
        corrections: int,
        latent: int,
        hidden: int,
        discount: float,
        rows: int,
        steps: int,
        learning_rate: float,
    ) -> None:
        super().__init__(rows, steps, learning_rate)
        self.corrections = corrections
        self.width = latent
        self.hidden = hidden
        self.discount = discount

    def build(self, problem: Graph) -> None:
        super().build(problem)
        self.balance = problem.balance(self.real)
        self.lessons: list[tuple[Balance, Tensor]] = []
        blank = torch.zeros(1, len(problem.inputs), dtype=self.real)
        known = self.balance.node_features(self.balance.read(blank)).shape[-1]
        components = self.balance.unknown.shape[-1]
        self.shape(components, components + known, self.balance.edge_features().shape[-1])

    @abstractmethod
    def shape(self, components: int, known: int, edge: int) -> None:
        """Make the networks, for so many components of a state, features known of a node, and features of an edge."""

    @abstractmethod
    def iterate(self, balance: Balance, scenarios: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last state, (n, nodes, components), and the imbalance after each step."""

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        device = generator.device
        if not self.lessons:
            for problem in self.problem.trained_on:
                scenarios = torch.from_numpy(problem.scenarios("train")).to(device, self.real)
                self.lessons.append((problem.balance(self.real).to(device), scenarios))
        batch = {}
        for k, (_, scenarios) in enumerate(self.lessons):
            chosen = torch.randint(len(scenarios), (self.rows,), generator=generator, device=device)
            batch[f"scenarios_{k}"] = scenarios[chosen]
        return batch

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = [self.discount ** (self.corrections - k) for k in range(1, self.corrections + 1)]
        lessons = []
        for (balance, _), scenarios in zip(self.lessons, batch.values(), strict=True):
            _, imbalances = self.iterate(balance, scenarios)
            terms = [w * (f**2).mean() for w, f in zip(weights, imbalances, strict=True)]
            lessons.append(torch.stack(terms).sum())
        return {"imbalance": torch.stack(lessons).log().mean().exp()}

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def function(points: np.ndarray) -> np.ndarray:
            scenarios = torch.from_numpy(points).to(next(self.parameters()))
            with torch.no_grad():
                states = [self.iterate(self.balance, part)[0] for part in scenarios.split(_BLOCK)]
                return self.balance.outputs(torch.cat(states)).double().cpu().numpy()

        return function


def felt(near: Tensor) -> Tensor:
    """Return D⁻¹ΔF as a feature: of order one for corrections of a tenth, and not far beyond it for any."""
    return torch.asinh(10 * near)


def diagonal(balance: Balance, state: Tensor, given: Given) -> Tensor:
    """Return D, the Jacobian's diagonal at a state, its mean where the state is known, like the state."""
    pattern, values = balance.jacobian(state, given)
    entries = values[:, pattern.rows == pattern.columns].abs()
    whole = entries.mean(1)[:, None, None].expand_as(state).clone()
    whole[:, balance.unknown] = entries
    return whole
