"""Derivatives of each row of a network's results with respect to the parameters, by one reverse pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import UserError
from sciml.pde import series


@dataclass(frozen=True)
class _Use:
    """A place where rows met a parameter.

    Args:
        result: whose gradient, row by row, gives that of the parameter.
        start: the number of the first row.
        parameter: which parameter, and which bias if there is one.
        inputs: of a linear layer, shape (m, n, inputs); None where ``result`` is the parameter, once for each row.
    """

    result: Tensor
    start: int
    parameter: tuple[Tensor, Tensor | None]
    inputs: Tensor | None


class Tape:
    """Remembers where rows met parameters, so that one reverse pass tells the rows' gradients apart.

    A linear layer's gradient is a sum over rows of products of its input and of the gradient of its result;
    left unsummed, the products are the rows of the Jacobian.

    Args:
        parameters: the columns of the Jacobian, in order.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.start = 0
        """The number of the first row of the block that is being evaluated."""
        self._columns: dict[int, slice] = {}
        self._uses: list[_Use] = []
        self.size = 0
        for parameter in parameters:
            self._columns[id(parameter)] = slice(self.size, self.size + parameter.numel())
            self.size += parameter.numel()

    def holds(self, value: object) -> bool:
        """Return whether a value is one of the parameters.

        Raises:
            UserError: it is made from parameters, which the tape cannot follow.
        """
        if not isinstance(value, Tensor) or not value.requires_grad:
            return False
        if id(value) not in self._columns:
            raise UserError("Gauss-Newton follows parameters that enter as they are, not functions of them")
        return True

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the series of ``x weightᵀ + bias`` for x of shape (m, n, inputs)."""
        if not any([self.holds(weight), self.holds(bias)]):  # each is looked at, since it may be refused
            return series.linear(x, weight, bias)
        result = series.linear(x, weight.detach(), None if bias is None else bias.detach())
        if not result.requires_grad:
            result.requires_grad_()
        self._uses.append(_Use(result, self.start, (weight, bias), x.detach()))
        return result

    def rows(self, parameter: Tensor, count: int) -> Tensor:
        """Return a parameter once for each row, shape (count, width), or (count, 1) for a number."""
        copies = parameter.detach().reshape(1, -1).expand(count, -1).clone().requires_grad_()
        self._uses.append(_Use(copies, self.start, (parameter, None), None))
        return copies

    def jacobian(self, residuals: Tensor) -> Tensor:
        """Return the derivative of each residual, shape (n, parameters).

        Args:
            residuals: shape (n,); the i-th depends on the rows i, i + n, ... that were evaluated.
        """
        results = [use.result for use in self._uses]
        found = torch.autograd.grad(residuals.sum(), results, retain_graph=True, allow_unused=True)
        met = [(use, grad) for use, grad in zip(self._uses, found, strict=True) if grad is not None]
        n = len(residuals)
        count = max((use.start + _length(use) for use, _ in met), default=n)
        jacobian = residuals.new_zeros(count, self.size)
        for use, grad in met:
            rows = jacobian[use.start : use.start + _length(use)]
            weight, bias = use.parameter
            if id(weight) in self._columns:
                _add_products(rows[:, self._columns[id(weight)]], use, grad)
            if bias is not None and id(bias) in self._columns:
                rows[:, self._columns[id(bias)]] += grad[0]
        return jacobian if count == n else jacobian.view(-1, n, self.size).sum(dim=0)


def _length(use: _Use) -> int:
    return use.result.shape[0] if use.inputs is None else use.result.shape[1]


def _add_products(rows: Tensor, use: _Use, grad: Tensor) -> None:
    """Add the gradient of each row with respect to the parameter, shape (rows, parameter's size)."""
    if use.inputs is None:
        rows += grad
        return
    inputs = use.inputs.permute(1, 0, 2).contiguous()  # products of small matrices are twice as fast on these
    grads = grad[: len(use.inputs)].permute(1, 2, 0).contiguous()
    rows.unflatten(1, (grads.shape[1], inputs.shape[2])).baddbmm_(grads, inputs)


ACTIVE: ContextVar[Tape | None] = ContextVar("tape", default=None)
"""The tape that networks are recorded on, where there is one."""


@contextmanager
def recording(parameters: Sequence[Tensor]) -> Iterator[Tape]:
    """Record what is evaluated on a tape."""
    tape = Tape(parameters)
    token = ACTIVE.set(tape)
    try:
        yield tape
    finally:
        ACTIVE.reset(token)


def per_row(parameter: Tensor, count: int) -> Tensor:
    """Return a number that is trained once for each row, shape (count,)."""
    tape = ACTIVE.get()
    if tape is None:
        return parameter.expand(count)
    tape.start = 0
    return tape.rows(parameter, count)[:, 0]
