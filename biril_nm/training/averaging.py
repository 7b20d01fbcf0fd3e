"""One network from several of a run: the mean of their weights, which the code of BIRIL takes of two."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError

__all__ = ["average"]

Net = TypeVar("Net", bound=nn.Module)


@checked
def average(nets: Sequence[Net]) -> Net:
    """A network whose parameters and running statistics are the means of those of ``nets``.

    ``w = sum_i w_i / n``; whole numbers, such as BatchNorm's count of batches, are those of the first. It
    helps where the networks are late epochs of one run; networks of different seeds have no common mean.

    Raises:
        ConfigError: no network, or networks of other shapes.
    """
    if not len(nets) or not all(isinstance(net, nn.Module) for net in nets):
        raise ConfigError(
            "nets are not networks to average; expected a sequence of at least one module"
        )
    states = [net.state_dict() for net in nets]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ConfigError(
            "the networks differ in their layers; expected the same ones. Average epochs of one run"
        )
    found = copy.deepcopy(nets[0])
    with torch.no_grad():
        for name, value in found.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.stack([state[name] for state in states]).mean(0))
    return found
