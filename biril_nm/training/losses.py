"""Losses on the scores of a network, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

__all__ = ["LOSSES", "cross_entropy", "mean_squared", "smoothed_cross_entropy"]

SMOOTHING = 0.1  # share of a label that all classes get in equal parts


def cross_entropy(scores: Tensor, labels: Tensor, n_steps: int) -> Tensor:
    """Cross-entropy of the scores (spike count plus scaled membrane)."""
    del n_steps
    return functional.cross_entropy(scores, labels)


def mean_squared(scores: Tensor, labels: Tensor, n_steps: int) -> Tensor:
    """Equation 4: ``1/(2 B) sum |onehot - scores / n_steps|^2``."""
    target = functional.one_hot(labels, scores.shape[1]).to(scores.dtype)
    return 0.5 * (target - scores / n_steps).square().sum(dim=1).mean()


def smoothed_cross_entropy(scores: Tensor, labels: Tensor, n_steps: int) -> Tensor:
    """Cross-entropy of ``scores / n_steps`` with labels smoothed by 0.1, as BrainCog."""
    return functional.cross_entropy(scores / n_steps, labels, label_smoothing=SMOOTHING)


# Name of a loss -> function of (scores, labels, n_steps).
LOSSES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "ce": cross_entropy,
    "mse": mean_squared,
    "ce_smooth": smoothed_cross_entropy,
}
