"""Networks along the clustering tree, on sets and on plain vectors, at equal parameters and data: posteriors of jets.

Run ``python scripts/bench/jet_networks.py [--simulations 10000] [--seeds 3] [--steps 3000]``. Each network gives a
spline flow what it makes of a jet; both are trained together by -log q(θ|x), and the weights of least held-out loss
answer. Figures are nats by which the mean log density at fresh jets falls short of the exact posterior's, with
t-intervals of 95 % over seeds of the differences of networks; seconds are the processor's; the last line is JSON.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from problems.inference._shower import LEAVES, MASS, MOMENTUM
from problems.inference.jets import Jets
from sciml.inference.embeddings import SetNetwork, TreeNetwork
from sciml.inference.flows import Flow
from sciml.inference.priors import log_standard_normal
from sciml.inference.scales import DataScale

OUTPUTS, FLOW_WIDTH, BATCH, CHECK = 16, 32, 256, 25
PARAMETERS = 10_000
"""Of each network; widths are found that come nearest."""
NODES = 24
ENERGY = math.hypot(MASS, MOMENTUM)


class VectorNetwork(nn.Module):
    """A plain network of all momenta in a row."""

    def __init__(self, width: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.data = DataScale(4 * LEAVES, torch.float32)
        sizes = [4 * LEAVES, width, width, width]
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
        self.all = nn.Sequential(*hidden, nn.Linear(width, outputs))

    def forward(self, momenta: Tensor) -> Tensor:
        return self.all(self.data.context(momenta.flatten(1)))


NETWORKS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "tree": TreeNetwork,
    "set": SetNetwork,
    "vector": VectorNetwork,
}


def size(network: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(p.numel() for p in network.parameters())


def width(name: str) -> int:
    """Return the width at which a network has about as many parameters as the others."""
    return min(range(8, 128), key=lambda w: abs(size(NETWORKS[name](w, OUTPUTS, ENERGY)) - PARAMETERS))


def trained(name: str, count: int, steps: int, seed: int) -> tuple[nn.Module, Flow]:
    """Return the network and the flow of least held-out loss."""
    problem = Jets()
    made = problem.simulations(count, seed)
    scores = problem.prior().normal_scores(made.theta).float()
    momenta = made.x.float().unflatten(1, (LEAVES, 4))
    torch.manual_seed(seed)
    network = NETWORKS[name](width(name), OUTPUTS, ENERGY)
    if isinstance(network, VectorNetwork):
        network.data.fit(made.x)
    both = nn.ModuleList([network, Flow("spline", 2, OUTPUTS, FLOW_WIDTH)])
    optimizer = torch.optim.Adam(both.parameters(), 2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 2e-5)
    held, own = torch.arange(0, count, 10), torch.arange(count)[torch.arange(count) % 10 > 0]
    best, kept = math.inf, deepcopy(both)

    def loss(rows: Tensor) -> Tensor:
        return -both[1](scores[rows], both[0](momenta[rows])).mean()

    for step in range(steps):
        optimizer.zero_grad()
        loss(own[torch.randint(len(own), (BATCH,))]).backward()
        optimizer.step()
        schedule.step()
        if step % CHECK == 0 or step == steps - 1:
            with torch.no_grad():
                now = float(loss(held))
            if now < best:
                best, kept = now, deepcopy(both)
    flow = kept[1]
    assert isinstance(flow, Flow)
    return kept[0], flow


def exact(problem: Jets, theta: Tensor, x: Tensor) -> Tensor:
    """Return the exact log posterior density, as of normal scores, of parameters given their data, (n,)."""
    unit = (torch.arange(NODES).double() + 0.5) / NODES
    nodes = problem.prior().quantile(torch.cartesian_prod(unit, unit))
    logs = [problem.log_likelihood(nodes, row.expand(len(nodes), -1)).logsumexp(0) - math.log(len(nodes)) for row in x]
    scores = problem.prior().normal_scores(theta)
    return problem.log_likelihood(theta, x) - torch.stack(logs) + log_standard_normal(scores)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--test", type=int, default=500)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    problem = Jets()
    fresh = problem.simulations(asked.test, 0, "test")
    truth = exact(problem, fresh.theta, fresh.x)
    scores = problem.prior().normal_scores(fresh.theta)
    print("exact", float(truth.mean()), "prior", float(log_standard_normal(scores).mean()), flush=True)
    short: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for seed in range(asked.seeds):
        for name, lacks in short.items():
            before = time.process_time()
            network, flow = trained(name, asked.simulations, asked.steps, seed)
            with torch.no_grad():
                logs = flow(scores.float(), network(fresh.x.float().unflatten(1, (LEAVES, 4))))
            lacks.append(float((truth - logs.double()).mean()))
            seconds = time.process_time() - before
            print(seed, name, "width", width(name), "of", size(network), "short", lacks[-1], "s", seconds, flush=True)
    figures: dict[str, dict[str, float | bool | None]] = {}
    for name, lacks in short.items():
        value = statistics.mean(lacks)
        figures[f"{name}: nats short of the exact posterior"] = {"value": value, "target": None, "met": None}
    for other in ("set", "vector"):
        gain = np.subtract(short[other], short["tree"])
        half = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain) if len(gain) > 1 else math.nan
        told = {"value": float(gain.mean()), "half_width": float(half), "target": None, "met": None}
        figures[f"nats that tree gains on {other}"] = told
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
