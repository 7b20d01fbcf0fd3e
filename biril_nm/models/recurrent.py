"""``recurrent``: fully connected layers whose hidden neurons are in a loop, all to all."""

from __future__ import annotations

import snntorch as snn
import torch
from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.models.chain import Chain
from biril_nm.models.config import ModelConfig
from biril_nm.models.mlp import fully_connected
from biril_nm.neurons import make_neuron

__all__ = ["recurrent"]


class _RecurrentChain(Chain):
    """A chain whose hidden neurons are snnTorch's RLeaky; the readout has no loop."""

    def neurons(self, name: str = "") -> None:
        """A neuron layer of the config's kind, with a loop unless it is the readout."""
        if name:
            super().neurons(name)
            return
        c, size = self.config, self.shape[0]
        with torch.device("cpu"):  # snnTorch reads its constants when made: no meta tensors
            plain = make_neuron(c.neuron, c.beta, c.threshold, c.surrogate, c.reset)
            if type(plain) is not snn.Leaky:
                raise ConfigError(
                    f"neuron is '{c.neuron}', and model 'recurrent' has neurons of snnTorch's RLeaky, which "
                    f"scale no input and learn no beta; expected 'if' or 'lif'. Choose one of them, or model "
                    f"'mlp'"
                )
            layer = snn.RLeaky(
                beta=plain.beta,
                linear_features=1,
                threshold=c.threshold,
                spike_grad=plain.spike_grad,
                init_hidden=True,
                reset_mechanism=c.reset,
                reset_delay=False,
            )
        layer.linear_features, layer.recurrent = size, nn.Linear(size, size)
        nn.init.orthogonal_(layer.recurrent.weight)
        nn.init.zeros_(layer.recurrent.bias)
        self._add(f"r{c.neuron}", layer)


def recurrent(config: ModelConfig) -> nn.Sequential:
    """Layers of the recurrent network.

    Raises:
        ConfigError: settings of convolutions are given, or neurons other than ``if`` and ``lif``.
    """
    return fully_connected("recurrent", _RecurrentChain(config))
