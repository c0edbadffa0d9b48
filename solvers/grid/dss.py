"""The deep statistical solver, trained on the law of balance alone."""

import torch
from torch import Tensor, nn

from sciml.grid.balance import Balance
from sciml.parameters import Count, Fraction, Positive

from ._on_balance import OnBalance, Round, diagonal


class DSS(OnBalance):
    """Lets a latent state spread over the graph, and reads a solution off it after every step.

    z_i ← z_i + α Ψ_k(z_i, b_i, m_i),  x = x₀ + Ξ_k(z)

    with b what is known of a node, m the messages of its neighbours and x₀ the start. No step sees how much
    its solution is out of balance; the loss alone does, discounted over the steps. Every branch is an edge in either
    direction, so that one sum over edges takes the place of the paper's two. Source: B. Donon, Z. Liu, W. Liu, I.
    Guyon, A. Marot and M. Schoenauer, Deep statistical solvers, Advances in Neural Information Processing Systems
    33, 2020.

    Args:
        corrections: K, the number of steps.
        latent: components of a node's latent vector z.
        hidden: width of the hidden layers.
        pace: α.
        discount: γ of the loss Σ_k γ^(K-k) mean |ΔF(x_k)|².
        rows: scenarios in a batch, of each grid.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    def __init__(
        self,
        corrections: Count = 6,
        latent: Count = 32,
        hidden: Count = 64,
        pace: Positive = 1.0,
        discount: Fraction = 0.5,
        rows: Count = 64,
        steps: Count = 3000,
        learning_rate: Positive = 5e-3,
    ) -> None:
        super().__init__(corrections, latent, hidden, discount, rows, steps, learning_rate)
        self.pace = pace

    def shape(self, components: int, known: int, edge: int) -> None:
        node = self.width + known
        sizes = node, self.width, edge, self.width, self.hidden, self.width
        self.network = nn.ModuleList(Round(*sizes, self.real) for _ in range(self.corrections))
        self.readers = nn.ModuleList(self._reader(components) for _ in range(self.corrections))

    def _reader(self, components: int) -> nn.Module:
        first = nn.Linear(self.width, self.hidden, dtype=self.real)
        last = nn.Linear(self.hidden, components, dtype=self.real)
        with torch.no_grad():  # the untrained solution is near the start
            last.weight.mul_(0.1)
            last.bias.zero_()
        return nn.Sequential(first, nn.LeakyReLU(0.1), last)

    def iterate(self, balance: Balance, scenarios: Tensor) -> tuple[Tensor, list[Tensor]]:
        given = balance.read(scenarios)
        state = start = balance.start(given)
        near = balance.imbalance(start, given) / diagonal(balance, start, given)
        known = torch.cat([10 * near, balance.node_features(given)], dim=-1)  # corrections of a tenth are usual
        features = balance.edge_features()
        presence = balance.presence(given)[..., None]
        latent = start.new_zeros(*start.shape[:2], self.width)
        imbalances = []
        for step, reader in zip(self.network, self.readers, strict=True):
            node = torch.cat([latent, known], dim=-1)
            latent = latent + self.pace * step(node, latent, features, balance.edges, presence)
            state = start + balance.unknown * reader(latent)
            imbalances.append(balance.imbalance(state, given))
        return state, imbalances
