"""``sciml bench``: every pair of problem and solver in its own process, and one table over all."""

import sys
from collections.abc import Sequence

from sciml.bench.choices import read_choices

WORKER = (sys.executable, "-m", "sciml", "train")
USAGE = """usage: sciml bench [suite=NAME] [problem=A,B|all] [solver=A,B|all] [seed=0,1,2] [KEY=VALUE ...]

Run every cell in its own process and write one table. Cells that are complete are not run again.

  suite=NAME       choices in configs/suite/NAME.yaml, below what stands on the command line
  jobs=1           cells at once; each gets cores / jobs threads
  timeout=3600     seconds of one cell, after which it counts as failed
  memory=GIB       memory of one cell; without it, its share of what is free
  retries=1        how often a killed cell is started again
  dir=bench        folder of the runs, the table and the figures
  trainer.KEY=V    a setting of every training, such as trainer.precision=64
  problem.KEY=V    a parameter of the one problem named; solver.KEY=V likewise"""


def main(argv: Sequence[str], worker: Sequence[str] = WORKER) -> int:
    """Run ``sciml bench``.

    Args:
        argv: ``key=value`` words.
        worker: the program that runs one cell, before its words.

    Returns:
        0 once every cell ended, well or not; 130 after Ctrl-C.

    Raises:
        UserError: an unknown name or key, a wrong value, or a folder that another benchmark uses.
    """
    if "--help" in argv or "-h" in argv:
        print(USAGE)
        return 0
    choices = read_choices(argv)

    from sciml.bench.runner import run

    return run(choices, worker)
