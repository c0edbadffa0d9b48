"""What a result must say of itself beside its error."""

from collections.abc import Mapping

GOOD_ENDS = ("", "solved", "schedule", "converged", "tolerance", "target_error", "target_loss", "answered")
"""Reasons to stop that leave nothing to say."""
MARK = " †"
"""What tables put behind the error of a result that has caveats."""


def caveats(notes: Mapping[str, float | str]) -> tuple[str, ...]:
    """Return what keeps a result from being all that was asked for, as the solver's notes say.

    That is a ``tolerance_met`` of ``no``, an observation that no simulation resembles (``misspecified``), and a
    ``stop_reason`` other than a schedule's end, convergence, a target that was reached or an answer found otherwise.
    """
    missed = ("tolerance not met",) if notes.get("tolerance_met") == "no" else ()
    if notes.get("misspecified") == "yes":
        missed = (*missed, "the observation resembles no simulation")
    reason = str(notes.get("stop_reason") or "")
    return missed if reason in GOOD_ENDS else (*missed, f"stopped by {reason}")
