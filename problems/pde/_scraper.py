"""The flow at a corner where one wall slides under another that rests."""

from typing import NamedTuple

import numpy as np
import torch

from sciml.pde.fields import Array

PI = np.pi
C, D = 4 / (4 - PI**2), 2 * PI / (4 - PI**2)
B = 1 - C
SQUARES = (D**2 - C**2) / 16
"""Of the terms in θ of the second stream function, as those below."""
COSINE, SINE = B * C / 8 + 1.5 * SQUARES, (B - 1.5 * C) * D / 8
TURN = PI / 2 * (SINE + C * D / 8 + PI / 2 * SQUARES)
LEVEL = PI / 4 * (COSINE - TURN + PI / 16 * C * D)


class Corner(NamedTuple):
    """Two terms in the distance r: of a stream function ψ, with velocities (ψ_Y, -ψ_X), and of the pressure."""

    stream: Array
    pressure: Array
    inertial_stream: Array
    inertial_pressure: Array


def corner(along: Array, off: Array) -> Corner:
    """Return the flow at a right angle whose one wall, Y = 0, slides at speed 1 away from the other, X = 0.

    ``ψ = r f(θ) + Re r² g(θ) + ...,  p = 2 (C X + D Y) / (Re r²) + c log r + ...``

    solves the equations of Navier and Stokes to the power r^-1, with f that of Stokes flow, f'''' + 2f'' + f = 0,
    f = f' = 0 but f'(0) = 1 on the walls, and ``g'' + 4g = c θ + d - ∫ f (f + f'') dθ``, g = g' = 0 there. For the
    wall that slides towards the corner, ψ's first term and p's change their sign.
    Sources: G. I. Taylor, On scraping viscous fluid from a plane surface (1962); O. Botella and R. Peyret, Benchmark
    spectral results on the lid-driven cavity flow, Computers & Fluids 27 (1998), doi:10.1016/S0045-7930(98)00002-4.

    Args:
        along: X, the distance from the wall that rests.
        off: Y, the distance from the wall that slides.
    """
    angle, square = torch.atan2(off, along), along**2 + off**2
    linear, double, difference = C * along + D * off, 2 * along * off, along**2 - off**2
    return Corner(
        B * off + angle * linear,
        2 * linear / square,
        2 * LEVEL * off**2
        - double * (TURN + COSINE) / 2
        + angle * (TURN * square + COSINE * difference + SINE * double)
        + angle**2 * (C * D / 8 * difference + SQUARES * double),
        (4 * TURN - B * C) / 2 * torch.log(square),
    )
