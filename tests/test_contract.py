"""What every problem, solver and pair that is registered must keep; a new one is tested as it is added."""

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from numpy.polynomial import chebyshev
from torch import Tensor, nn

import sciml
from problems.pde.heat import Heat
from sciml.errors import UserError
from sciml.neural import NeuralSolver
from sciml.parameters import schema
from sciml.pde import taylor
from sciml.pde.collocation import GridFunction
from sciml.pde.collocation import chebyshev as line
from sciml.pde.domains import Points
from sciml.pde.fields import Derivative, symbol
from sciml.problem import Problem
from sciml.registry import Entry, entries
from sciml.runs.solution_file import read_state, write_solution
from sciml.solution import Posterior
from sciml.solver import Solver, misfit
from sciml.training.checkpoint import last_checkpoint, load_solution
from sciml.training.settings import Training
from sciml.views.graph import Graph
from sciml.views.residual import Residual, Term, grid_points
from sciml.views.simulator import Simulator
from solvers.pde.pinn import PINN

NODES = 20
ROUGH = 1e-5
"""The greatest relative error of interpolation, however rough the reference is."""
COARSEST = 1e-8
"""The least accurate reference whose stated error, differentiated twice, is a small share of an equation's terms."""
SHARE = 0.01
"""The most of an equation's terms that a less accurate reference may leave."""
PROBLEMS, SOLVERS = entries("problem"), entries("solver")
RESIDUAL = [name for name, entry in PROBLEMS.items() if "Residual" in entry.views]
PAIRS = [(p, s) for p in PROBLEMS for s in SOLVERS]
COSTLY = {
    ("gray_scott", "spectral"),
    ("ginzburg_landau", "spectral"),
    ("burgers_inverse", "calibration"),
    ("lotka_volterra", "exact"),
    ("sir", "exact"),
    ("lotka_volterra", "gold"),
    ("sir", "gold"),
    ("bernoulli_glm_raw", "nle"),
    ("heat_source", "nle"),
    ("lotka_volterra", "nle"),
    ("slcp_distractors", "nle"),
    ("bernoulli_glm_raw", "auto"),
    ("sir", "auto"),
    ("bernoulli_glm_raw", "surrogate"),
    ("g_and_k", "surrogate"),
    ("slcp_distractors", "surrogate"),
    ("grid_state", "nle"),
    ("grid_state", "auto"),
    ("grid_state", "exact"),
    *((name, "gp_emulator") for name in PROBLEMS if name != "galton"),
    *(
        (name, "auto")
        for name in ("gaussian_linear", "gaussian_linear_uniform", "bernoulli_glm", "lotka_volterra", "heat_source")
    ),
}
"""Pairs that take long at the coarsest: marching in two dimensions, or often, densities of many data, emulation."""


@cache
def problem(name: str) -> Any:
    return PROBLEMS[name].load()()


@cache
def solver(name: str) -> Solver[Any]:
    """Return a solver, the coarsest of its ladder."""
    made = SOLVERS[name].load()
    return made(**{parameter: values[0] for parameter, values in made.ladder.items()})


def reason(pair: tuple[str, str]) -> str | None:
    return misfit(problem(pair[0]), solver(pair[1]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Patch(nn.Module):
    """The fields around a point as one polynomial, by values at Chebyshev points of a box that suits.

    Args:
        asked: the problem, whose reference is interpolated.
        point: shape (axes,); the box lies in the domain's bounding box and holds the point.
    """

    def __init__(self, asked: Residual, point: np.ndarray) -> None:
        super().__init__()
        bounds, extent = asked.region.bounds, np.ptp(asked.region.bounds, axis=1)
        noise = asked.reference_error * np.abs(asked.evaluation[1][:, : len(asked.fields)]).max()
        for halvings in range(12):
            width = extent / 2**halvings
            low = np.clip(point - width / 2, bounds[:, 0], bounds[:, 1] - width)
            self.lines = [line(a, b, NODES) for a, b in zip(low, low + width, strict=True)]
            nodes = grid_points({str(k): grid.nodes for k, grid in enumerate(self.lines)})
            self.values = asked.reference(nodes).reshape(*[NODES] * len(width), -1)
            self.low, self.width = torch.from_numpy(low), torch.from_numpy(width)
            self.grid = GridFunction(
                dict.fromkeys(names(asked), tuple(self.lines)),
                {n: self.values[..., k] for k, n in enumerate(names(asked))},
            )
            check = low + width * np.random.default_rng(0).random((20, len(width)))
            truth = asked.reference(check)
            whole = [Derivative(n, (0,) * len(width)) for n in names(asked)]
            found = self.grid(check, whole)
            miss = np.abs(np.stack([found[d] for d in whole], axis=1) - truth).max()
            greatest = np.abs(self.values).max()
            self.error = max(noise, miss, 1e-16 * greatest)
            if miss < max(min(30 * max(asked.reference_error, 1e-15), ROUGH) * greatest, noise):
                break

    def forward(self, points: Tensor) -> Tensor:
        unit = 2 * (points - self.low) * (1 / self.width) - 1
        coefficients = self.values
        inverse = np.linalg.inv(chebyshev.chebvander(_unit_nodes(), NODES - 1))
        for axis in range(len(self.lines)):
            coefficients = np.moveaxis(np.tensordot(inverse, coefficients, (1, axis)), 0, axis)
        bases = [_chebyshev(unit[:, k : k + 1]) for k in range(len(self.lines))]
        return _contract(bases, torch.from_numpy(coefficients))

    def amplification(self, derivative: Derivative, point: np.ndarray) -> float:
        """Return by how much interpolation and differentiation at a point enlarge an error of the values."""
        rows = (
            g.matrix(point[[k]], order) for k, (g, order) in enumerate(zip(self.lines, derivative.order, strict=True))
        )
        return math.prod(float(abs(row).sum()) for row in rows)


@cache
def patch_at(name: str, *point: float) -> Patch:
    """Return a problem's fields around a point, made once."""
    return Patch(problem(name), np.array(point))


def _unit_nodes() -> np.ndarray:
    return line(-1, 1, NODES).nodes


def _chebyshev(x: Any) -> list[Any]:
    found = [0 * x + 1, x]
    while len(found) < NODES:
        found.append(2 * x * found[-1] - found[-2])
    return found


def _contract(bases: Sequence[list[Any]], coefficients: Tensor) -> Any:
    """Return the sum over all products of basis functions, shape (n, outputs)."""
    if not bases:
        return coefficients
    return sum(f * _contract(bases[1:], c) for f, c in zip(bases[0], coefficients, strict=True))


def by_taylor(network: nn.Module, fields: Sequence[str], points: Tensor, needs: Sequence[Derivative]) -> dict:
    values = taylor.derivatives(network, points, [d.order for d in needs])
    return {d: values[k, :, fields.index(d.field)] for k, d in enumerate(needs)}


def by_autograd(network: nn.Module, fields: Sequence[str], points: Tensor, needs: Sequence[Derivative]) -> dict:
    points = points.clone().requires_grad_()
    found = {}
    for d in needs:
        value = network(points)[:, fields.index(d.field)]
        for axis, times in enumerate(d.order):
            for _ in range(times):
                value = torch.autograd.grad(value.sum(), points, create_graph=True)[0][:, axis]
        found[d] = value.detach()
    return found


def names(asked: Residual) -> list[str]:
    return [f.name for f in asked.fields]


def known(asked: Residual, points: Points) -> Points:
    """Return points at which the numbers that are sought have their true values."""
    truth = {u.name: torch.full((len(points),), getattr(asked, u.name), dtype=torch.float64) for u in asked.unknowns}
    return replace(points, extras={**points.extras, **truth})


def size(term: Term, points: Points, derivatives: Any) -> Tensor:
    """Return the sum of the magnitudes of a residual's linearised terms, shape (n,)."""
    arguments = points.arguments(term.relation.axes)
    values = derivatives(points.coordinates, term.relation.needs)
    parts = [(term.relation.partial(d)(values, arguments) * values[d]).abs() for d in term.relation.needs]
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("interpreter", ["grid", "taylor"])
@pytest.mark.parametrize("name", RESIDUAL)
def test_the_reference_makes_every_residual_zero(name: str, interpreter: str) -> None:
    asked = problem(name)
    for term in asked.terms:
        drawn = known(asked, term.part.sample(4, generator(5), "sobol", torch.float64))
        seen = left = largest = 0.0
        for row in range(min(len(drawn), 4)):  # data come all at once
            points = drawn[torch.tensor([row])]
            patches: list[Patch] = []

            def reference(at: Tensor, needs: Sequence[Derivative], patches: list[Patch] = patches) -> dict:
                patch = patch_at(name, *at[0].tolist())
                patches.append(patch)
                return patch.grid(at, needs) if interpreter == "grid" else by_taylor(patch, names(asked), at, needs)

            residual = float(term.residual(points, reference).abs())
            magnitude = float(size(term, points, reference))
            patch = patches[0]
            values = patch.grid(points.coordinates, term.relation.needs)
            arguments = points.arguments(term.relation.axes)
            slack = sum(
                patch.amplification(d, points.coordinates[0].numpy())
                * float(term.relation.partial(d)(values, arguments).abs())
                for d in term.relation.needs
            )
            assert residual <= 10 * patch.error * slack, (term.name, points.coordinates)
            seen = max(seen, magnitude / (10 * patch.error * slack))
            left, largest = max(left, residual), max(largest, magnitude)
        if term.condition is None and asked.reference_error > COARSEST:
            assert left <= SHARE * largest, term.name
        else:
            assert seen > 1 / SHARE or term.condition is not None, f"{term.name}: the tolerance would let anything pass"


@pytest.mark.parametrize(("rate", "solves"), [(2, True), (3, False)])
def test_the_closed_form_of_heat_makes_every_relation_zero(rate: int, solves: bool) -> None:
    asked = Heat(diffusivity=2.0)
    x, t = map(symbol, "xt")
    form = sympy.exp(-rate * sympy.pi**2 * t) * sympy.sin(sympy.pi * x)
    points = np.array([[0.3, 0.1], [0.8, 0.02]])
    by_numpy = sympy.lambdify((x, t), form, "numpy")(*points.T)
    assert np.allclose(by_numpy, asked.reference(points)[:, 0], rtol=1e-14) == solves
    places = {"equation": [{}], "initial": [{t: 0}], "boundary": [{x: 0}, {x: 1}]}
    assert {term.name for term in asked.terms} == set(places)
    for term in asked.terms:
        leaves = {s: form.diff(*zip((x, t), d.order, strict=True)) for d, s in term.relation.leaves.items()}
        residual = term.relation.expression.xreplace(leaves)
        left = [sympy.simplify(residual.subs(place)) for place in places[term.name]]
        assert (left == [0] * len(left)) == (solves or term.name != "equation")


def smooth(asked: Residual) -> nn.Module:
    """Return a small random network, a smooth function on the problem's domain."""
    low, high = torch.from_numpy(asked.region.bounds.T.copy())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Linear(len(low), 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, len(asked.fields))
        )
    first = layers.double()[0]
    with torch.no_grad():
        first.weight /= high - low
    return layers


@pytest.mark.parametrize("name", RESIDUAL)
def test_interpreters_agree_on_a_smooth_field(name: str) -> None:
    asked = problem(name)
    network, fields = smooth(asked), names(asked)
    lines = tuple(line(a, b, 32) for a, b in asked.region.bounds)
    nodes = torch.from_numpy(grid_points({str(k): grid.nodes for k, grid in enumerate(lines)}))
    values = network(nodes).detach().numpy().reshape(*[32] * len(lines), -1)
    grid = GridFunction(dict.fromkeys(fields, lines), {f: values[..., k] for k, f in enumerate(fields)})
    for term in asked.terms:
        points = known(asked, term.part.sample(50, generator(), "sobol", torch.float64))
        exact = term.residual(points, partial(by_autograd, network, fields))
        scale = 1 + float(exact.abs().max())
        taylored = term.residual(points, partial(by_taylor, network, fields)).detach()
        torch.testing.assert_close(taylored, exact, rtol=0, atol=1e-12 * scale)
        torch.testing.assert_close(term.residual(points, grid), exact, rtol=0, atol=1e-7 * scale)
        values = by_autograd(network, fields, points.coordinates, term.relation.needs)
        arguments = points.arguments(asked.region.axes)
        torchy = term.relation(values, arguments)
        numpy = term.relation({d: v.numpy() for d, v in values.items()}, {k: v.numpy() for k, v in arguments.items()})
        np.testing.assert_allclose(numpy, torchy.numpy(), rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("name", RESIDUAL)
def test_residuals_of_a_network_are_finite_in_single_precision(name: str) -> None:
    module = PINN(width=4, depth=1).fresh(problem(name), 0, torch.float32)
    residuals = module.residuals(module.sample(generator()))
    assert residuals
    for term, rows in residuals.items():
        assert rows.dtype == torch.float32, term
        assert len(rows), term
        assert rows.isfinite().all(), term


def inputs(asked: Problem) -> np.ndarray:
    """Return a few inputs at which a solution of a problem can be asked."""
    match asked:
        case Residual():
            return asked.evaluation[0][:: max(1, len(asked.evaluation[0]) // 20)]
        case Graph():
            return asked.scenarios("test")[:5]
        case Simulator():
            return np.tile(asked.observed(), (2, 1))
    raise AssertionError(f"say here which inputs {asked.name} can be asked at")


def fitting() -> Iterator[Any]:
    """Yield the pairs that fit; those that take long, among them each start of a peer but one, are slow tests."""
    for pair in PAIRS:
        if reason(pair) is None:
            long = pair in COSTLY or (SOLVERS[pair[1]].kind == "peer" and pair[0] != "heat")
            yield pytest.param(pair, id="-".join(pair), marks=[pytest.mark.slow] if long else [])


@pytest.mark.parametrize("pair", fitting())
def test_a_fitting_pair_solves_and_is_read_back_from_its_files(pair: tuple[str, str], tmp_path: Path) -> None:
    asked, method = problem(pair[0]), solver(pair[1])
    training = Training(max_steps=3, accelerator="cpu")
    solution = sciml.solve(asked, method, seed=1, training=training, folder=tmp_path)
    points = inputs(asked)
    predicted = solution(points)
    assert predicted.shape == (len(points), len(asked.outputs))
    assert np.isfinite(predicted).all()
    assert all(isinstance(a, np.ndarray) and a.dtype.kind in "fiub" for a in solution.state.values())
    assert all(isinstance(v, (int, float, str)) for v in solution.notes.values())
    write_solution(tmp_path / "solution.h5", asked.table(solution), solution.state, {})
    again = [method.restore(asked, read_state(tmp_path / "solution.h5"))]
    if isinstance(method, NeuralSolver):
        assert solution.notes["steps"] == 3 or solution.notes["stop_reason"] == "answered"
        again.append(load_solution(last_checkpoint(tmp_path), asked, method))
    for read in again:
        np.testing.assert_array_equal(read(points), predicted)
        if isinstance(solution, Posterior):
            assert isinstance(read, Posterior)
            one, other = (s.sample(20, points[0], seed=3) for s in (solution, read))
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("pair", [p for p in PAIRS if reason(p) is not None], ids="-".join)
def test_a_misfit_is_refused_in_one_line_before_any_work(pair: tuple[str, str]) -> None:
    asked, method = problem(pair[0]), solver(pair[1])
    with pytest.raises(UserError) as raised:
        sciml.solve(asked, method)
    line_ = str(raised.value)
    assert "\n" not in line_
    if isinstance(asked, method.needs):
        assert line_ == f"{pair[1]} refuses {pair[0]}: {method.refuses(asked)}"
    else:
        offered = ", ".join(view.__name__ for view in asked.views())
        assert line_ == f"{pair[1]} needs the view {method.needs.__name__}; {pair[0]} offers {offered}"


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_trivial_answer_is_scored_by_name(name: str) -> None:
    asked = problem(name)
    trivial = asked.trivial()
    assert trivial(inputs(asked)).shape == (len(inputs(asked)), len(asked.outputs))
    if not isinstance(asked, Simulator):  # whose score trains classifiers; its own tests look at it
        assert asked.primary in asked.score(trivial)


@pytest.mark.parametrize("entry", [*PROBLEMS.values(), *SOLVERS.values()], ids=lambda e: f"{e.group}-{e.name}")
def test_what_is_registered_explains_itself(entry: Entry) -> None:
    made = entry.load()
    text = inspect.getdoc(made)
    assert made.__doc__
    assert text
    assert text.splitlines()[0].endswith(".")
    assert made.name == entry.name
    if entry.group == "solver":
        assert (made.kind, made.needs.__name__) == (entry.kind, entry.needs)
        for parameter, values in made.ladder.items():
            assert len(values) >= 4
            assert all(made(**{parameter: value}) for value in values)
    if "__init__" not in vars(made):
        return
    for parameter, (hint, default) in schema(made.__init__).items():
        assert hint is not Any, f"{parameter} has no type"
        assert default is not ..., f"{parameter} has no default"
        assert f"{parameter}:" in text, f"{parameter} is not documented"
