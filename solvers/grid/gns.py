"""The graph neural solver, trained on the law of balance alone."""

import torch
from torch import Tensor, nn

from sciml.grid.balance import Balance
from sciml.grid.factorised import Factorised
from sciml.parameters import Count, Fraction, Positive

from ._on_balance import OnBalance, Round, diagonal, felt


class GNS(OnBalance):
    """Corrects a state step by step with small graph networks, trained without any solved example.

    (x_i, z_i) ← (x_i, z_i) + tanh C(h_i, m_i),  h = (D⁻¹ΔF(x), z, known)

    with m the messages of the neighbours. D is the diagonal of ΔF's Jacobian J at the start, which makes of an
    imbalance the correction that would cure it were it not for the neighbours. Messages reach as far as there are
    steps; with ``global_solve`` each step moves the whole grid instead, and networks say by how much:

    x ← x - J⁻¹[(1 + tanh C(h, m)) ⊙ ΔF(x)]

    Without weights this is Newton's method with the Jacobian kept, and whatever the weights, a state in balance stays;
    so that a network does little harm on a grid that it was not trained on.

    The imbalance ΔF counts what compensates by itself: on a power grid the slack supplies the active power
    that loads and losses ask for, and generators supply reactive power. Source: B. Donon, R. Clément, B.
    Donnot, A. Marot, I. Guyon and M. Schoenauer, Neural networks for power flow: Graph neural solver, 2020,
    doi:10.1016/j.epsr.2020.106547.

    Args:
        corrections: K, the number of steps.
        latent: components of a node's latent vector.
        hidden: width of the hidden layers.
        discount: γ of the loss Σ_k γ^(K-k) mean |ΔF(x_k)|².
        global_solve: whether steps are solves with J.
        rows: scenarios in a batch, of each grid.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    def __init__(
        self,
        corrections: Count = 10,
        latent: Count = 16,
        hidden: Count = 32,
        discount: Fraction = 0.9,
        global_solve: bool = False,
        rows: Count = 32,
        steps: Count = 6000,
        learning_rate: Positive = 5e-3,
    ) -> None:
        super().__init__(corrections, latent, hidden, discount, rows, steps, learning_rate)
        self.global_solve = global_solve

    def shape(self, components: int, known: int, edge: int) -> None:
        sizes = components + self.width + known, components, edge, self.width, self.hidden, components + self.width
        self.network = nn.ModuleList(Round(*sizes, self.real) for _ in range(self.corrections))

    def iterate(self, balance: Balance, scenarios: Tensor) -> tuple[Tensor, list[Tensor]]:
        given = balance.read(scenarios)
        state = start = balance.start(given)
        imbalance = balance.imbalance(start, given)
        stiffness, features = diagonal(balance, start, given), balance.edge_features()
        presence = balance.presence(given)[..., None]
        known = torch.cat([felt(imbalance / stiffness), balance.node_features(given)], dim=-1)
        solve = Factorised(balance, start, given) if self.global_solve else None
        latent = start.new_zeros(*start.shape[:2], self.width)
        imbalances = []
        for step in self.network:
            near = imbalance / stiffness
            node = torch.cat([felt(near), latent, known], dim=-1)
            change = torch.tanh(step(node, state - start, features, balance.edges, presence))
            move, change = change.tensor_split([start.shape[-1]], dim=-1)
            if solve:
                move = solve((1 + move) * imbalance)
            state, latent = state + balance.unknown * move, latent + change
            imbalance = balance.imbalance(state, given)
            imbalances.append(imbalance)
        return state, imbalances
