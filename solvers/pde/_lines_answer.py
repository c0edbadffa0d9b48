"""What a march by lines found: few moments and features of it, and the function that they make."""

from collections.abc import Mapping

import numpy as np

from sciml.pde.collocation import Pieces
from sciml.views.residual import Residual

from ._cells import Function
from ._etdrk4 import REFERENCE, SUBSTEPS, Exponential, Interval
from ._lines_basis import Sines

BLOCK = 256
"""Points evaluated at once."""
SHARE = 0.1
"""Of the tolerance, by which a longer polynomial in time may miss moments."""
SMALL = 1e-3
"""Of the tolerance; waves whose amplitudes are always below this share of the greatest one are dropped."""
TWICE = Pieces(np.array([-1.0, 1.0]), REFERENCE).matrix(np.linspace(-1, 1, 2 * SUBSTEPS + 1)).toarray()
"""From the moments of an interval to those of its halves."""


def state(made: Exponential[Sines], seed: int) -> dict[str, np.ndarray]:
    """Return a march as arrays.

    Args:
        made: the march.
        seed: of the phases.
    """
    intervals, basis = _merged(made), made.grid
    sizes = np.stack([basis.adopt(np.abs(i.coefficients).max(axis=0)) for i in intervals]).max(axis=0)
    kept = (sizes > SMALL * made.tolerance * sizes.max(axis=1, keepdims=True)).any(axis=0)
    phases = np.random.default_rng([seed, 0]).uniform(0, 2 * np.pi, len(basis.numbers))[kept]
    moments = [np.compress(kept, basis.adopt(i.coefficients), axis=-1) for i in intervals]
    whole = np.concatenate([moments[0][:1], *(m[1:] for m in moments)]) * np.exp(-1j * phases)
    return {
        "waves": basis.numbers[kept],
        "phases": phases,
        "times": np.array([made.begin, *(i.end for i in intervals)]),
        "coefficients": np.conj(whole).view(float),
    }


def _merged(made: Exponential[Sines]) -> list[Interval]:
    """Return a march's intervals, neighbours of one length joined where every other moment tells the rest."""
    limit, done = SHARE * made.tolerance, []
    sizes = np.max([_norms(i.coefficients).max(axis=0) for i in made.intervals], axis=0)
    for interval in made.intervals:
        done.append(interval)
        while len(done) > 1 and np.isclose(done[-1].end - done[-1].start, done[-2].end - done[-2].start):
            first, second = done[-2:]
            fine = np.concatenate([made.grid.adopt(first.coefficients), made.grid.adopt(second.coefficients)[1:]])
            if np.any(_norms(np.tensordot(TWICE, fine[::2], 1) - fine).max(axis=0) > limit * sizes):
                break
            done[-2:] = [Interval(first.start, second.end, fine[::2])]
    return done


def _norms(coefficients: np.ndarray) -> np.ndarray:
    """Return the root mean square of fields over space but for a factor, shape (moments, fields)."""
    return np.linalg.norm(coefficients, axis=-1)


def remake(problem: Residual, state: Mapping[str, np.ndarray]) -> Function:
    """Return the function of a march again from its state.

    Coefficients, shape (moments, fields, features), belong to ``cos(k . z + b)`` and ``sin(k . z + b)`` in turn; a
    polynomial in time joins the moments of each interval.
    """
    times, coefficients = state["times"], state["coefficients"]
    along = problem.region.index("t")
    bounds = np.delete(problem.region.bounds, along, axis=0)

    def block(points: np.ndarray, piece: int) -> np.ndarray:
        t, which = np.unique(points[:, along], return_inverse=True)
        rows = Pieces(times[piece : piece + 2], REFERENCE).matrix(t).toarray()
        moments = coefficients[SUBSTEPS * piece : SUBSTEPS * (piece + 1) + 1]
        if len(t) < len(moments):
            moments, rows = np.tensordot(rows, moments, 1), np.eye(len(t))
        z = (np.delete(points, along, axis=1) - bounds[:, 0]) / np.ptp(bounds, axis=1)
        waves = _features(z, state["waves"], state["phases"])
        found = (waves @ moments.reshape(-1, waves.shape[1]).T).reshape(len(points), *moments.shape[:2])
        return np.einsum("nm,nmf->nf", rows[which], found)

    def function(points: np.ndarray) -> np.ndarray:
        pieces = np.clip(np.searchsorted(times, points[:, along], side="right") - 1, 0, len(times) - 2)
        values = np.empty((len(points), coefficients.shape[1]))
        for piece in np.unique(pieces):
            chosen = np.flatnonzero(pieces == piece)
            for k in range(0, len(chosen), BLOCK):
                rows = chosen[k : k + BLOCK]
                values[rows] = block(points[rows], piece)
        return values

    return function


def _features(z: np.ndarray, waves: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Return cosine and sine in turn of all waves, shape (points, features), as products over the axes."""
    made = np.exp(1j * phases)
    for axis, numbers in enumerate(waves.T):
        table = np.exp(2j * np.pi * np.outer(z[:, axis], np.arange(numbers.min(), numbers.max() + 1)))
        made = made * np.take(table, numbers - numbers.min(), axis=1)
    return made.view(float)
