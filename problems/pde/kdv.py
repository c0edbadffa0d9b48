"""The Korteweg-de Vries equation in one dimension."""

import numpy as np
import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box

from ._marched import Marched


class KdV(Marched):
    """A cosine steepens and breaks up into a train of solitons.

    u_t + η u u_x + μ² u_xxx = 0 on (-1, 1) × (0, 1],  u(x, 0) = cos(πx),  u periodic in x

    The reference is marched in Fourier space; two discretisations agree on it to its stated error.
    Source: N. J. Zabusky and M. D. Kruskal, Interaction of "solitons" in a collisionless plasma and the
    recurrence of initial states, Phys. Rev. Lett. 15 (1965), doi:10.1103/PhysRevLett.15.240; as a test of
    networks S. Wang, B. Li, Y. Chen, P. Perdikaris, PirateNets, 2024, arXiv 2402.00326.

    Args:
        nonlinearity: η.
        dispersion: μ, whose square multiplies the third derivative.
    """

    reference_error = 2e-10
    stored = (("kdv.h5", "c4188da32b57a6da54ea94b2c343d2ad60ed10d423c224eb10e7277f8acf65aa"),)

    def __init__(self, nonlinearity: float = 1.0, dispersion: Positive = 0.022) -> None:
        self.nonlinearity = nonlinearity
        self.dispersion = dispersion

    def domain(self) -> Box:
        return Box(x=(-1, 1), t=(0, 1))

    def equations(self, u):
        return u.t + self.nonlinearity * u * u.x + self.dispersion**2 * u.xxx

    def conditions(self):
        return (Initial(lambda u, x: u - torch.cos(np.pi * x)), Periodic("x"))
