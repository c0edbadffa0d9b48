"""Neural posterior estimation."""

from sciml.parameters import Count, Positive, Several

from ._flows import Kind, Members, ample
from ._posterior import PosteriorFlows


class NPE(PosteriorFlows):
    """A flow learns the posterior of any data.

    min over q of E_{p(θ,x)} -log q(θ|x) is reached at q = p(θ|x). With several rounds the later simulations close in
    on the observation that is scored. Of several members the mean density answers.
    Sources: G. Papamakarios, I. Murray, Fast ε-free inference of simulation models with Bayesian conditional density
    estimation, 2016, arXiv 1605.06376; M. Deistler et al., Truncated proposals for scalable and hassle-free
    simulation-based inference, 2022, arXiv 2210.04815.

    Args:
        simulations: simulator calls of all rounds.
        rounds: 1 answers any observation; with more, the later ones close in on the one that is scored.
        members: flows of each kind.
        flow: the kind of the flows; by default the one with the least held-out loss.
        width: units of a hidden layer.
        batch: simulations of a batch.
        steps: Adam steps of a round; the learning rate falls to a hundredth along a cosine. By default 400 for a
            thousand simulations, and as the root of their number.
        learning_rate: of the first step.
    """

    def __init__(
        self,
        simulations: Several = 10_000,
        rounds: Count = 1,
        members: Members = 3,
        flow: Kind = "choose",
        width: Count = 50,
        batch: Count = 128,
        steps: Count | None = None,
        learning_rate: Positive = 1e-2,
    ) -> None:
        super().__init__(simulations, rounds, members, flow, width, batch, steps or ample(simulations), learning_rate)
