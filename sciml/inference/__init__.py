"""Likelihood-free inference: priors, draws, and how samples are judged."""
