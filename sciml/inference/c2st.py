"""The classifier two-sample test."""

import warnings
from typing import Any

import numpy as np


def c2st(reference: np.ndarray, samples: np.ndarray, seed: int = 1) -> float:
    """Return the accuracy with which a classifier tells samples from reference samples.

    0.5 where the two laws cannot be told apart, 1 where they do not overlap. Both are standardised by the
    mean and deviation of the reference; the classifier has two hidden layers of ``10 * parameters`` rectified
    units, trained by Adam; the accuracy is the mean over five shuffled folds.
    Sources: D. Lopez-Paz, M. Oquab, Revisiting classifier two-sample tests, 2017, arXiv 1610.06545; settings
    of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.

    Args:
        reference: shape (n, parameters).
        samples: shape (n, parameters); as many as the reference, so that 0.5 is chance.
        seed: of the folds and of the classifier.

    Raises:
        KeyboardInterrupt: interrupted; no score is made of what is trained by then.
        ValueError: samples that differ in shape from the reference, or are not finite.
    """
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    if samples.shape != reference.shape or not np.isfinite(samples).all():
        raise ValueError(f"expected finite samples of shape {reference.shape}, got shape {samples.shape}")
    mean, deviation = reference.mean(axis=0), reference.std(axis=0, ddof=1)
    points = (np.concatenate([reference, samples]) - mean) / deviation
    labels = np.repeat([0, 1], len(reference))
    width = 10 * reference.shape[1]
    classifier = MLPClassifier((width, width), max_iter=10_000, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # scikit-learn turns an interrupt into this warning, and would score the half-trained classifier.
        warnings.filterwarnings("error", "Training interrupted by user")
        strict: Any = "raise"
        try:
            accuracy = cross_val_score(classifier, points, labels, cv=folds, error_score=strict)
        except UserWarning:
            raise KeyboardInterrupt from None
    return float(np.mean(accuracy))
