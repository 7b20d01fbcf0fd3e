"""``convnet``: BIRIL's motifs at a size that trains on a CPU.

For each entry of ``channels``: conv3x3 - [BatchNorm] - neurons - average pooling 2x2; then for each
entry of ``hidden``: fully connected - [BatchNorm] - neurons; then the spiking readout. With the
defaults on MNIST: conv 16 - conv 32 - FC 128 - FC 10, 207 k parameters. The published network
(the "ResNet-19" channel plan, 12.6 M parameters) is not feasible on a CPU.
"""

from __future__ import annotations

from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.models.chain import Chain
from biril_nm.models.config import ModelConfig

__all__ = ["convnet"]


def convnet(config: ModelConfig) -> nn.Sequential:
    """Layers of the convolutional network.

    Raises:
        ConfigError: the input is not an image, or is too small for the poolings.
    """
    if len(config.input_shape) != 3:
        raise ConfigError(f"convnet needs input_shape (C, H, W), found {config.input_shape}")
    smallest = 2 ** len(config.channels)
    if min(config.input_shape[1:]) < smallest:
        raise ConfigError(
            f"convnet with {len(config.channels)} convolutions needs images of at least {smallest}x"
            f"{smallest}, found {config.input_shape}; use fewer channels entries or model 'mlp'"
        )
    chain = Chain(config)
    for channels in config.channels:
        chain.conv(channels)
        chain.pool()
    chain.flatten()
    for features in config.hidden:
        chain.linear(features)
    chain.readout()
    return chain.layers()
