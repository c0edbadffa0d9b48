"""LEAP nets: latent encoding of atypical perturbations."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sciml.networks import MLP
from sciml.neural import NeuralSolver, Phase
from sciml.parameters import Count, Positive
from sciml.views.pairs import Pairs


class Leap(nn.Module):
    """h ↦ h + D((E h + b) ⊙ τ): each change of structure moves the latent state along a direction of its own.

    Args:
        latent: components of h.
        structure: components of τ.
        real: dtype.
    """

    def __init__(self, latent: int, structure: int, real: torch.dtype) -> None:
        super().__init__()
        self.encode = nn.Linear(latent, structure, dtype=real)
        self.decode = nn.Linear(structure, latent, bias=False, dtype=real)

    def forward(self, h: Tensor, tau: Tensor) -> Tensor:
        """Return the moved latent state, (n, latent), of h (n, latent) under τ (n, structure)."""
        return h + self.decode(self.encode(h) * tau)


class LeapNet(NeuralSolver[Pairs]):
    """Encodes the inputs, leaps in latent space as the structure says, decodes.

    y = decoder(h + D((E h + b) ⊙ τ)),  h = encoder(x)

    Inputs and outputs are standardised by their mean and deviation over the training pairs; the loss is the
    mean square error. Source: B. Donnot, B. Donon, I. Guyon, Z. Liu, A. Marot, P. Panciatici and M.
    Schoenauer, LEAP nets for power grid perturbations, 2019, arXiv 1908.08314.

    Args:
        latent: components of h.
        hidden: width of the hidden layers of encoder and decoder.
        layers: number of them, in each.
        rows: pairs in a batch.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    needs = Pairs

    def __init__(
        self,
        latent: Count = 128,
        hidden: Count = 128,
        layers: Count = 2,
        rows: Count = 256,
        steps: Count = 15000,
        learning_rate: Positive = 1e-3,
    ) -> None:
        super().__init__()
        self.width = latent
        self.hidden = hidden
        self.layers = layers
        self.rows = rows
        self.steps = steps
        self.learning_rate = learning_rate

    x_mean: Tensor
    x_deviation: Tensor
    y_mean: Tensor
    y_deviation: Tensor

    def build(self, problem: Pairs) -> None:
        self.problem = problem
        self.pairs: dict[str, Tensor] | None = None
        structural = len(problem.intact)
        plain, outputs = len(problem.inputs) - structural, len(problem.outputs)
        for name, size in (("x", plain), ("y", outputs)):
            self.register_buffer(f"{name}_mean", torch.zeros(size, dtype=self.real))
            self.register_buffer(f"{name}_deviation", torch.ones(size, dtype=self.real))
        self.encoder = self._network(plain, self.width)
        self.leap = Leap(self.width, structural, self.real)
        self.decoder = self._network(self.width, outputs)

    def _network(self, inputs: int, outputs: int) -> MLP:
        return MLP(inputs, outputs, self.hidden, self.layers, "silu", self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, decay=0.01),)

    def labelled(self, device: torch.device) -> dict[str, Tensor]:
        """Return x, τ and y of the training pairs, which are made on first use and set means and deviations."""
        if self.pairs is None:
            points, y = self.problem.pairs()
            x, tau = self.problem.divided(points)
            self._standardise(self.x_mean, self.x_deviation, x)
            self._standardise(self.y_mean, self.y_deviation, y)
            arrays = {"x": x, "tau": tau, "y": y}
            self.pairs = {name: torch.from_numpy(array).to(device, self.real) for name, array in arrays.items()}
        return self.pairs

    def _standardise(self, mean: Tensor, deviation: Tensor, values: np.ndarray) -> None:
        m, d = values.mean(0), values.std(0)
        mean.copy_(torch.from_numpy(m))
        deviation.copy_(torch.from_numpy(np.where(d <= 1e-9 * np.abs(m), 1.0, d)))  # constant up to rounding

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        pairs = self.labelled(generator.device)
        chosen = torch.randint(len(pairs["x"]), (self.rows,), generator=generator, device=generator.device)
        return {name: values[chosen] for name, values in pairs.items()}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        error = self.standardised(batch["x"], batch["tau"]) - (batch["y"] - self.y_mean) / self.y_deviation
        return {"square_error": (error**2).mean()}

    def standardised(self, x: Tensor, tau: Tensor) -> Tensor:
        """Return standardised outputs, (n, outputs), for x (n, other inputs) and τ (n, structural inputs)."""
        return self.decoder(self.leap(self.encoder((x - self.x_mean) / self.x_deviation), tau))

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def function(points: np.ndarray) -> np.ndarray:
            x, tau = (torch.from_numpy(a).to(self.x_mean) for a in self.problem.divided(points))
            with torch.no_grad():
                return (self.standardised(x, tau) * self.y_deviation + self.y_mean).double().cpu().numpy()

        return function
