"""The training of every neural solver: Lightning's Trainer on the device and in the precision asked for."""

import itertools
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.accelerators import CUDAAccelerator

from sciml.errors import Interrupted, UserError
from sciml.neural import NeuralSolver
from sciml.problem import Problem
from sciml.solution import Solution
from sciml.solver import Context
from sciml.training.checkpoint import AtomicIO, last_checkpoint, read_checkpoint, require_match
from sciml.training.loop import Descent
from sciml.training.processes import Courier, Ranks, forked
from sciml.training.settings import Training
from sciml.training.signals import Signals


def fit(solver: NeuralSolver[Any], problem: Problem, context: Context) -> Solution:
    """Train a fresh copy of ``solver`` on ``problem`` and return its solution.

    The notes of the solution are ``steps``, ``closures``, ``seconds`` of training (evaluation excluded),
    ``parameters`` (how many are trained), ``precision``, ``device`` and ``stop_reason``: ``schedule``,
    ``converged`` (L-BFGS finds no lower loss), ``max_steps``, ``max_closures``, ``max_seconds``,
    ``target_error``, ``target_loss``, ``patience`` or ``answered`` (by other means).

    With ``context.folder`` the history goes to ``history.csv`` and the checkpoint to
    ``checkpoints/last.ckpt``; with ``context.resume`` the training goes on from there, and ends on the same
    machine with the same number of threads in the same bits as one that was never stopped.

    Raises:
        UserError: a device, precision or number of processes that cannot be had, or an unfit checkpoint.
        SolveError: a loss or gradient is not finite, or the disk is full; the last good checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM; the checkpoint is written and signal handlers are those of before.
    """
    training = context.training
    gpu = _on_gpu(training)
    precision = training.precision or solver.precision_default
    began = time.perf_counter()
    module = solver.fresh(problem, context.seed, torch.float64 if precision == "64" else torch.float32)
    _require_sense(module, training)
    checkpoint = _prepare(context.folder, context.resume, module)

    courier = Courier(context.progress) if forked(training.devices) else None
    trainer: Trainer | None = None
    signals = Signals(lambda number: _forward(trainer, number))
    told = replace(context, progress=courier) if courier else context
    descent = Descent(module, problem, told, signals, precision, began)
    module.automatic_optimization = False
    module.advance = (lambda: courier.advance(descent)) if courier else descent.advance
    with _quiet(), signals:
        trainer = _trainer(training, gpu, [descent, *([courier.callback(descent)] if courier else [])])
        feed = itertools.repeat(0)
        with courier.carrying(descent) if courier else nullcontext():
            try:
                trainer.fit(module, feed, ckpt_path=checkpoint, weights_only=True)
            except SystemExit:  # Lightning's answer to a second Ctrl-C
                raise KeyboardInterrupt("interrupted twice") from None
    module.trainer = None
    if descent.interrupted:
        mend = f"; resume from {context.folder}" if context.folder else ""
        raise Interrupted(f"interrupted at step {descent.state.step}{mend}", descent.interrupted)
    return module.solution(problem, descent.notes)


def _on_gpu(training: Training) -> bool:
    # Lightning counts GPUs without starting CUDA, which a process that forks must not have done.
    present = CUDAAccelerator.auto_device_count() if CUDAAccelerator.is_available() else 0
    if training.accelerator == "gpu" and training.devices > present:
        raise UserError(f"expected {training.devices} CUDA GPU(s), found {present}; use trainer.accelerator=cpu")
    return training.accelerator != "cpu" and training.devices <= present


def _require_sense(module: NeuralSolver[Any], training: Training) -> None:
    phases = module.schedule()
    if not phases:
        raise UserError(f"{module.name} has no phase of training; give it at least one step")
    if training.precision == "bf16":
        if method := next((phase.optimizer for phase in phases if not phase.first_order), None):
            raise UserError(f"expected precision 32 or 64, got bf16: the steps of {method} need exact losses")
        if not module.takes_bf16:
            raise UserError(f"expected precision 32 or 64 for {module.name}, got bf16")
    if TorchElasticEnvironment.detect():
        world = TorchElasticEnvironment().world_size()
        if world != training.devices:
            raise UserError(f"expected trainer.devices={world} as torchrun started, got {training.devices}")


def _prepare(folder: Path | None, resume: bool, module: NeuralSolver[Any]) -> Path | None:
    """Make the folder of the checkpoint, and return the checkpoint to go on from."""
    if folder is None:
        return None
    path = last_checkpoint(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not resume or not path.exists():
        return None
    for unfinished in path.parent.glob(f".{path.name}.*"):
        unfinished.unlink(missing_ok=True)
    require_match(read_checkpoint(path), module, path)
    return path


def _trainer(training: Training, gpu: bool, callbacks: list[Any]) -> Trainer:
    torchrun = TorchElasticEnvironment.detect()
    return Trainer(
        accelerator="cuda" if gpu else "cpu",
        devices=training.devices,
        strategy=Ranks(fork=not torchrun) if training.devices > 1 else "auto",
        precision="32-true",  # leaves the module in the dtype it was built in
        plugins=[
            AtomicIO(),
            TorchElasticEnvironment() if torchrun else LightningEnvironment(),
        ],
        callbacks=callbacks,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _forward(trainer: Trainer | None, number: int) -> None:
    if trainer and trainer.strategy.launcher is not None and forked(trainer.world_size):
        trainer.strategy.launcher.kill(number)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice to itself."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "torch.multiprocessing")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
