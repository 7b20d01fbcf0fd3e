"""One network from several of a run: the mean of their weights, which the code of BIRIL takes of two."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from biril_nm.arguments import checked, shown
from biril_nm.errors import ConfigError
from biril_nm.models.folded import NORMS
from biril_nm.models.net import BirilNet
from biril_nm.models.spiking_net import SpikingNet
from biril_nm.models.taps import forget

__all__ = ["average"]

PLAIN = (bool, int, float, str, tuple, type(None))
Net = TypeVar("Net", bound=nn.Module)


@checked
def average(nets: Sequence[Net]) -> Net:
    """A network whose parameters and running statistics are the means of those of ``nets``.

    ``w = sum_i w_i / n``; whole numbers, such as BatchNorm's count of batches, are those of the first. It
    helps where the networks are late epochs of one run; networks of different seeds have no common mean.

    Raises:
        ConfigError: no network, or networks of other layers, settings or constants.
    """
    if not len(nets) or not all(isinstance(net, nn.Module) for net in nets):
        raise ConfigError(
            f"nets are {shown(nets)}, no networks to average; expected a sequence of at least one module. "
            f"Read files with biril_nm.load(path)"
        )
    states = [net.state_dict() for net in nets]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ConfigError(
            "the networks differ in their layers; expected the same ones. Average epochs of one run"
        )
    means = _means(nets[0])
    for other in nets[1:]:
        _refuse_others(nets[0], other, means)
    for module in nets[0].modules():
        forget(module)  # what a batch left in its neurons cannot be copied
    found = copy.deepcopy(nets[0])
    with torch.no_grad():
        for name, value in found.state_dict().items():
            if name in means and value.is_floating_point():
                value.copy_(torch.stack([state[name].to(value) for state in states]).mean(0))
    return found


def _means(net: nn.Module) -> set[str]:
    """Names of what is averaged: parameters and statistics; other buffers are constants of the network."""
    norms = [name for name, layer in net.named_modules() if isinstance(layer, NORMS)]
    statistics = {
        name for name, _ in net.named_buffers() if any(name.rpartition(".")[0] == n for n in norms)
    }
    return statistics | {name for name, _ in net.named_parameters(remove_duplicate=False)}


def _refuse_others(one: nn.Module, other: nn.Module, means: set[str]) -> None:
    """Networks that compute different things from the same weights."""
    states = one.state_dict(), other.state_dict()
    found = [
        name
        for name, value in states[0].items()
        if name not in means and not torch.equal(value, states[1][name].to(value))
    ]
    then, now = _settings(one), _settings(other)
    found += [name for name in then | now if then.get(name) != now.get(name)]
    if found:
        raise ConfigError(
            f"the networks differ in {', '.join(found[:8])}; expected networks that differ in weights alone. "
            f"Average epochs of one run"
        )


def _settings(net: nn.Module) -> dict[str, Any]:
    """What modules hold beside tensors, as far as it can be compared, by name."""
    found: dict[str, Any] = dict(net.identity()) if isinstance(net, SpikingNet) else {}
    found["config"] = getattr(net, "config", None) if isinstance(net, BirilNet) else None
    for name, module in net.named_modules():
        place = f"{name}." if name else ""
        found[f"{place}type"] = type(module)
        found |= {
            f"{place}{key.lstrip('_')}": value
            for key, value in vars(module).items()
            if key != "training" and isinstance(value, PLAIN)
        }
    return found
