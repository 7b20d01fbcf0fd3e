"""What the networks of the zoo have in common: their list, and how to make every layer spike."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

__all__ = ["HIDDEN", "N_STEPS", "ZOO", "louder", "net", "with_statistics"]

N_STEPS = 50
ZOO: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...], str]]] = {}
HIDDEN = {"init_hidden": True}


def net(function):
    ZOO[function.__name__] = function
    return function


def with_statistics(module: nn.Module) -> nn.Module:
    """Give every BatchNorm something to fold."""
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.1, 0.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.1, 0.4)
    return module


def louder(module: nn.Module, gain: float = 2.0) -> nn.Module:
    """Stronger weights, so that every layer spikes."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            layer.weight.data.mul_(gain)
    return module
