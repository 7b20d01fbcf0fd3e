"""Chain: assembles the named layers that all architectures share."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from biril_nm.models.config import ModelConfig
from biril_nm.neurons import make_neuron

__all__ = ["Chain", "neurons_of", "summing_readout"]

READOUT = "if"


def neurons_of(config: ModelConfig) -> nn.Module:
    """A neuron layer of the configuration's kind."""
    with torch.device("cpu"):  # snnTorch reads its constants when made: no meta tensors
        layer: nn.Module = make_neuron(
            config.neuron, config.beta, config.threshold, config.surrogate, config.reset
        )
    return layer


def summing_readout(config: ModelConfig) -> nn.Module:
    """Integrate-and-fire neurons of threshold 1 whose spikes and last membrane add up to their input."""
    with torch.device("cpu"):
        layer: nn.Module = make_neuron(READOUT, 1.0, 1.0, config.surrogate, "subtract")
    return layer


SERIES = 2  # dimensions of (C, L)


class Chain:
    """Collects layers under stable names: conv1 bn1 if1 pool1 conv2 ... flatten fc1 ... if_out.

    Attributes:
        shape: shape of one sample after the layers so far.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.shape = config.input_shape
        self._layers: OrderedDict[str, nn.Module] = OrderedDict()
        self._counts: dict[str, int] = {}

    def _add(self, kind: str, layer: nn.Module, name: str = "") -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._layers[name or f"{kind}{self._counts[kind]}"] = layer

    def _initialise(self, layer: nn.Conv1d | nn.Conv2d | nn.Linear) -> None:
        if self.config.init == "kaiming":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def conv(self, channels: int) -> None:
        """Convolution of stride 1 that keeps the size, 1-D of series, [BatchNorm], neurons."""
        use_bias = self.config.bias and not self.config.batch_norm
        kernel, series = self.config.kernel, len(self.shape) == SERIES
        kind, norm = (nn.Conv1d, nn.BatchNorm1d) if series else (nn.Conv2d, nn.BatchNorm2d)
        layer = kind(self.shape[0], channels, kernel, padding=kernel // 2, bias=use_bias)
        self._initialise(layer)
        self._add("conv", layer)
        self.shape = (channels, *self.shape[1:])
        if self.config.batch_norm:
            self._add("bn", norm(channels))
        self.neurons()

    def linear(self, features: int, norm: bool = True) -> None:
        """Fully connected layer, [BatchNorm], neurons."""
        norm = norm and self.config.batch_norm
        use_bias = self.config.bias and not norm
        layer = nn.Linear(self.shape[0], features, bias=use_bias)
        self._initialise(layer)
        self._add("fc", layer)
        self.shape = (features,)
        if norm:
            self._add("bn", nn.BatchNorm1d(features))
        self.neurons()

    def pool(self) -> None:
        """Average pooling 2x2, of series by 2; odd sizes drop the last row or column."""
        series = len(self.shape) == SERIES
        self._add("pool", nn.AvgPool1d(2) if series else nn.AvgPool2d(2))
        self.shape = (self.shape[0], *(n // 2 for n in self.shape[1:]))

    def pool_all(self) -> None:
        """Average over the picture."""
        self._add("pool", nn.AvgPool2d((self.shape[1], self.shape[2])))
        self.shape = (self.shape[0], 1, 1)

    def dropout(self, share: float) -> None:
        """Dropout, which training alone has."""
        self._add("dropout", nn.Dropout(share))

    def flatten(self) -> None:
        """(C, H, W) to features."""
        if len(self.shape) > 1:
            size = 1
            for n in self.shape:
                size *= n
            self._add("flatten", nn.Flatten(), name="flatten")
            self.shape = (size,)

    def readout(self) -> None:
        """Fully connected layer and the spiking readout, one neuron per class."""
        self._classes()
        self.neurons(name=f"{self.config.neuron}_out")

    def summing_readout(self) -> None:
        """Fully connected layer and neurons whose score is its sum over the steps."""
        self._classes()
        self._add(READOUT, summing_readout(self.config), f"{READOUT}_out")

    def _classes(self) -> None:
        self._add("fc", nn.Linear(self.shape[0], self.config.n_classes, bias=self.config.bias))
        self.shape = (self.config.n_classes,)

    def neurons(self, name: str = "") -> None:
        """A neuron layer of the config's kind."""
        self._add(self.config.neuron, neurons_of(self.config), name)

    def layers(self) -> nn.Sequential:
        """All layers so far."""
        return nn.Sequential(self._layers)
