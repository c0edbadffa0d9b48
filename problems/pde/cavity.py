"""A lid drives the fluid in a closed square."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from sciml.errors import UserError
from sciml.pde.conditions import Boundary, Condition, Observed
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.problem import Variable
from sciml.references import reference_file
from sciml.views.residual import Residual, Singularity

from ._scraper import corner
from ._stored import stored_fields

Lid = Literal["uniform", "parabolic"]
STORED = {
    ("uniform", 100): ("79b5c62f8b02a84da87d6479a1d4163d7fed78f99e03c1672838cf8af84ac475", 2e-5),
    ("uniform", 400): ("a4cc90626143cc6c3fadaf629866ed074eaa1464e7d0a0f8a98f7b5893a611c7", 5e-6),
    ("uniform", 1000): ("dd7797c55bf3718af8b66aef0a3f7fefb623623ecf15c61d69ac627347e33899", 1e-5),
}
"""By lid and Reynolds number, the checksum of the reference and its relative error."""
CORNER = 0.1
"""Fields are scored so far from the two corners where the lid meets a wall."""

INERTIAL = 200
"""The greatest Reynolds number at which the corners' second term, by Re r larger than the first, is of help."""


class Cavity(Residual):
    """Steady flow of a viscous fluid that a lid at y = 1 drags along.

    u u_x + v u_y + p_x = (u_xx + u_yy) / Re,  u v_x + v v_y + p_y = (v_xx + v_yy) / Re,  u_x + v_y = 0
    on (0, 1)²,  u = v = 0 on the walls,  u = 1, or 4x (1 - x), and v = 0 on the lid,  p(1/2, 1/2) = 0

    Where the uniform lid meets a wall, u jumps and p grows as one over the distance, without a norm in L2: fields
    are scored at distances above 0.1 from those two corners, for either lid.

    References are stored for the uniform lid and Re 100, 400, 1000: solutions by spectral elements of degree 9 for the
    velocities and 8 for the pressure, on rectangles that shrink to 1e-4 at the lid's corners
    (scripts/make_fem_references.py). Where fields are scored they differ from those of degrees 8 and 7 on another
    grid by 1e-6 in u and v and 1.4e-5 in p at Re 100, by 3e-6 at Re 400, and by 5e-6 at Re 1000; from adaptive
    triangles of degree 4 by 3e-5 in u and v and 3.3e-4 in p at Re 100, and by 2e-5 at Re 400 and 1000, less than
    those triangles state of themselves. On the centre lines they differ from the values of Ghia et al., whose grid
    is of 129 x 129, by less than 0.01; at Re 1000 from those of Botella and Peyret by less than 1e-6.
    Sources: U. Ghia, K. N. Ghia, C. T. Shin, High-Re solutions for incompressible flow using the Navier-Stokes
    equations and a multigrid method, J. Comput. Phys. 48 (1982), doi:10.1016/0021-9991(82)90058-4; O. Botella
    and R. Peyret, Benchmark spectral results on the lid-driven cavity flow, Computers & Fluids 27 (1998),
    doi:10.1016/S0045-7930(98)00002-4; with the parabolic lid, of which no reference is stored, Z. Hao et al.,
    PINNacle, 2023, arXiv 2306.08827 (NS2d-Lid).

    Args:
        reynolds: Re, of the lid's greatest speed and its length.
        lid: its speed along x, 1 or 4x (1 - x).
    """

    fields = (Variable("u"), Variable("v"), Variable("p"))

    def __init__(self, reynolds: Annotated[int, Ge(1)] = 100, lid: Lid = "uniform") -> None:
        self.reynolds = reynolds
        self.lid: Lid = lid
        self.reference_error = STORED.get((lid, reynolds), (None, None))[1]

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 1))

    def equations(self, u, v, p):
        return (
            u * u.x + v * u.y + p.x - laplacian(u) / self.reynolds,
            u * v.x + v * v.y + p.y - laplacian(v) / self.reynolds,
            u.x + v.y,
        )

    def conditions(self) -> Sequence[Condition]:
        lid = (lambda u, v: (u - 1, v)) if self.lid == "uniform" else (lambda u, v, x: (u - 4 * x * (1 - x), v))
        walls = [Boundary(lambda u, v: (u, v), at={a: end}, name="wall") for a, end in (("x", 0), ("x", 1), ("y", 0))]
        return (
            Boundary(lid, at={"y": 1}, name="lid"),
            *walls,
            Observed("p", np.full((1, 2), 0.5), np.zeros(1), "level"),
        )

    def singularities(self) -> Sequence[Singularity]:
        if self.lid != "uniform":
            return ()
        return (
            Singularity((0.0, 1.0), lambda x, y: self._corner(x, 1 - y, 1)),
            Singularity((1.0, 1.0), lambda x, y: self._corner(1 - x, 1 - y, -1)),
        )

    def _corner(self, along, off, away: int):
        """Return the flow near a corner from which the lid slides away, 1, or into which it slides, -1."""
        flow = corner(along, off)
        stream, pressure = -flow.stream, away * flow.pressure / self.reynolds
        if self.reynolds <= INERTIAL:
            stream, pressure = stream - away * self.reynolds * flow.inertial_stream, pressure + flow.inertial_pressure
        return stream.y, -stream.x, pressure

    def scored(self, points: np.ndarray) -> np.ndarray:
        return np.hypot(np.minimum(points[:, 0], 1 - points[:, 0]), 1 - points[:, 1]) > CORNER

    def reference(self, points: np.ndarray) -> np.ndarray:
        return self._stored(points)

    @cached_property
    def _stored(self) -> Callable[[np.ndarray], np.ndarray]:
        case = (self.lid, self.reynolds)
        if case not in STORED:
            known = ", ".join(f"{lid} {reynolds}" for lid, reynolds in STORED)
            raise UserError(f"cavity has references for {known}; got {self.lid} {self.reynolds}")
        path = reference_file(f"cavity_{self.lid}_{self.reynolds}.h5", STORED[case][0])
        return stored_fields(path, [f.name for f in self.fields])
