"""The loss of a network and its gradient, the same in every process of a training."""

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from sciml.errors import SolveError, UserError
from sciml.neural import NeuralSolver
from sciml.pde.tape import recording


class Evaluation(NamedTuple):
    """The loss somewhere: its sum, its terms, and the gradients, one for each parameter that has any."""

    total: float
    terms: Tensor
    gradients: list[Tensor]


class Objective:
    """The loss terms of a module on the batch at hand.

    With several processes each takes the rows ``rank::world`` of the same global batch; losses are means over
    rows, so the mean over processes of the losses and of their gradients is that of the global batch.

    Args:
        module: whose losses they are.
        rank: which process this is.
        world: how many processes there are.
        bf16: evaluate the losses in bfloat16 where torch's autocast does so, on float32 parameters.
    """

    def __init__(self, module: NeuralSolver[Any], rank: int, world: int, bf16: bool) -> None:
        self.module = module
        self.parameters: list[Tensor] = module.trained(0)
        self.names: Collection[str] = ()
        self.closures = 0
        self.votes: tuple[bool, bool] = (False, False)
        """What this process asks for, to be interrupted and to end in time, told along with its gradient."""
        self.agreed = [0.0, 0.0]
        """The share of the processes that has asked for each; all processes know the same."""
        self._rank, self._world = rank, world
        self.drawn: Mapping[str, Tensor] = {}
        """The global batch."""
        self.linearised: Evaluation | None = None
        """The loss where residuals were last linearised."""
        self._batch: Mapping[str, Tensor] = {}
        device = module.device
        self._cast: AbstractContextManager[Any] = nullcontext()
        if bf16:
            self._cast = torch.autocast(device.type, torch.bfloat16)
        self._one = torch.ones((), dtype=torch.float32, device=device)
        self._bad = torch.zeros((), dtype=torch.float32, device=device)

    def use(self, batch: Mapping[str, Tensor]) -> None:
        """Take a global batch."""
        self.drawn = batch
        if self._world > 1:
            batch = {name: self._rows(name, rows) for name, rows in batch.items()}
        self._batch = batch

    def adapt(self, step: int | None) -> None:
        """Let the module adapt its weights to the batch before a step."""
        self.module.adapt(self._batch, step)

    def residuals(self, derivative: bool) -> tuple[Tensor, Tensor | None]:
        """Return all residuals, whose squares sum to the loss, and their derivatives by the parameters if wanted.

        Raises:
            SolveError: a residual or its derivative is not finite where the derivative is wanted.
        """
        self.closures += 1
        if not derivative:
            with torch.no_grad():
                return self._together(map(self._scaled, self.module.residuals(self._batch).values())), None
        with recording(self.parameters) as tape:
            residuals = self.module.residuals(self._batch)
            scaled = [self._scaled(r) for r in residuals.values()]
            jacobian = self._together(tape.jacobian(r) for r in scaled)
        value = self._together(r.detach() for r in scaled)
        terms = torch.stack([r.detach().square().mean() for r in residuals.values()])
        self.names = residuals.keys()
        if self._world > 1:
            terms = self._average(terms, [])
        if not (value.sum().isfinite() and jacobian.sum().isfinite()):
            raise SolveError(self._blame(terms))
        self.linearised = Evaluation(float(terms.sum()), terms, [])
        return value, jacobian

    def _scaled(self, rows: Tensor) -> Tensor:
        """Return the rows of a term divided so that, over all processes, their squares sum to their mean."""
        return rows / math.sqrt(len(rows) * self._world)

    def _together(self, parts: Iterable[Tensor]) -> Tensor:
        """Return the rows of all terms, of all processes."""
        first, *others = parts
        rows = torch.cat([first, *others]) if others else first
        if self._world == 1:
            return rows
        shares = [torch.empty_like(rows) for _ in range(self._world)]
        torch.distributed.all_gather(shares, rows)
        return torch.cat(shares)

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        if rows.ndim == 0:
            return rows
        if len(rows) % self._world:
            raise UserError(
                f"expected rows that {self._world} processes can share evenly, got {len(rows)} of {name!r}; "
                "change trainer.devices or the number of rows"
            )
        return rows[self._rank :: self._world]

    def evaluate(self) -> Evaluation:
        """Evaluate the loss and its gradient, which is left in the parameters' ``grad``.

        Raises:
            SolveError: a loss term or its gradient is not finite.
        """
        for parameter in self.parameters:
            parameter.grad = None
        with self._cast:
            losses = self.module.losses(self._batch)
        terms = torch.stack(list(losses.values()))
        loss = terms.sum()
        loss.backward()
        self.closures += 1
        self.names = losses.keys()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self._world > 1:
            terms = self._average(terms.detach(), gradients)
            loss = terms.sum()
        total = loss.item()
        # The kernel of torch's gradient scaler, with scale one: a tenth of the cost of the gradient's norm.
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._bad, self._one)  # pyright: ignore[reportPrivateImportUsage]
        if not math.isfinite(total) or self._bad.item():
            raise SolveError(self._blame(terms))
        return Evaluation(total, terms, gradients)

    def _average(self, terms: Tensor, gradients: list[Tensor]) -> Tensor:
        parts = [*gradients, terms, terms.new_tensor([float(vote) for vote in self.votes])]
        flat = torch.cat([part.reshape(-1) for part in parts])
        torch.distributed.all_reduce(flat)
        flat /= self._world
        pieces = flat.split([part.numel() for part in parts])
        for gradient, piece in zip(gradients, pieces, strict=False):
            gradient.copy_(piece.view_as(gradient))
        self.agreed = [max(pair) for pair in zip(self.agreed, pieces[-1].tolist(), strict=True)]
        return pieces[-2]

    def _blame(self, terms: Tensor) -> str:
        """Name what is not finite; evaluates the terms one by one, for which there is time now."""
        values = dict(zip(self.names, terms.tolist(), strict=True))
        bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            return f"the loss term {', '.join(bad)}"
        with self._cast:
            losses = self.module.losses(self._batch)
        faults = torch.zeros_like(terms)
        for k, loss in enumerate(losses.values()):
            gradients = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
            faults[k] = sum(float(not g.isfinite().all()) for g in gradients if g is not None)
        if self._world > 1:
            torch.distributed.all_reduce(faults)
        guilty = [name for name, fault in zip(losses, faults.tolist(), strict=True) if fault]
        return f"the gradient of the loss term {', '.join(guilty) or 'sum'} is not finite"


class LineSearch:
    """The closure that L-BFGS calls, which evaluates no point twice.

    Between two steps L-BFGS returns to the point that its line search accepted; what it was there is known.

    torch's L-BFGS learns no curvature from a step with yᵀs < 1e-10, about twice the fall of the loss, and so
    would stop learning where losses are small. ``scale`` lifts the loss and its gradient well above that; it
    is a power of two, by which no digit changes.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.known: list[tuple[Tensor, Evaluation]] = []
        self.scale = 1.0

    def begin(self, scaled: bool) -> None:
        """Begin on a new batch, if so wanted with the scale that brings the loss to about 1, or 2²⁰ in float64."""
        self.known.clear()
        self.scale = 1.0
        if not scaled:
            return
        evaluation = self.objective.evaluate()
        lift = 20 if self.objective.parameters[0].dtype == torch.float64 else 0  # squares overflow in float32
        self.scale = 2.0 ** (lift - math.frexp(evaluation.total)[1])
        self._keep(self._here(), evaluation)

    def start(self) -> Evaluation:
        """Begin a step: forget all but the point where it starts and return the evaluation there."""
        self()
        here = self._here()
        self.known = [(point, evaluation) for point, evaluation in self.known if torch.equal(point, here)]
        return self.known[0][1]

    def __call__(self) -> float:
        here = self._here()
        evaluation = next((e for point, e in self.known if torch.equal(point, here)), None)
        if evaluation is None:
            evaluation = self.objective.evaluate()
            self._keep(here, evaluation)
        trained = [p for p in self.objective.parameters if p.grad is not None]
        for parameter, gradient in zip(trained, evaluation.gradients, strict=True):
            parameter.grad = gradient
        return evaluation.total * self.scale

    def _here(self) -> Tensor:
        return torch.nn.utils.parameters_to_vector(self.objective.parameters).detach()

    def _keep(self, point: Tensor, evaluation: Evaluation) -> None:
        for gradient in evaluation.gradients:
            gradient *= self.scale
        self.known.append((point, evaluation))
