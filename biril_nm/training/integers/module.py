"""A part of a QuantizedNet: a module whose integers no cast of torch rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from biril_nm.errors import ConfigError

__all__ = ["IntegerModule"]

LATENTS = (torch.float32, torch.float64)


class IntegerModule(nn.Module):
    """A module whose buffers are integers in floats that hold them, and whose parameters are rounded.

    :meth:`torch.nn.Module.to` and its like move buffers, and change types of parameters alone.

    Raises:
        ConfigError: another type than float32 and float64 for the parameters.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        buffers = {id(buffer) for buffer in self._buffers.values()}

        def applied(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            if found.dtype == tensor.dtype:
                return found
            if id(tensor) in buffers:
                return tensor.to(found.device)
            if found.dtype not in LATENTS:
                raise ConfigError(
                    f"the parameters of a QuantizedNet are to become {found.dtype}; expected float32 or "
                    f"float64, which are rounded to integers. Give .to() a device alone"
                )
            return found

        return super()._apply(applied, *args, **kwargs)  # type: ignore[no-untyped-call]
