"""``convnet`` and ``vgg``: stages of convolutions with average pooling, at sizes that train on a CPU.

For each entry of ``channels`` a stage: conv3x3 - [BatchNorm] - neurons, as often as ``depths`` says, then
average pooling 2x2; then for each entry of ``hidden``: fully connected - [BatchNorm] - neurons; then the
spiking readout. ``kernel`` gives another size than 3; series (C, L) have 1-D convolutions and pooling. A
stage of ``convnet`` has one convolution, of ``vgg`` two where ``depths`` is empty. With
the defaults on MNIST, ``convnet`` is conv 16 - conv 32 - FC 128 - FC 10, 207 k parameters.
"""

from __future__ import annotations

from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.models.chain import Chain
from biril_nm.models.config import ModelConfig

__all__ = ["convnet", "vgg"]

VGG_DEPTH = 2  # convolutions of a stage


def convnet(config: ModelConfig) -> nn.Sequential:
    """Layers of the network with one convolution a stage.

    Raises:
        ConfigError: the input is not an image, or is too small for the poolings; or depths are given.
    """
    if config.depths:
        raise ConfigError(
            f"depths is {config.depths}, and stages of convnet have one convolution; expected (). Use "
            f"model 'vgg'"
        )
    return _stages("convnet", config, (1,) * len(config.channels))


def vgg(config: ModelConfig) -> nn.Sequential:
    """Layers of the network with several convolutions a stage.

    Raises:
        ConfigError: the input is not an image, or is too small for the poolings; or depths do not fit.
    """
    depths = config.depths or (VGG_DEPTH,) * len(config.channels)
    if len(depths) != len(config.channels):
        raise ConfigError(
            f"depths of 'vgg' has {len(depths)} entries, and channels {len(config.channels)}; expected one "
            f"for each stage. Give as many, or leave depths out"
        )
    return _stages("vgg", config, depths)


def _stages(name: str, config: ModelConfig, depths: tuple[int, ...]) -> nn.Sequential:
    if len(config.input_shape) < 2:
        raise ConfigError(
            f"input_shape of '{name}' is {config.input_shape}; expected (C, H, W) or (C, L). Use model 'mlp'"
        )
    smallest = 2 ** len(config.channels)
    if min(config.input_shape[1:]) < smallest:
        raise ConfigError(
            f"input_shape of '{name}' is {config.input_shape}; expected a size of at least {smallest}, which "
            f"the poolings of {len(config.channels)} channels halve down to 1. Use fewer channels, or "
            f"model 'mlp'"
        )
    chain = Chain(config)
    for channels, depth in zip(config.channels, depths):
        for _ in range(depth):
            chain.conv(channels)
        chain.pool()
    chain.flatten()
    for features in config.hidden:
        chain.linear(features)
    chain.readout()
    return chain.layers()
