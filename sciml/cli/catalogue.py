"""``sciml list``: problems and solvers, read from their files without importing them."""

import contextlib
import gc
from collections.abc import Iterator, Sequence

from sciml.configuration.choices import base_of, variants
from sciml.errors import UserError, short
from sciml.registry import Group, entries

USAGE = """usage: sciml list [problems|solvers]

Problems with the views they offer, solvers with the view they need, one line each.

example: sciml list solvers"""


def main(words: Sequence[str]) -> int:
    """Run ``sciml list``."""
    if "--help" in words or "-h" in words:
        print(USAGE)
        return 0
    unknown = [w for w in words if w not in ("problems", "solvers")]
    if unknown:
        raise UserError(f"sciml list has no {short(unknown[0])} (known: problems, solvers)")
    groups: tuple[Group, ...] = ("problem", "solver")
    shown: list[Group] = [g for g in groups if not words or f"{g}s" in words]
    with _uncollected():
        print("\n\n".join(f"{g}s\n" + "\n".join(_lines(g)) for g in shown))
    return 0


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector from the syntax trees of all files, which would take it a third of the whole time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _lines(group: Group) -> list[str]:
    found = entries(group)
    rows = [
        (name, ", ".join(e.views) if group == "problem" else f"{e.kind}, needs {e.needs}", e.source.summary)
        for name, e in found.items()
    ]
    rows += [(v, f"variant of {base_of(group, v)}", "") for v in variants(group)]
    widths = [max((len(row[k]) for row in rows), default=0) for k in (0, 1)]
    return [f"  {n:{widths[0]}}  {what:{widths[1]}}  {summary}".rstrip() for n, what, summary in rows]
