"""The training loop of every neural solver."""

from typing import Any

import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from sciml.neural import NeuralSolver
from sciml.problem import Problem
from sciml.solution import Solution
from sciml.solver import Context


def fit(solver: NeuralSolver[Any], problem: Problem, context: Context) -> Solution:
    """Train a fresh copy of ``solver`` on ``problem`` and return its solution."""
    precision = context.training.precision or solver.precision_default
    module = solver.fresh(problem, context.seed, torch.float64 if precision == "64" else torch.float32)
    generator = torch.Generator().manual_seed(context.seed)
    for phase in module.schedule():
        parameters = list(module.parameters())
        if phase.optimizer == "adam":
            optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=phase.learning_rate)
        else:
            optimizer = torch.optim.LBFGS(parameters, max_iter=1, history_size=50, line_search_fn="strong_wolfe")
        batch = module.sample(generator)
        for step in range(phase.steps):
            if phase.optimizer == "adam" and step and step % module.resample_every == 0:
                batch = module.sample(generator)

            def closure() -> Tensor:
                optimizer.zero_grad()
                total = torch.stack(list(module.losses(batch).values())).sum()
                total.backward()
                return total

            loss = optimizer.step(closure)
            if step % 100 == 0:
                context.progress.report(step / phase.steps, {"loss": float(loss)})
    return module.solution(problem)
