"""Training in several processes, which share every batch and keep the same parameters."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from sciml.errors import SolveError, UserError
from sciml.progress import Progress
from sciml.training.loop import Descent
from sciml.training.state import State


def forked(devices: int) -> bool:
    """Return whether a training forks its processes: it does unless torchrun has started them."""
    return devices > 1 and not TorchElasticEnvironment.detect()


class Ranks(DDPStrategy):
    """Lightning's processes without its wrapper around the module.

    The training averages losses and gradients itself, in one message: the line search of L-BFGS needs the
    loss of the global batch at every trial, which the wrapper does not give. Forking, unlike starting anew,
    needs no command line and no importable classes, so it serves a notebook and an installed command alike.

    Args:
        fork: fork the processes; else torchrun has started them.
    """

    def __init__(self, fork: bool) -> None:
        super().__init__(start_method="fork" if fork else "popen")
        self._fork = fork

    def setup_environment(self) -> None:
        if self._fork:
            # A forked process has lost the threads of its parent's OpenMP and would wait for them.
            torch.set_num_threads(1)
        super().setup_environment()

    def configure_ddp(self) -> None:
        """Leave the module as it is; every process has built it from the same seed."""


class Courier(Progress):
    """Carries reports, and in the end the outcome, from the first of the forked processes to their parent.

    Args:
        progress: what the parent tells.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._queue: Any = multiprocessing.get_context("fork").SimpleQueue()
        self._failure: Exception | None = None

    def report(self, done: float, values: Mapping[str, float]) -> None:
        self._queue.put(("report", (done, dict(values))))

    def callback(self, descent: Descent) -> Callback:
        """Return what sends the outcome when a training ends."""
        return _Outcome(self._queue, descent)

    def advance(self, descent: Descent) -> None:
        """Let a descent advance, and send what stops it."""
        try:
            descent.advance()
        except (SolveError, UserError) as error:
            self._queue.put(("failure", error))
            raise

    @contextmanager
    def carrying(self, descent: Descent) -> Iterator[None]:
        """Pass on what the processes send, and give ``descent`` their outcome.

        Raises:
            SolveError, UserError: what stopped a process.
        """
        reader = threading.Thread(target=self._read, args=(descent,), daemon=True)
        reader.start()
        port = os.environ.get("MASTER_PORT")
        lost: Exception | None = None
        try:
            yield
        except (ProcessRaisedException, ProcessExitedException) as error:
            lost = error
        finally:
            self._queue.put(("end", None))
            reader.join()
            if port is None:
                os.environ.pop("MASTER_PORT", None)
        if self._failure:
            raise self._failure
        if lost:
            raise SolveError(f"a training process was lost: {str(lost).strip().splitlines()[-1]}") from lost

    def _read(self, descent: Descent) -> None:
        while True:
            kind, content = self._queue.get()
            if kind == "report":
                self._progress.report(*content)
            elif kind == "state":
                state, descent.interrupted = content
                descent.state = State(**state)
            elif kind == "failure":
                self._failure = self._failure or content
            else:
                return


class _Outcome(Callback):
    def __init__(self, queue: Any, descent: Descent) -> None:
        self._queue, self._descent = queue, descent

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._queue.put(("state", (asdict(self._descent.state), self._descent.interrupted)))
