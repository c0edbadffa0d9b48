"""What all peers share: a library of others trains its network in a process of its own, which reports."""

import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sciml.child import described, environment, reports, unreachable
from sciml.errors import UserError
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.training.history import History
from sciml.views.residual import Residual

Activation = Callable[[np.ndarray], np.ndarray]


class Peer(Solver[Residual]):
    """A peer's multilayer perceptron, trained by Adam and then by L-BFGS in another process.

    Fewer steps than its schedule has shorten both phases alike.
    """

    kind = "peer"
    needs = Residual
    child: ClassVar[Path]
    """The script that trains: it calls `answer`; ``_peer_child.py`` has the rest of what such scripts share."""
    variables: ClassVar[Mapping[str, str]] = {}
    """What the environment of that process has besides ours."""

    adam_steps: int
    lbfgs_steps: int

    @property
    @abstractmethod
    def transfer(self) -> Activation:
        """The function between layers, on arrays."""

    def refuses(self, problem: Residual) -> str | None:
        if problem.unknowns:
            return f"{', '.join(u.name for u in problem.unknowns)} is sought; it is set up for given equations only"
        return unreachable(problem)

    def solve(self, problem: Residual, context: Context) -> Solution:
        training = context.training
        if training.precision == "bf16" or training.devices != 1:
            raise UserError(f"{self.name} trains in one process with 64 bits, or 32; leave out devices and bf16")
        history = History(context.folder / "history.csv" if context.folder else None)
        notes: dict[str, float | str] = {}
        with tempfile.TemporaryDirectory(prefix="sciml-", ignore_cleanup_errors=True) as folder:
            weights = Path(folder) / "weights.npz"
            order = self._order(problem, context) | {"weights": str(weights)}
            kept = environment(folder, training.accelerator, self.variables)
            for report in reports(self.name, self.child, order, kept, Path(folder)):
                if "row" in report:
                    history.write(report["row"])
                    shown = {k: v for k, v in report["row"].items() if k.startswith(("loss", "error")) and v != ""}
                    context.progress.report(report["done"], shown)
                notes |= report.get("notes", {})
            history.close()
            with np.load(weights, allow_pickle=False) as arrays:
                state = dict(arrays)
        return Solution(problem, _function(state, self.transfer), state, notes)

    def restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        return Solution(problem, _function(state, self.transfer), state)

    def _order(self, problem: Residual, context: Context) -> dict[str, Any]:
        import torch

        training = context.training
        limits = ("max_closures", "max_seconds", "target_error", "target_loss", "patience", "check_every")
        whole = self.adam_steps + self.lbfgs_steps
        share = min(1.0, (training.max_steps or whole) / whole)
        return {
            **self.settings,
            **{name: training.settings[name] for name in limits},
            "adam_steps": max(1, round(share * self.adam_steps)),
            "lbfgs_steps": round(share * self.lbfgs_steps),
            "shortened": share < 1,
            "precision": training.precision or self.precision_default,
            "accelerator": training.accelerator,
            "seed": context.seed,
            "threads": torch.get_num_threads(),
            "problem": described(problem),
        }


def _function(state: Mapping[str, np.ndarray], transfer: Activation) -> Callable[[np.ndarray], np.ndarray]:
    depth = len(state) // 2 - 1

    def function(points: np.ndarray) -> np.ndarray:
        hidden = points
        for k in range(depth):
            hidden = transfer(hidden @ state[f"weight_{k}"].T + state[f"bias_{k}"])
        return hidden @ state[f"weight_{depth}"].T + state[f"bias_{depth}"]

    return function
