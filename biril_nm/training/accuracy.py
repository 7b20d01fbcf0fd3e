"""Accuracy and firing rates of a net on a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from biril_nm.errors import ConfigError
from biril_nm.models.net import BirilNet, encode

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Result of :func:`evaluate`.

    Attributes:
        accuracy: share of right predictions, 0..1.
        firing_rates: neuron layer to spikes per neuron and step.
        n_samples: number of samples.
    """

    accuracy: float
    firing_rates: dict[str, float]
    n_samples: int


@torch.no_grad()
def evaluate(
    net: BirilNet, loader: Iterable[tuple[Any, Any]], seed: int = 0, device: str | None = None
) -> Evaluation:
    """Run all batches of ``loader`` (values in 0..1, labels) in eval mode, from rest.

    Raises:
        ConfigError: the loader yields nothing.
    """
    place = torch.device(device) if device else next(net.parameters()).device
    was_training = net.training
    net.eval()
    right = count = 0
    totals = dict.fromkeys(net.neurons, 0.0)
    for index, (values, labels) in enumerate(loader):
        x = encode(net.config.coding, values, seed + index).to(place)
        out = net(x, record=True)
        expected = torch.as_tensor(np.asarray(labels), device=place)
        right += int((out.predictions == expected).sum())
        count += len(expected)
        for name in totals:
            totals[name] += float(out.recorded[name].mean()) * len(expected)
    net.train(was_training)
    if not count:
        raise ConfigError("the loader holds no samples; expected at least one batch")
    return Evaluation(right / count, {k: v / count for k, v in totals.items()}, count)
