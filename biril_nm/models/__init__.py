"""Architectures by name, the network class, and its file format."""

from __future__ import annotations

import biril_nm._torch  # noqa: F401
from biril_nm.models.config import ModelConfig
from biril_nm.models.links import Link
from biril_nm.models.net import BirilNet
from biril_nm.models.own import OwnNet
from biril_nm.models.registry import MODELS, build_model
from biril_nm.models.saving import load, save
from biril_nm.models.spiking_net import NetOutput, SpikingNet, encode
from biril_nm.models.weights import load_weights, save_weights

__all__ = [
    "MODELS",
    "BirilNet",
    "Link",
    "ModelConfig",
    "NetOutput",
    "OwnNet",
    "SpikingNet",
    "build_model",
    "encode",
    "load",
    "load_weights",
    "save",
    "save_weights",
]
