"""DeepXDE, the peer for partial differential equations."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sciml.errors import SolveError, UserError
from sciml.parameters import Count, Positive
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.training.history import History
from sciml.views.residual import Residual

CHILD = Path(__file__).with_name("_deepxde_child.py")


class DeepXDE(Solver[Residual]):
    """DeepXDE trains its own network on the same equations, in a process of its own.

    The loss is the sum of the mean squared residuals of equations and conditions at fixed points, with
    derivatives by ``dde.grad``, in double precision; Adam, then L-BFGS, with DeepXDE's own settings. The
    defaults are those of its example for the Burgers equation, but that points are of a scrambled Sobol
    sequence and counted for each condition. Fewer steps than its schedule has shorten both phases alike.
    Source: L. Lu, X. Meng, Z. Mao, G. E. Karniadakis, DeepXDE: A deep learning library for solving
    differential equations, SIAM Review 63 (2021), doi:10.1137/19M1274067.

    Args:
        width: units in each hidden layer.
        depth: hidden layers, with tanh.
        points: points inside, of a scrambled Sobol sequence.
        initial_points: points of each initial condition.
        boundary_points: points of each other condition that is not given by data.
        adam_steps: steps of Adam.
        learning_rate: of Adam.
        lbfgs_steps: steps of L-BFGS.
    """

    kind = "peer"
    needs = Residual

    def __init__(
        self,
        width: Count = 20,
        depth: Count = 3,
        points: Count = 2540,
        initial_points: Count = 160,
        boundary_points: Count = 80,
        adam_steps: Count = 15000,
        learning_rate: Positive = 1e-3,
        lbfgs_steps: Count = 15000,
    ) -> None:
        self.adam_steps = adam_steps
        self.lbfgs_steps = lbfgs_steps

    def refuses(self, problem: Residual) -> str | None:
        if problem.unknowns:
            return f"{', '.join(u.name for u in problem.unknowns)} is sought; it is set up for given equations only"
        made = type(problem)
        if getattr(sys.modules[made.__module__], "__file__", None) is None or "." in made.__qualname__:
            return "another process must find its class; put it at the top level of a file"
        try:
            json.dumps(dict(problem.settings))
        except TypeError as error:
            return f"another process must be told its parameters: {error}"
        return None

    def solve(self, problem: Residual, context: Context) -> Solution:
        training = context.training
        if training.precision not in (None, "64") or training.devices != 1:
            raise UserError("deepxde trains in one process with 64 bits, for its L-BFGS stops early with fewer")
        if Path(sys.argv[0]).resolve() == CHILD:
            raise SolveError("deepxde was started by its own process; guard the script by __name__ == '__main__'")
        history = History(context.folder / "history.csv" if context.folder else None)
        notes: dict[str, float | str] = {}
        with tempfile.TemporaryDirectory(prefix="sciml-", ignore_cleanup_errors=True) as folder:
            weights = Path(folder) / "weights.npz"
            order = self._order(problem, context) | {"weights": str(weights)}
            for report in _reports(order, _environment(folder, training.accelerator), Path(folder)):
                if "row" in report:
                    history.write(report["row"])
                    shown = {k: v for k, v in report["row"].items() if k.startswith(("loss", "error")) and v != ""}
                    context.progress.report(report["done"], shown)
                notes |= report.get("notes", {})
            history.close()
            with np.load(weights, allow_pickle=False) as arrays:
                state = dict(arrays)
        return Solution(problem, _function(state), state, notes)

    def restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        return Solution(problem, _function(state), state)

    def _order(self, problem: Residual, context: Context) -> dict[str, Any]:
        import torch

        training, made = context.training, type(problem)
        limits = ("max_closures", "max_seconds", "target_error", "target_loss", "patience", "check_every")
        file = sys.modules[made.__module__].__file__
        whole = self.adam_steps + self.lbfgs_steps
        share = min(1.0, (training.max_steps or whole) / whole)
        return {
            **self.settings,
            **{name: training.settings[name] for name in limits},
            "adam_steps": max(1, round(share * self.adam_steps)),
            "lbfgs_steps": round(share * self.lbfgs_steps),
            "shortened": share < 1,
            "seed": context.seed,
            "threads": torch.get_num_threads(),
            "problem": {
                "module": made.__module__,
                "class": made.__qualname__,
                "file": str(Path(file or "").resolve()),
                "settings": dict(problem.settings),
            },
        }


def _environment(folder: str, accelerator: str) -> dict[str, str]:
    """Return the environment in which DeepXDE writes nothing at home, asks nothing and opens no window."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMPI_")}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    kept |= {"PYTHONPATH": path, "DDE_BACKEND": "pytorch", "MPLBACKEND": "Agg", "XDG_CACHE_HOME": folder}
    return kept | ({"CUDA_VISIBLE_DEVICES": ""} if accelerator == "cpu" else {})


def _reports(order: Mapping[str, Any], environment: Mapping[str, str], folder: Path) -> Iterator[dict[str, Any]]:
    """Run the process and yield its reports.

    Raises:
        SolveError: it failed; the message is the last line of its standard error.
    """
    errors = folder / "stderr"
    with errors.open("w") as stream, _running(environment, stream) as process:
        assert process.stdin
        assert process.stdout
        with process.stdin as stdin:
            stdin.write(json.dumps(order) + "\n")
        for line in process.stdout:
            yield json.loads(line)
        code = process.wait()
    if code:
        said = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
        raise SolveError(f"deepxde: {said[-1].strip() if said else f'its process ended with code {code}'}")


@contextmanager
def _running(environment: Mapping[str, str], errors: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", str(CHILD)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _function(state: Mapping[str, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    depth = len(state) // 2 - 1

    def function(points: np.ndarray) -> np.ndarray:
        hidden = points
        for k in range(depth):
            hidden = np.tanh(hidden @ state[f"weight_{k}"].T + state[f"bias_{k}"])
        return hidden @ state[f"weight_{depth}"].T + state[f"bias_{depth}"]

    return function
