"""How networks are trained: device, precision, and when to stop."""

from typing import Literal

from sciml.parameters import Configured, Count, Positive


class Training(Configured):
    """Settings of a training; presets stand in ``configs/trainer``.

    Args:
        accelerator: where to train.
        devices: number of processes, each with one device.
        precision: bits of a real number; None takes the solver's own, on a GPU too (64 for differential equations).
        max_steps: stop after so many optimiser steps in all; None leaves the solver's own schedule.
        max_closures: stop after so many evaluations of the loss and its gradient.
        max_seconds: stop after so many seconds of training.
        target_error: stop once the primary score is at most this (checked every ``check_every`` steps).
        target_loss: stop once the loss is at most this.
        patience: stop after so many checks without a better loss.
        check_every: steps between checks, reports and rows of the history.
        checkpoint_every: steps between checkpoints.
    """

    def __init__(
        self,
        accelerator: Literal["auto", "cpu", "gpu"] = "auto",
        devices: Count = 1,
        precision: Literal["64", "32", "bf16"] | None = None,
        max_steps: Count | None = None,
        max_closures: Count | None = None,
        max_seconds: Positive | None = None,
        target_error: Positive | None = None,
        target_loss: Positive | None = None,
        patience: Count | None = None,
        check_every: Count = 100,
        checkpoint_every: Count = 1000,
    ) -> None:
        self.accelerator = accelerator
        self.devices = devices
        self.precision = precision
        self.max_steps = max_steps
        self.max_closures = max_closures
        self.max_seconds = max_seconds
        self.target_error = target_error
        self.target_loss = target_loss
        self.patience = patience
        self.check_every = check_every
        self.checkpoint_every = checkpoint_every
