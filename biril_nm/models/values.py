"""Whether the parameters of a module have values."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from biril_nm.errors import ConfigError

__all__ = ["check_values"]


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
