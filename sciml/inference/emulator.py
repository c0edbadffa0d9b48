"""Gaussian processes that stand for a simulator near an observation."""

import math

import torch
from scipy import stats
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from sciml.inference.scales import DataScale

NODES = 50
"""Simulations on which the squared exponential part is projected."""
REACH = 1.5
"""Simulations serve within the ball of all but 10⁻⁴ of a normal law, its squared radius enlarged by this."""
LEAST = 200
"""Simulations that serve in any case, the nearest ones."""
STEPS = 40
"""Of L-BFGS at most, towards the greatest evidence."""
EXPECTED = 0.0, -2.0, -2.0, -1.0
"""Logarithms of a, b, c and the noise's variance."""
WITHIN = 3.0
"""Standard deviation of these logarithms, and of that of the length."""
LOG_CHI = -1.2704, math.pi**2 / 2
"""Mean and variance of the logarithm of χ² with one degree of freedom."""
BLUR = 1e-3
"""Deviation of noise that data are given, in theirs, so that constant ones have some."""
BLOCK = 512
"""Points that are looked at together."""


class Emulator(nn.Module):
    """Data as normal about Gaussian processes of the parameters, with noise that depends on them, too.

    z_k | θ ~ N(m_k(u), s_k(u)²),  m_k and log s_k² ~ GP(0, a_k uᵀu' + b_k (uᵀu')² + c_k exp(-|u - u'|²/2l²))

    of data on the scale of their kind, z, and of normal scores of the parameters, u, whitened by where the emulator is
    wanted. The squared exponential is projected on fifty simulations; l, a_k, b_k, c_k and a first, constant noise have
    the greatest evidence, and s_k² is learnt from the errors at simulations left out one by one. What is not known of
    m_k counts as noise; errors of different data are correlated as those are.
    Sources: C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, 2006; P. W. Goldberg, C. K. I.
    Williams, C. M. Bishop, Regression with input-dependent noise, NeurIPS 1997; S. Conti, A. O'Hagan, Bayesian
    emulation of complex multi-output and dynamic computer models, J. Stat. Plan. Inference 140, 2010.

    Args:
        parameters, data: how many there are.
    """

    centre: Tensor
    whitening: Tensor
    nodes: Tensor
    length: Tensor
    offset: Tensor
    width: Tensor
    mean: Tensor
    doubt: Tensor
    noise: Tensor
    noises: Tensor
    dependence: Tensor
    p_values: Tensor
    """Of what errors tell of parameters being normal, and of errors being as large and correlated everywhere."""

    def __init__(self, parameters: int, data: int) -> None:
        super().__init__()
        self.scale = DataScale(data, torch.float64)
        self.pairs = torch.triu_indices(parameters, parameters)
        sizes = (1, parameters, self.pairs.shape[1], NODES)
        self.parts = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
        size = sum(sizes)
        shapes = {
            "centre": (parameters,),
            "whitening": (parameters, parameters),
            "nodes": (NODES, parameters),
            "length": (),
            "offset": (data,),
            "width": (data,),
            "mean": (size, data),
            "doubt": (size * size, data),
            "noise": (size, data),
            "noises": (2, data),
            "dependence": (data, data),
            "p_values": (2,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.radius = math.sqrt(REACH * float(stats.chi2.ppf(1 - 1e-4, parameters)))

    @torch.no_grad()
    def fit(self, scores: Tensor, x: Tensor, around: Tensor, generator: torch.Generator) -> int:
        """Learn from the simulations that are near enough; return how many are.

        Args:
            scores: normal scores of the parameters, shape (n, parameters).
            x: shape (n, data).
            around: normal scores of where the emulator is wanted, shape (m, parameters).
            generator: of the simulations to project on, and of what spreads counts.
        """
        self.centre.copy_(around.mean(dim=0))
        covariance = around.T.cov().view_as(self.whitening)
        self.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))
        white = (scores - self.centre) @ self.whitening
        far = white.norm(dim=1)
        near = far <= max(self.radius, float(far.sort().values[:LEAST][-1]))
        white, x = white[near], x[near]
        self.scale.fit(x)
        z = self.scale(x, torch.rand(x.shape, generator=generator, dtype=x.dtype) - 0.5)
        self.offset.copy_(z.mean(dim=0))
        self.width.copy_(z.std(dim=0).clamp_min(1e-6))
        rows = torch.randperm(len(white), generator=generator)[torch.arange(NODES) % len(white)]
        self.nodes.copy_(white[rows])
        blurred = z + BLUR * self.width * torch.randn(z.shape, generator=generator, dtype=z.dtype)
        self._learn(white, (blurred - self.offset) / self.width)
        return len(white)

    @torch.no_grad()
    def forward(self, scores: Tensor, x: Tensor) -> Tensor:
        """Return log p(x|θ), up to a function of x, shape (n,).

        Beyond what is learnt, it is that of the nearest point, less half the square of the distance to it.

        Args:
            scores: normal scores of the parameters, shape (n, parameters).
            x: shape (n, data) or (data,).
        """
        z = ((self.scale(x) - self.offset) / self.width).expand(len(scores), -1)
        return torch.cat([self._log_prob(*part) for part in zip(scores.split(BLOCK), z.split(BLOCK), strict=True)])

    @property
    def notes(self) -> dict[str, float]:
        """Whether the errors are as supposed."""
        return dict(zip(("normality_p", "constancy_p"), self.p_values.tolist(), strict=True))

    def _log_prob(self, scores: Tensor, z: Tensor) -> Tensor:
        white = (scores - self.centre) @ self.whitening
        far = white.norm(dim=1, keepdim=True).clamp_min(self.radius)
        features = self._features(white * (self.radius / far), self.length)
        variance = self._noise(features) + self._unknown(features)
        errors = (z - features @ self.mean) / variance.sqrt()
        whole = torch.linalg.solve_triangular(self.dependence, errors.T, upper=False)
        return -((whole**2).sum(dim=0) + variance.log().sum(dim=1) + (far[:, 0] - self.radius) ** 2) / 2

    def _learn(self, white: Tensor, y: Tensor) -> None:
        """Fit to whitened parameters (n, parameters) and standardised data (n, data)."""
        amplitudes, noise = self._most_evident(white, y)
        features, variance = self._features(white, self.length), noise.expand_as(y)
        for _ in range(2):
            squares = self._regress(features, y, amplitudes, variance) ** 2 * variance
            self._learn_noise(white, features, squares.log() - LOG_CHI[0])
            variance = self._noise(features)
        errors = self._regress(features, y, amplitudes, variance)
        excess = (errors**2).mean(dim=0)
        self.noise[0] += excess.log()
        self.noises += excess.log()
        covariance = torch.from_numpy(ledoit_wolf((errors / excess.sqrt()).numpy())[0])
        deviation = covariance.diagonal().sqrt()
        self.dependence.copy_(torch.linalg.cholesky(covariance / deviation / deviation[:, None]))
        whole = torch.linalg.solve_triangular(self.dependence, (errors / excess.sqrt()).T, upper=False).T
        slopes = self.mean[1 : 1 + white.shape[1]] / (variance * excess).mean(dim=0).sqrt()
        told = torch.linalg.solve_triangular(self.dependence, slopes.T, upper=False)
        self.p_values[0] = _normality(whole @ told)
        self.p_values[1] = _constancy(whole, features[:, self.parts < 3])

    def _learn_noise(self, white: Tensor, features: Tensor, logs: Tensor) -> None:
        """Fit log s² to what each error says of it, shape (n, data)."""
        level = logs.mean(dim=0)
        amplitudes, noise = self._most_evident(white, logs - level, LOG_CHI[1])
        gram, cross = features.T @ features, features.T @ (logs - level)
        root, _, found = _solved(gram / noise[:, None, None], cross / noise, amplitudes)
        self.noise.copy_((root * found).T)
        self.noise[0] += level
        fitted = features @ self.noise
        self.noises.copy_(torch.stack([fitted.min(dim=0).values, fitted.max(dim=0).values]))

    def _regress(self, features: Tensor, y: Tensor, amplitudes: Tensor, variance: Tensor) -> Tensor:
        """Find the means given the noise; return errors at simulations left out, in their deviations, (n, data)."""
        gram = torch.stack([features.T @ (features / column[:, None]) for column in variance.T])
        root, factor, found = _solved(gram, features.T @ (y / variance), amplitudes)
        self.mean.copy_((root * found).T)
        inverse = root[:, :, None] * torch.cholesky_inverse(factor) * root[:, None, :]
        self.doubt.copy_(inverse.flatten(1).T)
        left = (1 - self._unknown(features) / variance).clamp_min(BLUR)
        return (y - features @ self.mean) / (variance * left).sqrt()

    @torch.enable_grad()
    def _most_evident(self, white: Tensor, y: Tensor, known: float | None = None) -> tuple[Tensor, Tensor]:
        """Return variances of coefficients (data, features) and of the noise (data,), after l is found.

        Where the noise is known, it and l stay as they are.
        """
        expected = torch.tensor(EXPECTED, dtype=y.dtype).repeat(y.shape[1], 1)
        if known is None:
            self.length.copy_(torch.tensor(white.shape[1] ** 0.5))
        else:
            expected[:, 3] = math.log(known)
        wide, start = expected.clone().requires_grad_(), self.length.log()
        length = start.clone().requires_grad_()
        free = [wide, length] if known is None else [wide]
        search = torch.optim.LBFGS(free, max_iter=STEPS, line_search_fn="strong_wolfe")
        fixed = None if known is None else self._features(white, self.length)

        def loss() -> Tensor:
            search.zero_grad()
            features = self._features(white, length.exp()) if fixed is None else fixed
            noise = wide[:, 3].exp() if known is None else expected[:, 3].exp()
            unlikely = ((wide - expected) ** 2).sum() + (length - start) ** 2
            total = -_evidence(features, y, self._spread(wide), noise).sum() + unlikely / (2 * WITHIN**2)
            total.backward()
            return total

        search.step(loss)
        self.length.copy_(length.detach().exp())
        return self._spread(wide.detach()), wide.detach()[:, 3].exp()

    def _spread(self, logs: Tensor) -> Tensor:
        """Return the variance of each coefficient, (data, features), of the logarithms of a, b and c, (data, 4)."""
        return torch.cat([torch.ones_like(logs[:, :1]), logs[:, :3].exp()], dim=1)[:, self.parts]

    def _features(self, white: Tensor, length: Tensor) -> Tensor:
        """Return φ, (n, features): the processes are their products with coefficients of variances 1, a, b and c."""
        i, j = self.pairs
        quadratic = (white[:, i] * white[:, j] - (i == j).double()) / torch.where(i == j, math.sqrt(2), 1.0)
        among, apart = (torch.cdist(points, self.nodes) ** 2 / (-2 * length**2) for points in (self.nodes, white))
        factor = torch.linalg.cholesky(among.exp() + 1e-6 * torch.eye(NODES, dtype=white.dtype))
        radial = torch.linalg.solve_triangular(factor, apart.exp().T, upper=False).T
        return torch.cat([torch.ones_like(white[:, :1]), white, quadratic, radial], dim=1)

    def _noise(self, features: Tensor) -> Tensor:
        """Return s², nowhere less or more than where it was learnt, shape (n, data)."""
        return (features @ self.noise).clamp(*self.noises).exp()

    def _unknown(self, features: Tensor) -> Tensor:
        """Return the variance of m, shape (n, data)."""
        parts = features.split(BLOCK)
        return torch.cat([(part[:, :, None] * part[:, None, :]).flatten(1) @ self.doubt for part in parts])


def _normality(told: Tensor) -> float:
    """Return the probability of skew and kurtosis as far from those of a normal law in any column, after Bonferroni.

    Source: R. B. D'Agostino, E. S. Pearson, Tests for departure from normality, Biometrika 60, 1973.
    """
    return min(1.0, told.shape[1] * float(stats.normaltest(told.numpy()).pvalue.min()))


def _constancy(whole: Tensor, given: Tensor) -> float:
    """Return the probability of products of errors (n, data) to depend as much on (n, functions), after Bonferroni."""
    i, j = torch.triu_indices(whole.shape[1], whole.shape[1])
    products = whole[:, i] * whole[:, j]
    products = products - products.mean(dim=0)
    left = products - given @ torch.linalg.lstsq(given, products).solution
    share = (left**2).sum(dim=0) / (products**2).sum(dim=0)
    most, rest = given.shape[1] - 1, len(given) - given.shape[1]
    return min(1.0, len(i) * float(stats.f.sf(((1 - share) / most / (share / rest)).max(), most, rest)))


def _evidence(features: Tensor, y: Tensor, variances: Tensor, noise: Tensor) -> Tensor:
    """Return the log density of each column of y, of shape (n, data), up to a constant."""
    gram, cross = features.T @ features, features.T @ y
    root, factor, found = _solved(gram / noise[:, None, None], cross / noise, variances)
    explained = (root * (cross / noise).T * found).sum(dim=1)
    volume = len(y) * noise.log() + 2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    return (explained - (y**2).sum(dim=0) / noise - volume) / 2


def _solved(gram: Tensor, cross: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Solve for coefficients root · found, given normal equations (data, p, p) and (p, data), and variances (data, p).

    Returns the root of the variances, the Cholesky factor of I + root · gram · root, and what is found.
    """
    root = variances.sqrt()
    inner = torch.eye(gram.shape[-1], dtype=gram.dtype) + root[:, :, None] * gram * root[:, None, :]
    factor = torch.linalg.cholesky(inner)
    found = torch.cholesky_solve((root * cross.T)[:, :, None], factor)[:, :, 0]
    return root, factor, found
