"""What a result must say of itself beside its error."""

from collections.abc import Mapping

GOOD_ENDS = ("", "solved", "schedule", "converged", "tolerance", "target_error", "target_loss", "answered")
"""Reasons to stop that leave nothing to say."""
LEFT = 0.01
"""Share of what equations add up that a solution may leave, and no more be said."""
MARK = " †"
"""What tables put behind the error of a result that has caveats."""


def caveats(notes: Mapping[str, float | str]) -> tuple[str, ...]:
    """Return what keeps a result from being all that was asked for, as the solver's notes say.

    That is a ``tolerance_met`` of ``no``, a ``held_out_residual`` above a hundredth, an observation that no
    simulation resembles (``misspecified``), and a ``stop_reason`` other than a schedule's end, convergence, a target
    that was reached or an answer found otherwise.
    """
    missed = ("tolerance not met",) if notes.get("tolerance_met") == "no" else ()
    if (left := float(notes.get("held_out_residual", 0.0))) > LEFT:
        missed = (*missed, f"equations left unsolved to {left:.0%}")
    if notes.get("misspecified") == "yes":
        missed = (*missed, "the observation resembles no simulation")
    reason = str(notes.get("stop_reason") or "")
    return missed if reason in GOOD_ENDS else (*missed, f"stopped by {reason}")
