"""Optimisers by name, from the settings of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from biril_nm.training.config import TrainConfig

__all__ = ["OPTIMIZERS", "make_optimizer"]

OPTIMIZERS = ("adam", "adamw")
MATRIX = 2  # dimensions from which a parameter decays: not biases, norms and the w of PLIF


def make_optimizer(net: nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    """Adam, or AdamW: ``weight <- weight (1 - lr weight_decay)`` in each step, for weights of layers."""
    if settings.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), lr=settings.lr)
    decaying = [p for p in net.parameters() if p.ndim >= MATRIX]
    others = [p for p in net.parameters() if p.ndim < MATRIX]
    groups = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr)
