"""Training flows on simulations, amortised or in rounds that close in on the observation."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor, nn

from sciml.errors import UserError
from sciml.inference.calibration import Calibration, familiarity, weighted
from sciml.inference.flows import Ensemble, FlowKind
from sciml.inference.local import local_c2st
from sciml.inference.priors import Prior, log_standard_normal
from sciml.inference.scales import DataScale
from sciml.inference.simulations import Simulations
from sciml.neural import NeuralSolver, Phase
from sciml.parameters import Count, Positive, Several
from sciml.sampling import systematic
from sciml.solution import Posterior
from sciml.views.simulator import Simulator

Kind = Literal["choose", "linear", "affine", "spline"]
Part = Literal["posterior", "likelihood"]
FOLDS = 10
"""One tenth of the simulations is held out from each member, another one from each."""
Members = Annotated[int, Interval(ge=1, le=FOLDS)]
LEAST = 50
"""Simulations of a round at least."""
CHECK = 25
"""Steps between two looks at held-out losses."""
CLOSING = 1e-4
"""Share of the posterior that a truncated prior may leave out."""
CLOSED = 2**13
"""Draws that show where the posterior ends."""
PAIRS = 60
"""Held-out simulations of each member by which flows are compared and their calibration is seen."""
RIVALS = 128
"""Draws that each is compared with."""
AVERAGED = 1024
"""Draws over which posterior means are taken."""
ASKED = 1000
"""Posterior draws given the observation at which the local two-sample test looks."""
PROPOSED = 2**18
"""Draws of the prior at most that are tried for a truncated one."""


class FlowSolver(NeuralSolver[Simulator]):
    """Flows of the posterior, of the likelihood or of both, trained on the same simulations.

    Parameters are seen as normal scores, which takes the prior to N(0, I) and its edges to infinity, or, where they
    are given, on their own or a logarithmic scale along with their squares; data as their `DataScale` says.
    In truncated rounds, later simulations come from the prior cut off where the posterior given the observation is
    below all but 10⁻⁴ of it: simulations of all rounds serve alike, since inside the cut each round follows the prior.
    Source: M. Deistler, P. Gonçalves, J. Macke, Truncated proposals for scalable and hassle-free simulation-based
    inference, 2022, arXiv 2210.04815.

    Args:
        simulations: simulator calls of all rounds.
        rounds: 1 answers any observation; with more, the later ones close in on the one that is scored.
        members: flows of each kind.
        flow: the kind of the flows; by default the one with the least held-out loss.
        width: units of a hidden layer.
        batch: simulations of a batch.
        steps: Adam steps of a round; the learning rate falls to a hundredth along a cosine.
        learning_rate: of the first step.

    Raises:
        UserError: fewer than 50 simulations a round.
    """

    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (500, 1_000, 10_000, 100_000)}
    theta: Tensor
    x: Tensor
    made: Tensor
    """Simulations made so far; fewer rows than that where the simulator failed."""
    rows: Tensor
    calibration: Tensor
    """Ranks and, last, the coverage of held-out simulations; NaN in rows that there are not."""

    def __init__(
        self,
        simulations: Several = 10_000,
        rounds: Count = 1,
        members: Members = 3,
        flow: Kind = "choose",
        width: Count = 50,
        batch: Count = 128,
        steps: Count = 1200,
        learning_rate: Positive = 2e-3,
    ) -> None:
        super().__init__()
        if simulations < LEAST * rounds:
            raise UserError(f"expected at least {LEAST} simulations a round, got {simulations} for {rounds}; make more")
        self.simulations = simulations
        self.rounds = rounds
        self.members = members
        self.flow: Kind = flow
        self.width = width
        self.batch = batch
        self.steps = steps
        self.learning_rate = learning_rate

    @property
    def kinds(self) -> tuple[FlowKind, ...]:
        """The kinds of flows among which the held-out loss chooses."""
        return ("linear", "affine", "spline") if self.flow == "choose" else (self.flow,)

    @abstractmethod
    def modelled(self, problem: Simulator) -> tuple[Part, ...]:
        """Return what is modelled by flows."""

    def choose(self) -> dict[str, float]:
        """Choose, once flows are trained, what answers; return what was chosen."""
        return {}

    @abstractmethod
    def closing(self, observation: np.ndarray) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return posterior samples as normal scores, (n, parameters), and the log density of normal scores."""

    @abstractmethod
    def drawn(self, count: int, observation: np.ndarray, seed: int) -> Tensor:
        """Draw parameters from the posterior given an observation, shape (count, parameters), float64."""

    @abstractmethod
    def density(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        """Return log p(θ|x) of parameters (n, parameters) inside the prior, shape (n,)."""

    def build(self, problem: Simulator) -> None:
        self.problem = problem
        self.simulation_seed = int(torch.randint(2**62, ()))
        sizes = len(problem.parameters), len(problem.data)
        for name, width in zip(("theta", "x"), sizes, strict=True):
            self.register_buffer(name, torch.zeros(self.simulations, width, dtype=self.real))
        for name in ("made", "rows"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))
        self.register_buffer("calibration", torch.full((self.members * PAIRS, sizes[0] + 1), torch.nan))
        self.compared: tuple[Tensor, Tensor] | None = None
        self.scale = DataScale(sizes[1], self.real)
        self.flows = nn.ModuleDict()
        for part in self.modelled(problem):
            features, context = sizes if part == "posterior" else (sizes[1], 2 * sizes[0])
            self.flows[part] = Ensemble(self.kinds, self.members, features, context, self.width, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return tuple(Phase("adam", self.steps, self.learning_rate, 0.01, stage) for stage in range(self.rounds))

    def begin(self, stage: int) -> None:
        wanted = self.simulations * (stage + 1) // self.rounds - int(self.made)
        if wanted > 0:
            self._simulate(stage, wanted)
            for part in self.flows if stage else ():
                self.ensemble(part).restart()
        rows = torch.arange(int(self.rows), device=self.theta.device)
        least = len(rows) // FOLDS
        self.held = torch.stack([rows[k::FOLDS][:least] for k in range(self.members)])
        self.own = [rows[rows % FOLDS != k] for k in range(self.members)]
        theta, prior = self.theta[: len(rows)].double().cpu(), self.problem.prior()
        self.scores, self.given = (part.to(self.theta) for part in (prior.normal_scores(theta), _given(prior, theta)))
        if wanted > 0 and not stage:
            for part in self.flows:
                self.ensemble(part).start([self.targets(own)[part] for own in self.own])

    @property
    def apart(self) -> int:
        """Simulations of the first round that do not follow the prior, from which flows do not learn."""
        return 0

    @cached_property
    def simulated(self) -> Simulations:
        """The simulations of the first round that follow the prior."""
        return self.problem.simulations(self.simulations // self.rounds - self.apart, self.seed)

    def _simulate(self, stage: int, wanted: int) -> None:
        if stage:
            self.choose()
            generator = torch.Generator().manual_seed(self.simulation_seed + stage)
            theta = self._truncated(wanted, generator)
            x = self.problem.simulated(theta, generator)
            good = x.isfinite().all(dim=1)
            theta, x = theta[good], x[good]
        else:
            theta, x = self.simulated.theta, self.simulated.x
            self.scale.fit(x)
        rows = slice(int(self.rows), int(self.rows) + len(x))
        self.theta[rows], self.x[rows] = theta.to(self.theta), x.to(self.x)
        self.made += wanted
        self.rows += len(x)

    def _truncated(self, wanted: int, generator: torch.Generator) -> Tensor:
        """Draw from the prior where the posterior is not negligible, shape (wanted, parameters)."""
        samples, density = self.closing(self.problem.observed())
        found = density(samples)
        floor = found.quantile(CLOSING)
        kept, tried = samples[:0], 0
        while len(kept) < wanted and tried < PROPOSED:
            drawn = torch.randn(2**14, samples.shape[1], generator=generator, dtype=samples.dtype)
            kept, tried = torch.cat([kept, drawn[density(drawn) >= floor]]), tried + len(drawn)
        if len(kept) < wanted:
            inside = (log_standard_normal(samples) - found).masked_fill(found < floor, -torch.inf).softmax(dim=0)
            kept = torch.cat([kept, samples[systematic(inside, wanted - len(kept), generator)]])
        return self.problem.prior().of_normal_scores(kept[:wanted].double())

    def given_of(self, scores: Tensor) -> Tensor:
        """Return the parameters of normal scores (n, parameters) on the scale where they are given, of their kind."""
        prior = self.problem.prior()
        return _given(prior, prior.of_normal_scores(scores.double().cpu())).to(scores)

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        device = generator.device
        rows = [own[torch.randint(len(own), (self.batch,), generator=generator, device=device)] for own in self.own]
        shape = self.batch, self.members, self.x.shape[1]
        noise = torch.rand(shape, generator=generator, device=device, dtype=self.real) - 0.5
        return {"rows": torch.stack(rows, dim=1), "noise": noise}

    def targets(self, rows: Tensor, noise: Tensor | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """Return what each part models and what it is given, at rows of the simulations."""
        x, found = self.x[rows], {}
        if "posterior" in self.flows:
            found["posterior"] = self.scores[rows], self.scale.context(x)
        if "likelihood" in self.flows:
            found["likelihood"] = self.scale(x, noise), self.given[rows]
        return found

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        targets = self.targets(batch["rows"].T, batch["noise"].transpose(0, 1))
        return {part: self.ensemble(part).loss(*rows) for part, rows in targets.items()}

    def adapt(self, batch: Mapping[str, Tensor], step: int | None) -> None:
        if step is not None and (step % CHECK == 0 or step == self.steps - 1):
            for part, rows in self.targets(self.held).items():
                self.ensemble(part).keep(*rows)

    def ensemble(self, part: str) -> Ensemble:
        """Return the flows of a part."""
        found = self.flows[part]
        assert isinstance(found, Ensemble)
        return found

    def draw(self, count: int, observation: np.ndarray, generator: torch.Generator) -> Tensor:
        """Draw normal scores from the posterior flows given an observation, shape (count, parameters), float64."""
        return self.ensemble("posterior").sample(count, self.context(observation), generator).double().cpu()

    def log_posterior(self, scores: Tensor, observation: np.ndarray) -> Tensor:
        """Return log q(u|x) of normal scores (n, parameters), shape (n,)."""
        c = self.context(observation)
        return self.ensemble("posterior").log_prob(scores.to(c), c.expand(len(scores), -1))

    def log_likelihood(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        """Return log q(x|θ) of parameters (n, parameters), shape (n,), up to a function of x."""
        y = self.scale(torch.as_tensor(observation, dtype=self.real, device=self.x.device))
        given = _given(self.problem.prior(), theta).to(y)
        return self.ensemble("likelihood").log_prob(y.expand(len(given), -1), given)

    @torch.no_grad()
    def rivals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return held-out parameters as normal scores, draws of the posterior flows given their data, and those data.

        Shapes (members, n, parameters), (members, n, rivals, parameters) and, as flows are given them, (members, n,
        data): each member draws for what was held out from it.
        """
        true, seen = self.targets(self.held[:, :PAIRS])["posterior"]
        generator = torch.Generator().manual_seed(self.simulation_seed)
        z = torch.randn(*true.shape[:2], RIVALS, true.shape[2], generator=generator, dtype=true.dtype).to(true)
        spread = seen[:, :, None].expand(-1, -1, RIVALS, -1)
        drawn = self.ensemble("posterior").bend(z.flatten(1, 2), spread.flatten(1, 2))
        return true, drawn.view_as(z), seen

    def calibrated(self, true: Tensor, drawn: Tensor, logs: Tensor) -> dict[str, float]:
        """Return how calibrated draws of log weights (members, n, rivals) are; keep what shows it."""
        generator = torch.Generator().manual_seed(self.simulation_seed)
        true, drawn = (self._natural(part.flatten(0, 1)) for part in (true, drawn))
        logs = logs.flatten(0, 1).double().cpu()
        found = weighted(true, drawn, logs, generator)
        shown = np.column_stack([found.ranks, found.coverage])
        self.calibration[: len(shown)] = torch.from_numpy(shown).to(self.calibration)
        one = torch.multinomial(logs.softmax(dim=1), 1, generator=generator)[:, 0]
        self.compared = true, drawn[torch.arange(len(drawn)), one]
        return found.notes

    def local(self) -> dict[str, float]:
        """Return whether the posterior is right at the observation, as far as held-out simulations tell."""
        if self.compared is None:
            return {}
        observation = self.problem.observed()
        samples = self.problem.prior().scaled(self.drawn(ASKED, observation, 0))
        seen = self.scale.context(self.x[self.held[:, :PAIRS]]).flatten(0, 1).double().cpu()
        generator = torch.Generator().manual_seed(self.simulation_seed)
        found = local_c2st(*self.compared, seen, samples, self.context(observation).double().cpu(), generator)
        return {"local_c2st_p": found.p_value}

    def _natural(self, scores: Tensor) -> Tensor:
        """Return the parameters of normal scores (..., parameters) in deviations, float64 on the CPU."""
        prior, flat = self.problem.prior(), scores.double().cpu().flatten(0, -2)
        return prior.scaled(prior.of_normal_scores(flat)).view(scores.shape)

    def context(self, observation: np.ndarray) -> Tensor:
        """Return an observation as networks are given it, shape (data,)."""
        return self.scale.context(torch.as_tensor(observation, dtype=self.real, device=self.x.device))

    def solution(self, problem: Simulator, notes: Mapping[str, float | str] | None = None) -> Posterior:
        plain, prior = super().solution(problem), problem.prior()
        said: dict[str, float | str] = {"simulator_calls": float(self.made)}
        if notes is not None:
            said |= {**notes, **self.told()}
        shown = self.calibration[~self.calibration[:, -1].isnan()].cpu().numpy()
        return Posterior(
            problem,
            plain.function,
            plain.state,
            said,
            sampler=lambda count, x, seed: self.drawn(count, x, seed).numpy(),
            density=lambda theta, x: prior.within(
                partial(self.density, observation=x), torch.from_numpy(theta)
            ).numpy(),
            calibration=Calibration(shown[:, :-1], shown[:, -1]) if len(shown) else None,
        )

    def findings(self, batch: Mapping[str, Tensor]) -> Mapping[str, float | str]:
        notes = self.simulated.notes(self.problem.observed()) | {"simulator_calls": float(self.made)}
        asked = int(self.made) - self.apart
        if self.rows < asked:
            notes["excluded"] = 1 - int(self.rows) / asked
        return {**notes, **self.choose(), **self.local()}

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def means(observations: np.ndarray) -> np.ndarray:
            rows = [self.drawn(AVERAGED, x, 0).mean(dim=0).numpy() for x in observations]
            return np.array(rows).reshape(len(observations), len(self.problem.parameters))

        return means

    def told(self) -> dict[str, float | str]:
        """Return what was chosen, what it attains on held-out simulations, and how usual the observation is."""
        chosen: dict[str, float | str] = {}
        for part in self.flows:
            ensemble = self.ensemble(part)
            chosen[f"{part}_flow"] = ensemble.kinds[ensemble.chosen]
            chosen[f"{part}_held_out_loss"] = float(ensemble.held_out[ensemble.chosen].mean())
        return {**chosen, **self.usual()}

    def usual(self) -> dict[str, float | str]:
        """Return how usual the observation is among the simulations."""
        seen = self.scale.context(self.x[: int(self.rows)]).double().cpu()
        return familiarity(seen, self.context(self.problem.observed()).double().cpu())


def ample(simulations: int) -> int:
    """Return the steps in which one training learns from simulations what it can before it learns them by heart."""
    return round(400 * (simulations / 1000) ** 0.5)


def _given(prior: Prior, theta: Tensor) -> Tensor:
    """Return parameters (n, parameters) as likelihoods are given them, with their squares, (n, 2 parameters)."""
    plain = prior.scaled(theta)
    return torch.cat([plain, plain**2 - 1], dim=1)
