"""The view of likelihood-free inference: a prior and a sampler, no likelihood."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.errors import SolveError, UserError
from sciml.inference.c2st import c2st
from sciml.inference.calibration import commonness
from sciml.inference.draws import Draws, RandomDraws
from sciml.inference.priors import Prior
from sciml.inference.simulations import Simulations, Split, simulations, source
from sciml.inference.tape import Layout, Traced, layout, log_likelihood, trace
from sciml.problem import Complaint, Problem, Table, Variable
from sciml.solution import Posterior, Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPLICAS = 200
"""Posterior samples at which data are simulated again."""


@dataclass(frozen=True)
class Attempt:
    """Simulations that ended, one way or another.

    Args:
        rows: which of the parameters they were made at, shape (n,).
        x: data, shape (n, data), float64.
        failures: why each failed, in one line; empty where it did not.
    """

    rows: np.ndarray
    x: np.ndarray
    failures: list[str]


class Simulator(Problem):
    """Parameters θ ~ p(θ) make data x ~ p(x|θ) that can be drawn but not evaluated; p(θ|x) is asked for.

    A solution maps observations to posterior means and draws posterior samples given any observation; it is
    scored at ``observed``, against ``reference``.
    """

    primary = "c2st"
    thresholds = (0.9, 0.7, 0.6)
    parameters: ClassVar[tuple[Variable, ...]]
    data: ClassVar[tuple[Variable, ...]]
    failures: Literal["excluded", "fatal"] = "fatal"
    """Whether simulations that fail, or are not finite, are left out or end the run."""
    unrelated: ClassVar[tuple[str, ...]] = ("observation", "samples")
    """Arguments of the constructor that simulations do not depend on."""

    @abstractmethod
    def prior(self) -> Prior:
        """Return what is believed of the parameters before any data."""

    @abstractmethod
    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        """Return data (n, data) for parameters (n, parameters), with all randomness taken from ``draw``."""

    @abstractmethod
    def observed(self) -> np.ndarray:
        """Return the observation whose posterior is scored, shape (data,)."""

    @abstractmethod
    def reference(self) -> np.ndarray:
        """Return posterior samples given ``observed``, shape (samples, parameters); always the same."""

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return self.data

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return self.parameters

    @property
    def store(self) -> Path | None:
        """Where simulations are kept, ``$SCIML_SIMULATIONS``; None keeps none."""
        folder = os.environ.get("SCIML_SIMULATIONS")
        return Path(folder) if folder else None

    @property
    def program(self) -> str:
        """What simulations kept on disk must have been made by to be used again: the source of this class."""
        return source(type(self), Simulator)

    def simulations(self, count: int, seed: int, split: Split = "train") -> Simulations:
        """Return the first ``count`` simulations from the prior of a seed, for whoever asks the same ones.

        Raises:
            UserError: fewer simulations than parameters.
            SolveError: a simulation failed where that is fatal, all did, or all are alike.
        """
        return simulations(self, count, seed, split)

    def attempt(self, theta: Tensor, draw: Draws, wanted: np.ndarray) -> Iterator[Attempt]:
        """Simulate at parameters (n, parameters) and yield what ends, the wanted rows (m,) among it.

        Raises:
            SolveError: data of another shape or type.
        """
        x = self._simulated(theta, draw)
        said = ["" if good else "it returned NaN or infinity" for good in x.isfinite().all(dim=1).tolist()]
        yield Attempt(np.arange(len(theta)), x.numpy(), said)

    def joint(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw pairs from p(θ) p(x|θ), shapes (count, parameters) and (count, data), float64.

        Where failures are excluded there are fewer of them.

        Raises:
            SolveError: the simulator returned another shape, or numbers that are not finite.
        """
        theta = self.prior().sample(count, generator)
        x = self.simulated(theta, generator)
        good = x.isfinite().all(dim=1)
        if not good.any():
            raise SolveError(f"{self.name}: every simulation failed, the first at {theta[0].tolist()}")
        return theta[good], x[good]

    def simulated(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Draw data (n, data) at parameters (n, parameters), float64; NaN where failures are excluded and it failed.

        Raises:
            SolveError: the simulator returned another shape, or a simulation failed where that is fatal.
        """
        x = torch.full((len(theta), len(self.data)), torch.nan, dtype=torch.float64)
        for found in self.attempt(theta, RandomDraws(len(theta), generator), np.arange(len(theta))):
            good = np.array([not text for text in found.failures])
            x[found.rows[good]] = torch.from_numpy(found.x[good])
            if self.failures == "fatal" and not good.all():
                row = int(np.argmin(good))
                at = theta[found.rows[row]].tolist()
                raise SolveError(f"{self.name}: a simulation at {at} failed: {found.failures[row]}")
        return x

    def _simulated(self, theta: Tensor, draw: Draws) -> Tensor:
        x = self.simulate(theta, draw)
        expected = (len(theta), len(self.data))
        if x.shape != expected:
            raise SolveError(f"{self.name}: simulate should return data of shape {expected}, got {tuple(x.shape)}")
        if x.is_complex():
            raise SolveError(f"{self.name}: simulate should return real numbers, got {x.dtype}")
        return x.double()

    def complaints(self) -> Iterator[Complaint]:
        observed = self.observed()
        sizes = {
            "prior": (len(self.prior().marginals), "parameter", len(self.parameters)),
            "observation": (observed.size, "datum", len(self.data)),
        }
        for what, (got, each, size) in sizes.items():
            if got != size:
                yield Complaint(f"expected its {what} to have a number for each {each}, {size}; got {got}", fatal=True)
        if not np.isfinite(observed).all():
            yield Complaint("expected a finite observation, got NaN or infinity; leave those data out", fatal=True)

    def mine(self, theta: Tensor, generator: torch.Generator) -> Traced:
        """Simulate at parameters (n, parameters) and keep all draws, their joint log-probability and its score.

        Raises:
            UserError: data that depend on the parameters other than through draws have no joint density.
        """
        return trace(self.simulate, theta, RandomDraws(len(theta), generator))

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(x|θ) of parameters (n, parameters) at data (n, data), shape (n,), up to a function of x.

        A simulator whose data are its draws, none of them latent, is its own likelihood; others that know it
        in closed form say so here.

        Raises:
            UserError: draws stay latent, so that the likelihood is not known.
        """
        if self.layout is None:
            raise UserError(f"{self.name} has no known likelihood: some of its draws are not among its data")
        return log_likelihood(self.simulate, self.layout.values(x), theta)

    @property
    def tractable(self) -> bool:
        """Whether the likelihood is known."""
        return type(self).log_likelihood is not Simulator.log_likelihood or self.layout is not None

    @cached_property
    def unmined(self) -> str | None:
        """Why simulations have no joint density with their latent draws, in one line; None where they have."""
        generator = torch.Generator().manual_seed(0)
        try:
            self.mine(self.prior().sample(1, generator), generator)
        except UserError as error:
            return str(error)
        return None

    @cached_property
    def layout(self) -> Layout | None:
        """Where each draw stands among the data; None where a draw stays latent."""
        middle = torch.full((1, len(self.parameters)), 0.5, dtype=torch.float64)
        return layout(self.simulate, self.prior().quantile(middle))

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        """Return how far the posterior samples are from the reference, and what they cost.

        ``c2st``: accuracy of the classifier two-sample test, 0.5 at best. ``mean_error``,
        ``deviation_error``: root mean squares over parameters of the errors of posterior means and
        deviations, in reference deviations. ``predictive_p``: share of the data simulated at posterior samples that
        are no more usual among them than the observation is, near 0 where the posterior does not explain it.
        ``simulator_calls``: simulations that the solver used. The samples are those of the solution file; ``seed`` is
        that of the classifier.
        """
        reference = self.reference()
        samples = self._samples(solution, len(reference))
        deviation = reference.std(axis=0)
        return {
            "c2st": c2st(reference, samples, seed),
            "mean_error": _rms((samples.mean(axis=0) - reference.mean(axis=0)) / deviation),
            "deviation_error": _rms(samples.std(axis=0) / deviation - 1),
            "predictive_p": self._predictive_p(solution),
            "simulator_calls": float(solution.notes.get("simulator_calls", 0)),
        }

    def trivial(self) -> Posterior:
        prior = self.prior()
        mean = prior.moments[0].numpy()

        def sampler(count: int, observation: np.ndarray, seed: int) -> np.ndarray:
            return prior.sample(count, torch.Generator().manual_seed(seed)).numpy()

        def density(theta: np.ndarray, observation: np.ndarray) -> np.ndarray:
            return prior.log_prob(torch.from_numpy(theta)).numpy()

        return Posterior(self, lambda x: np.tile(mean, (len(x), 1)), sampler=sampler, density=density)

    def table(self, solution: Solution) -> Table:
        reference = self.reference()
        samples = self._samples(solution, len(reference))
        arrays = {}
        for k, parameter in enumerate(self.parameters):
            arrays[parameter.name] = (("sample",), samples[:, k])
            arrays[f"{parameter.name}_reference"] = (("sample",), reference[:, k])
        return Table({"sample": np.arange(len(samples))}, arrays, {p.name: p for p in self.parameters})

    def figures(self, solution: Solution) -> Iterator[tuple[str, "Figure"]]:
        from sciml.inference.corner import corner_figure
        from sciml.inference.figures import calibration_figure, predictive_figure, rank_figure

        reference = self.reference()
        yield "posterior", corner_figure(self.parameters, self._samples(solution, len(reference)), reference)
        yield "predictive", predictive_figure(self.data, self.replicas(solution), self.observed())
        if isinstance(solution, Posterior) and solution.calibration:
            yield "ranks", rank_figure(self.parameters, solution.calibration)
            yield "calibration", calibration_figure(self.parameters, solution.calibration)

    def replicas(self, solution: Solution) -> np.ndarray:
        """Return data simulated at samples of a posterior given ``observed``, shape (n, data), failed ones left out."""
        theta = torch.from_numpy(self._samples(solution, REPLICAS))
        x = self.simulated(theta, torch.Generator().manual_seed(0))
        return x[x.isfinite().all(dim=1)].numpy()

    def _predictive_p(self, solution: Solution) -> float:
        drawn = torch.from_numpy(self.replicas(solution))
        if len(drawn) < 2:
            return 0.0
        deviation = drawn.std(dim=0)
        scale = torch.where(deviation > 0, deviation, 1)
        return commonness(drawn / scale, torch.from_numpy(self.observed()) / scale)

    def _samples(self, solution: Solution, count: int) -> np.ndarray:
        if not isinstance(solution, Posterior):
            raise UserError(f"{self.name} expects a Posterior, which can be sampled, got a {type(solution).__name__}")
        return solution.sample(count, self.observed())


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
