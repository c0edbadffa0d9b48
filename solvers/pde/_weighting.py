"""Weights of a network's residuals that follow the training: between the terms, and along time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.distributed
from torch import Tensor, nn

from sciml.pde.tape import recording

Balance = Literal["none", "gradient_norm", "ntk", "relobralo"]
CHUNKS = 32
"""Stretches of time that share one causal weight."""
EVERY = {"none": 10, "gradient_norm": 100, "ntk": 100, "relobralo": 1}
"""Steps of a first-order method between two renewals, by kind of balance."""
SETTLED = 0.9
"""The least causal weight from which a loss is that of all times."""
KEPT = 0.9
"""Share of the weights before that a renewal by gradients keeps."""
SMOOTH, LOOKBACK, TEMPERATURE = 0.999, 0.999, 0.1
"""The published constants of relative balancing: α, the mean of ρ, and T."""

Residuals = Callable[[], dict[str, Tensor]]
"""Returns the residuals of the batch at hand by term, each of shape (n,), with their fixed weights alone."""


class Weighting(nn.Module):
    """Factors ``√w`` of the residuals, kept as buffers so that a checkpoint carries them.

    Terms are balanced in one of three ways, with L_k the loss of term k by its fixed weight:
    ``gradient_norm``: ``w_k ∝ Σ_j |∇L_j| / |∇L_k|``; ``ntk``: ``w_k ∝ Σ_j tr K_jj / tr K_kk`` with K the neural
    tangent kernel of the residuals, averaged over rows; both as moving means. ``relobralo``: with
    ``b(s) = K softmax(L(t) / (T L(s)))``, ``w(t) = α (ρ w(t-1) + (1 - ρ) b(0)) + (1 - α) b(t-1)``, ρ random, 0 or 1.
    Causality gives the equations' rows the weight ``exp(-ε Σ_(earlier) L)`` by the losses of the stretches of time
    before, the initial conditions first; a loss counts as reached, or as the lowest, once the least of them is near 1.
    Source: S. Wang, Y. Teng, P. Perdikaris, Understanding and mitigating gradient pathologies in physics-informed
    neural networks (2020), arXiv 2001.04536; S. Wang, X. Yu, P. Perdikaris, When and why PINNs fail to train: A neural
    tangent kernel perspective (2022), arXiv 2007.14527; R. Bischof, M. Kraus, Multi-objective loss balancing for
    physics-informed deep learning (2021), arXiv 2110.09813; S. Wang, S. Sankaran, P. Perdikaris, Respecting causality
    for training physics-informed neural networks (2024), arXiv 2203.07404.

    Args:
        names: of the terms.
        inside: those that hold in the interior.
        start: those that hold at the first moment.
        balance: how terms are balanced.
        causality: ε; 0 gives all times the same weight.
        span: of time.
        axis: the number of the time axis among the coordinates, or None where there is no time.
        dtype: of the numbers.
    """

    terms: Tensor
    times: Tensor
    first: Tensor
    last: Tensor
    key: Tensor

    def __init__(
        self,
        names: Sequence[str],
        inside: Sequence[str],
        start: Sequence[str],
        balance: Balance,
        causality: float,
        span: tuple[float, float],
        axis: int | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.places = {name: k for k, name in enumerate(names)}
        self.inside, self.start, self.span, self.axis = tuple(inside), tuple(start), span, axis
        self.balance: Balance = balance
        self.causality = causality
        for name in ("terms", "first", "last"):
            self.register_buffer(name, torch.ones(len(names), dtype=dtype))
        self.register_buffer("times", torch.ones(CHUNKS, dtype=dtype))
        self.register_buffer("key", torch.randint(2**31, ()))

    def factor(self, name: str, coordinates: Tensor) -> Tensor:
        """Return √w of a term, of shape () or one for each row of coordinates (n, axes)."""
        weight = self.terms[self.places[name]]
        if self.causality and name in self.inside:
            weight = weight * self.times[self._chunk(coordinates)]
        return weight.sqrt()

    @property
    def settled(self) -> bool:
        """Whether no time waits for earlier ones any more."""
        return not self.causality or float(self.times.min()) > SETTLED

    def renew(self, step: int | None, residuals: Residuals, coordinates: Tensor, parameters: Sequence[Tensor]) -> None:
        """Bring the weights up to date.

        Args:
            step: how many steps a phase of first order has taken; None renews the weights of times alone.
            residuals: evaluates the terms.
            coordinates: of the rows in the interior, shape (n, axes).
            parameters: what is trained.
        """
        if self.causality and (step or 0) % EVERY["none"] == 0:
            with torch.no_grad():
                self.times.copy_(self._causal(residuals(), coordinates))
        if step is not None and self.balance != "none" and step % EVERY[self.balance] == 0:
            if self.balance == "relobralo":
                with torch.no_grad():
                    losses = _shared(torch.stack([r.square().mean() for r in residuals().values()]))
                self._look_back(step, losses)
            else:
                size = _gradients if self.balance == "gradient_norm" else _kernels
                sizes = size(residuals, parameters).clamp_min(torch.finfo(self.terms.dtype).tiny)
                self.terms.mul_(KEPT).add_((1 - KEPT) * sizes.sum() / sizes)

    def _chunk(self, coordinates: Tensor) -> Tensor:
        assert self.axis is not None
        low, high = self.span
        place = (coordinates[:, self.axis].detach() - low) / (high - low) * CHUNKS
        return place.long().clamp(0, CHUNKS - 1)

    def _causal(self, residuals: Mapping[str, Tensor], coordinates: Tensor) -> Tensor:
        square = torch.stack([residuals[name].square() for name in self.inside]).sum(dim=0)
        chunk = self._chunk(coordinates)
        total = torch.zeros_like(self.times).index_add_(0, chunk, square)
        count = torch.zeros_like(self.times).index_add_(0, chunk, torch.ones_like(square))
        total, count = _shared(torch.stack([total, count]))
        loss = total / count.clamp_min(torch.finfo(count.dtype).tiny)  # a mean over processes may be below 1
        begin = _shared(sum((residuals[name].square().mean() for name in self.start), loss.new_zeros(())))
        return torch.exp(-self.causality * (begin + loss.cumsum(0) - loss))

    def _look_back(self, step: int, losses: Tensor) -> None:
        if step == 0:
            self.first.copy_(losses)
            self.last.copy_(losses)
            return
        generator = torch.Generator().manual_seed(int(self.key) + step)
        keep = float(torch.rand((), generator=generator)) < LOOKBACK
        history = self.terms if keep else self._relative(losses, self.first)
        self.terms.copy_(SMOOTH * history + (1 - SMOOTH) * self._relative(losses, self.last))
        self.last.copy_(losses)

    def _relative(self, losses: Tensor, before: Tensor) -> Tensor:
        tiny = torch.finfo(losses.dtype).tiny
        return len(losses) * torch.softmax(losses / (TEMPERATURE * before).clamp_min(tiny), dim=0)


def _gradients(residuals: Residuals, parameters: Sequence[Tensor]) -> Tensor:
    """Return the norm of the gradient of each term's loss, over the rows of all processes."""
    rows = []
    for residual in residuals().values():
        loss = residual.square().mean()
        parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.nn.utils.parameters_to_vector(parts))
    return _shared(torch.stack(rows)).norm(dim=1)


def _kernels(residuals: Residuals, parameters: Sequence[Tensor]) -> Tensor:
    """Return the mean diagonal element of each term's neural tangent kernel, over the rows of all processes."""
    with recording(parameters) as tape:
        return _shared(torch.stack([tape.jacobian(r).square().sum(dim=1).mean() for r in residuals().values()]))


def _shared(value: Tensor) -> Tensor:
    """Return the mean over the processes of a training, the same in each."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value
