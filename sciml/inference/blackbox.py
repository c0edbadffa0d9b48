"""Simulators that can only be run: a function of one parameter vector, or a program."""

import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sciml.errors import UserError, short
from sciml.inference.draws import Draws
from sciml.inference.tape import Layout
from sciml.inference.workers import Outcome, run_each, run_executable
from sciml.parameters import Count, Positive
from sciml.problem import Complaint
from sciml.views.simulator import Attempt, Simulator


class BlackBox(Simulator):
    """A simulator of which nothing is seen but what comes out of a run: no draws, no likelihood, no joint score.

    Simulations run in processes of their own. Whatever becomes of one (an exception, NaN, numbers of another shape
    or type, no end in time, a crash) is recorded for its row alone, and what has been simulated is kept on disk.

    Args:
        workers: processes at once.
        seconds: that one simulation may take.
        failures: whether rows that failed are left out, their share reported, or end the run.
    """

    unrelated = (*Simulator.unrelated, "workers", "seconds", "failures")

    def __init__(
        self,
        workers: Count = 2,
        seconds: Positive = 60.0,
        failures: Literal["excluded", "fatal"] = "excluded",
    ) -> None:
        self.workers = workers
        self.seconds = seconds
        self.failures = failures

    @abstractmethod
    def run(self, theta: np.ndarray, seed: int) -> ArrayLike:
        """Return data (data,) of one parameter vector (parameters,); every random number should follow from the seed.

        The global generators of Python, numpy and torch start from it already.
        """

    @property
    def store(self) -> Path:
        """Where simulations are kept: ``$SCIML_SIMULATIONS``, or the folder ``simulations``."""
        return super().store or Path("simulations")

    @property
    def layout(self) -> Layout | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return None

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        """Run at each row of parameters (n, parameters); data of a run that failed are NaN.

        Raises:
            UserError: derivatives are asked for, or a tape, which a black box has none of.
        """
        if theta.requires_grad:
            raise UserError(f"{self.name} is a black box: its draws are not seen, so that it has no joint score")
        x = torch.full((len(theta), len(self.data)), torch.nan, dtype=torch.float64)
        for row, outcome in self._each(theta, draw, np.arange(len(theta))):
            x[row] = torch.from_numpy(outcome.data)
        return x

    def attempt(self, theta: Tensor, draw: Draws, wanted: np.ndarray) -> Iterator[Attempt]:
        for row, outcome in self._each(theta, draw, wanted):
            yield Attempt(np.array([row]), outcome.data[None], [outcome.failure])

    def _each(self, theta: Tensor, draw: Draws, wanted: np.ndarray) -> Iterator[tuple[int, Outcome]]:
        seeds = draw.uniform(0.0, 2.0**53).long()[wanted].tolist()
        limits = self.workers, self.seconds
        for k, outcome in run_each(self.run, theta[wanted].numpy(), seeds, len(self.data), *limits):
            yield int(wanted[k]), outcome


class Executable(BlackBox):
    """A program that reads ``{"parameters": {name: number, ...}, "seed": number}`` and prints its data, both as JSON.

    It prints a list of numbers, or an object with one number for each name of the data.
    """

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the program and its arguments; no shell reads them."""

    def run(self, theta: np.ndarray, seed: int) -> ArrayLike:
        named = {p.name: float(value) for p, value in zip(self.parameters, theta, strict=True)}
        printed = run_executable(self.command(), json.dumps({"parameters": named, "seed": seed}))
        try:
            found = json.loads(printed)
        except ValueError:
            raise ValueError(f"expected JSON, got {short(printed.decode(errors='replace'))}") from None
        return [found[v.name] for v in self.data] if isinstance(found, dict) else found

    def complaints(self) -> Iterator[Complaint]:
        yield from super().complaints()
        program = os.fspath(self.command()[0])
        if shutil.which(program) is None:
            text = f"expected the executable {short(program)}, found none that may be run; name its path"
            yield Complaint(text, fatal=True)
