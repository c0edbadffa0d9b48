"""A simulator read with a tape: the log-probability of every draw, and what follows from it.

Source: J. Brehmer et al., Mining gold from implicit models to improve likelihood-free inference, 2018,
arXiv 1805.12244.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import UserError
from sciml.inference.draws import Draws
from sciml.inference.laws import Categorical, Law

Program = Callable[[Tensor, Draws], Tensor]
"""``simulate(theta, draw)``: parameters (n, parameters) to data (n, data)."""


class Tape(Draws):
    """Draws whose log-probabilities are added up; the values themselves depend on no parameter.

    Args:
        source: where values come from: other draws, or values drawn before, in their order.
    """

    def __init__(self, source: Draws | Sequence[Tensor]) -> None:
        self._source = source if isinstance(source, Draws) else None
        self._replayed: Iterator[Tensor] = iter(()) if isinstance(source, Draws) else iter(source)
        self.values: list[Tensor] = []
        self.log_prob: Tensor | float = 0.0
        """log p of all draws so far, shape (n,)."""

    def draw(self, law: Law) -> Tensor:
        value = next(self._replayed) if self._source is None else self._source.draw(law).detach()
        self.values.append(value)
        self.log_prob = self.log_prob + law.log_prob(value).reshape(len(value), -1).sum(1)
        return value


@dataclass(frozen=True)
class Traced:
    """A batch of simulations with all that was drawn in them.

    Args:
        x: data, shape (n, data).
        values: every draw in its order, latent or not, each of shape (n, ...).
        log_joint: log p(x, z|θ), shape (n,).
        score: ∇θ log p(x, z|θ), shape (n, parameters).
    """

    x: Tensor
    values: tuple[Tensor, ...]
    log_joint: Tensor
    score: Tensor

    def __getitem__(self, rows: slice) -> "Traced":
        return Traced(self.x[rows], tuple(v[rows] for v in self.values), self.log_joint[rows], self.score[rows])


def trace(program: Program, theta: Tensor, draw: Draws | Sequence[Tensor]) -> Traced:
    """Simulate with a tape.

    t(x, z|θ) = ∇θ log p(x, z|θ) is the joint score: its mean over z given x is the score of the likelihood.

    Args:
        program: the simulator.
        theta: parameters, shape (n, parameters).
        draw: the source of draws, or the ``values`` of another trace.

    Raises:
        UserError: the data depend on the parameters other than through draws, so that no joint density exists.
    """
    theta = theta.detach().requires_grad_()
    tape = Tape(draw)
    with torch.enable_grad():
        x = program(theta, tape)
        log_joint = torch.zeros(len(theta), dtype=theta.dtype) + tape.log_prob
    if x.requires_grad:
        raise UserError(
            "expected data that are draws, or functions of draws alone; got data that depend on the parameters "
            "directly, which have no joint density; let the last draws depend on the parameters instead"
        )
    score = torch.zeros_like(theta)
    if log_joint.requires_grad:
        (score,) = torch.autograd.grad(log_joint.sum(), theta)
    return Traced(x, tuple(tape.values), log_joint.detach(), score)


def joint_ratio(program: Program, values: Sequence[Tensor], numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return log r(x, z|θ₀, θ₁) = log p(x, z|θ₀) - log p(x, z|θ₁), shape (n,), of simulations made before.

    Args:
        program: the simulator.
        values: every draw, as kept in ``Traced.values``.
        numerator, denominator: θ₀ and θ₁, shape (n, parameters).

    Raises:
        UserError: the data depend on the parameters other than through draws.
    """
    return trace(program, numerator, values).log_joint - trace(program, denominator, values).log_joint


@dataclass(frozen=True)
class Layout:
    """Where in the data each draw of a simulator without latent draws stands.

    Args:
        places: of each draw its shape without the batch, and its columns in the data.
    """

    places: tuple[tuple[torch.Size, Tensor], ...]

    def values(self, x: Tensor) -> list[Tensor]:
        """Return the draws that made data (n, data)."""
        return [x[:, columns].reshape(-1, *shape) for shape, columns in self.places]


class _Labels(Draws):
    """Draws that are numbered instead of drawn, to see where they end up."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self.shapes: list[torch.Size] = []
        self.count = 0
        self.latent = False

    def draw(self, law: Law) -> Tensor:
        shape = law.shape(1)
        if isinstance(law, Categorical):  # an index, which is never among the data
            self.latent = True
            return torch.zeros(shape, dtype=torch.long)
        numbers = torch.arange(self.count, self.count + shape.numel(), dtype=torch.float64)
        self.count += shape.numel()
        self.shapes.append(shape[1:])
        return self._scale * (1 + numbers).reshape(shape)


def layout(program: Program, theta: Tensor) -> Layout | None:
    """Return where each draw stands among the data, or None where a draw stays latent.

    The program runs twice on numbered draws; data that rearrange all draws show their numbers both times.

    Args:
        program: the simulator; it draws the same whatever the parameters.
        theta: any parameters, shape (1, parameters).
    """
    once, twice = _Labels(1.0), _Labels(-0.625)
    with torch.no_grad():
        x, again = program(theta, once)[0], program(theta, twice)[0]
    numbers = torch.arange(1, once.count + 1, dtype=x.dtype)
    if once.latent or len(x) != len(numbers) or not torch.equal(x.sort().values, numbers):
        return None
    if not torch.equal(again, -0.625 * x):
        return None
    columns = x.argsort().split([shape.numel() for shape in once.shapes])
    return Layout(tuple(zip(once.shapes, columns, strict=True)))


def log_likelihood(program: Program, values: Sequence[Tensor], theta: Tensor) -> Tensor:
    """Return the log density of draws given θ, shape (n,); it differentiates through to θ.

    Where none of the draws is latent this is log p(x|θ).

    Args:
        program: the simulator.
        values: every draw in its order, as ``Layout.values`` finds them in data.
        theta: shape (n, parameters).
    """
    tape = Tape(values)
    program(theta, tape)
    return torch.as_tensor(tape.log_prob)
