"""The Gray-Scott system in two dimensions."""

import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.problem import Variable

from ._marched import Marched


class GrayScott(Marched):
    """A spot of v feeds on u, and spots and rings grow and divide.

    u_t = ε₁ Δu + b₁ (1 - u) - c u v²,  v_t = ε₂ Δv - b₂ v + c u v² on (-1, 1)² × (0, 2], periodic in x and y,
    u(x, y, 0) = 1 - G(x + 0.05, y + 0.02),  v(x, y, 0) = G(x - 0.05, y - 0.02),  G = exp(-10 r²) summed over periods

    The published data take one Gaussian, which jumps by 1e-4 where the period closes; summed over periods it is
    smooth. The reference is marched in Fourier space; two discretisations agree on it to its stated error.
    Source: S. Wang, B. Li, Y. Chen, P. Perdikaris, PirateNets, 2024, arXiv 2402.00326.

    Args:
        diffusivity_u: ε₁, in length² / time.
        diffusivity_v: ε₂, in length² / time.
        feed: b₁, in 1 / time.
        decay: b₂, in 1 / time.
        reaction: c, in 1 / time.
    """

    fields = (Variable("u"), Variable("v"))
    reference_error = 3e-5
    tolerance = 1e-6
    stored = (("gray_scott.h5", "03fb088241437d058145cc25a92d9179df0da215a398c358ff9a3926993c4d4e"),)

    def __init__(
        self,
        diffusivity_u: Positive = 0.2,
        diffusivity_v: Positive = 0.1,
        feed: Positive = 40.0,
        decay: Positive = 100.0,
        reaction: Positive = 1000.0,
    ) -> None:
        self.diffusivity_u = diffusivity_u
        self.diffusivity_v = diffusivity_v
        self.feed = feed
        self.decay = decay
        self.reaction = reaction

    def domain(self) -> Box:
        return Box(x=(-1, 1), y=(-1, 1), t=(0, 2))

    def equations(self, u, v):
        eaten = self.reaction * u * v**2
        return (
            u.t - self.diffusivity_u * laplacian(u) - self.feed * (1 - u) + eaten,
            v.t - self.diffusivity_v * laplacian(v) + self.decay * v - eaten,
        )

    def conditions(self):
        def spot(x, y):
            row, column = (sum(torch.exp(-10 * (s - 2 * k) ** 2) for k in (-1, 0, 1)) for s in (x, y))
            return row * column

        start = (
            Initial(lambda u, x, y: u - 1 + spot(x + 0.05, y + 0.02)),
            Initial(lambda v, x, y: v - spot(x - 0.05, y - 0.02)),
        )
        return (*start, Periodic("x"), Periodic("y"))
