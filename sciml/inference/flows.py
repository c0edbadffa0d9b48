"""Conditional densities by normalising flows, several trained at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Transform
from torch.func import functional_call, vmap
from zuko.flows import MAF, NSF
from zuko.nn import MLP, MaskedMLP
from zuko.transforms import FreeFormJacobianTransform

from sciml.inference.priors import log_standard_normal

RIDGE = 0.1
"""What regressions add to sums of squares."""
REGRESSED = ("slope", "offset", "factor")
CALM = 0.1
"""How much of their usual first weights the last layers get."""
NARROWEST = 1e-3
"""Deviation, along a path of flow matching, that is left where it ends."""
WAVES = 3
"""Frequencies at which a velocity sees the time."""
TOLERANCE = 1e-4
"""Of the integration of velocities, in units of z, as single precision allows."""
FlowKind = Literal["linear", "affine", "spline", "coupled", "matched"]
_SHAPES: dict[FlowKind, Callable[..., nn.Module]] = {
    "linear": lambda *sizes, width: MAF(*sizes, transforms=1, hidden_features=()),
    "affine": lambda *sizes, width: MAF(*sizes, transforms=3, hidden_features=(width, width), activation=nn.SiLU),
    "spline": lambda *sizes, width: NSF(*sizes, transforms=3, hidden_features=(width, width), activation=nn.SiLU),
    "coupled": lambda *sizes, width: NSF(
        *sizes, transforms=5, passes=2, hidden_features=(width, width), activation=nn.SiLU
    ),
}


class Conditional(nn.Module, ABC):
    """q(y|c): y is z ~ N(0, I) bent by what networks make of c.

    It models r, what a linear regression of y on c leaves, y = A c + b + L r, and training begins at r = z.

    Args:
        features, context: sizes of y and of c.
    """

    slope: Tensor
    offset: Tensor
    factor: Tensor

    def __init__(self, features: int, context: int) -> None:
        super().__init__()
        self.register_buffer("slope", torch.zeros(features, context))
        self.register_buffer("offset", torch.zeros(features))
        self.register_buffer("factor", torch.eye(features))

    @abstractmethod
    def forward(self, y: Tensor, c: Tensor, *noise: Tensor) -> Tensor:
        """Return what training raises, of (..., features) and (..., context), shape (...)."""

    @abstractmethod
    def log_prob(self, y: Tensor, c: Tensor) -> Tensor:
        """Return log q(y|c) of (..., features) and (..., context), shape (...)."""

    @abstractmethod
    def bend(self, z: Tensor, c: Tensor) -> Tensor:
        """Return y of normal z, both (n, features), given c (n, context)."""

    def left(self, y: Tensor, c: Tensor) -> Tensor:
        """Return r of y (..., features) and c (..., context)."""
        straight = (y - c @ self.slope.T - self.offset)[..., None]
        return torch.linalg.solve_triangular(self.factor, straight, upper=False)[..., 0]

    def whole(self, r: Tensor, c: Tensor) -> Tensor:
        """Return y of r (n, features) and c (n, context)."""
        return c @ self.slope.T + self.offset + r @ self.factor.T

    @property
    def log_volume(self) -> Tensor:
        """log |det dy/dr|."""
        return self.factor.diagonal().log().sum()

    @torch.no_grad()
    def regress(self, y: Tensor, c: Tensor) -> None:
        """Find A, b and the factor L of the covariance left, from (n, features) and (n, context)."""
        given = torch.cat([c, torch.ones_like(c[:, :1])], dim=1).double()
        gram = given.T @ given + RIDGE * torch.eye(given.shape[1], dtype=given.dtype, device=given.device)
        coefficients = torch.linalg.solve(gram, given.T @ y.double())
        left = y.double() - given @ coefficients
        covariance = left.T @ left / len(left) + RIDGE / len(left) * torch.eye(left.shape[1]).to(left)
        self.slope.copy_(coefficients[:-1].T)
        self.offset.copy_(coefficients[-1])
        self.factor.copy_(torch.linalg.cholesky(covariance))


class Flow(Conditional):
    """Bent by autoregressive transformations, each y_k given y_1 ... y_(k-1) and c; training raises log q.

    ``linear`` shifts and scales by linear functions, so that y is normal; ``affine`` by networks, three times;
    ``spline`` bends by monotone rational quadratic splines, three times; ``coupled`` does so five times, each half of y
    given the other, so that a draw takes ten passes however long y is. Sources: G. Papamakarios et al., Masked
    autoregressive flow for density estimation, 2017, arXiv 1705.07057; C. Durkan et al., Neural spline flows, 2019,
    arXiv 1906.04032.

    Args:
        kind: of the transformations.
        features, context: sizes of y and of c.
        width: units of the networks' two hidden layers.
    """

    def __init__(self, kind: FlowKind, features: int, context: int, width: int) -> None:
        super().__init__(features, context)
        self.flow = _SHAPES[kind](features, context, width=width)
        for layers in self.flow.modules():
            if isinstance(layers, MaskedMLP | MLP):  # begin near r = z
                _calm(layers)

    def forward(self, y: Tensor, c: Tensor, *noise: Tensor) -> Tensor:
        return self.flow(c).log_prob(self.left(y, c)) - self.log_volume

    def log_prob(self, y: Tensor, c: Tensor) -> Tensor:
        return self(y, c)

    def bend(self, z: Tensor, c: Tensor) -> Tensor:
        return self.whole(_back(self.flow(c).transform, z), c)


class Matched(Conditional):
    """Carried along by a velocity, dr/dt = v(r, t, c), from r at t = 0 to z at t = 1, which training matches.

    Where r_t = (1 - t) r + s z with s = t + σ (1 - t), the velocity E[dr_t/dt | r_t = r] carries one law to the other;
    it is the minimum of E |v(r_t, t, c) - dr_t/dt|², which training lowers. v is the velocity of a normal r and a
    network. log q(y|c) follows from the divergence of v along the path.
    Sources: Y. Lipman et al., Flow matching for generative modeling, 2022, arXiv 2210.02747; J. Wildberger et al.,
    Flow matching for scalable simulation-based inference, 2023, arXiv 2305.17161.

    Args:
        features, context: sizes of y and of c.
        width: units of the network's three hidden layers.
    """

    def __init__(self, features: int, context: int, width: int) -> None:
        super().__init__(features, context)
        self.network = MLP(features + context + 2 * WAVES, features, (width,) * 3, nn.SiLU)
        _calm(self.network)

    def forward(self, y: Tensor, c: Tensor, *noise: Tensor) -> Tensor:
        z, t = noise
        r = self.left(y, c)
        at = (1 - t) * r + _spread(t) * z
        return -((self.velocity(t, at, c) - (1 - NARROWEST) * z + r) ** 2).sum(dim=-1)

    def log_prob(self, y: Tensor, c: Tensor) -> Tensor:
        z, log_slope = self._path(c).call_and_ladj(self.left(y, c))
        return log_standard_normal(z) + log_slope - self.log_volume

    def bend(self, z: Tensor, c: Tensor) -> Tensor:
        return self.whole(_back(self._path(c), z), c)

    def velocity(self, t: Tensor, r: Tensor, c: Tensor) -> Tensor:
        """Return v of r (..., features) and c (..., context) at times (..., 1), or at one."""
        s = _spread(t)
        normal = ((1 - NARROWEST) * s - (1 - t)) / ((1 - t) ** 2 + s**2)
        angles = torch.pi * torch.arange(1, WAVES + 1, device=r.device) * t
        time = torch.cat([angles.cos(), angles.sin()], dim=-1).expand(*r.shape[:-1], -1)
        return normal * r + self.network(torch.cat([r, time, c], dim=-1))

    def _path(self, c: Tensor) -> FreeFormJacobianTransform:
        return FreeFormJacobianTransform(lambda t, r: self.velocity(t, r, c), atol=TOLERANCE, rtol=TOLERANCE)


def _back(transform: Transform, z: Tensor) -> Tensor:
    r = transform.inv(z)
    assert r is not None
    return r


def _spread(t: Tensor) -> Tensor:
    return t + NARROWEST * (1 - t)


def _calm(layers: nn.Sequential) -> None:
    for weights in layers[-1].parameters():
        weights.data *= CALM


def _made(kind: FlowKind, features: int, context: int, width: int) -> Conditional:
    if kind == "matched":
        return Matched(features, context, width)
    return Flow(kind, features, context, width)


class Ensemble(nn.Module):
    """Flows of some kinds, several of each, that differ by their first weights and by what they are trained on.

    Of each member the weights with the least held-out loss are kept, and of the kinds the one whose members have the
    least on average answers: q(y|c) is the mean over its members.

    Args:
        kinds: to choose among.
        members: of each kind.
        features, context: sizes of y and of c.
        width: units of hidden layers.
        real: dtype.
    """

    held_out: Tensor
    """The least held-out loss of each member, shape (kinds, members)."""

    def __init__(
        self,
        kinds: Iterable[FlowKind],
        members: int,
        features: int,
        context: int,
        width: int,
        real: torch.dtype,
    ) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.features = features
        self.trained = nn.ModuleList(
            nn.ModuleList(_made(kind, features, context, width) for _ in range(members)) for kind in self.kinds
        ).to(real)
        self.kept = deepcopy(self.trained).requires_grad_(False)
        self.register_buffer("held_out", torch.full((len(self.kinds), members), torch.inf, dtype=real))

    @property
    def chosen(self) -> int:
        """Which kind answers."""
        return int(self.held_out.mean(dim=1).argmin())

    def start(self, rows: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Begin with the linear regressions of each member's y on its c, (n, features) and (n, context)."""
        for k, (y, c) in enumerate(rows):
            first, *others = (_flows(members)[k] for members in self.trained)
            first.regress(y, c)
            for flow in others:
                for name in REGRESSED:
                    getattr(flow, name).copy_(getattr(first, name))

    def loss(self, y: Tensor, c: Tensor, *noise: Tensor) -> Tensor:
        """Return Σ -log q over kinds and members, a mean over rows of (members, n, features) and (members, n, context).

        The members share nothing, so that this trains each by its own loss. Flows that are matched take noise, z
        (members, n, features) and t (members, n, 1), and have the errors of their velocities in place of -log q.
        """
        return torch.stack([-_together(members, y, c, *noise).mean(dim=1).sum() for members in self.trained]).sum()

    @torch.no_grad()
    def keep(self, y: Tensor, c: Tensor, *noise: Tensor) -> None:
        """Keep the weights of the members that do better than ever on held-out (members, n, ...)."""
        for kind, members in enumerate(self.trained):
            loss = -_together(members, y, c, *noise).mean(dim=1)
            for k in (loss < self.held_out[kind]).nonzero()[:, 0].tolist():
                self.held_out[kind, k] = loss[k]
                self._kept(kind)[k].load_state_dict(_flows(members)[k].state_dict())

    def restart(self) -> None:
        """Go on from the weights that were kept, towards other held-out data."""
        self.trained.load_state_dict(self.kept.state_dict())
        self.held_out.fill_(torch.inf)

    def _kept(self, kind: int) -> list[Conditional]:
        return _flows(self.kept[kind])

    @torch.no_grad()
    def each(self, y: Tensor, c: Tensor) -> Tensor:
        """Return the log density of every member that answers, shape (members, n), each at its own y and c."""
        members = zip(self._kept(self.chosen), y, c, strict=True)
        return torch.stack([flow.log_prob(*rows) for flow, *rows in members])

    @torch.no_grad()
    def log_prob(self, y: Tensor, c: Tensor, rows: int = 2**13) -> Tensor:
        """Return log q(y|c) of (n, features) and (n, context), shape (n,), float64 on the CPU."""
        members = self._kept(self.chosen)
        blocks = [
            torch.stack([flow.log_prob(*part) for flow in members]).double().logsumexp(0).cpu()
            for part in zip(y.split(rows), c.split(rows), strict=True)
        ]
        return torch.cat(blocks) - torch.tensor(float(len(members))).log()

    @torch.no_grad()
    def bend(self, z: Tensor, c: Tensor) -> Tensor:
        """Return y of normal z, (members, n, features), given c (members, n, context), each by its member."""
        return torch.stack([flow.bend(*part) for flow, *part in zip(self._kept(self.chosen), z, c, strict=True)])

    def sample(self, count: int, c: Tensor, generator: torch.Generator) -> Tensor:
        """Draw y given one c (context,), shape (count, features), in equal parts from all members, in random order."""
        members = self.held_out.shape[1]
        share = -(-count // members)
        z = torch.randn(members, share, self.features, generator=generator, dtype=c.dtype).to(c)
        drawn = self.bend(z, c.expand(members, share, -1)).flatten(0, 1)
        return drawn[torch.randperm(len(drawn), generator=generator)[:count]]


def _flows(members: nn.Module) -> list[Conditional]:
    return [flow for flow in members.children() if isinstance(flow, Conditional)]


def _together(members: nn.Module, *rows: Tensor) -> Tensor:
    """Return what training raises of each member at its own rows, shape (members, n): one pass through all of them."""
    flows = _flows(members)
    parts = [{**dict(flow.named_parameters()), **{n: getattr(flow, n) for n in REGRESSED}} for flow in flows]
    weights = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    return vmap(lambda w, *own: functional_call(flows[0], w, own))(weights, *rows)
