"""Architectures by name. To add one: one file and one entry in :data:`MODELS`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from biril_nm.arguments import Seed, checked, unknown_name
from biril_nm.errors import ConfigError
from biril_nm.models.braincog import (
    braincog_cifar,
    braincog_convnet,
    braincog_dvs,
    braincog_mnist,
    braincog_resnet18,
)
from biril_nm.models.config import ModelConfig
from biril_nm.models.convnet import convnet, vgg
from biril_nm.models.mlp import mlp
from biril_nm.models.net import BirilNet
from biril_nm.models.plans import refuse_ignored_by_neurons
from biril_nm.models.recurrent import recurrent
from biril_nm.models.resnet import biril, biril_xs, resnet

__all__ = ["MODELS", "build_model"]

MAX_PARAMETERS = 1 << 28  # twice the synapses of a Loihi 2 chip; 1 GiB of float32

# Name of an architecture -> what builds its layers from a configuration.
MODELS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "convnet": convnet,
    "vgg": vgg,
    "mlp": mlp,
    "recurrent": recurrent,
    "resnet": resnet,
    "biril": biril,
    "biril_xs": biril_xs,
    "braincog_convnet": braincog_convnet,
    "braincog_cifar": braincog_cifar,
    "braincog_dvs": braincog_dvs,
    "braincog_mnist": braincog_mnist,
    "braincog_resnet18": braincog_resnet18,
}


@checked
def build_model(name: str, config: ModelConfig | None = None, seed: Seed = 0) -> BirilNet:
    """A freshly initialised network; equal arguments give equal weights.

    Raises:
        ConfigError: unknown architecture; or a config that does not fit it, is too large, or has a setting
            that it has no use for.
    """
    if name not in MODELS:
        raise ConfigError(unknown_name("model", name, MODELS))
    settings = config or ModelConfig()
    _check_size(name, settings)
    refuse_ignored_by_neurons(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BirilNet(name, settings, MODELS[name](settings))


def _check_size(name: str, settings: ModelConfig) -> None:
    """Count the parameters without taking memory for them."""
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in MODELS[name](settings).parameters())
    except RuntimeError:  # more than 64 bits can count
        size = 1 << 63
    if size > MAX_PARAMETERS:
        raise ConfigError(
            f"model '{name}' would have {size:,} parameters or more; expected at most {MAX_PARAMETERS:,}. "
            f"Make its layers smaller: {settings}"
        )
