"""Whether the parameters of a module have values, of the type that training computes with."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from biril_nm.errors import ConfigError

__all__ = ["check_type", "check_values"]


def check_values(module: nn.Module, purpose: str) -> None:
    """Refuse parameters and buffers without values, before they are used for ``purpose``.

    Raises:
        ConfigError: lazy layers that no sample has gone through, or tensors on meta.
    """
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value) or value.is_meta:
            raise ConfigError(
                f"'{name}' has no values yet ({'lazy' if is_lazy(value) else 'meta device'}); expected "
                f"weights. Run the network once on a sample, or load its weights, before {purpose}"
            )


def check_type(net: nn.Module, name: str) -> None:
    """Refuse parameters of another type than float32, in which inputs and states are.

    Raises:
        ConfigError: a network in double or half precision.
    """
    types = {p.dtype for p in net.parameters() if p.is_floating_point()} - {torch.float32}
    if types:
        raise ConfigError(
            f"{name} has parameters of type {', '.join(sorted(map(str, types)))}; expected torch.float32. "
            f"Call net.float(); layers compute in bfloat16 by precision='bfloat16' of TrainConfig"
        )
