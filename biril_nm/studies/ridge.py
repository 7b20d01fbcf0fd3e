"""Linear readout by ridge regression, its strength chosen by cross-validation in closed form.

The reference for features and for readouts learned on the chip: exact, without hyper-parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import Between, checked
from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError

__all__ = ["Ridge", "fit_ridge"]

STRENGTHS = tuple(10.0**k for k in range(-4, 3))  # relative to a feature's mean sum of squares
EIGENVALUE_FLOOR = 1e-7  # relative: below it directions are rounding noise of 32-bit sums
SMALLEST = 1e-30  # keeps constant features from dividing by 0
CHUNK = 4096

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ridge:
    """``scores = (x - mean) weight + offset``.

    Attributes:
        weight: ``(features, classes)``.
        mean: of the features.
        offset: of the classes.
        strength: chosen penalty, relative to the mean sum of squares of a feature.
    """

    weight: NDArray[np.float32]
    mean: NDArray[np.float32]
    offset: Floats
    strength: float

    def predict(self, features: NDArray[Any]) -> NDArray[np.int64]:
        """Class of each row of ``features``."""
        rows = [
            ((features[i : i + CHUNK] - self.mean) @ self.weight + self.offset).argmax(axis=1)
            for i in range(0, len(features), CHUNK)
        ]
        return np.concatenate(rows)

    def accuracy(self, features: NDArray[Any], labels: ArrayLike) -> float:
        """Share of right predictions, 0..1."""
        known = check_labels(labels, len(features), self.weight.shape[1])
        return float((self.predict(features) == known).mean())


@checked
def fit_ridge(
    features: NDArray[Any], labels: ArrayLike, n_classes: Annotated[int, Between(2, 1 << 16)] = 10
) -> Ridge:
    """Fit ``min ||Y - X W||^2 + penalty ||W||^2`` with centred X and one-hot Y.

    The penalty is the one of :data:`STRENGTHS` with the smallest generalised cross-validation
    error ``||Y - X W||^2 / (1 - df / n)^2`` on the training labels, df being the effective number of
    parameters. Solved in the smaller of the two spaces, samples or features.

    Args:
        features: ``(n, f)``, any real dtype.
        labels: ``(n,)``.
        n_classes: number of classes.

    Raises:
        ConfigError: fewer than two samples, or features or labels that do not fit.
    """
    if features.ndim != 2:
        raise ConfigError(f"features have shape {features.shape}; expected (n, f)")
    y = check_labels(labels, len(features), n_classes)
    if len(y) < 2:
        raise ConfigError(f"{len(y)} samples; ridge regression needs at least 2")
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    offset = np.bincount(y, minlength=n_classes) / len(y)
    target: Floats = np.eye(n_classes)[y] - offset
    in_samples = len(y) <= features.shape[1]
    gram = _gram(features, mean, in_samples)
    unit = float(np.trace(gram)) / features.shape[1] + SMALLEST
    values, vectors = np.linalg.eigh(gram)
    keep = values > values[-1] * EIGENVALUE_FLOOR
    values, vectors = values[keep], vectors[:, keep]
    # moment: the target along each singular direction of X
    if in_samples:
        moment = vectors.T @ target
    else:
        moment = (vectors.T @ _cross(features, mean, target)) / np.sqrt(values)[:, None]
    errors = [_cross_validation(values, moment, target, s * unit) for s in STRENGTHS]
    strength = STRENGTHS[int(np.argmin(errors))]
    if in_samples:
        gain = vectors @ (moment / (values + strength * unit)[:, None])
        weight = _cross(features, mean, gain)
    else:
        weight = vectors @ (moment * (np.sqrt(values) / (values + strength * unit))[:, None])
    return Ridge(weight.astype(np.float32), mean, offset, strength)


def _gram(features: NDArray[Any], mean: NDArray[np.float32], in_samples: bool) -> Floats:
    """``X X^T`` (samples) or ``X^T X`` of the centred features."""
    if in_samples:
        x = features - mean
        return np.asarray(x @ x.T, dtype=np.float64)
    total = np.zeros((features.shape[1],) * 2)
    for i in range(0, len(features), CHUNK):
        x = features[i : i + CHUNK] - mean
        total += x.T @ x
    return total


def _cross(features: NDArray[Any], mean: NDArray[np.float32], target: Floats) -> Floats:
    total = np.zeros((features.shape[1], target.shape[1]))
    for i in range(0, len(features), CHUNK):
        total += (features[i : i + CHUNK] - mean).T @ target[i : i + CHUNK].astype(np.float32)
    return total


def _cross_validation(values: Floats, moment: Floats, target: Floats, penalty: float) -> float:
    """Generalised cross-validation error; one parameter more for the offset."""
    shrink = (values / (values + penalty))[:, None]
    n = len(target)
    residual = float((target**2).sum() - ((2 - shrink) * shrink * moment**2).sum())
    freedom = 1.0 - (float(shrink.sum()) + 1.0) / n
    return residual / max(freedom, EIGENVALUE_FLOOR) ** 2
