"""The process in which PINA trains; ``solvers/pde/pina.py`` starts it as a script."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sciml.child import Report, answer, remake
from sciml.pde.domains import Points
from sciml.pde.fields import Derivative
from sciml.views.residual import Residual, Term
from solvers.pde._peer_child import Watch, draw, real, save

lightning: Any = import_module("lightning.pytorch")
pina: Any = import_module("pina")
fast_grad: Any = import_module("pina.operator").fast_grad
Equation: Any = import_module("pina.equation").Equation
TorchOptimizer: Any = import_module("pina.optim").TorchOptimizer
BLOCK = 20
"""Steps of L-BFGS in one of PINA's epochs, torch's default."""


def train(order: Mapping[str, Any], report: Report) -> None:
    """Train with Adam, then with L-BFGS, and write the weights."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.manual_seed(order["seed"])
    problem = remake(order["problem"])
    function = {"tanh": nn.Tanh, "softplus": nn.Softplus}[order["activation"]]
    sizes = {"input_dimensions": len(problem.inputs), "output_dimensions": len(problem.outputs)}
    network = import_module("pina.model").FeedForward(layers=[*order["layers"]], func=function, **sizes)
    network.to(real(order))
    residuals = {term.name: Relation(term, points) for term, points in draw(problem, order)}
    adam = TorchOptimizer(torch.optim.Adam, lr=order["learning_rate"])
    stated = state(problem, residuals)
    solver = import_module("pina.solver").PINN(problem=stated, model=network, optimizer=adam)

    def losses() -> list[float]:
        found = [r(*solved(solver, stated.conditions[name].input)) for name, r in residuals.items()]
        return [float(value.detach().square().mean()) for value in found]

    def predict(points: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.as_tensor(points, dtype=real(order))).double().numpy()

    watch = Watch(problem, order, report, losses, predict)
    hook = Hook(watch, order)
    pina.Trainer(
        solver,
        shuffle=False,  # residuals know normals and data of their points by position
        max_epochs=order["adam_steps"] + order["lbfgs_steps"],
        accelerator="cpu",
        devices=1,
        precision=f"{order['precision']}-true",
        callbacks=[switch(order), hook] if order["lbfgs_steps"] else [hook],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(Path(order["weights"]).parent),
    ).train()
    watch.end()
    parameters = save(network.layers, order)
    report({"notes": watch.notes(f"pina {version('pina-mathlab')}") | {"device": "cpu", "parameters": parameters}})


def state(problem: Residual, residuals: Mapping[str, "Relation"]) -> Any:
    """Return a PINA problem with our points and residuals; time is one more variable."""
    module, axes = import_module("pina.problem"), list(problem.region.axes)
    ranges = {a: ends.tolist() for a, ends in zip(axes, problem.region.bounds, strict=True)}
    conditions = {
        name: pina.Condition(input=pina.LabelTensor(r.where, axes), equation=Equation(r))
        for name, r in residuals.items()
    }
    stated = {
        "spatial_domain": import_module("pina.domain").CartesianDomain(ranges),
        "spatial_variables": axes,  # else in the order of their names
        "output_variables": [f.name for f in problem.fields],
        "domains": {},
        "conditions": conditions,
    }
    return type("Stated", (module.SpatialProblem,), stated)()


def solved(solver: Any, points: Any) -> tuple[Any, Any]:
    """Return points that record derivatives, and the fields there."""
    inputs = points.clone().requires_grad_()
    return inputs, solver.forward(inputs)


class Relation:
    """A term's residual as PINA's equations are written, on labelled points and labelled fields.

    Args:
        term: what must vanish.
        points: where; partners stand behind them.
    """

    def __init__(self, term: Term, points: Points) -> None:
        self.term, self.points = term, points

    @property
    def where(self) -> Tensor:
        partner = self.points.partner
        return self.points.coordinates if partner is None else torch.cat([self.points.coordinates, partner])

    def __call__(self, inputs: Any, outputs: Any) -> Tensor:
        """Return the residual, shape (n, 1)."""
        known: dict[tuple[str, ...], Any] = {}

        def along(field: str, axes: Sequence[str]) -> Any:
            if (field, *axes) not in known:
                below = along(field, axes[:-1]) if axes else outputs.extract([field])
                known[field, *axes] = fast_grad(below, inputs, below.labels, [axes[-1]]) if axes else below
            return known[field, *axes]

        def values(at: Tensor, needs: Sequence[Derivative]) -> dict[Derivative, Tensor]:
            count = len(self.points)
            rows = slice(count) if at is self.points.coordinates else slice(count, None)
            axes = self.term.relation.axes
            return {d: along(d.field, d.along(axes)).as_subclass(Tensor)[rows, 0] for d in needs}

        return self.term.residual(self.points, values)[:, None]


def switch(order: Mapping[str, Any]) -> Any:
    """Return the callback that goes from Adam to L-BFGS."""
    options = {"max_iter": BLOCK, "max_eval": 25 * BLOCK, "history_size": 100, "line_search_fn": "strong_wolfe"}
    limits = {"tolerance_grad": 1e-8, "tolerance_change": 0.0}
    callback = import_module("pina.callback").SwitchOptimizer
    return callback(TorchOptimizer(torch.optim.LBFGS, **options, **limits), order["adam_steps"])


class Hook(lightning.Callback):
    """Lets a watch look at a training."""

    def __init__(self, watch: Watch, order: Mapping[str, Any]) -> None:
        self.watch, self.order = watch, order

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.watch.begin("adam", self.order["adam_steps"])
        self.watch.start()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == self.order["adam_steps"]:
            self.watch.begin("lbfgs", self.order["lbfgs_steps"])

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if self.watch.phase == "adam":
            taken = trainer.current_epoch + 1
            self.watch.count(taken, taken)
            trainer.should_stop = self.watch.stops()
            return
        optimiser = trainer.strategy.optimizers[0]
        state, before = next(iter(optimiser.state.values())), self.watch.left
        self.watch.count(state["n_iter"], state["func_evals"])
        left = self.watch.left
        # One step alone means that a line search found no descent.
        trainer.should_stop = self.watch.stops() or left == 0 or before - left <= 1
        optimiser.param_groups[0]["max_iter"] = max(1, min(left, BLOCK))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.watch.pause()


if __name__ == "__main__":
    answer(train)
