"""Time derivatives of networks against one plain forward and backward pass: interleaved, one thread, float64.

Every figure is the cost of the derivatives and of the gradient in the parameters of a function of them, the work of
one training step, as a multiple of the same for the value of the same network alone. Seconds are the processor's.
Run ``python scripts/bench/taylor.py``; the last line is JSON.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sciml.networks import MLP, FourierFeatures, GatedNetwork, Normalise, PirateNet
from sciml.pde.taylor import derivatives

REAL = torch.float64
HEAT = ((0, 0), (1, 0), (0, 1), (2, 0))
LAPLACE = (*HEAT, (0, 2))
FOURTH = ((0, 0), (4, 0))
TARGETS = {
    "gradient and Laplacian": (HEAT, 4.0),
    "gradient and both second derivatives": (LAPLACE, 4.0),
    "u_xxxx": (FOURTH, 16.0),
}


def mlp(depth: int, width: int) -> nn.Module:
    """Return a tanh network of two inputs with ``depth`` hidden layers."""
    return MLP(2, 1, width, depth, "tanh", REAL)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "sine MLP 3x32": lambda: MLP(2, 1, 32, 3, "sin", REAL),
    "periodic embedding, MLP 3x32": lambda: nn.Sequential(
        Normalise(np.array([[0.0, 1.0], [0.0, 1.0]]), (True, False), REAL), MLP(3, 1, 32, 3, "tanh", REAL)
    ),
    "Fourier features, MLP 3x32": lambda: nn.Sequential(
        FourierFeatures(2, 32, 2.0, True, REAL), MLP(32, 1, 32, 3, "tanh", REAL)
    ),
    "PirateNet 1x32": lambda: PirateNet(FourierFeatures(2, 32, 2.0, True, REAL), 1, 1, "tanh", False, REAL),
    "DGM 2x32": lambda: GatedNetwork(2, 1, 32, 2, REAL),
}


def nested(model: nn.Module, points: Tensor, orders: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the derivatives by reverse autograd, each derivative from the one below it."""
    points = points.detach().requires_grad_()
    known: dict[tuple[int, ...], Tensor] = {(0, 0): model(points)[:, 0]}

    def find(order: tuple[int, ...]) -> Tensor:
        if order not in known:
            axis = max(i for i, k in enumerate(order) if k)
            below = find(tuple(k - (i == axis) for i, k in enumerate(order)))
            gradient = torch.autograd.grad(below.sum(), points, create_graph=True)[0]
            for i in range(2):
                known[tuple(k - (j == axis) + (j == i) for j, k in enumerate(order))] = gradient[:, i]
        return known[order]

    return torch.stack([find(order) for order in orders])[..., None]


def training_pass(model: nn.Module, evaluate: Callable[[], Tensor]) -> float:
    """Return the seconds of one evaluation and its gradient in the parameters."""
    start = time.process_time()
    evaluate().square().mean().backward()
    seconds = time.process_time() - start
    model.zero_grad()
    return seconds


def multiples(model: nn.Module, points: Tensor, orders: Sequence[tuple[int, ...]], repeats: int) -> tuple[float, float]:
    """Return the cost by series and by nested autograd over the plain pass: ratios of interleaved medians."""
    ways = (
        lambda: model(points),
        lambda: derivatives(model, points, orders),
        lambda: nested(model, points, orders),
    )
    rows = [[training_pass(model, way) for way in ways] for _ in range(repeats + 3)][3:]
    plain, taylor, autograd = (statistics.median(column) for column in zip(*rows, strict=True))
    return taylor / plain, autograd / plain


def cases() -> Iterator[tuple[str, nn.Module, int, Sequence[tuple[int, ...]], float]]:
    """Yield the name, the network, the number of points, the derivatives and the target of each figure."""
    torch.manual_seed(0)
    for title, (orders, target) in TARGETS.items():
        for depth, width in ((3, 32), (4, 64)):
            for n in (1_000, 10_000):
                yield f"{title}, MLP {depth}x{width}, {n} points", mlp(depth, width), n, orders, target
    for title, (orders, target) in TARGETS.items():
        for name, make in ARCHITECTURES.items():
            yield f"{title}, {name}, 1000 points", make(), 1_000, orders, target


def main() -> None:
    torch.set_num_threads(1)
    figures = {}
    for name, network, n, orders, target in cases():
        points = torch.rand(n, 2, dtype=REAL, generator=torch.Generator().manual_seed(1))
        taylor, autograd = multiples(network, points, orders, 40 if n == 1_000 else 12)
        print(f"{name}: {taylor:.2f} by series, {autograd:.2f} by nested reverse autograd")
        figures[name] = {"value": round(taylor, 3), "target": target, "met": taylor <= target}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
