"""Stretches of training that several methods have."""

from typing import Literal

from sciml.neural import Phase


def cooled(optimizer: Literal["adam", "soap"], steps: int, learning_rate: float) -> list[Phase]:
    """Return first-order steps whose learning rate falls along a cosine to a hundredth; none without steps."""
    return [Phase(optimizer, steps, learning_rate, decay=0.01)] if steps else []


def rounds(steps: int, every: int) -> list[Phase]:
    """Return steps of L-BFGS that begin anew, on another batch, after so many."""
    whole, rest = divmod(steps, every)
    return [Phase("lbfgs", length) for length in [every] * whole + [rest] * bool(rest)]
