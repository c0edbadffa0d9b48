"""Networks that learn a map from labelled pairs."""

from abc import abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from sciml.neural import NeuralSolver, Phase
from sciml.views.pairs import Pairs


class OnPairs(NeuralSolver[Pairs]):
    """Minimises the mean square error of the outputs, as the problem measures it, over the training pairs.

    z = Lᵀ(y - ȳ) / σ,  L Lᵀ = MᵀM

    are the outputs of a network, so that |z|² is the square of an error |M e| up to the factor σ, with which its mean
    over the training pairs is the number of outputs. Other inputs are standardised by their mean and deviation.

    Args:
        rows: pairs in a batch.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    needs = Pairs

    x_mean: Tensor
    x_deviation: Tensor
    y_mean: Tensor
    basis: Tensor
    """σ L⁻ᵀ, from z to y - ȳ, shape (outputs, outputs)."""

    def __init__(self, rows: int, steps: int, learning_rate: float) -> None:
        super().__init__()
        self.rows = rows
        self.steps = steps
        self.learning_rate = learning_rate

    def build(self, problem: Pairs) -> None:
        self.problem = problem
        self.pairs: dict[str, Tensor] | None = None
        plain, changes = (part.shape[1] for part in problem.divided(np.empty((0, len(problem.inputs)))))
        outputs = len(problem.outputs)
        self.register_buffer("x_mean", torch.zeros(plain, dtype=self.real))
        self.register_buffer("x_deviation", torch.ones(plain, dtype=self.real))
        self.register_buffer("y_mean", torch.zeros(outputs, dtype=self.real))
        self.register_buffer("basis", torch.eye(outputs, dtype=self.real))
        self.shape(plain, changes, outputs)

    @abstractmethod
    def shape(self, plain: int, changes: int, outputs: int) -> None:
        """Make the networks, for so many components of x, of τ and of y."""

    @abstractmethod
    def standardised(self, x: Tensor, tau: Tensor) -> Tensor:
        """Return z, (n, outputs), for standardised x, (n, components), and τ, (n, changes)."""

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, decay=0.01),)

    def labelled(self, device: torch.device) -> dict[str, Tensor]:
        """Return standardised x, τ and z of the training pairs, made on first use, which sets the buffers."""
        if self.pairs is None:
            points, y = self.problem.pairs()
            x, tau = self.problem.divided(points)
            x_mean, x_deviation, y_mean = x.mean(0), x.std(0), y.mean(0)
            x_deviation[x_deviation <= 1e-9 * np.abs(x_mean)] = 1  # constant up to rounding
            measure = self.problem.measure
            factor = np.linalg.cholesky((measure.T @ measure).toarray())
            z = (y - y_mean) @ factor
            deviation = np.sqrt((z**2).mean())
            values = {"x_mean": x_mean, "x_deviation": x_deviation, "y_mean": y_mean}
            for name, value in (values | {"basis": deviation * np.linalg.inv(factor).T}).items():
                getattr(self, name).copy_(torch.from_numpy(value))
            arrays = {"x": (x - x_mean) / x_deviation, "tau": tau, "z": z / deviation}
            self.pairs = {name: torch.from_numpy(array).to(device, self.real) for name, array in arrays.items()}
        return self.pairs

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        pairs = self.labelled(generator.device)
        chosen = torch.randint(len(pairs["x"]), (self.rows,), generator=generator, device=generator.device)
        return {name: values[chosen] for name, values in pairs.items()}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"square_error": ((self.standardised(batch["x"], batch["tau"]) - batch["z"]) ** 2).mean()}

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def function(points: np.ndarray) -> np.ndarray:
            x, tau = (torch.from_numpy(a).to(self.x_mean) for a in self.problem.divided(points))
            with torch.no_grad():
                z = self.standardised((x - self.x_mean) / self.x_deviation, tau)
                return (z @ self.basis.T + self.y_mean).double().cpu().numpy()

        return function
