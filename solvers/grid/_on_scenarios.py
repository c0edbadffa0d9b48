"""Networks that learn from scenarios alone, without load flows of them."""

import torch
from torch import Tensor

from sciml.neural import NeuralSolver, Phase
from sciml.views.graph import Graph


class OnScenarios(NeuralSolver[Graph]):
    """Trains on random batches of the training scenarios by Adam.

    Args:
        rows: scenarios in a batch.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    needs = Graph

    def __init__(self, rows: int, steps: int, learning_rate: float) -> None:
        super().__init__()
        self.rows = rows
        self.steps = steps
        self.learning_rate = learning_rate

    def build(self, problem: Graph) -> None:
        self.problem = problem
        self.scenarios: Tensor | None = None

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, decay=0.01),)

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        if self.scenarios is None:
            self.scenarios = torch.from_numpy(self.problem.scenarios("train")).to(generator.device, self.real)
        chosen = torch.randint(len(self.scenarios), (self.rows,), generator=generator, device=generator.device)
        return {"scenarios": self.scenarios[chosen]}
