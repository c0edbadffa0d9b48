"""Random features in space whose coefficients are marched in time: for periodic boxes of several space axes."""

import math
import time
from collections.abc import Mapping

import numpy as np

from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.pde.semilinear import Semilinear
from sciml.views.residual import Residual

from . import _lines_answer
from ._cells import Outcome, concluded, difference
from ._etdrk4 import SUBSTEPS, Exponential, Report
from ._lines_basis import LOWEST, Sines

FIRST = 1e-4
"""The tolerance of the first march at most, so that there is an answer early."""
FINER = 10.0
"""By how much each march's tolerance is smaller than the one's before."""
FINEST = 1e-12
"""The smallest tolerance of a march; rounding is not far below."""
GROWTH = 2.0
"""How many times the seconds and numbers of a march the next takes at least."""
SAMPLE = 2000
"""Points at which two marches are compared."""
LARGEST = 2**26
"""The most complex coefficients of a march, all moments together."""


def refusal(problem: Residual) -> str | None:
    """Return why a problem cannot be marched by lines, or None."""
    if problem.unknowns:
        return "numbers are sought, and lines solve forward problems alone"
    try:
        system = Semilinear(problem)
    except ValueError as reason:
        return str(reason)
    return "of one space axis cells resolve more" if len(system.axes) == 1 else None


def march(problem: Residual, tolerance: float, seed: int, clock: Clock, coefficients: int, most: int | None) -> Outcome:
    """Solve ``u_t = L u + N(u)`` on a periodic box by ``u(x, t) = Σ_j c_j(t) sin(w_j . x + b_j)`` with w, b fixed.

    The rates of the c_j are those that fit the equations best at collocation points, ``c' = Λ c + Φ⁺ N(Φ c)``. Λ, the
    linear part, is diagonal in pairs of a sine and a cosine and is integrated exactly (ETDRK4, adaptive steps).
    Features must have the box's extents as periods, so the w_j are whole wave vectors, and one that is missing
    would leave its whole share of the solution out. Therefore all of an ellipsoid are taken, which grows where the
    residual at points held out asks for it, and only the phases are drawn, which do not change what a pair
    can express: on periodic axes the features are Fourier modes, and this is a Fourier-Galerkin method in all but name.

    Marches with tolerances of a tenth each follow one another until two agree; the finest is returned. Its stated error
    is their difference and its own tolerance, for marches may agree that take the same steps.
    Sources: J. Chen, W. E, Y. Luo, The random feature method for time-dependent problems (2023), arXiv 2304.06913;
    C. Datar et al., Solving partial differential equations with sampled neural networks (2024), arXiv 2405.20836.

    Args:
        problem: one that ``refusal`` accepts.
        tolerance: of the held-out residual, scaled to an error of the fields and relative to each field's greatest
            value, and of the stated error, relative in the root mean square.
        seed: of the phases and of the points held out.
        clock: told the share of a march that is done, and values by name.
        coefficients: the most at one instant, all fields together.
        most: marches at most; None for as many as it takes.

    Raises:
        SolveError: the first march does not come to its end.
    """
    system, local = Semilinear(problem), max(tolerance, FIRST)
    best: Outcome | None = None
    error, marches, reason, cost = math.inf, 0, "", np.full(2, math.inf)
    while best is None or not reason:
        begin = time.perf_counter()
        try:
            made = _once(system, local, seed, coefficients, clock.report)
        except SolveError:
            if best is None:
                raise
            reason = "max_seconds" if clock.remaining <= 0 else "breakdown"
            continue
        state = _lines_answer.state(made, seed)
        now = Outcome(_lines_answer.remake(problem, state), state, _notes(made, state))
        spent = np.array([time.perf_counter() - begin, sum(i.coefficients.size for i in made.intervals)])
        ahead, cost = spent * np.maximum(GROWTH, spent / cost), spent
        if best:
            error = difference(problem, best.function, now.function, seed, SAMPLE) + local
        best, marches = now, marches + 1
        reasons = {
            "tolerance": error <= tolerance,
            "coefficients": made.missing > 0,
            "max_steps": marches == most,
            "stagnation": local <= FINEST,
            "max_seconds": ahead[0] > clock.remaining,
            "memory": ahead[1] > LARGEST,
        }
        reason = next((name for name, holds in reasons.items() if holds), "")
        local = max(local / FINER, FINEST)
    return concluded(best, tolerance, error, marches, reason)


def _once(system: Semilinear, tolerance: float, seed: int, coefficients: int, report: Report) -> Exponential[Sines]:
    basis = Sines(system, [LOWEST] * len(system.axes), seed)
    return Exponential(basis, tolerance, coefficients).run(report)


def _notes(made: Exponential[Sines], state: Mapping[str, np.ndarray]) -> dict[str, float | str]:
    basis = made.grid
    return {
        "method": "random features in space, marched in time; on periodic axes a Fourier-Galerkin method",
        "features": state["coefficients"].shape[-1],
        "parameters": state["coefficients"].size,
        **{f"bandwidth_{a}": math.pi * m for a, m in zip(basis.system.axes, basis.reach, strict=True)},
        "steps": SUBSTEPS * len(made.intervals),
        "rejected_steps": SUBSTEPS * made.rejected,
        "held_out_residual": made.left_out,
    }
