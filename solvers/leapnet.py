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

    x: Tensor
    tau: Tensor
    y: Tensor
    x_mean: Tensor
    x_deviation: Tensor
    y_mean: Tensor
    y_deviation: Tensor

    def build(self, problem: Pairs) -> None:
        points, outputs = problem.pairs()
        self.divided = problem.divided
        x, tau = problem.divided(points)
        for name, array in (("x", x), ("tau", tau), ("y", outputs)):
            self.register_buffer(name, torch.from_numpy(array).to(self.real), persistent=False)
        for name, array in (("x", x), ("y", outputs)):
            mean, deviation = array.mean(0), array.std(0)
            constant = deviation <= 1e-9 * np.abs(mean)  # up to rounding
            for key, values in (("mean", mean), ("deviation", np.where(constant, 1.0, deviation))):
                self.register_buffer(f"{name}_{key}", torch.from_numpy(values).to(self.real), persistent=False)
        self.encoder = self._network(self.x.shape[1], self.width)
        self.leap = Leap(self.width, self.tau.shape[1], self.real)
        self.decoder = self._network(self.width, self.y.shape[1])

    def _network(self, inputs: int, outputs: int) -> MLP:
        return MLP(inputs, outputs, self.hidden, self.layers, "silu", self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, decay=0.01),)

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.randint(len(self.x), (self.rows,), generator=generator, device=generator.device)
        return {"x": self.x[chosen], "tau": self.tau[chosen], "y": self.y[chosen]}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        error = self.standardised(batch["x"], batch["tau"]) - (batch["y"] - self.y_mean) / self.y_deviation
        return {"square_error": (error**2).mean()}

    def standardised(self, x: Tensor, tau: Tensor) -> Tensor:
        """Return standardised outputs, (n, outputs), for x (n, other inputs) and τ (n, structural inputs)."""
        return self.decoder(self.leap(self.encoder((x - self.x_mean) / self.x_deviation), tau))

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def function(points: np.ndarray) -> np.ndarray:
            x, tau = (torch.from_numpy(a).to(self.x) for a in self.divided(points))
            with torch.no_grad():
                return (self.standardised(x, tau) * self.y_deviation + self.y_mean).double().cpu().numpy()

        return function
