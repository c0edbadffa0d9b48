"""Whether posteriors are as sure as they may be, and observations such as were simulated."""

import torch
from torch import Tensor

NEIGHBOUR = 5
"""Which of the nearest simulations tells how near they are."""
COMPARED = 2000
"""Simulations that are compared with each other."""


def familiarity(simulated: Tensor, observation: Tensor) -> dict[str, float | str]:
    """Return how usual an observation is among simulations: 0 where it lies farther off than any of them.

    ``familiarity`` is the share of simulations whose distance to the fifth nearest other one is at least that of the
    observation; below 1/100 ``misspecified`` is ``yes``, for a network has seen nothing like it.

    Args:
        simulated: shape (n, data), on a scale where distances mean something.
        observation: shape (data,).
    """
    some = simulated[:: -(-len(simulated) // COMPARED)]
    k = min(NEIGHBOUR, len(some) - 1)
    among = torch.cdist(some, some).kthvalue(k + 1, dim=1).values  # the nearest is the simulation itself
    own = torch.cdist(observation[None], some).kthvalue(k).values
    share = float((among >= own).double().mean())
    return {"familiarity": share, "misspecified": "yes" if share < 0.01 else "no"}
