"""The answer that looks at no physics, which every solver must beat."""

from collections.abc import Mapping

import numpy as np

from sciml.problem import Problem
from sciml.solution import Solution
from sciml.solver import Context, Solver


class Trivial(Solver[Problem]):
    """The best constant, or the prior: what a problem calls its trivial answer."""

    kind = "trivial"
    needs = Problem
    deterministic = True

    def solve(self, problem: Problem, context: Context) -> Solution:
        return problem.trivial()

    def restore(self, problem: Problem, state: Mapping[str, np.ndarray]) -> Solution:
        return problem.trivial()
