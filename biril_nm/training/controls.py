"""Controls: phases that learn nothing, in the place of S, so that a study shows what S is worth.

* F, frozen: what the published code does in an STDP epoch. Its network is in training mode, so that
  BatchNorm follows the data, but every gradient is dropped before the optimiser sees it.
* I, idle: nothing changes. The schedule of the learning rate goes on, as in S.
"""

from __future__ import annotations

import torch
from torch import Tensor

from biril_nm.models.spiking_net import SpikingNet
from biril_nm.training.losses import LOSSES

__all__ = ["without_update"]


@torch.no_grad()
def without_update(
    net: SpikingNet, batch: tuple[Tensor, Tensor], loss: str, training: bool
) -> dict[str, float]:
    """Run a batch and measure it. No parameter changes; ``training`` lets BatchNorm follow the data."""
    x, labels = batch
    net.train(training)
    out = net(x)
    value = LOSSES[loss](out.scores, labels, x.shape[0])
    right = int((out.predictions == labels).sum())
    return {"loss": float(value), "correct": right, "samples": labels.numel()}
