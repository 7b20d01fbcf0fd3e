"""Controls: phases that learn nothing, in the place of S, so that a study shows what S is worth.

* F, frozen: what the published code does in an STDP epoch. Its network is in training mode, so that
  BatchNorm follows the data, but every gradient is dropped before the optimiser sees it.
* I, idle: nothing changes. The schedule of the learning rate goes on, as in S.
"""

from __future__ import annotations

import torch

from biril_nm.models.spiking_net import SpikingNet
from biril_nm.training.losses import LOSSES
from biril_nm.training.phase import Batch, Metrics, PhaseState, metrics_of

__all__ = ["frozen", "idle"]


def frozen(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase F: as the published code runs S. No parameter changes, BatchNorm follows the data."""
    optimizer.zero_grad(set_to_none=True)
    return _without_update(net, batch, state.loss, training=True)


def idle(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase I: nothing changes."""
    optimizer.zero_grad(set_to_none=True)
    return _without_update(net, batch, state.loss, training=False)


@torch.no_grad()
def _without_update(net: SpikingNet, batch: Batch, loss: str, training: bool) -> Metrics:
    """Run a batch and measure it. No parameter changes; ``training`` lets BatchNorm follow the data."""
    x, labels = batch
    net.train(training)
    out = net(x)
    value = LOSSES[loss](out.scores, labels, net.scored_steps(x.shape[0]))
    return metrics_of(out, labels, value)
