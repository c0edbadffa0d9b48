"""Descent: optimiser steps with exact stops, checkpoints and a history, run by Lightning."""

import math
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from sciml.errors import SolveError, UserError
from sciml.neural import NeuralSolver, Phase
from sciml.problem import Problem
from sciml.solver import Context
from sciml.training.checkpoint import last_checkpoint
from sciml.training.gauss_newton import LevenbergMarquardt
from sciml.training.history import History
from sciml.training.natural_gradient import NaturalGradient
from sciml.training.objective import Evaluation, LineSearch, Objective
from sciml.training.signals import Signals
from sciml.training.state import Limits, State


class Descent(Callback):
    """Takes the optimiser steps of one training.

    One Lightning step takes all optimiser steps up to the next check or checkpoint, so that Lightning costs
    next to nothing per optimiser step; stops are nevertheless looked at after every one.

    Args:
        module: what is trained.
        problem: what for.
        context: seed, stops and folder.
        signals: the signals that ask for an end.
        precision: bits of a real number; bf16 evaluates losses in bfloat16.
        began: ``time.perf_counter()`` when the building of the networks began, from where the clock counts.
    """

    def __init__(
        self,
        module: NeuralSolver[Any],
        problem: Problem,
        context: Context,
        signals: Signals,
        precision: str,
        began: float,
    ) -> None:
        self.state = State()
        self.interrupted = 0
        """The number of the signal that ended the training early, or 0."""
        self.parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
        self._module, self._problem, self._context = module, problem, context
        self._signals, self._precision, self._began = signals, precision, began
        self._limits = Limits.of(context.training)
        self._phases = module.schedule()
        scheduled = sum(phase.steps for phase in self._phases)
        self._methods = {
            **dict.fromkeys(("adam", "soap"), self._first_order),
            **dict.fromkeys(("lbfgs", "ssbfgs", "ssbroyden"), self._line_search),
            **dict.fromkeys(("lm", "engd"), self._gauss_newton),
        }
        self._steps = min(scheduled, context.training.max_steps or scheduled)
        self._resumed: tuple[Tensor, Mapping[str, Tensor]] | None = None

    @property
    def notes(self) -> dict[str, float | str]:
        """What the training says of itself."""
        s = self.state
        counted = {
            "steps": s.step,
            "closures": s.closures,
            "seconds": s.seconds,
            "parameters": self.parameters,
        }
        return {**counted, "stop_reason": s.stop_reason, "precision": self._precision, "device": s.device, **s.findings}

    def state_dict(self) -> dict[str, Any]:
        batch = dict(self._objective.drawn)  # the next one may depend on it, too
        return {**asdict(self.state), "generator": self._generator.get_state(), "batch": batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        kept = dict(state_dict)
        self._resumed = kept.pop("generator"), kept.pop("batch")
        if (kept["device"] == "cpu") != (self._module.device.type == "cpu"):
            began = kept["device"]
            raise UserError(f"expected to go on where the training began, on {began}; change trainer.accelerator")
        self.state = State(**{**kept, "stop_reason": ""})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["notes"] = self.notes

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trainer, self._optimizers = trainer, trainer.optimizers
        self._shared = trainer.world_size > 1
        self._signals.install()
        state, folder, device = self.state, self._context.folder, self._module.device
        state.device = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self._objective = Objective(self._module, trainer.global_rank, trainer.world_size, self._precision == "bf16")
        self._search = LineSearch(self._objective)
        path = folder / "history.csv" if folder and trainer.is_global_zero else None
        self._history = History(path, state.history)
        self._generator = torch.Generator(device).manual_seed(self._context.seed)
        if self._resumed:
            generator, batch = self._resumed
            self._generator.set_state(generator)
            self._objective.use({name: rows.to(device) for name, rows in batch.items()})
            self._enter()
        if state.phase_step and self._methods[self._phases[state.phase].optimizer] == self._line_search:
            self._search.scale = state.scale
            self._search.start()
        self._objective.closures = state.closures
        self._started = time.perf_counter() - state.seconds if self._resumed else self._began

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._history.close()

    def advance(self) -> None:
        """Take the steps up to the next check or checkpoint, then do what is due there.

        Raises:
            SolveError: a loss or gradient is not finite, or a file cannot be written.
        """
        training, state = self._context.training, self.state
        evaluation, check = None, False
        while not (reason := self._reason()):
            evaluation = self._step() or evaluation
            check = state.step == 1 or state.step % training.check_every == 0
            if check or state.step % training.checkpoint_every == 0:
                reason = self._reason()
                break
        if evaluation or reason == "max_seconds":
            state.seconds = self._seconds()
        if evaluation and (check or reason not in ("", "interrupted")):
            self._check(evaluation)
            reason = reason or self._reason()
        if reason == "interrupted":
            self.interrupted = self._signals.received or signal.SIGTERM
        else:
            state.stop_reason = reason
            if reason and state.step:
                state.findings = self._module.findings(self._objective.drawn)
        if reason or state.step % training.checkpoint_every == 0:
            self._save()
        self._trainer.should_stop = bool(reason)

    def _reason(self) -> str:
        """Return why the training should end here, or nothing."""
        limits, state = self._limits, self.state
        interrupted, late = self._objective.agreed if self._shared else self._votes()
        if interrupted:
            return "interrupted"
        if self._module.answered:
            return "answered"
        if state.loss <= limits.loss and self._module.settled:
            return "target_loss"
        if state.error <= limits.error:
            return "target_error"
        if state.stale >= limits.patience:
            return "patience"
        if late:
            return "max_seconds"
        if state.closures >= limits.closures:
            return "max_closures"
        if state.step >= limits.steps:
            return "max_steps"
        if state.phase < len(self._phases):
            return ""
        return "converged" if state.converged else "schedule"

    def _votes(self) -> tuple[bool, bool]:
        return self._signals.received is not None, self._seconds() >= self._limits.seconds

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _step(self) -> Evaluation | None:
        """Take one optimiser step; None where L-BFGS finds no lower loss, which ends its phase instead."""
        state = self.state
        phase, optimizer = self._phases[state.phase], self._optimizers[state.phase]
        if self._shared:
            self._objective.votes = self._votes()
        try:
            evaluation = self._methods[phase.optimizer](phase, optimizer)
        except SolveError as error:
            folder = self._context.folder
            kept = "; the last good checkpoint is kept" if folder and last_checkpoint(folder).exists() else ""
            raise SolveError(f"step {state.step + 1} ({phase.optimizer}): {error}{kept}") from None
        state.closures = self._objective.closures
        if evaluation:
            state.step += 1
            state.phase_step += 1
            state.loss = evaluation.total
        self._stepped = phase
        settled = self._module.settled
        if state.loss <= self._limits.loss and settled and phase.stage < self._phases[-1].stage:
            self._end_stage()
        elif not evaluation or state.phase_step == phase.steps:
            self._go_to(state.phase + 1)
            state.converged = not evaluation and settled
        return evaluation

    def _go_to(self, number: int) -> None:
        """Go on with another phase; a new stage forgets the losses of the one before."""
        state, phases = self.state, self._phases
        if number < len(phases) and phases[number].stage != phases[state.phase].stage:
            state.loss, state.best, state.stale = math.inf, math.inf, 0
        state.phase, state.phase_step = number, 0

    def _end_stage(self) -> None:
        """Go on with the next stage, before the phases of this one are over."""
        stage = self._stepped.stage
        self._go_to(next(k for k, phase in enumerate(self._phases) if phase.stage > stage))

    def _enter(self) -> None:
        phase = self._phases[min(self.state.phase, len(self._phases) - 1)]
        self._module.begin(phase.stage)
        self._objective.parameters = self._module.trained(phase.stage)

    def _first_order(self, phase: Phase, optimizer: Optimizer) -> Evaluation:
        if self._draws_next:
            self._draw()
        self._objective.adapt(self.state.phase_step)
        if phase.decay != 1:
            optimizer.param_groups[0]["lr"] = phase.rate(self.state.phase_step)
        evaluation = self._objective.evaluate()
        optimizer.step()
        return evaluation

    def _line_search(self, phase: Phase, optimizer: Optimizer) -> Evaluation | None:
        start = None if self._draws_next else self._search.start()
        if start and start.total >= self.state.loss:
            if next(iter(optimizer.state.values()), {}).get("n_iter", 0) <= 1:
                if self._module.settled:
                    return None
                start = None  # a new batch, and the weights of now, may show the way
            optimizer.state.clear()
        if start is None:
            self._draw()
            self._objective.adapt(None)
            self._search.begin(scaled=phase.optimizer == "lbfgs")
            self.state.scale = self._search.scale
            start = self._search.start()
        optimizer.step(self._search)
        return start

    def _gauss_newton(self, phase: Phase, optimizer: Optimizer) -> Evaluation | None:
        if self._draws_next:
            self._draw()
        self._objective.adapt(None)
        assert isinstance(optimizer, LevenbergMarquardt | NaturalGradient)
        advanced = optimizer.advance(self._objective.residuals)
        # where a part still waits, the next batch may bring it what this one does not
        return self._objective.linearised if advanced or not self._module.settled else None

    @property
    def _draws_next(self) -> bool:
        """Whether the next step begins with a new batch."""
        state = self.state
        if state.phase_step == 0:
            return True
        every = {"lbfgs": math.inf, "engd": 1}.get(self._phases[state.phase].optimizer, self._module.resample_every)
        return state.phase_step % every == 0

    def _draw(self) -> None:
        phase, first = self._phases[self.state.phase], self.state.phase_step == 0
        if first:
            self._enter()
        follows = not first and not phase.first_order and phase.optimizer != "engd"
        module, drawn = self._module, self._objective.drawn
        self._objective.use(module.resample(self._generator, drawn) if follows else module.sample(self._generator))

    def _check(self, evaluation: Evaluation) -> None:
        """Write a row of the history and report; the time that this takes is not training."""
        state, training, began = self.state, self._context.training, time.perf_counter()
        leader = self._trainer.is_global_zero
        error = self._problem.monitor(self._module.solution(self._problem)) if leader else None
        error = self._trainer.strategy.broadcast(error)
        if error is None and training.target_error is not None:
            raise UserError(f"{self._problem.name} has no error to follow in training; use target_loss instead")
        state.error = math.inf if error is None else error
        phase, last = self._stepped, self._phases[-1].stage
        if state.phase == len(self._phases) or phase.stage == self._phases[state.phase].stage:
            anew = not self._module.settled  # other weights, another loss
            state.stale = 0 if anew or state.loss < state.best else state.stale + 1
            state.best = math.inf if anew else min(state.best, state.loss)
            if state.stale >= self._limits.patience and phase.stage < last:
                self._end_stage()
        terms = zip(self._objective.names, evaluation.terms.tolist(), strict=True)
        losses = {"loss": evaluation.total, **{f"loss_{name}": value for name, value in terms}}
        if leader:
            told = {"step": state.step, "closures": state.closures, "seconds": state.seconds}
            method = {**({"stage": phase.stage + 1} if last else {}), "phase": phase.optimizer}
            columns = {"loss": "", **dict.fromkeys((f"loss_{name}" for name in self._module.loss_names), "")}
            self._history.write({**told, **method, **columns, **losses, "error": "" if error is None else error})
            self._context.progress.report(self._done(), losses if error is None else {**losses, "error": error})
        self._started += time.perf_counter() - began

    def _done(self) -> float:
        """Return the fraction of the training that is done, by whichever limit is nearest."""
        limits, state = self._limits, self.state
        by_time, by_closures = state.seconds / limits.seconds, state.closures / limits.closures
        return min(1.0, max(state.step / self._steps, by_time, by_closures))

    def _save(self) -> None:
        if self._context.folder:
            self.state.history = self._history.sync()
            self._trainer.save_checkpoint(last_checkpoint(self._context.folder))
