"""Signals between layers as NIR nodes: chains of functions as one map, and which signals are spikes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
import torch

from biril_nm.arrays import FloatArray, Shape
from biril_nm.export.from_torch.effects import linear_effect, windows_effect
from biril_nm.export.from_torch.layers import layer_node
from biril_nm.export.from_torch.registry import layer_kind
from biril_nm.export.from_torch.replayed import Replayed
from biril_nm.export.from_torch.signals import Applied, Either, Expr, Scaled, Sum
from biril_nm.export.from_torch.wiring import Wiring
from biril_nm.export.nir_nodes.fixed_map import IN_SHAPE, FixedMap
from biril_nm.export.nir_nodes.linear_maps import as_matrix
from biril_nm.export.nir_nodes.neurons import LARGEST
from biril_nm.export.nir_nodes.stateless import STATELESS

__all__ = [
    "Chain",
    "chain_of",
    "copies",
    "either_node",
    "is_largest",
    "with_flat_inputs",
]

Nodes = dict[str, Any]
Edges = list[tuple[str, str]]


@dataclass(frozen=True)
class Chain:
    """Functions without weights of their own, one behind the other, of which some have no layer.

    Attributes:
        of: the signal in front of them.
        steps: what is done to it, in order.
        wiring: what their numbers mean.
    """

    of: Expr
    steps: tuple[Applied | Scaled, ...]
    wiring: Wiring

    @property
    def label(self) -> str:
        """Names of the functions, joined by ``+``."""
        named = [self.wiring.functions[s.function][0] for s in self.steps if isinstance(s, Applied)]
        return "+".join(named)

    def node(self) -> FixedMap:
        """What all of them do together."""
        functions = [_function(step, self.wiring) for step in self.steps]
        found = (self.wiring.functions[s.function][1] for s in self.steps if isinstance(s, Applied))
        batch = next((f.batch for f in found if isinstance(f, Replayed)), 1)

        def through(signal: torch.Tensor) -> torch.Tensor:
            for function in functions:
                signal = function(signal)
            return signal

        first: Any = self.steps[0]
        shape = first.in_shape if isinstance(first, Applied) else first.shape
        label = self.label
        if is_largest(first, self.wiring):
            return windows_effect(through, shape, batch, label)
        return linear_effect(through, shape, batch, label)


def is_largest(expr: Expr, wiring: Wiring) -> bool:
    """Whether an expression is the windows of a maximum."""
    if not isinstance(expr, Applied):
        return False
    label, function = wiring.functions[expr.function]
    kind = None if isinstance(function, Replayed) else layer_kind(function)
    return kind.largest if kind is not None else label.endswith(".windows")


def chain_of(expr: Applied, wiring: Wiring, known: Callable[[Expr], bool]) -> Chain | None:
    """The chain that ends in ``expr``; None if layers say all of it.

    ``known``: whether a signal has a node already, so that the chain begins behind it.
    """
    steps: list[Applied | Scaled] = []
    at: Expr = expr
    while isinstance(at, (Applied, Scaled)) and _joins(at, wiring) and not (steps and known(at)):
        if steps and (is_largest(at, wiring) or is_largest(steps[0], wiring)):
            break
        steps.append(at)
        at = at.of
    replayed = [isinstance(s, Applied) and _is_replayed(s, wiring) for s in steps]
    if not any(replayed):
        return None
    return Chain(at, tuple(reversed(steps)), wiring)


def _is_replayed(expr: Applied, wiring: Wiring) -> bool:
    return isinstance(wiring.functions[expr.function][1], Replayed)


def _joins(expr: Applied | Scaled, wiring: Wiring) -> bool:
    if isinstance(expr, Scaled):
        return True
    function = wiring.functions[expr.function][1]
    if isinstance(function, Replayed):
        return True
    kind = layer_kind(function)
    return kind is not None and kind.weightless


def _function(step: Applied | Scaled, wiring: Wiring) -> Callable[[torch.Tensor], torch.Tensor]:
    if isinstance(step, Scaled):
        factor = wiring.constants[step.constant].double()
        return lambda signal: signal * factor
    function = wiring.functions[step.function][1]
    return function if isinstance(function, Replayed) else copy.deepcopy(function).double()


def copies(
    expr: Expr, is_spikes: Callable[[Expr], Shape | None], wiring: Wiring
) -> FloatArray | None:
    """How many spikes each value of a signal is the sum of; None where it is not a plain sum of spikes.

    Args:
        expr: the signal.
        is_spikes: shape of a signal that is 0 or 1 by itself; None for others.
        wiring: what the numbers of functions mean.
    """
    shape = is_spikes(expr)
    if shape is not None:
        return np.ones(shape)
    if isinstance(expr, Sum):
        return _summed([copies(term, is_spikes, wiring) for term in expr.terms])
    if not isinstance(expr, Applied) or is_largest(expr, wiring):
        return None
    before = copies(expr.of, is_spikes, wiring)
    return None if before is None else _selected(expr, before, wiring)


def _selected(expr: Applied, before: FloatArray, wiring: Wiring) -> FloatArray | None:
    """The numbers behind a function that moves or drops values; None behind any other."""
    function = wiring.functions[expr.function][1]
    if isinstance(function, Replayed):
        node: Any = Chain(expr.of, (expr,), wiring).node()
    else:
        kind = layer_kind(function)
        node = None if kind is None else layer_node(kind, function, "", expr.in_shape)
    plain = STATELESS.get(type(node))
    if plain is None or np.any(getattr(node, "bias", 0)):
        return None
    matrix = as_matrix(plain.linear(node, "", expr.in_shape)).weight
    if np.any(np.diff(matrix.indptr) > 1) or np.any(matrix.data != 1.0):
        return None
    return np.asarray(matrix @ before.ravel()).reshape(expr.shape)


def _summed(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    known = [part for part in parts if part is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(parts) else None


def with_flat_inputs(nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
    """Put a Flatten in front of every map of more than one dimension, as matrices of NIR want it."""
    out: Nodes = {}
    before: dict[str, str] = {}
    for name, node in nodes.items():
        if not isinstance(node, FixedMap) or len(node.in_shape) < 2:
            out[name] = node
            continue
        before[name] = f"{name}.flatten"
        shape = {"input": np.array(node.in_shape)}
        out[before[name]] = nir.Flatten(input_type=shape, start_dim=0, end_dim=-1)
        out[name] = replace(node, in_shape=(int(np.prod(node.in_shape)),))
        out[name].metadata = {**node.metadata, IN_SHAPE: np.array(node.in_shape)}
    moved = [(a, before.get(b, b)) for a, b in edges]
    return out, moved + [(flat, name) for name, flat in before.items()]


def either_node(expr: Either) -> nir.Threshold:
    """Neurons without memory that spike where one spike or more arrives."""
    return nir.Threshold(threshold=np.full(expr.shape, 0.5), metadata={LARGEST: 1})
