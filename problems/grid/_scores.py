"""How far a load flow is from the reference, and how far from physics, in the LIPS benchmark's terms.

Source: M. Leyli Abadi, A. Marot, J. Picault, D. Danan, M. Yagoubi, B. Donnot, S. Attoui, P. Dimitrov, A. Farjallah and
C. Etienam, LIPS - Learning Industrial Physical Simulation benchmark suite, NeurIPS datasets and benchmarks, 2022.
Thresholds and points are those of its power grid challenge, 2024: notebook 5_Scoring of
github.com/IRT-SystemX/ml4physim_startingkit_powergrid.
"""

from collections.abc import Mapping

import numpy as np

from sciml.grid.newton_batch import voltages
from sciml.grid.powergrid import PowerGrid

_LOSSES = 0.04
"""The share of generation beyond which LIPS holds losses for impossible."""

LEARNING = {"current_mape90": (0.02, 0.05), "flow_mape10": (0.02, 0.05), "vm_error_kv": (0.2, 0.5)}
PHYSICS = {
    "negative_current": (0.01, 0.05),
    "negative_voltage": (0.01, 0.05),
    "negative_loss": (0.01, 0.05),
    "nonzero_off": (0.01, 0.05),
    "excessive_loss": (0.01, 0.05),
    "global_balance": (0.05, 0.1),
    "local_balance": (0.05, 0.1),
    "joule": (0.01, 0.05),
}
"""By score, below what LIPS calls it great, and acceptable."""
_SHARE = 0.66
"""Of the points, for what is learnt."""


def load_flow_scores(
    grid: PowerGrid, status: np.ndarray, outputs: np.ndarray, truth: np.ndarray, mismatch: np.ndarray, couplers: int
) -> dict[str, float]:
    """Return every score of n load flows.

    ``flow_error`` (relative L2 of active flows), ``flow_error_mw`` and ``current_error_a`` (mean absolute, at both
    ends), ``flow_mape90`` and ``current_mape90`` (relative, on the largest tenth as in LIPS's MAPE_90),
    ``flow_mape10`` and ``current_mape10`` (on the largest nine tenths), ``vm_error`` (root mean square, p.u.),
    ``va_error`` (root mean square, degrees), ``vm_error_kv`` (mean absolute, at both ends of all branches),
    ``mismatch_max`` and ``mismatch_mean`` (p.u.), those of ``physics``, and ``lips_points`` of all these. Flows and
    currents follow from voltages, so that some checks of physics hold for any answer.

    Args:
        grid: the arrays.
        status: of the branches, shape (n, branches).
        outputs: magnitudes in p.u. and angles in degrees, shape (n, outputs).
        truth: of the reference, like ``outputs``.
        mismatch: in p.u., shape (n, components).
        couplers: the branches at the end whose flows are not scored, hanging on angles that hardly differ.
    """
    (p, current), (true_p, true_current) = (_flows(grid, status, each) for each in (outputs, truth))
    laws = physics(grid, status, outputs[:, : len(grid.numbers)], p, current, true_p)
    scored = len(grid.source) - couplers
    p, current, true_p, true_current = (each[..., :scored] for each in (p, current, true_p, true_current))
    vm_error, va_error = np.split(outputs - truth, 2, axis=1)
    ends = np.stack([grid.source, grid.target])
    at_ends = np.abs(vm_error)[:, ends] * grid.kilovolts[ends] * (status != 0)[:, None]
    scores = {
        "flow_error": relative(p[:, 0], true_p[:, 0]),
        "flow_error_mw": float(np.abs(p - true_p).mean()),
        "current_error_a": float(np.abs(current - true_current).mean()),
        "flow_mape90": mape(p, true_p, 0.1),
        "flow_mape10": mape(p, true_p, 0.9),
        "current_mape90": mape(current, true_current, 0.1),
        "current_mape10": mape(current, true_current, 0.9),
        "vm_error": float(np.sqrt((vm_error**2).mean())),
        "va_error": float(np.sqrt((va_error**2).mean())),
        "vm_error_kv": float(at_ends.mean()),
        "mismatch_max": float(np.abs(mismatch).max()),
        "mismatch_mean": float(np.abs(mismatch).mean()),
        **laws,
    }
    return scores | {"lips_points": lips_points(scores)}


def lips_points(scores: Mapping[str, float]) -> float:
    """Return the points that LIPS gives for one split, before those for speed, from 0 to 1.

    Two for what is great, one for what is acceptable, as a share of the most there are: 0.66 of that of what is learnt,
    0.34 of that of physics. LIPS counts the two ends of a branch apart; here they count together.
    """

    def share(thresholds: Mapping[str, tuple[float, float]]) -> float:
        points = [(scores[name] < great) + (scores[name] < fair) for name, (great, fair) in thresholds.items()]
        return float(np.mean(points)) / 2

    return _SHARE * share(LEARNING) + (1 - _SHARE) * share(PHYSICS)


def _flows(grid: PowerGrid, status: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return active power in MW and currents in A at both ends of each branch, shape (n, 2, branches) each."""
    v = voltages(outputs)
    return np.real(grid.flows(v, status)), grid.currents(v, status)


def relative(values: np.ndarray, truth: np.ndarray) -> float:
    """Return the relative L2 error."""
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))


def mape(values: np.ndarray, truth: np.ndarray, share: float) -> float:
    """Return the mean relative error over the scenarios in which a quantity is largest, averaged over quantities.

    LIPS calls it MAPE_90 for the largest tenth, MAPE_10 for the largest nine tenths, by magnitude and of each
    quantity apart; and leaves out where the truth is no more than ``share`` (in MW or A).

    Args:
        values: shape (n, ...), the quantities along all axes but the first.
        truth: like ``values``.
        share: of the scenarios that count.

    Returns:
        A fraction; NaN where nothing counts.
    """
    values, truth = values.reshape(len(values), -1), truth.reshape(len(truth), -1)
    kept = max(1, int(share * len(truth)))
    rows = np.argpartition(np.abs(truth), len(truth) - kept, axis=0)[-kept:]
    values, truth = np.take_along_axis(values, rows, 0), np.take_along_axis(truth, rows, 0)
    counts = np.abs(truth) > share
    error = np.where(counts, np.abs(values - truth) / np.where(counts, np.abs(truth), 1), 0).sum(0)
    some = counts.any(0)
    return float((error[some] / counts.sum(0)[some]).mean()) if some.any() else np.nan


def physics(
    grid: PowerGrid, status: np.ndarray, vm: np.ndarray, p: np.ndarray, current: np.ndarray, true_p: np.ndarray
) -> dict[str, float]:
    """Return how often, or by how much, flows break the laws that LIPS checks; zero is best.

    ``negative_current``, ``negative_voltage``, ``negative_loss``: shares of the values below zero;
    ``nonzero_off``: share of the values of open branches that are not zero; ``excessive_loss``: share of the
    scenarios that lose more than 4 % of what is generated; ``global_balance``: generation less loads against
    losses, ``local_balance``: likewise at each bus, ``joule``: losses of lines against 3 r I², which charging lets even
    exact answers miss; all three as the sum of magnitudes of differences over that of the left sides.

    Args:
        grid: the arrays.
        status: of the branches, shape (n, branches).
        vm: voltage magnitudes in p.u., shape (n, buses).
        p: active power in MW, shape (n, 2, branches), like the next two.
        current: in A.
        true_p: of the reference, which says what is supplied at each bus.
    """
    off = np.broadcast_to(status[:, None] == 0, p.shape)
    loss, true_loss = p.sum(1), true_p.sum((1, 2))
    injected, carried = grid.at_buses(true_p), grid.at_buses(p)
    generated = np.maximum(injected, 0).sum(1)
    lines = (grid.tap == 1) & (grid.kilovolts[grid.source] == grid.kilovolts[grid.target])
    ohms = (np.real(grid.impedance) * grid.kilovolts[grid.source] ** 2 / grid.base)[lines]
    heat = 3e-6 * ohms * current[:, :, lines].mean(1) ** 2
    return {
        "negative_current": float((current < 0).mean()),
        "negative_voltage": float((vm < 0).mean()),
        "negative_loss": float((loss < -1e-9 * grid.base).mean()),
        "nonzero_off": float(np.concatenate([p[off], current[off]]).astype(bool).mean()) if off.any() else 0.0,
        "excessive_loss": float((loss.sum(1) > _LOSSES * generated).mean()),
        "global_balance": _weighted(true_loss, loss.sum(1)),
        "local_balance": _weighted(injected, carried),
        "joule": _weighted(loss[:, lines], heat),
    }


def _weighted(left: np.ndarray, right: np.ndarray) -> float:
    scale = np.abs(left).sum()
    return float(np.abs(left - right).sum() / scale) if scale else 0.0
