"""BrainCog's networks for images and frames of events: ``braincog_*``.

``braincog_convnet``: for each entry of ``channels`` a stage of 3x3 convolutions without bias - BatchNorm -
neurons, as often as ``depths`` says (twice where it is empty); average pooling 2x2 between stages; then the
average over the picture and the readout. ``braincog_cifar`` and ``braincog_dvs`` are its published sizes,
``braincog_mnist`` has two stages of one convolution and a hidden layer of 2048.

``braincog_resnet18`` has pre-activation blocks, ``x + conv(neurons(norm(conv(neurons(norm(x))))))``.
What goes around a block are sums, not spikes: no neuron can send them. The export leaves the sums out, which
is exact since they are linear, and gives each population that reads one its own copy of every convolution
that ends in it.
``resnet`` has blocks whose sums enter neurons.

The output of BrainCog is the mean over the steps of the last layer, without neurons. Here integrate-and-fire
neurons read it, which a spike resets by subtraction, so that ``n_spikes + mem / threshold``, the score of a
class, is the sum over the steps of the same layer, and all of it runs on the chip.

Source: model_zoo of BrainCog (arXiv 2207.08533).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from biril_nm.errors import ConfigError
from biril_nm.models.chain import Chain, neurons_of, summing_readout
from biril_nm.models.config import ModelConfig
from biril_nm.models.plans import refuse_ignored, with_plan

__all__ = [
    "PreBlock",
    "PreResNet",
    "braincog_cifar",
    "braincog_convnet",
    "braincog_dvs",
    "braincog_mnist",
    "braincog_resnet18",
]

CIFAR = {"channels": (256, 256, 512, 1024), "depths": (2, 2, 2, 2), "hidden": (), "kernel": 3}
DVS = {"channels": (128, 256, 256, 512, 512), "depths": (2, 1, 2, 1, 2), "hidden": (), "kernel": 3}
MNIST = {"channels": (128, 128), "hidden": (2048,), "kernel": 3}
RESNET18 = {"channels": (64, 128, 256, 512), "depths": (2, 2, 2, 2), "hidden": (), "kernel": 3}
DEPTH = 2  # convolutions of a stage
DROPOUT = 0.5


def braincog_convnet(config: ModelConfig) -> nn.Sequential:
    """Layers of a network of any size, without hidden layers behind the convolutions.

    Raises:
        ConfigError: the input is not an image, or is too small; or depths do not fit the channels.
    """
    config = with_plan("braincog_convnet", config, {"hidden": (), "kernel": 3}, "vgg")
    depths = config.depths or (DEPTH,) * len(config.channels)
    _check_image("braincog_convnet", config, len(config.channels) - 1)
    _check_depths("braincog_convnet", config, depths)
    chain = Chain(config)
    for i, (channels, depth) in enumerate(zip(config.channels, depths)):
        if i:
            chain.pool()
        for _ in range(depth):
            chain.conv(channels)
    chain.pool_all()
    chain.flatten()
    chain.summing_readout()
    return chain.layers()


def braincog_cifar(config: ModelConfig) -> nn.Sequential:
    """BrainCog's ``cifar_convnet``."""
    return braincog_convnet(with_plan("braincog_cifar", config, CIFAR, "braincog_convnet"))


def braincog_dvs(config: ModelConfig) -> nn.Sequential:
    """BrainCog's ``dvs_convnet``."""
    return braincog_convnet(with_plan("braincog_dvs", config, DVS, "braincog_convnet"))


def braincog_mnist(config: ModelConfig) -> nn.Sequential:
    """BrainCog's ``mnist_convnet``: neurons take the pooled spikes of the last stage, too."""
    config = with_plan("braincog_mnist", config, MNIST, "convnet")
    refuse_ignored("braincog_mnist", config, ("depths",))
    _check_image("braincog_mnist", config, len(config.channels))
    chain = Chain(config)
    for channels in config.channels:
        chain.conv(channels)
        chain.pool()
    chain.neurons()
    chain.flatten()
    chain.dropout(DROPOUT)
    for features in config.hidden:
        chain.linear(features, norm=False)
    chain.summing_readout()
    return chain.layers()


class PreBlock(nn.Module):
    """``x + conv2(neurons2(norm2(conv1(neurons1(norm1(x))))))``; a projection of x where shapes differ."""

    def __init__(self, config: ModelConfig, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.neurons1 = nn.BatchNorm2d(inputs), neurons_of(config)
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.norm2, self.neurons2 = nn.BatchNorm2d(outputs), neurons_of(config)
        self.conv2 = _conv(outputs, outputs, 3, 1)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            layers = OrderedDict[str, nn.Module](norm=nn.BatchNorm2d(inputs))
            layers["neurons"], layers["conv"] = (
                neurons_of(config),
                _conv(inputs, outputs, 1, stride),
            )
            self.around = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """One step: sums, no spikes."""
        inner = self.conv1(self.neurons1(self.norm1(x)))
        sums: Tensor = self.conv2(self.neurons2(self.norm2(inner))) + self.around(x)
        return sums


class PreResNet(nn.Module):
    """The residual network of one step."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        before, size = config.channels[0], config.input_shape[1:]
        self.stem = _conv(config.input_shape[0], before, 3, 1)
        for i, (channels, depth) in enumerate(zip(config.channels, config.depths), 1):
            for j in range(1, depth + 1):
                stride = 2 if j == 1 and i > 1 else 1
                self.add_module(f"stage{i}_{j}", PreBlock(config, before, channels, stride))
                size = tuple(-(-n // stride) for n in size)
                before = channels
        self.norm = nn.BatchNorm2d(before)
        self.pool = nn.AvgPool2d((size[0], size[1]))
        self.flatten = nn.Flatten()
        self.fc_out = nn.Linear(before, config.n_classes, bias=config.bias)
        self.neurons_out = summing_readout(config)

    def forward(self, x: Tensor) -> Tensor:
        """One step: spikes of the readout."""
        for layer in self.children():
            x = layer(x)
        return x


def braincog_resnet18(config: ModelConfig) -> nn.Module:
    """BrainCog's ``resnet18`` for small pictures, without pooling behind the stem.

    Raises:
        ConfigError: the input is not an image, or is too small; or it has sizes of its own or no BatchNorm.
    """
    config = with_plan("braincog_resnet18", config, RESNET18, "resnet")
    refuse_ignored("braincog_resnet18", config, ("init",))
    _check_image("braincog_resnet18", config, len(config.channels) - 1)
    if not config.batch_norm:
        raise ConfigError(
            "batch_norm of 'braincog_resnet18' is False; expected True: its sums grow from block to block. "
            "Use model 'resnet'"
        )
    return PreResNet(config)


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _check_image(name: str, config: ModelConfig, halvings: int) -> None:
    if len(config.input_shape) != 3:
        raise ConfigError(
            f"input_shape of '{name}' is {config.input_shape}; expected (C, H, W). Use model 'mlp'"
        )
    smallest = 2**halvings
    if min(config.input_shape[1:]) < smallest:
        raise ConfigError(
            f"input_shape of '{name}' is {config.input_shape}; expected at least {smallest}x{smallest}, "
            f"which the network halves down to 1. Use larger pictures, or model 'mlp'"
        )


def _check_depths(name: str, config: ModelConfig, depths: tuple[int, ...]) -> None:
    if not depths or len(depths) != len(config.channels):
        raise ConfigError(
            f"depths of '{name}' has {len(depths)} entries, and channels {len(config.channels)}; expected "
            f"one for each stage. Give as many, or leave depths out"
        )
