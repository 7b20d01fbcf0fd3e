"""BatchNorm folding: a per-channel affine map disappears into the linear layer before it.

For ``y = g (W x + b) + h`` per output channel: ``W' = g W``, ``b' = g b + h``. The folded node
carries both names, joined by ``+``. Where no linear layer of its own stands before it (behind
pooling, at the input, behind an addition), it becomes a node itself: a convolution of size 1, or a
diagonal matrix, which says the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import FloatArray, Shape

__all__ = ["ChannelAffine", "fold_batchnorm"]

Nodes = dict[str, Any]
Edges = list[tuple[str, str]]
_LINEAR = (nir.Linear, nir.Affine, nir.Conv2d, nir.Conv1d)


@dataclass(eq=False)
class ChannelAffine(nir.NIRNode):  # type: ignore[misc]
    """``y = scale x + shift`` per channel: BatchNorm at inference. Never written to a file."""

    scale: FloatArray
    shift: FloatArray
    shape: Shape

    def __post_init__(self) -> None:
        """NIR nodes carry types; this one is replaced before they are used."""
        self.input_type = {"input": None}
        self.output_type = {"output": None}


def fold_batchnorm(nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
    """Fold every :class:`ChannelAffine` into its predecessor; inputs are not changed."""
    nodes, edges = dict(nodes), list(edges)
    for name in [n for n, node in nodes.items() if isinstance(node, ChannelAffine)]:
        before = [a for a, b in edges if b == name]
        alone = len(before) == 1 and sum(a == before[0] for a, _ in edges) == 1
        if not alone or not isinstance(nodes[before[0]], _LINEAR):
            nodes[name] = _standing(nodes[name])
            continue
        joined = f"{before[0]}+{name}"
        folded = _fold(nodes[before[0]], nodes[name])
        nodes = {
            (joined if key == before[0] else key): (folded if key == before[0] else node)
            for key, node in nodes.items()
            if key != name
        }
        renamed = {before[0]: joined, name: joined}
        edges = [
            (renamed.get(a, a), renamed.get(b, b)) for a, b in edges if (a, b) != (before[0], name)
        ]
    return nodes, edges


def _fold(layer: Any, norm: ChannelAffine) -> Any:
    gain = norm.scale.reshape(-1, *([1] * (layer.weight.ndim - 1)))
    weight = layer.weight * gain
    bias = norm.scale * getattr(layer, "bias", 0.0) + norm.shift
    if isinstance(layer, nir.Linear):
        return nir.Affine(weight=weight, bias=bias)
    return replace(layer, weight=weight, bias=bias)


def _standing(norm: ChannelAffine) -> Any:
    """The same map as a node of its own."""
    if len(norm.shape) == 1:
        return nir.Affine(weight=np.diag(norm.scale), bias=norm.shift)
    channels, size = norm.shape[0], norm.shape[1:]
    weight = norm.scale.reshape(channels, 1, *([1] * len(size)))
    common: dict[str, Any] = {"weight": weight, "groups": channels, "bias": norm.shift}
    if len(size) == 1:
        return nir.Conv1d(input_shape=size[0], stride=1, padding=0, dilation=1, **common)
    return nir.Conv2d(input_shape=size, stride=(1, 1), padding=(0, 0), dilation=(1, 1), **common)
