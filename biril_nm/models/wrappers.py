"""Wrappers around a network that change nothing of what it computes."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from biril_nm.models.own import OwnNet

__all__ = ["module_of", "unwrapped"]


def unwrapped(module: Any) -> Any:
    """The network inside ``torch.compile``, DataParallel, DistributedDataParallel and AveragedModel."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
    inner = getattr(module, "_orig_mod", None) if isinstance(module, nn.Module) else None
    if inner is None and isinstance(module, wrappers):
        inner = module.module
    return module if inner is None else unwrapped(inner)


def module_of(net: Any) -> Any:
    """The user's module itself, out of an OwnNet as well."""
    inner = unwrapped(net)
    return module_of(inner.module) if isinstance(inner, OwnNet) else inner
