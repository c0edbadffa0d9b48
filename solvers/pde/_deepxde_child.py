"""The process in which DeepXDE trains; ``solvers/pde/deepxde.py`` starts it as a script.

It reads one line of JSON from standard input, writes reports as lines of JSON to standard output, and leaves
the weights in an npz file.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.pde.conditions import Initial, Observed
from sciml.pde.domains import Points
from sciml.pde.fields import Derivative
from sciml.registry import find
from sciml.solution import Solution
from sciml.views.residual import Residual, Term

dde: Any = import_module("deepxde")
Report = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Train as standard input asks."""
    reports, sys.stdout = sys.stdout, sys.stderr  # deepxde prints
    order = json.loads(sys.stdin.readline())
    torch.set_num_threads(order["threads"])
    dde.config.set_default_float("float64")
    dde.config.set_random_seed(order["seed"])
    train(order, lambda report: print(json.dumps(report), file=reports, flush=True))


def train(order: Mapping[str, Any], report: Report) -> None:
    """Train with Adam, then with L-BFGS, and write the weights."""
    problem = remake(order["problem"])
    sizes = [len(problem.inputs), *[order["width"]] * order["depth"], len(problem.outputs)]
    network = dde.nn.FNN(sizes, "tanh", "Glorot normal")
    model = dde.Model(data(problem, order), network)
    watch = Watch(problem, order, report)
    adam, lbfgs = order["adam_steps"], order["lbfgs_steps"]
    model.compile("adam", lr=order["learning_rate"], verbose=0)
    watch.begin("adam", adam)
    model.train(iterations=adam, display_every=adam + 1, callbacks=[watch], verbose=0)
    watch.end()
    if lbfgs and not watch.reason:
        set_lbfgs(lbfgs, order["check_every"])
        model.compile("L-BFGS", verbose=0)
        watch.begin("lbfgs", lbfgs)
        model.train(callbacks=[watch], display_every=lbfgs + 1, verbose=0)
        watch.end()
    arrays = {}
    for k, layer in enumerate(network.linears):
        arrays |= {
            f"weight_{k}": layer.weight.detach().cpu().numpy(),
            f"bias_{k}": layer.bias.detach().cpu().numpy(),
        }
    np.savez(order["weights"], **arrays)
    report({"notes": watch.notes | {"parameters": sum(a.size for a in arrays.values())}})


def remake(given: Mapping[str, Any]) -> Residual:
    """Make a problem again from its class, found by module or else by file, and its settings."""
    try:
        made = getattr(import_module(given["module"]), given["class"])
    except (ModuleNotFoundError, AttributeError):
        made = find("problem", f"{given['file']}:{given['class']}").load()
    return made(**given["settings"])


def derivative(inputs: Tensor, outputs: Tensor, field: int, order: Sequence[int]) -> Tensor:
    """Return ``D^order`` of one output by ``dde.grad``, shape (n,)."""
    value, column = outputs, field
    for axis, times in enumerate(order):
        for _ in range(times):
            value, column = dde.grad.jacobian(value, inputs, i=column, j=axis), 0
    return value[:, column]


def data(problem: Residual, order: Mapping[str, Any]) -> Any:
    """Return points and residuals in DeepXDE's way: equations hold at initial and boundary points too."""
    generator = torch.Generator("cpu").manual_seed(order["seed"])
    names = [f.name for f in problem.fields]
    inside = [t for t in problem.terms if t.condition is None]
    drawn: dict[int, Points] = {}
    conditions, anchors = [], [inside[0].part.sample(order["points"], generator, "sobol", torch.float64)]
    for term in problem.terms[len(inside) :]:
        key = id(term.part)
        if key not in drawn:
            count = order["initial_points" if isinstance(term.condition, Initial) else "boundary_points"]
            drawn[key] = term.part.sample(count, generator, "sobol", torch.float64)
            anchors += [] if isinstance(term.condition, Observed) else [drawn[key]]
        conditions.append(Condition(term, names, drawn[key]))

    def equations(inputs: Tensor, outputs: Tensor) -> list[Tensor]:
        arguments = dict(zip(problem.region.axes, inputs.T, strict=True))
        residuals = []
        for relation in (t.relation for t in inside):
            values = {d: derivative(inputs, outputs, names.index(d.field), d.order) for d in relation.needs}
            residuals.append(relation(values, arguments)[:, None])
        return residuals

    where = np.concatenate([p.coordinates.numpy() for p in anchors])
    box = dde.geometry.Hypercube(*problem.region.bounds.T)  # asked for nothing but its dimension
    return dde.data.PDE(box, equations, conditions, anchors=where)


class Condition:
    """A condition on points of ours, with the methods that ``dde.data.PDE`` calls.

    Args:
        term: what must vanish.
        fields: the names of the network's outputs.
        points: where.
    """

    def __init__(self, term: Term, fields: Sequence[str], points: Points) -> None:
        device = torch.get_default_device()
        partner = None if points.partner is None else points.partner.to(device)
        extras = {name: values.to(device) for name, values in points.extras.items()}
        self.term, self.fields = term, fields
        self.points = Points(points.coordinates.to(device), extras, partner)

    def collocation_points(self, X: np.ndarray) -> np.ndarray:
        parts = [self.points.coordinates, *([] if self.points.partner is None else [self.points.partner])]
        return torch.cat(parts).cpu().numpy()

    def error(self, X: np.ndarray, inputs: Tensor, outputs: Tensor, beg: int, end: int, aux_var: Any = None) -> Tensor:
        """Return the residual, shape (n, 1), at rows ``beg`` to ``end``: the points, then their partners."""
        middle = beg + len(self.points)

        def values(at: Tensor, needs: Sequence[Derivative]) -> dict[Derivative, Tensor]:
            rows = slice(beg, middle) if at is self.points.coordinates else slice(middle, end)
            return {d: derivative(inputs, outputs, self.fields.index(d.field), d.order)[rows] for d in needs}

        return self.term.residual(self.points, values)[:, None]


def set_lbfgs(steps: int, check_every: int) -> None:
    """Set the steps of L-BFGS, all of them and those between two checks.

    DeepXDE fixes the latter when it is imported, and takes a single step between two checks for convergence,
    which happens where the line search uses up the evaluations allowed; so these are set amply.
    """
    dde.optimizers.set_LBFGS_options(maxiter=steps)
    options = dde.optimizers.config.LBFGS_options
    options["iter_per_step"] = min(steps, max(2, check_every))
    options["fun_per_step"] = 25 * options["iter_per_step"]


class Watch(dde.callbacks.Callback):
    """Counts, stops, and reports of a training; its clock leaves the reports out."""

    def __init__(self, problem: Residual, order: Mapping[str, Any], report: Report) -> None:
        super().__init__()
        self.steps = self.closures = self.stale = 0
        self.reason = ""
        self._problem, self._order, self._report = problem, order, report
        self._total = order["adam_steps"] + order["lbfgs_steps"]
        self._seconds, self._since = 0.0, math.nan
        self._reported = 0
        self._loss = self._error = self._best = math.inf

    @property
    def notes(self) -> dict[str, Any]:
        """What the training says of itself."""
        return {
            "steps": self.steps,
            "closures": self.closures,
            "seconds": self._seconds,
            "stop_reason": self.reason,
            "precision": "64",
            "device": torch.get_default_device().type,
            "version": f"deepxde {dde.__version__}",
        }

    def begin(self, phase: str, steps: int) -> None:
        """Begin a phase of so many steps."""
        self.phase, self._wanted, self._before = phase, steps, (self.steps, self.closures)

    def on_train_begin(self) -> None:
        self._losses(self.model.train_state.loss_train.tolist())
        self._since = time.perf_counter()

    def on_epoch_end(self) -> None:
        self._count()
        first, every = self.steps == 1, self._order["check_every"]
        due = self.phase == "lbfgs" or first or self.steps % every == 0
        reason = self._stop()
        if due or reason:
            self._check()
            reason = reason or self._stop()
        self.reason = reason
        self.model.stop_training = bool(reason)

    def on_train_end(self) -> None:
        self._pause()

    def end(self) -> None:
        """End a phase; say why where the training ends with it."""
        self._count()
        short = self.steps - self._before[0] < self._wanted
        if self._reported < self.steps:
            self._check()
        if self.reason:
            return
        if self.phase == "lbfgs" and short:
            self.reason = "converged"
        elif self.steps >= self._total:
            self.reason = "max_steps" if self._order["shortened"] else "schedule"

    def _count(self) -> None:
        steps, closures = self._before
        if self.phase == "adam":
            taken = self.model.train_state.step - steps
            self.steps, self.closures = steps + taken, closures + taken
            return
        state = next(iter(self.model.opt.state.values()))
        self.steps, self.closures = steps + state["n_iter"], closures + state["func_evals"]
        left = self._wanted - state["n_iter"]
        self.model.opt.param_groups[0]["max_iter"] = max(1, min(left, self._order["check_every"]))

    def _stop(self) -> str:
        order = self._order
        reasons = {
            "target_loss": order["target_loss"] is not None and self._loss <= order["target_loss"],
            "target_error": order["target_error"] is not None and self._error <= order["target_error"],
            "patience": order["patience"] is not None and self.stale >= order["patience"],
            "max_seconds": order["max_seconds"] is not None and self._now() >= order["max_seconds"],
            "max_closures": order["max_closures"] is not None and self.closures >= order["max_closures"],
        }
        return next((name for name, met in reasons.items() if met), "")

    def _now(self) -> float:
        return self._seconds + (0.0 if math.isnan(self._since) else time.perf_counter() - self._since)

    def _pause(self) -> None:
        self._seconds, self._since = self._now(), math.nan

    def _check(self) -> None:
        """Report the loss terms and the error; the time that this takes is not training."""
        running = not math.isnan(self._since)
        self._pause()
        state = self.model.train_state
        terms = self.model.outputs_losses_train(state.X_train, state.y_train, state.train_aux_vars)[1].tolist()
        losses = self._losses(terms)
        error = self._problem.monitor(Solution(self._problem, self.model.predict))
        self._loss, self._error = sum(terms), math.inf if error is None else error
        self.stale = 0 if self._loss < self._best else self.stale + 1
        self._best = min(self._best, self._loss)
        self._reported = self.steps
        row = {"step": self.steps, "closures": self.closures, "seconds": self._seconds, "phase": self.phase}
        row |= {"loss": self._loss} | {f"loss_{name}": value for name, value in losses.items()}
        row |= {"error": "" if error is None else error}
        self._report({"done": self.steps / self._total, "row": row})
        if running:
            self._since = time.perf_counter()

    def _losses(self, terms: Sequence[float]) -> dict[str, float]:
        """Return the loss terms by name; end the process where one is not finite."""
        losses = dict(zip((t.name for t in self._problem.terms), terms, strict=True))
        bad = ", ".join(f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value))
        if bad:
            raise SystemExit(f"step {self.steps} ({self.phase}): the loss term {bad}")
        return losses


if __name__ == "__main__":
    main()
