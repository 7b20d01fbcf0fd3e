"""Grouped convolutions written in one group, with zeros between the groups, and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["one_group", "regrouped"]


def one_group(weight: Any, groups: int) -> Any:
    """The same kernel (out, in/groups, ...) as (out, in, ...) with zeros between groups."""
    c_out, per_group = weight.shape[:2]
    full = np.zeros((c_out, per_group * groups, *weight.shape[2:]))
    for out in range(c_out):
        first = (out // (c_out // groups)) * per_group
        full[out, first : first + per_group] = weight[out]
    return full


def regrouped(weight: Any, groups: int) -> Any:
    """The kernel of :func:`one_group` without those zeros; None if it is not of that form."""
    if groups < 1 or weight.shape[0] % groups or weight.shape[1] % groups:
        return None
    per_out, per_in = weight.shape[0] // groups, weight.shape[1] // groups
    blocks = weight.reshape(groups, per_out, groups, per_in, *weight.shape[2:])
    own = blocks[np.arange(groups), :, np.arange(groups)]
    if np.count_nonzero(own) != np.count_nonzero(weight):
        return None
    return own.reshape(-1, per_in, *weight.shape[2:])
