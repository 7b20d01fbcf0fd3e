"""How far an accuracy on some samples may be from that on all."""

from __future__ import annotations

from math import sqrt

from biril_nm.arguments import Count, checked
from biril_nm.errors import ConfigError

__all__ = ["accuracy_interval"]

Z = 1.959964  # of the normal distribution, for 95 %


@checked
def accuracy_interval(n_right: int, n_samples: Count) -> tuple[float, float]:
    """95 % interval of an accuracy, by Wilson's score.

    With ``p = n_right / n_samples``: ``(p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``.
    It covers the choice of the samples only, not that of the seed of a training.

    Raises:
        ConfigError: no samples, fewer than 0 right ones, or more of them than samples.

    Source: E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    n = n_samples
    if not 0 <= n_right <= n:
        raise ConfigError(f"n_right is {n_right} of {n} samples; expected 0 to {n}")
    p, share = n_right / n, Z * Z / n
    middle = (p + share / 2) / (1 + share)
    half = Z * sqrt(p * (1 - p) / n + share / (4 * n)) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)
