"""Online learning of snnTorch networks: a chain of Linear, Leaky and RLeaky as layers with the same weights.

The readout's output is the score so far, its spike count plus ``mem / threshold``; the loss is that of the
run, taken at each step and averaged over the steps. At the last step it is the loss of phase B.
"""

from __future__ import annotations

from typing import Any

import snntorch as snn
from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.models.net import BirilNet
from biril_nm.models.own import OwnNet
from biril_nm.models.spiking_net import SpikingNet
from biril_nm.training.online.layer import OWN, OnlineLayer, Projection, Wiring
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons.leaky import leaky_neuron

__all__ = ["as_online"]

WAY_OUT = (
    "expected a Sequential of Flatten, Linear, Leaky and RLeaky, such as model mlp with batch_norm=False, or "
    "an OnlineNet. Build one, or use a schedule of B"
)
UPDATES = {"subtract": "_base_sub", "zero": "_base_zero", "none": "_base_int"}  # snnTorch's names


def as_online(net: SpikingNet) -> OnlineNet:
    """The network as layers of online neurons that share its parameters.

    Raises:
        ConfigError: an online rule is not defined for one of its layers.
    """
    if isinstance(net, OnlineNet):
        return net
    if not isinstance(net, (BirilNet, OwnNet)):
        raise ConfigError(f"'{net.name}' is a {type(net).__name__}; {WAY_OUT}")
    module = net.layers if isinstance(net, BirilNet) else net.module
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        raise ConfigError(f"'{net.name}' is a {type(module).__name__}; {WAY_OUT}")
    chain = [(n, m) for n, m in module.named_children() if not isinstance(m, nn.Flatten)]
    layers: list[OnlineLayer] = []
    for (name, weights), (after, neurons) in zip(chain[::2], chain[1::2]):
        if type(weights) is not nn.Linear or "weight" not in dict(weights.named_parameters()):
            raise ConfigError(_wrong(net, name, weights))
        if type(neurons) not in (snn.Leaky, snn.RLeaky):
            raise ConfigError(_wrong(net, after, neurons))
        layers.append(_layer(net, after, weights, neurons, len(layers) == len(chain) // 2 - 1))
    if len(chain) % 2 or not layers:
        raise ConfigError(f"'{net.name}' does not end with neurons behind a Linear; {WAY_OUT}")
    return OnlineNet(layers, net.coding)


def _wrong(net: SpikingNet, name: str, module: nn.Module) -> str:
    return f"layer '{name}' of '{net.name}' is a {type(module).__name__}; {WAY_OUT}"


def _layer(
    net: SpikingNet, name: str, weights: nn.Linear, neurons: Any, readout: bool
) -> OnlineLayer:
    learned = [key for key, _ in neurons.named_parameters(recurse=False)]
    loop = getattr(neurons, "recurrent", None)
    if learned or (loop is not None and not isinstance(loop, nn.Linear)):
        what = f"learns {', '.join(learned)}" if learned else f"has a loop of {type(loop).__name__}"
        raise ConfigError(f"layer '{name}' of '{net.name}' {what}; {WAY_OUT}, with constants")
    special = _special(neurons)
    if special:
        raise ConfigError(
            f"layer '{name}' of '{net.name}' has {', '.join(special)}; expected a "
            f"{type(neurons).__name__} without. Leave them out, or use a schedule of B"
        )
    projections = {"W": _shared(weights.weight, Wiring())}
    biases = [weights.bias]
    if loop is not None:
        projections["V"] = _shared(loop.weight, Wiring(OWN))
        biases.append(loop.bias)
    constants = {"beta": neurons.beta, "threshold": neurons.threshold}
    layer = OnlineLayer(leaky_neuron(neurons, readout), projections, constants)
    for bias in biases:
        if bias is not None:
            layer.add_bias(bias)
    return layer


def _special(neurons: Any) -> list[str]:
    """Options of a layer by which it steps otherwise than :func:`leaky_neuron`."""
    found = [name for name in ("state_quant", "inhibition") if getattr(neurons, name)]
    if bool((neurons.graded_spikes_factor.detach() != 1).any()):
        found.append("graded_spikes_factor")
    if not bool((neurons.threshold.detach() >= 0).all()):
        found.append("a threshold below 0")
    value, reset = int(neurons.reset_mechanism_val), neurons.reset_mechanism
    if value != neurons.reset_dict[reset] or neurons.state_function.__name__ != UPDATES[reset]:
        found.append("a reset_mechanism that was changed after it was made")
    return found


def _shared(weight: Any, wiring: Wiring) -> Projection:
    found = Projection(weight.detach(), wiring)
    found.weight = weight
    return found
