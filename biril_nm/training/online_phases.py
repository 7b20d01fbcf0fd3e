"""The phases ``d-rtrl`` and ``es-d-rtrl``: one pass over the steps, in memory that does not grow with them.

For an :class:`OnlineNet` the loss of a step is that of the run on its output; for other networks, on the
score so far. Both are averaged over the steps that count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biril_nm.errors import ConfigError
from biril_nm.models.spiking_net import SpikingNet
from biril_nm.training.losses import LOSSES
from biril_nm.training.online.learner import online_gradients
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.rules import D_RTRL, DECAY, ES_D_RTRL, OnlineRule
from biril_nm.training.online.snntorch_nets import as_online
from biril_nm.training.phase import Batch, Metrics, PhaseState, optimizer_step

if TYPE_CHECKING:
    from biril_nm.training.config import TrainConfig

__all__ = ["check_online", "d_rtrl", "es_d_rtrl"]


def check_online(net: SpikingNet, settings: TrainConfig) -> None:
    """Refuse networks for which the rules are not defined, and settings that they ignore.

    Raises:
        ConfigError: with the layer.
    """
    as_online(net)
    chosen = (settings.engine, settings.precision, settings.checkpoint_steps)
    if chosen != ("auto", "float32", 0):
        raise ConfigError(
            f"engine is '{chosen[0]}', precision '{chosen[1]}' and checkpoint_steps {chosen[2]}, and "
            f"schedule '{settings.schedule}' learns online; expected 'auto', 'float32' and 0. Leave them out"
        )


def d_rtrl(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase d-rtrl."""
    return _online(net, batch, optimizer, state, OnlineRule(D_RTRL))


def es_d_rtrl(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """Phase es-d-rtrl, with the network's decay, 0.9 unless it says another; the readout by D-RTRL."""
    decay = net.decay if isinstance(net, OnlineNet) else DECAY
    rule = OnlineRule(ES_D_RTRL, decay=decay, kinds={-1: D_RTRL})
    return _online(net, batch, optimizer, state, rule)


def _online(
    net: SpikingNet,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    state: PhaseState,
    rule: OnlineRule,
) -> Metrics:
    x, labels = batch
    net.train()
    online = as_online(net)
    own = isinstance(net, OnlineNet)
    first = online.first_scored(len(x))

    def loss(output: Tensor, t: int) -> Tensor | None:
        if t < first:
            return None
        value: Tensor = LOSSES[state.loss](output, labels, 1 if own else t + 1)
        return value / (len(x) - first)

    optimizer.zero_grad(set_to_none=True)
    outputs, total = online_gradients(online, x, rule, loss)
    optimizer_step(net, optimizer, state)
    scores = outputs[first:].sum(0) if own else outputs[-1]
    right = int((scores.argmax(1) == labels).sum())
    return {"loss": total, "correct": right, "samples": labels.numel()}
