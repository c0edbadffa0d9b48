"""The errors a user meets: one line that says what was expected, what came, and the mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in what the user asked for; the command line prints its one line and exits with 2."""


class SolveError(Exception):
    """A solve that could not go on (a non-finite loss, a divergent Newton); the command line exits with 1."""


class Interrupted(KeyboardInterrupt):
    """A training was asked to stop by Ctrl-C or SIGTERM, and has written its checkpoint.

    Args:
        message: one line for the user.
        signal: the number of the signal that asked; a shell expects exit code 128 + signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def short(text: str) -> str:
    """Return a text as a message shows it: quoted, and cut where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` did you mean 'x'?`` for the known name nearest to ``name``, or an empty string."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def missing(what: str, package: str, extra: str) -> UserError:
    """Return the error that a package of an extra is not installed."""
    return UserError(f"{what} needs {package}, which is not installed; run pip install -e '.[{extra}]'")
