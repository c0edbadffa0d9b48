"""The complex Ginzburg-Landau equation in two dimensions."""

import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.problem import Variable

from ._marched import Marched


class GinzburgLandau(Marched):
    """A vortex winds up into a spiral that spreads over the square.

    A_t = ε ΔA + μ A - (μ + iω) A |A|² on (-1, 1)² × (0, 1],  A = u + iv periodic in x and y,
    A(x, y, 0) = 10 (y + ix) exp(-25 (x² + y²))

    The period closes with a kink of e⁻²⁵, which is nothing. The reference is marched in Fourier space; two
    discretisations agree on it to its stated error.
    Source: S. Wang, B. Li, Y. Chen, P. Perdikaris, PirateNets, 2024, arXiv 2402.00326.

    Args:
        diffusivity: ε, in length² / time.
        growth: μ, in 1 / time.
        rotation: ω, in 1 / time.
    """

    fields = (Variable("u"), Variable("v"))
    reference_error = 1e-6
    tolerance = 1e-6
    stored = (("ginzburg_landau.h5", "297ca3e1da3cdde6a7674ac93bf103461726e5fa45740bf3328b611a6627d7b4"),)

    def __init__(self, diffusivity: Positive = 0.004, growth: float = 10.0, rotation: float = 15.0) -> None:
        self.diffusivity = diffusivity
        self.growth = growth
        self.rotation = rotation

    def domain(self) -> Box:
        return Box(x=(-1, 1), y=(-1, 1), t=(0, 1))

    def equations(self, u, v):
        square = u**2 + v**2
        linear = (w.t - self.diffusivity * laplacian(w) - self.growth * w for w in (u, v))
        turned = (self.growth * u - self.rotation * v, self.growth * v + self.rotation * u)
        return tuple(known + square * w for known, w in zip(linear, turned, strict=True))

    def conditions(self):
        def bump(x, y):
            return 10 * torch.exp(-25 * (x**2 + y**2))

        start = (Initial(lambda u, x, y: u - y * bump(x, y)), Initial(lambda v, x, y: v - x * bump(x, y)))
        return (*start, Periodic("x"), Periodic("y"))
