"""``resnet``: BIRIL's residual network, the channel plan that is called "ResNet-19" (3, 3 and 2 blocks).

Stem: conv3x3 - BatchNorm - neurons, without pooling. A block is conv3x3 - BatchNorm - neurons - conv3x3 -
BatchNorm, plus the spikes that enter it (through conv1x1 - BatchNorm where channels or size change), then
neurons: each sum goes into neurons, so that spikes alone leave a block and the chip can run it. The first
block of each stage but the first halves the size. Then the average over the picture, fully connected layers
with neurons, and the spiking readout.

Source: algorithm and channel plan of the published code of BIRIL, whose default has 12,630,858 parameters
for 10 classes and pictures of 3 channels, except 100 outputs and an unused layer, which it has for any data
set. Our readout spikes; theirs is read without threshold.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from biril_nm.errors import ConfigError
from biril_nm.models.chain import neurons_of
from biril_nm.models.config import ModelConfig
from biril_nm.models.plans import refuse_ignored, with_plan

__all__ = ["Block", "ResNet", "biril", "biril_xs", "resnet"]

# channels of stem and stages, blocks of the stages, hidden layers
FULL = {"channels": (64, 128, 256, 512), "depths": (3, 3, 2), "hidden": (256,), "kernel": 3}
SMALL = {"channels": (16, 16, 32, 64), "depths": (1, 1, 1), "hidden": (64,), "kernel": 3}


def _conv(
    config: ModelConfig, inputs: int, outputs: int, kernel: int, stride: int
) -> nn.Sequential:
    """Convolution and BatchNorm, or the convolution alone."""
    use_bias = config.bias and not config.batch_norm
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=use_bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    layers = OrderedDict[str, nn.Module](conv=layer)
    if config.batch_norm:
        layers["bn"] = nn.BatchNorm2d(outputs)
    return nn.Sequential(layers)


class Block(nn.Module):
    """Two convolutions and the way around them: ``spikes = out(second(inner(first(x))) + around(x))``."""

    def __init__(self, config: ModelConfig, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        same = stride == 1 and inputs == outputs
        self.first = _conv(config, inputs, outputs, 3, stride)
        self.inner = neurons_of(config)
        self.second = _conv(config, outputs, outputs, 3, 1)
        self.around = nn.Identity() if same else _conv(config, inputs, outputs, 1, stride)
        self.out = neurons_of(config)

    def forward(self, x: Tensor) -> Tensor:
        """One step."""
        spikes: Tensor = self.out(self.second(self.inner(self.first(x))) + self.around(x))
        return spikes


class ResNet(nn.Module):
    """The network of one step."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stem, *stages = config.channels
        size = config.input_shape[1:]
        self.stem = _conv(config, config.input_shape[0], stem, 3, 1)
        self.stem_neurons = neurons_of(config)
        before = stem
        for i, (channels, depth) in enumerate(zip(stages, config.depths), 1):
            for j in range(1, depth + 1):
                stride = 2 if j == 1 and i > 1 else 1
                self.add_module(f"stage{i}_{j}", Block(config, before, channels, stride))
                size = tuple(-(-n // stride) for n in size)
                before = channels
        self.pool = nn.AvgPool2d((size[0], size[1]))
        self.flatten = nn.Flatten()
        for i, features in enumerate(config.hidden, 1):
            self.add_module(f"fc{i}", nn.Linear(before, features, bias=config.bias))
            self.add_module(f"fc{i}_neurons", neurons_of(config))
            before = features
        self.fc_out = nn.Linear(before, config.n_classes, bias=config.bias)
        self.neurons_out = neurons_of(config)

    def forward(self, x: Tensor) -> Tensor:
        """One step: spikes of the readout."""
        for layer in self.children():
            x = layer(x)
        return x


def resnet(config: ModelConfig) -> nn.Module:
    """Layers of the residual network; ``channels`` are those of the stem and of each stage.

    Raises:
        ConfigError: the input is not an image, or is too small; or depths do not fit the channels.
    """
    if len(config.input_shape) != 3:
        raise ConfigError(
            f"input_shape of 'resnet' is {config.input_shape}; expected (C, H, W). Use model 'mlp'"
        )
    refuse_ignored("resnet", config, ("kernel", "init"))
    if len(config.channels) < 2 or len(config.depths) != len(config.channels) - 1:
        raise ConfigError(
            f"depths is {config.depths} and channels {config.channels}; expected the channels of the stem "
            f"and of each stage, and a depth for each stage. Use model 'biril' or 'biril_xs' for their plans"
        )
    smallest = 2 ** (len(config.depths) - 1)
    if min(config.input_shape[1:]) < smallest:
        raise ConfigError(
            f"input_shape of 'resnet' is {config.input_shape}; expected at least {smallest}x{smallest}, "
            f"which {len(config.depths)} stages halve down to 1. Use larger pictures, or fewer stages"
        )
    return ResNet(config)


def biril(config: ModelConfig) -> nn.Module:
    """The published network at full size."""
    return resnet(with_plan("biril", config, FULL, "resnet"))


def biril_xs(config: ModelConfig) -> nn.Module:
    """The same with few channels and one block a stage, for a CPU."""
    return resnet(with_plan("biril_xs", config, SMALL, "resnet"))
