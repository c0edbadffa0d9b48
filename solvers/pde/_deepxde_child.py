"""The process in which DeepXDE trains; ``solvers/pde/deepxde.py`` starts it as a script.

It reads one line of JSON from standard input, writes reports as lines of JSON to standard output, and leaves
the weights in an npz file.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.child import Report, answer, remake
from sciml.pde.conditions import Observed
from sciml.pde.domains import Points
from sciml.pde.fields import Derivative
from sciml.views.residual import Residual, Term
from solvers.pde._peer_child import Watch, draw, save

dde: Any = import_module("deepxde")


def train(order: Mapping[str, Any], report: Report) -> None:
    """Train with Adam, then with L-BFGS, and write the weights."""
    dde.config.set_default_float(f"float{order['precision']}")
    dde.config.set_random_seed(order["seed"])
    problem = remake(order["problem"])
    sizes = [len(problem.inputs), *[order["width"]] * order["depth"], len(problem.outputs)]
    network = dde.nn.FNN(sizes, "tanh", "Glorot normal")
    model = dde.Model(data(problem, order), network)

    def losses() -> list[float]:
        state = model.train_state
        return model.outputs_losses_train(state.X_train, state.y_train, state.train_aux_vars)[1].tolist()

    watch = Watch(problem, order, report, losses, model.predict)
    adam, lbfgs = order["adam_steps"], order["lbfgs_steps"]
    model.compile("adam", lr=order["learning_rate"], verbose=0)
    watch.begin("adam", adam)
    model.train(iterations=adam, display_every=adam + 1, callbacks=[Hook(watch, 0)], verbose=0)
    watch.end()
    if lbfgs and not watch.reason:
        every = set_lbfgs(lbfgs, order)
        model.compile("L-BFGS", verbose=0)
        watch.begin("lbfgs", lbfgs)
        hook = Hook(watch, every)
        model.train(callbacks=[hook], display_every=lbfgs + 1, verbose=0)
        hook.count()
        watch.end()
    parameters = save(network.linears, order)
    device = {"device": torch.get_default_device().type}
    report({"notes": watch.notes(f"deepxde {dde.__version__}") | device | {"parameters": parameters}})


def derivative(inputs: Tensor, outputs: Tensor, field: int, order: Sequence[int]) -> Tensor:
    """Return ``D^order`` of one output by ``dde.grad``, shape (n,)."""
    value, column = outputs, field
    for axis, times in enumerate(order):
        for _ in range(times):
            value, column = dde.grad.jacobian(value, inputs, i=column, j=axis), 0
    return value[:, column]


def data(problem: Residual, order: Mapping[str, Any]) -> Any:
    """Return points and residuals in DeepXDE's way: equations hold at initial and boundary points too."""
    names = [f.name for f in problem.fields]
    drawn = draw(problem, order)
    inside = [term for term, _ in drawn if term.condition is None]
    conditions = [Condition(term, names, points) for term, points in drawn[len(inside) :]]
    parts = {id(p): p for t, p in drawn if not isinstance(t.condition, Observed)}

    def equations(inputs: Tensor, outputs: Tensor) -> list[Tensor]:
        arguments = dict(zip(problem.region.axes, inputs.T, strict=True))
        residuals = []
        for relation in (t.relation for t in inside):
            values = {d: derivative(inputs, outputs, names.index(d.field), d.order) for d in relation.needs}
            residuals.append(relation(values, arguments)[:, None])
        return residuals

    where = np.concatenate([p.coordinates.numpy() for p in parts.values()])
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


def set_lbfgs(steps: int, order: Mapping[str, Any]) -> int:
    """Set the steps of L-BFGS, all of them and those between two checks, and return the latter.

    DeepXDE fixes the latter when it is imported, and takes a single step between two checks for convergence,
    which happens where the line search uses up the evaluations allowed; so these are set amply unless its own
    default is asked for.
    """
    dde.optimizers.set_LBFGS_options(maxiter=steps)
    options = dde.optimizers.config.LBFGS_options
    own = order["lbfgs"] == "own"
    options["iter_per_step"] = min(steps, 1000 if own else max(2, order["check_every"]))
    ratio = options["maxfun"] / options["maxiter"] if own else 25
    options["fun_per_step"] = int(ratio * options["iter_per_step"])
    return options["iter_per_step"]


class Hook(dde.callbacks.Callback):
    """Lets a watch look at a training.

    Args:
        watch: the watch.
        every: steps of L-BFGS between two looks.
    """

    def __init__(self, watch: Watch, every: int) -> None:
        super().__init__()
        self.watch, self.every = watch, every

    def on_train_begin(self) -> None:
        self.first = self.model.train_state.step
        self.watch.start()

    def on_epoch_end(self) -> None:
        self.count()
        self.model.stop_training = self.watch.stops()

    def on_train_end(self) -> None:
        self.watch.pause()

    def count(self) -> None:
        """Tell the watch how far the phase is."""
        if self.watch.phase == "adam":
            taken = self.model.train_state.step - self.first
            self.watch.count(taken, taken)
            return
        state = next(iter(self.model.opt.state.values()))
        self.watch.count(state["n_iter"], state["func_evals"])
        self.model.opt.param_groups[0]["max_iter"] = max(1, min(self.watch.left, self.every))


if __name__ == "__main__":
    answer(train)
