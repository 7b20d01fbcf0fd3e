"""BatchNorm folding: a per-channel affine map disappears into the linear layer before it.

For ``y = g (W x + b) + h`` per output channel: ``W' = g W``, ``b' = g b + h``. The folded node
carries both names, joined by ``+``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import UnsupportedNodeError

__all__ = ["ChannelAffine", "fold_batchnorm"]

Nodes = dict[str, Any]
Edges = list[tuple[str, str]]


@dataclass(eq=False)
class ChannelAffine(nir.NIRNode):  # type: ignore[misc]
    """``y = scale x + shift`` per channel: BatchNorm at inference. Never written to a file."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def __post_init__(self) -> None:
        """NIR nodes carry types; this one is replaced before they are used."""
        self.input_type = {"input": None}
        self.output_type = {"output": None}


def fold_batchnorm(nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
    """Fold every :class:`ChannelAffine` into its predecessor; inputs are not changed.

    Raises:
        UnsupportedNodeError: the node before is no linear layer, or feeds others as well.
    """
    nodes, edges = dict(nodes), list(edges)
    for name in [n for n, node in nodes.items() if isinstance(node, ChannelAffine)]:
        before = [a for a, b in edges if b == name]
        if (
            len(before) != 1
            or not isinstance(nodes[before[0]], (nir.Linear, nir.Affine, nir.Conv2d, nir.Conv1d))
            or sum(a == before[0] for a, _ in edges) != 1
        ):
            kinds = ", ".join(f"'{a}' ({type(nodes[a]).__name__})" for a in before)
            raise UnsupportedNodeError(
                f"BatchNorm '{name}' follows {kinds or 'nothing'}; it can be folded only directly behind "
                f"one convolution or linear layer that feeds nothing else. Move it there"
            )
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
