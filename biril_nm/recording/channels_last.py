"""Arrays that the simulator keeps channels last, in memory and on disk, seen in torch order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["torch_view"]

Shape = tuple[int, ...]


def torch_view(array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """(..., internal positions) as (..., *torch shape), without a copy."""
    lead = array.shape[:-1]
    if len(shape) != 3:
        return array.reshape(*lead, *shape)
    channels, height, width = shape
    return np.moveaxis(array.reshape(*lead, height, width, channels), -1, -3)
