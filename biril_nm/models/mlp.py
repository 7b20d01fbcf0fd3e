"""``mlp``: fully connected layers with spiking neurons; images are flattened."""

from __future__ import annotations

from torch import nn

from biril_nm.models.chain import Chain
from biril_nm.models.config import ModelConfig
from biril_nm.models.plans import refuse_ignored

__all__ = ["mlp"]


def mlp(config: ModelConfig) -> nn.Sequential:
    """Layers of the fully connected network.

    Raises:
        ConfigError: settings of convolutions are given.
    """
    refuse_ignored("mlp", config, ("kernel", "depths"))
    chain = Chain(config)
    chain.flatten()
    for features in config.hidden:
        chain.linear(features)
    chain.readout()
    return chain.layers()
