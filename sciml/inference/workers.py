"""Calls of an untrusted function in processes of their own, each within a time limit."""

import multiprocessing
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sciml.errors import short

OUTPUT = 2**24
"""The most bytes that an executable may print."""
WATCH = 0.5
"""Seconds between two looks of a worker at whether the process that started it is still there."""
Run = Callable[[np.ndarray, int], ArrayLike]
"""One simulation: parameters (parameters,) and a seed to data (data,)."""


@dataclass(frozen=True)
class Outcome:
    """What became of one call.

    Args:
        data: shape (data,), NaN where it failed.
        failure: why it failed, in one line; empty where it did not.
    """

    data: np.ndarray
    failure: str = ""


def run_each(
    run: Run, theta: np.ndarray, seeds: Sequence[int], size: int, workers: int, seconds: float
) -> Iterator[tuple[int, Outcome]]:
    """Call a function for each row, several at once, and yield rows as they end; no failure touches another row.

    Each worker leads a process group, which is killed with all that it started when the time is up. The global
    generators of Python, numpy and torch start from the row's seed.

    Args:
        run: the function.
        theta: parameters, shape (n, parameters).
        seeds: shape (n,).
        size: numbers that a call should return.
        workers: processes at once.
        seconds: that a call may take.
    """
    waiting = list(range(len(theta)))[::-1]
    pool = [_Worker(run, size) for _ in range(min(workers, len(theta)))]
    try:
        while True:
            for worker in pool:
                if worker.row is None and waiting:
                    row = waiting.pop()
                    worker.give(row, theta[row], int(seeds[row]), seconds)
            working = [worker for worker in pool if worker.row is not None]
            if not working:
                return
            left = min(worker.deadline for worker in working) - time.monotonic()
            connection.wait([worker.pipe for worker in working], max(left, 0))
            for worker in working:
                row, outcome = worker.row, worker.take(seconds)
                if row is not None and outcome is not None:
                    yield row, outcome
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """A process that makes one call after the other, and is replaced where one of them ends it."""

    def __init__(self, run: Run, size: int) -> None:
        self._run, self._size = run, size
        self.row: int | None = None
        self.deadline = 0.0
        self._start()

    def _start(self) -> None:
        # A fork holds any function, of a notebook too; where there is none, it has to be one that can be imported.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(method)
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._run, self._size, theirs, os.getpid()))
        self._process.start()
        theirs.close()

    def give(self, row: int, theta: np.ndarray, seed: int, seconds: float) -> None:
        if not self._process.is_alive():
            self._start()
        self.row, self.deadline = row, time.monotonic() + seconds
        self.pipe.send((theta, seed))

    def take(self, seconds: float) -> Outcome | None:
        """Return the outcome of the call, or None where it still runs."""
        nothing = np.full(self._size, np.nan)
        if self.pipe.poll():
            try:
                outcome = self.pipe.recv()
            except EOFError:
                self.end()
                outcome = Outcome(nothing, f"its process ended with exit code {self._process.exitcode}")
        elif time.monotonic() >= self.deadline:
            self.end()
            outcome = Outcome(nothing, f"it took longer than {seconds:g} s")
        else:
            return None
        self.row = None
        return outcome

    def end(self) -> None:
        """Kill the process, and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def _serve(run: Run, size: int, pipe: connection.Connection, parent: int) -> None:
    """Answer calls until nobody asks any more."""
    with suppress(OSError):
        os.setpgid(0, 0)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)  # a fork has lost the other threads, and would wait for them
    while True:
        try:
            theta, seed = pipe.recv()
        except EOFError:
            return
        pipe.send(_call(run, theta, seed, size))


def _watch(parent: int) -> None:
    """End this process and all that it started when the process that asked is gone."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os.killpg(0, signal.SIGKILL)


def _call(run: Run, theta: np.ndarray, seed: int, size: int) -> Outcome:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - whatever the function draws from, it starts from this seed
    torch.manual_seed(seed)
    nothing = np.full(size, np.nan)
    try:
        data = np.asarray(run(theta, seed))
        if data.dtype.kind not in "biuf":
            return Outcome(nothing, f"expected real numbers, got {short(str(data.tolist()))}")
    except BaseException as error:  # whatever the function does, the other rows go on
        first = (str(error).splitlines() or [""])[0]
        return Outcome(nothing, f"{type(error).__name__}: {first[:200]}")
    data = np.atleast_1d(data).astype(float)
    if data.shape != (size,):
        return Outcome(nothing, f"expected {size} numbers, got shape {data.shape}")
    if not np.isfinite(data).all():
        return Outcome(nothing, "it returned NaN or infinity")
    return Outcome(data)


def run_executable(command: Sequence[str], given: str) -> bytes:
    """Run a program on a text and return what it prints; no shell sees either.

    Raises:
        RuntimeError: it ended with another exit code than 0, or printed more than 16 MiB.
        OSError: it is missing, or may not be run.
    """
    with tempfile.TemporaryFile() as text, tempfile.TemporaryFile() as errors:
        text.write(given.encode())
        text.seek(0)
        with subprocess.Popen(list(command), stdin=text, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            printed = process.stdout.read(OUTPUT + 1)
            if len(printed) > OUTPUT:
                process.kill()
                raise RuntimeError(f"it printed more than {OUTPUT} bytes")
        if process.returncode:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 1000))
            said = errors.read().decode(errors="replace").strip().splitlines() or [""]
            raise RuntimeError(f"exit code {process.returncode}: {said[-1]}")
        return printed
