"""Convolutions whose types nir 1.0.8 can infer, and the way back.

nir 1.0.8 infers the output of a convolution as if it had one group and a square kernel (``nir/ir/conv.py``
takes ``weight.shape[1]`` for the input channels and ``weight.shape[2]`` for both kernel sides), so a
grouped or oblong one fails its type check. :func:`typed` writes the same map with zeros: between the
groups, and around the kernel. Uneven zeros shift the window by more padding on both sides, which can
leave rows and columns at the end; a second convolution with one tap cuts them off. :func:`restored` finds
the original by the metadata that :func:`typed` leaves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import Shape
from biril_nm.export.nir_nodes.groups import one_group
from biril_nm.export.nir_nodes.linear_maps import Convolution

__all__ = ["restored", "typed"]

Nodes = dict[str, Any]
Edges = list[tuple[str, str]]
CROP = "crop"


def typed(nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
    """Rewrite every convolution that nir would get wrong; ``conv`` may become ``conv``, ``conv.crop``."""
    out: Nodes = {}
    ends: dict[str, str] = {}
    for name, node in nodes.items():
        if isinstance(node, nir.Conv1d) and node.groups > 1:
            out[name] = _replaced(node, weight=one_group(node.weight, int(node.groups)), groups=1)
        elif isinstance(node, nir.Conv2d):
            parts = _typed_conv2d(node)
            out[name] = parts[0]
            if len(parts) > 1:
                ends[name] = f"{name}.{CROP}"
                out[ends[name]] = parts[1]
        else:
            out[name] = node
    moved = [(ends.get(a, a), b) for a, b in edges]
    return out, moved + list(ends.items())


def _replaced(node: Any, **changes: Any) -> Any:
    """``dataclasses.replace`` that computes the types again."""
    return replace(node, metadata={**node.metadata, **changes.pop("metadata", {})}, **changes)


def _typed_conv2d(node: Any) -> list[Any]:
    weight, groups = node.weight, int(node.groups)
    changes: dict[str, Any] = {}
    if groups > 1:
        weight = one_group(weight, groups)
        changes = {"weight": weight, "groups": 1, "metadata": {"groups": groups}}
    kernel = weight.shape[2:]
    if kernel[0] == kernel[1]:
        return [_replaced(node, **changes) if changes else node]
    side, before, excess = _square(node, kernel)
    square = np.zeros((*weight.shape[:2], side, side))
    square[:, :, before[0] : before[0] + kernel[0], before[1] : before[1] + kernel[1]] = weight
    padding = tuple(p + d * n for p, d, n in zip(node.padding, node.dilation, before))
    facts = {
        "groups": groups,
        "kernel": np.array(kernel),
        "zeros_before": np.array(before),
        "padding": np.array(node.padding),
    }
    first = _replaced(node, weight=square, groups=1, padding=padding, metadata=facts)
    if excess == (0, 0):
        return [first]
    shape = first.output_type["output"]
    channels = int(shape[0])
    tap = np.zeros((channels, channels, 2, 2))
    tap[np.arange(channels), np.arange(channels), 0, 0] = 1.0
    return [
        first,
        nir.Conv2d(
            input_shape=(int(shape[1]), int(shape[2])),
            weight=tap,
            stride=(1, 1),
            padding=(0, 0),
            dilation=excess,
            groups=1,
            bias=np.zeros(channels),
            metadata={CROP: 1, "groups": channels},
        ),
    ]


def _square(node: Any, kernel: tuple[int, int]) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Side of the square kernel, zeros before the old one, and rows and columns too many.

    With ``z`` zeros in all and ``b`` of them before, padding ``p + d b`` keeps every window in place;
    the size grows by ``floor((a + d (2 b - z)) / s) - floor(a / s)``, ``a = n + 2 p - d (k - 1) - 1``.
    """
    reach = [
        n + 2 * p - d * (k - 1) - 1
        for n, p, d, k in zip(node.input_shape, node.padding, node.dilation, kernel)
    ]

    def options(side: int, axis: int) -> dict[int, int]:
        """Excess -> fewest zeros before."""
        zeros, d, s = side - kernel[axis], int(node.dilation[axis]), int(node.stride[axis])
        found: dict[int, int] = {}
        for before in range(zeros + 1):
            excess = (reach[axis] + d * (2 * before - zeros)) // s - reach[axis] // s
            found.setdefault(excess, before)
        return found

    largest = max(kernel)
    for side in range(largest, largest + 2):
        rows, columns = options(side, 0), options(side, 1)
        if 0 in rows and 0 in columns:
            return side, (rows[0], columns[0]), (0, 0)
    side = largest
    while True:
        rows, columns = options(side, 0), options(side, 1)
        over = [sorted(e for e in found if e > 0) for found in (rows, columns)]
        if over[0] and over[1]:
            y, x = over[0][0], over[1][0]
            return side, (rows[y], columns[x]), (y, x)
        side += 1


def restored(graph: nir.NIRGraph) -> nir.NIRGraph:
    """Undo :func:`typed` where the metadata ask for it and the zeros are still there."""
    nodes, edges = dict(graph.nodes), list(graph.edges)
    for name, node in graph.nodes.items():
        facts = getattr(node, "metadata", None) or {}
        if not isinstance(node, nir.Conv2d) or "zeros_before" not in facts:
            continue
        original = _original(node, facts)
        crop = f"{name}.{CROP}"
        cropped = crop in nodes and CROP in (nodes[crop].metadata or {})
        after = [b for a, b in edges if a == name]
        if original is None or (cropped and (after != [crop] or not _only_crops(nodes[crop]))):
            continue
        cut = np.broadcast_to(nodes[crop].dilation if cropped else 0, 2)
        if not np.array_equal(np.subtract(_size(node), _size(original)), cut):
            continue
        nodes[name] = original
        if cropped:
            del nodes[crop]
            edges = [(name if a == crop else a, b) for a, b in edges if b != crop]
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata or {}), type_check=False)


def _original(node: Any, facts: Any) -> Any:
    """The convolution without its zeros; None where the file has been changed since."""
    try:
        kernel, before, padding = (
            np.asarray(facts[key]).astype(np.int64) for key in ("kernel", "zeros_before", "padding")
        )
        y, x = before
        np.asarray(node.input_shape).astype(np.int64)  # the size is compared later
        moved = np.broadcast_to(node.padding, 2) == padding + node.dilation * before
    except (KeyError, ValueError, TypeError):
        return None
    inner = node.weight[:, :, y : y + kernel[0], x : x + kernel[1]]
    whole = np.count_nonzero(inner) == np.count_nonzero(node.weight)
    if not (whole and np.all(moved) and np.array_equal(inner.shape[2:], kernel)):
        return None
    return replace(node, weight=inner, padding=tuple(int(n) for n in padding))


def _size(node: Any) -> Shape:
    """(H, W) after a convolution, for any kernel."""
    shape = (node.weight.shape[1], *_pair(node.input_shape))
    stride, padding, dilation = _pair(node.stride), _pair(node.padding), _pair(node.dilation)
    return Convolution(node.weight, shape, stride, padding, dilation).out_shape[1:]


def _pair(value: Any) -> tuple[int, int]:
    y, x = np.broadcast_to(value, 2)
    return int(y), int(x)


def _only_crops(node: Any) -> bool:
    """Whether a convolution of one tap does nothing but cut rows and columns off at the end."""
    weight = node.weight
    return bool(
        weight.ndim == 4
        and np.array_equal(weight[:, :, 0, 0], np.eye(len(weight)))
        and np.count_nonzero(weight) == len(weight)
        and not np.any(node.bias)
        and np.all(np.asarray(node.stride) == 1)
        and not np.any(node.padding)
    )
