"""Architectures by name. To add one: one file and one entry in :data:`MODELS`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.models.config import ModelConfig
from biril_nm.models.convnet import convnet
from biril_nm.models.mlp import mlp
from biril_nm.models.net import BirilNet

__all__ = ["MODELS", "build_model"]

MODELS: dict[str, Callable[[ModelConfig], nn.Sequential]] = {"convnet": convnet, "mlp": mlp}


def build_model(name: str, config: ModelConfig | None = None, seed: int = 0) -> BirilNet:
    """A freshly initialised network; equal arguments give equal weights.

    Raises:
        ConfigError: unknown architecture, or a config that does not fit it.
    """
    if name not in MODELS:
        raise ConfigError(f"model '{name}' is unknown; known: {', '.join(MODELS)}")
    settings = config or ModelConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BirilNet(name, settings, MODELS[name](settings))
