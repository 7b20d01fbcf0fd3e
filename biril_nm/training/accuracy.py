"""Accuracy and firing rates of a net on a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from biril_nm.arguments import MAX_SEED, Seed, checked, shown
from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError
from biril_nm.models.spiking_net import SpikingNet
from biril_nm.models.values import check_type
from biril_nm.training.random_state import drawing, mix
from biril_nm.training.world import ALONE, World

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
@checked
def evaluate(
    net: SpikingNet,
    loader: Iterable[tuple[Any, Any]],
    seed: Seed = 0,
    device: str | None = None,
    decision: str = SpikingNet.decision,
    world: World = ALONE,
) -> Evaluation:
    """Run all batches of ``loader`` (values in 0..1, labels) in eval mode, from rest.

    Args:
        net: the network.
        loader: batches; values as the coding of ``net`` takes them.
        seed: of rate coding, of which batch i uses ``seed + i``, after the largest seed 0, and of layers
            that are random in eval mode too.
        device: where to run; None: where the network is.
        decision: how the output decides (:mod:`biril_nm.decision`).
        world: processes that share the batches; each returns the result of all.

    Raises:
        ConfigError: the loader yields nothing, parameters that are not float32, labels that do not fit, or
            an unknown decision.
    """
    try:
        place = torch.device(device) if device else next(net.parameters()).device
    except RuntimeError:
        raise ConfigError(f"device is {shown(device)}; expected cpu, cuda or cuda:N") from None
    check_type(net, net.name)
    was_training = net.training
    net.eval()
    right = count = 0.0
    totals = dict.fromkeys(net.neurons, 0.0)
    counts = dict.fromkeys(net.neurons, 0.0)
    for index, (values, labels) in enumerate(world.batches(loader)):
        if index % world.size != world.rank:
            continue
        x = net.encode(values, (seed + index) & MAX_SEED).to(place)
        with drawing(mix(seed, index), place):
            out = net(x, record=True)
        known = check_labels(labels, x.shape[1], net.n_classes)
        expected = torch.as_tensor(known, device=place)
        right += int((out.decide(decision) == expected).sum())
        count += len(expected)
        for name in totals:
            if name in out.recorded:  # a forward need not call all its neurons
                totals[name] += float(out.recorded[name].mean()) * len(expected)
                counts[name] += len(expected)
    net.train(was_training)
    right, count, *sums = world.total([right, count, *totals.values(), *counts.values()])
    shares = zip(totals, sums, sums[len(totals) :])
    if not count:
        raise ConfigError("the loader holds no samples; expected at least one batch")
    return Evaluation(right / count, {k: v / n for k, v, n in shares if n}, int(count))
