"""``sciml dataset``: many solved examples of a problem on disk."""

import time
from collections.abc import Sequence
from pathlib import Path

from sciml.configuration.words import Resumption, read_words
from sciml.errors import UserError, did_you_mean, short

USAGE = """usage: sciml dataset problem=NAME scenarios=COUNT [folder=FOLDER] [key=value ...]

Write solved scenarios of a power grid in shards, each whole or absent and with its SHA-256 beside
it. Stopped at any moment, the same command goes on where it was; what is damaged is made again.

  problem=NAME       one of sciml list, or path/to/file.py:Class
  problem.KEY=VALUE  a parameter of the problem (sciml show lists them); those of training say what is drawn
  scenarios=COUNT    rows, those that cannot be solved among them, flagged
  folder=FOLDER      where the shards lie; without it datasets/<problem>
  shard=10000        rows in a file
  workers=1          shards in the making at once

example: sciml dataset problem=ieee118 scenarios=100000 workers=2 problem.train_outages=[0,1,2]"""

_NUMBERS = {"scenarios": None, "shard": 10_000, "workers": 1}
KEYS = (*_NUMBERS, "folder")
"""What is named beside the problem."""


def main(words: Sequence[str]) -> int:
    """Run ``sciml dataset``."""
    if "--help" in words or "-h" in words:
        print(USAGE)
        return 0
    own = {key: value for key, _, value in (w.partition("=") for w in words) if key in KEYS}
    rest = [w for w in words if w.partition("=")[0] not in own]
    for key in (w.partition("=")[0] for w in rest):
        if key != "problem" and not key.startswith("problem."):
            known = ("problem", *KEYS)
            listed = f"{', '.join(known)}, problem.<parameter>"
            raise UserError(f"sciml dataset has no key {short(key)}{did_you_mean(key, known)} (known: {listed})")
    count, shard, workers = (_number(key, own.get(key), default) for key, default in _NUMBERS.items())
    request = read_words(rest)
    assert not isinstance(request, Resumption)
    folder = Path(own.get("folder") or Path("datasets", request.problem.option))
    from sciml.configuration.compose import compose
    from sciml.solver import require_posed
    from sciml.views.pairs import Pairs

    problem = compose(request)[1][0]
    if not isinstance(problem, Pairs):
        raise UserError(f"{problem.name} offers no view Pairs, whose examples are written; name a power grid")
    for line in require_posed(problem):
        print(f"warning: {line}")
    start = time.perf_counter()
    made = problem.record(folder, count, shard, workers)
    print(f"{made} of {-(-count // shard)} shards written to {folder} in {time.perf_counter() - start:.1f} s")
    return 0


def _number(key: str, text: str | None, default: int | None) -> int:
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal() or not int(text):
        got = "none" if text is None else short(text)
        raise UserError(f"{key} should be a whole number of at least one, got {got}; for instance {key}=1000")
    return int(text)
