"""``sciml matrix``: which solver fits which problem, and why not."""

from collections.abc import Sequence

from sciml.errors import UserError, short
from sciml.registry import entries, misfits

USAGE = """usage: sciml matrix

A table of all problems and solvers with their default parameters: + where a pair fits, - where it
does not, and below the reason of every -.

example: sciml matrix"""


def main(words: Sequence[str]) -> int:
    """Run ``sciml matrix``."""
    if "--help" in words or "-h" in words:
        print(USAGE)
        return 0
    if words:
        raise UserError(f"sciml matrix takes no arguments, got {short(words[0])}")
    solvers = list(entries("solver"))
    width = max(map(len, entries("problem")))
    print(" " * width, *solvers, sep="  ")
    reasons = []
    for problem, entry in entries("problem").items():
        found = misfits(entry.load()())
        print(f"{problem:{width}}", *(f"{'-' if found[s] else '+':{len(s)}}" for s in solvers), sep="  ")
        reasons += [reason for reason in found.values() if reason]
    print("", *reasons, sep="\n")
    return 0
