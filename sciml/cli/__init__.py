"""The command line: a dispatcher that imports nothing but the command asked for."""

import importlib
import os
import sys
from collections.abc import Sequence

from sciml.errors import Interrupted, SolveError, UserError, did_you_mean, short

COMMANDS = {
    "train": (
        "sciml.cli.train",
        "solve a problem, score the answer and compare it with the classical baseline",
    ),
    "list": ("sciml.cli.catalogue", "problems and solvers, one line each"),
    "show": ("sciml.cli.show", "the equations, parameters and partners of a problem or solver"),
    "matrix": ("sciml.cli.matrix", "which solver fits which problem, and why not"),
    "bench": ("sciml.bench.command", "run many solvers on many problems, and write one table"),
    "table": ("sciml.bench.table", "write the table again from run folders"),
    "dataset": ("sciml.cli.dataset", "write many solved examples of a problem to disk, to train on elsewhere"),
    "completion": ("sciml.cli.completion", "a script that completes words in bash or zsh"),
}
"""By command: the module whose ``main(words)`` runs it and returns an exit code, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``sciml``; return its exit code: 0, 1 (a solve broke down), 2 (a user's mistake), 128 + signal."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _dispatch([w for w in words if w != "--debug"])
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter's own flush at exit must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        message, code = _explain(error)
        print(f"sciml: {' '.join(message.split())}", file=sys.stderr)
        return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    command, rest = words[0], words[1:]
    if command == "--version":
        from importlib.metadata import version

        print(version("sciml-solvers"))
        return 0
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UserError(f"no command {short(command)}{did_you_mean(command, COMMANDS)} (known: {known})")
    return importlib.import_module(COMMANDS[command][0]).main(rest)


def usage() -> str:
    """Return what ``sciml --help`` prints."""
    lines = [f"  {name:12}{does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sciml COMMAND [key=value ...]",
            "",
            "State a scientific problem once, solve it with neural and classical solvers, compare them.",
            "",
            *lines,
            "",
            "example: sciml train problem=heat solver=pinn seed=1 problem.diffusivity=0.2",
            "Every command has --help; --debug shows the traceback of an error.",
        ]
    )


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the line and the exit code for an error."""
    match error:
        case UserError():
            return str(error), 2
        case SolveError():
            return str(error), 1
        case Interrupted():
            return str(error), 128 + error.signal
        case KeyboardInterrupt():
            return "interrupted", 130
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1
