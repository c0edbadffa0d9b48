"""What all peers share: a library of others trains its network in a process of its own, which reports."""

import json
import os
import subprocess
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sciml.errors import SolveError, UserError
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
    """The script that trains: it reads one line of JSON and reports in lines of JSON, as ``_peer_child.py`` does."""
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
        if training.precision == "bf16" or training.devices != 1:
            raise UserError(f"{self.name} trains in one process with 64 bits, or 32; leave out devices and bf16")
        if Path(sys.argv[0]).resolve() == self.child:
            raise SolveError(f"{self.name} was started by its own process; guard the script by __name__ == '__main__'")
        history = History(context.folder / "history.csv" if context.folder else None)
        notes: dict[str, float | str] = {}
        with tempfile.TemporaryDirectory(prefix="sciml-", ignore_cleanup_errors=True) as folder:
            weights = Path(folder) / "weights.npz"
            order = self._order(problem, context) | {"weights": str(weights)}
            for report in self._reports(order, environment(folder, training.accelerator, self.variables), Path(folder)):
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
            "precision": training.precision or self.precision_default,
            "accelerator": training.accelerator,
            "seed": context.seed,
            "threads": torch.get_num_threads(),
            "problem": {
                "module": made.__module__,
                "class": made.__qualname__,
                "file": str(Path(file or "").resolve()),
                "settings": dict(problem.settings),
            },
        }

    def _reports(
        self, order: Mapping[str, Any], environment: Mapping[str, str], folder: Path
    ) -> Iterator[dict[str, Any]]:
        """Run the process and yield its reports.

        Raises:
            SolveError: it failed; the message is the last line of its standard error.
        """
        errors = folder / "stderr"
        with errors.open("w") as stream, _running(self.child, environment, stream) as process:
            assert process.stdin
            assert process.stdout
            with process.stdin as stdin:
                stdin.write(json.dumps(order) + "\n")
            for line in process.stdout:
                yield json.loads(line)
            code = process.wait()
        if code:
            said = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
            raise SolveError(f"{self.name}: {said[-1].strip() if said else f'its process ended with code {code}'}")


def environment(folder: str, accelerator: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a peer writes nothing at home, asks nothing and opens no window.

    Args:
        folder: where it may write.
        accelerator: of the training; without one for a CPU no GPU is seen.
        variables: those of the peer itself.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMPI_")}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    kept |= {"PYTHONPATH": path, "MPLBACKEND": "Agg", "XDG_CACHE_HOME": folder, **variables}
    return kept | ({"CUDA_VISIBLE_DEVICES": ""} if accelerator == "cpu" else {})


@contextmanager
def _running(child: Path, environment: Mapping[str, str], errors: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", str(child)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _function(state: Mapping[str, np.ndarray], transfer: Activation) -> Callable[[np.ndarray], np.ndarray]:
    depth = len(state) // 2 - 1

    def function(points: np.ndarray) -> np.ndarray:
        hidden = points
        for k in range(depth):
            hidden = transfer(hidden @ state[f"weight_{k}"].T + state[f"bias_{k}"])
        return hidden @ state[f"weight_{depth}"].T + state[f"bias_{depth}"]

    return function
