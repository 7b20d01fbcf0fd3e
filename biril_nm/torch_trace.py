"""Run a torch network step by step and record its spikes under the names of the integer graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import snntorch
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.models import BirilNet
from biril_nm.trace import NodeTrace, Trace

__all__ = ["TorchRun", "run_torch"]


@dataclass(frozen=True)
class TorchRun:
    """Spikes of all neuron layers and the class scores of the last one.

    Attributes:
        trace: node name -> spikes ``(n_steps, batch, *shape)``.
        scores: ``n_spikes + mem_last / threshold`` of the last layer, ``(batch, n_classes)``.
    """

    trace: Trace
    scores: NDArray[np.float64]


def run_torch(net: nn.Module, spikes: ArrayLike, coding: Coding | None = None) -> TorchRun:
    """Drive ``net`` with the chip's integer input and record every snnTorch neuron layer.

    Args:
        net: a BirilNet, or a module whose forward computes one step with hidden states.
        spikes: integers ``(n_steps, batch, *shape)``.
        coding: scale of graded input; a BirilNet knows its own.

    Raises:
        ConfigError: the network has no snnTorch neurons.
    """
    root = net.layers if isinstance(net, BirilNet) else net
    scale = net.config.coding if isinstance(net, BirilNet) else coding or Coding("spikes", 1)
    layers = {
        name: layer
        for name, layer in root.named_modules()
        if isinstance(layer, snntorch.SpikingNeuron)
    }
    if not layers:
        raise ConfigError(f"{type(net).__name__} has no snnTorch neurons to compare")
    steps: dict[str, list[torch.Tensor]] = {name: [] for name in layers}

    def record(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, _args: Any, output: Any) -> None:
            steps[name].append(output[0] if isinstance(output, tuple) else output)

        return hook

    parameter = next(root.parameters(), torch.zeros(0))
    values = torch.from_numpy(scale.to_float(spikes)).to(parameter)
    was_training = root.training
    handles = [layer.register_forward_hook(record(name)) for name, layer in layers.items()]
    try:
        root.eval()
        for layer in layers.values():
            _rest(layer)
        with torch.no_grad():
            for value in values:
                root(value)
    finally:
        root.train(was_training)
        for handle in handles:
            handle.remove()
    return _collect(layers, steps)


def _rest(layer: Any) -> None:
    """Put one neuron layer's hidden states to rest; they take the next input's shape."""
    for name in ("mem", "syn", "spk"):
        if isinstance(getattr(layer, name, None), torch.Tensor):
            setattr(layer, name, torch.zeros(0, device=getattr(layer, name).device))


def _collect(layers: dict[str, Any], steps: dict[str, list[torch.Tensor]]) -> TorchRun:
    recorded = {
        name: torch.stack(spikes).cpu().numpy().astype(np.uint8)
        for name, spikes in steps.items()
        if spikes
    }
    last = list(recorded)[-1]
    membrane = layers[last].mem.detach().double() / layers[last].threshold.double()
    scores = recorded[last].sum(axis=0) + membrane.cpu().numpy()
    trace = Trace(
        {name: NodeTrace(s=spikes) for name, spikes in recorded.items()},
        n_spikes={name: int(spikes.sum()) for name, spikes in recorded.items()},
        meta={"engine": f"torch {torch.__version__}"},
    )
    return TorchRun(trace, scores)
