"""The arguments of ``sciml bench``, checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from sciml.parameters import Configured, Count, Positive

Names = Annotated[tuple[str, ...], MinLen(1)]
Seeds = Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)]
Settings = Mapping[str, Any]


class Benchmark(Configured):
    """The arguments of ``sciml bench``.

    Args:
        problem: names of problems; ``all`` takes every registered one.
        solver: names of solvers; ``all`` takes every registered one.
        seed: seeds of solvers that depend on one.
        ladder_seeds: how many of them, from the first on, the steps of ladders run; None: all. Steps on fewer seeds
            tell of error and time, and never decide which solver wins.
        jobs: cells run at once; each gets cores / jobs threads.
        timeout: seconds of one cell, after which it has failed.
        memory: GiB of one cell, after which it has failed; None takes its share of what is free.
        retries: how often a killed cell is started again.
        dir: the benchmark's folder.
        problem_parameters: parameters by the problem's name.
        solver_parameters: parameters by the solver's name.
        pair_parameters: ``{problem: {solver: {parameter: value}}}``, parameters of a solver for one problem.
        trainer: settings of every training.
        targets: ``{problem: {solver: {error: ..., seconds: ...}}}``, what the table compares the medians with.
    """

    def __init__(
        self,
        problem: Names,
        solver: Names,
        seed: Seeds,
        ladder_seeds: Count | None = None,
        jobs: Count = 1,
        timeout: Positive = 3600.0,
        memory: Positive | None = None,
        retries: Annotated[int, Ge(0)] = 1,
        dir: str = "bench",
        problem_parameters: Mapping[str, Settings] | None = None,
        solver_parameters: Mapping[str, Settings] | None = None,
        pair_parameters: Mapping[str, Mapping[str, Settings]] | None = None,
        trainer: Settings | None = None,
        targets: Mapping[str, Mapping[str, Settings]] | None = None,
    ) -> None:
        self.problem = tuple(dict.fromkeys(problem))
        self.solver = tuple(dict.fromkeys(solver))
        self.seed = tuple(dict.fromkeys(seed))
        self.ladder_seeds = ladder_seeds
        self.jobs = jobs
        self.timeout = timeout
        self.memory = memory
        self.retries = retries
        self.folder = Path(dir)
        self.problem_parameters = problem_parameters or {}
        self.solver_parameters = solver_parameters or {}
        self.pair_parameters = pair_parameters or {}
        self.trainer = trainer or {}
        self.targets = targets or {}
