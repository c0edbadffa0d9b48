"""What all networks that are trained on the residuals of differential equations share."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sciml.networks import Normalise
from sciml.neural import NeuralSolver, Phase
from sciml.pde import taylor
from sciml.pde.conditions import Observed
from sciml.pde.domains import Box, Domain, Faces, Points, Sampling
from sciml.pde.fields import Array, Derivative
from sciml.pde.tape import per_row, recording
from sciml.views.residual import Derivatives, Residual

from ._drawing import POOL, grows, influence, spread, toward_edges
from ._groups import Group, grouped, interior, places
from ._imposed import FieldData, Imposed, impose
from ._interval import deviation, intervals
from ._sought import sought
from ._weighting import Balance, Weighting
from ._windows import BEFORE, Handover, Windows, handed, moment, refusal, split

HELD_OUT = 4096
"""Points at which it is told what is left of the equations."""
EVALUATION_ROWS = 1 << 14
"""Points at which a network is evaluated at once."""


class ResidualNetwork(NeuralSolver[Residual]):
    """A network u whose weighted mean squared residuals are minimised, ``Σ_k w_k mean_i r_k(x_i; u)²``.

    The parent of methods that differ in the network, in where its points come from and in the optimiser.
    """

    needs = Residual
    precision_default = "64"

    points: int
    condition_points: int
    condition_weight: float
    sampling: Sampling
    impose: bool
    windows: int = 1
    balance: Balance = "none"
    causality: float = 0.0
    harmonics: int = 1
    network: nn.Module

    @abstractmethod
    def architecture(self, problem: Residual, features: int, outputs: int) -> nn.Module:
        """Return the network from normalised inputs to fields, in dtype ``self.real``."""

    def build(self, problem: Residual) -> None:
        region = problem.region
        values, met = impose(problem, self.impose)
        if self.windows == 1:
            plain = self._plain(problem, region)
            self.network = Imposed(plain, values) if any(v.given for v in values) else plain
        else:
            self.network = Windows(region, self.windows, lambda *which: self._window(problem, values, *which))
        terms = [term for term in problem.terms if term.name not in met]
        self.stages = self.network.grouped(terms) if isinstance(self.network, Windows) else (grouped(terms),)
        self.groups = self.stages[0]
        self.periodic = problem.periodic_axes
        self.places = {f.name: k for k, f in enumerate(problem.fields)}
        self.sought = nn.ParameterDict({u.name: torch.tensor(u.guess, dtype=self.real) for u in problem.unknowns})
        self.sought_fields = sought(problem)
        weighted = self.balance != "none" or self.causality > 0
        self.weightings = nn.ModuleList(self._weighting(problem, k) for k in range(self.windows * weighted))
        self.stage = 0

    def _plain(self, problem: Residual, domain: Domain) -> nn.Module:
        """Return a network on which nothing is imposed but what is periodic."""
        periodic = tuple(a in problem.periodic_axes for a in domain.axes)
        normalise = Normalise(domain.bounds, periodic, self.real, self.harmonics)
        return nn.Sequential(normalise, self.architecture(problem, normalise.features, len(problem.fields)))

    def _window(
        self, problem: Residual, values: list[FieldData], number: int, domain: Domain, before: nn.Module | None
    ) -> nn.Module:
        """Return the network of one window of time."""
        plain = self._plain(problem, domain)
        if not (values and isinstance(domain, Box)):
            return plain
        if before is None:
            return Imposed(plain, [replace(v, box=domain) for v in values])
        axis = domain.index("t")
        orders, elsewhere = zip(*(split(v, axis, domain) for v in values), strict=True)
        if not any(orders):
            return Imposed(plain, elsewhere)
        low, high = domain.bounds[axis].tolist()
        return Handover(plain, before, low, high - low, axis, orders, elsewhere, self.real)

    def _weighting(self, problem: Residual, number: int) -> Weighting:
        region, terms = problem.region, [term for group in self.stages[number] for term in group.terms]
        span, axis = (0.0, 1.0), None
        if "t" in region.axes:
            axis = region.index("t")
            window = self.network.domains[number] if isinstance(self.network, Windows) else region
            span = tuple(window.bounds[axis].tolist())
        inside = [term.name for term in terms if term.condition is None]
        start = [term.name for term in terms if moment(term, region) == 0]
        names = [term.name for term in terms]
        return Weighting(names, inside, start, self.balance, self.causality, span, axis, self.real)

    def refuses(self, problem: Residual) -> str | None:
        if (self.windows > 1 or self.causality) and "t" not in problem.region.axes:
            return "windows and causal weights need time"
        if self.windows > 1 and (reason := refusal(problem)):
            return reason
        if self.balance != "none" and not any(phase.first_order for phase in self.schedule()):
            return f"balance={self.balance} follows steps of Adam or SOAP, of which this schedule has none"
        return None

    def staged(self, phases: Sequence[Phase]) -> tuple[Phase, ...]:
        """Return the phases once for each window of time."""
        return tuple(replace(phase, stage=k) for k in range(self.windows) for phase in phases)

    def begin(self, stage: int) -> None:
        self.stage = stage
        if isinstance(self.network, Windows):
            self.network.enter(stage)
            self.groups = self.stages[stage]

    def trained(self, stage: int) -> list[Tensor]:
        if isinstance(self.network, Windows):
            return list(self.network.networks[stage].parameters())
        return super().trained(stage)

    def adapt(self, batch: Mapping[str, Tensor], step: int | None) -> None:
        if weighting := self.weighting:
            rows = batch[f"{interior(self.groups).name}/coordinates"]
            weighting.renew(step, lambda: self._fixed(batch), rows, self.trained(self.stage))

    @property
    def settled(self) -> bool:
        return self.weighting is None or self.weighting.settled

    @property
    def loss_names(self) -> tuple[str, ...]:
        stages = self.stages if isinstance(self.network, Windows) else (self.groups,)
        return tuple(dict.fromkeys(t.name for groups in stages for group in groups for t in group.terms))

    @property
    def weighting(self) -> Weighting | None:
        """The weights of the window of time at hand, where there are any."""
        if not self.weightings:
            return None
        weighting = self.weightings[self.stage]
        assert isinstance(weighting, Weighting)
        return weighting

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        batch = {}
        for group in self.groups:
            batch |= self._draw(group, self._first(group), generator)
        return batch

    def _first(self, group: Group) -> int:
        """Return how many points a group has at the start."""
        return self.points if group.inside else self.condition_points

    def _draw(self, group: Group, count: int, generator: torch.Generator, edges: bool = False) -> dict[str, Tensor]:
        """Draw points of a group, in the window of time at hand, with what the window before had there."""
        points = group.part.sample(count, generator, self.sampling, self.real)
        if edges and isinstance(group.part, Faces):
            moved = toward_edges(points.coordinates, group.part.box, self.periodic, generator)
            points = replace(points, coordinates=moved)
        if isinstance(self.network, Windows) and self.network.before is not None:
            with torch.no_grad():
                extras = self._handover(self.network, group, points)
            points = replace(points, extras={**points.extras, **extras})
        return group.pack(points)

    def _handover(self, network: Windows, group: Group, points: Points) -> dict[str, Tensor]:
        """Return what the window before has at the points, and its side of what holds at the start."""
        extras = {}
        if start := [term for term in group.terms if moment(term, network.domain) == 0]:
            derivatives = self.interpreter(points, group.orders, network.before)
            extras = {handed(term): term.residual(points, derivatives) for term in start}
        if network.held is not None:
            values = taylor.derivatives(network.held, places(points), group.orders)
            extras[BEFORE] = values.unflatten(1, (-1, len(points))).permute(2, 1, 0, 3)
        return extras

    def resample(self, generator: torch.Generator, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draw points anew, in the interior likelier where residuals are large.

        They come from a pool, on a box denser toward the ends of its axes, with probability proportional to
        ``|r| / mean |r| + 1`` and evenly spread; outliers among them are held back once residuals are small. Where the
        mean square at fresh points is several times that at the old ones, the network has learnt the points and not
        what holds there: there are twice as many from then on.
        Source: C. Wu et al., A comprehensive study of non-adaptive and residual-based adaptive sampling for
        physics-informed neural networks (2023), arXiv 2207.10289.
        """
        drawn = {}
        for group in self.groups:
            count = len(batch[f"{group.name}/coordinates"])
            first, rows = self._first(group), count * len(group.terms)
            fresh = self._draw(group, POOL * count if group.inside else count, generator, edges=group.inside)
            size, old = (self._squares(group, points) for points in (fresh, batch))
            if group.inside:
                start = batch.get(f"{group.name}/start", size.mean().sqrt())
                relative = size.sqrt() / size.sqrt().mean().clamp_min(torch.finfo(size.dtype).tiny)
                fresh[group.weight] = influence(relative, size.mean().sqrt() / start)
                size = size * fresh[group.weight].square()
                more = grows(size, old, rows, first)
                at = fresh[f"{group.name}/coordinates"]
                chosen = spread(at, relative + 1, 2 * count if more else count, generator)
                fresh = {name: values[chosen] for name, values in fresh.items()}
                fresh[f"{group.name}/start"] = start
            elif grows(size, old, rows, first):
                fresh = self._draw(group, 2 * count, generator)
            drawn |= fresh
        return drawn

    @torch.no_grad()
    def _squares(self, group: Group, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the squared residuals of a group, summed over its terms, shape (n,)."""
        return torch.stack([r.square() for r in self._group(group, batch).values()]).sum(dim=0)

    def residuals(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: rows for group in self.groups for name, rows in self._group(group, batch).items()}

    def _group(self, group: Group, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted residuals of the terms of a group, each of shape (n,)."""
        residuals, weighting = self._group_fixed(group, batch), self.weighting
        if weighting is None:
            return residuals
        rows = batch[f"{group.name}/coordinates"]
        return {name: weighting.factor(name, rows) * residual for name, residual in residuals.items()}

    def _fixed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the residuals with the fixed weight of conditions, but not those that follow the training."""
        return {name: rows for group in self.groups for name, rows in self._group_fixed(group, batch).items()}

    def _group_fixed(self, group: Group, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        points, factor = group.points(batch), batch.get(group.weight)
        derivatives = self.interpreter(points, group.orders)
        sought = {name: per_row(value, len(points)) for name, value in self.sought.items()}
        points = replace(points, extras={**points.extras, **sought})
        residuals = {}
        for term in group.terms:
            weight = 1.0 if term.condition is None else math.sqrt(self.condition_weight)
            residual = term.residual(points, derivatives)
            if handed(term) in points.extras:
                residual = residual - points.extras[handed(term)]
            residuals[term.name] = weight * (residual if factor is None else factor * residual)
        return residuals

    def findings(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        numbers, weighting = dict(self.sought.items()), self.weighting
        told = {"held_out_residual": self.held_out_residual(next(iter(batch.values())).device)}
        if self.causality and weighting:
            told["least_causal_weight"] = float(weighting.times.min())
        if not (numbers or self.sought_fields) or self.schedule()[-1].optimizer != "lm":
            return {**told, **{name: float(number.detach()) for name, number in numbers.items()}}
        parameters = self.trained(self.stage)
        with recording(parameters) as tape:
            rows = {name: (r.detach(), tape.jacobian(r)) for name, r in self.residuals(batch).items()}
        measured = sum(len(rows[t.name][0]) for g in self.groups for t in g.terms if isinstance(t.condition, Observed))
        found, factor = intervals(parameters, rows, numbers, measured)
        points = interior(self.groups).points(batch).coordinates
        for field in self.sought_fields:
            found[f"{field}_deviation"] = deviation(self.network, parameters, points, self.places[field], factor)
        return {**told, **found}

    @torch.no_grad()
    def held_out_residual(self, device: torch.device) -> float:
        """Return the root mean square of the residuals at points held out, by that of the size of what they add up.

        The size of ``r`` is ``|r - Σ_d g_d d| + Σ_d |g_d d|``, with d the derivatives that it mentions and g_d its
        partial derivative by d. Of several equations, and windows of time, the largest counts.
        """
        networks = self.network.networks if isinstance(self.network, Windows) else [self.network]
        return max(
            share
            for groups, network in zip(self.stages, networks, strict=True)
            for share in self._left(interior(groups), network, device)
        )

    def _left(self, group: Group, network: nn.Module, device: torch.device) -> Iterator[float]:
        """Yield for each equation the share of what it adds up that a network leaves."""
        count = HELD_OUT // len(self.stages)
        drawn = group.part.sample(count, torch.Generator().manual_seed(HELD_OUT), self.sampling, self.real)
        points = group.points({name: rows.to(device) for name, rows in group.pack(drawn).items()})
        sought = {name: per_row(value, len(points)) for name, value in self.sought.items()}
        points = replace(points, extras={**points.extras, **sought})
        derivatives = self.interpreter(points, group.orders, network)
        for term in group.terms:
            relation, residual = term.relation, term.residual(points, derivatives)
            values, arguments = derivatives(points.coordinates, relation.needs), points.arguments(relation.axes)
            parts = [relation.partial(d)(values, arguments) * values[d] for d in relation.needs]
            size = (residual - sum(parts)).abs() + sum(part.abs() for part in parts)
            yield float(
                residual.square().mean().sqrt() / size.square().mean().sqrt().clamp_min(torch.finfo(self.real).tiny)
            )

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: residual.square().mean() for name, residual in self.residuals(batch).items()}

    def interpreter(
        self, points: Points, orders: tuple[tuple[int, ...], ...], network: nn.Module | None = None
    ) -> Derivatives:
        """Return the derivatives of a network, by default one's own, at the points and their partners in one pass."""
        held = None if network else points.extras.get(BEFORE)
        if held is None:
            values = taylor.derivatives(network or self.network, places(points), orders)
        else:
            assert isinstance(self.network, Windows)
            own = taylor.derivatives(self.network.own, places(points), orders)
            values = own + held.permute(2, 1, 0, 3).flatten(1, 2)

        def derivatives(coordinates: Array, wanted: Sequence[Derivative]) -> dict[Derivative, Tensor]:
            rows = slice(len(points), None) if coordinates is points.partner else slice(len(points))
            return {d: values[orders.index(d.order), rows, self.places[d.field]] for d in wanted}

        return derivatives

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def evaluate(points: np.ndarray) -> np.ndarray:
            parameter = next(self.network.parameters())
            network = self.network.whole if isinstance(self.network, Windows) else self.network
            with torch.no_grad():
                rows = torch.as_tensor(points, dtype=parameter.dtype, device=parameter.device)
                blocks = [network(block) for block in rows.split(EVALUATION_ROWS)]
                sought = [value.expand(len(rows), 1) for value in self.sought.values()]
                return torch.cat([torch.cat(blocks), *sought], dim=1).cpu().double().numpy()

        return evaluate
