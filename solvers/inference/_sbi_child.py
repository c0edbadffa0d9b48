"""The process in which sbi learns and samples; ``solvers/inference/sbi.py`` starts it as a script."""

import os
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution, MultivariateNormal, Normal, Uniform

from sciml.child import Report, answer, remake
from sciml.inference.priors import Prior

inference: Any = import_module("sbi.inference")
utils: Any = import_module("sbi.utils")


def infer(order: Mapping[str, Any], report: Report) -> None:
    """Train on the simulations, sample given the observation, write the samples and report the seconds of both."""
    os.chdir(Path(order["theta"]).parent)  # it keeps a log of its training
    torch.manual_seed(order["seed"])
    problem = remake(order["problem"])
    with np.load(order["given"], allow_pickle=False) as given:
        theta, x = (torch.from_numpy(given[name]).float() for name in ("theta", "x"))
    began = time.process_time()
    trainer = {"npe": inference.NPE, "nre": inference.NRE}[order["method"]](law(problem.prior()))
    trainer.append_simulations(theta, x).train()
    posterior = trainer.build_posterior()
    trained = time.process_time()
    observation = torch.from_numpy(problem.observed()).float()
    samples = posterior.sample((order["samples"],), x=observation, show_progress_bars=False)
    np.save(order["theta"], samples.double().numpy())
    report(
        {
            "training_seconds": trained - began,
            "sampling_seconds": time.process_time() - trained,
            "version": version("sbi"),
        }
    )


def law(prior: Prior) -> Distribution:
    """Return a prior in single precision, as a user of sbi states it."""
    if prior.factor is not None:
        if not all(isinstance(one, Normal) for one in prior.marginals):
            raise ValueError(f"expected normal laws under the factor of a prior, got {prior.marginals}")
        spread = prior.factor @ torch.diag(torch.stack([one.stddev for one in prior.marginals]))
        return MultivariateNormal(prior.moments[0].float(), (spread @ spread.T).float())
    if all(isinstance(one, Uniform) for one in prior.marginals):
        return utils.BoxUniform(*prior.bounds.float())
    return utils.MultipleIndependent([single(one) for one in prior.marginals])


def single(one: Distribution) -> Distribution:
    """Return a scalar law in single precision, of shape (1,)."""
    return type(one)(**{name: getattr(one, name).float().reshape(1) for name in one.arg_constraints})


if __name__ == "__main__":
    answer(infer)
