"""Numbers as the tables show them."""

import math


def seconds_text(seconds: float) -> str:
    """Return seconds with two digits, and a dash where they are not known."""
    return "–" if math.isnan(seconds) else f"{seconds:.2g}" if seconds < 100 else f"{seconds:.0f}"


def plain(threshold: float) -> str:
    """Return an error to be reached as 1e-2."""
    mantissa, _, exponent = f"{threshold:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
