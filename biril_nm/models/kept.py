"""What a folded run keeps of its values for the backward pass: spikes as bytes, sums not at all."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, fx

from biril_nm.models.signals import FOLDED, Signal
from biril_nm.models.taps import WEIGHTED
from biril_nm.neurons.again import Again, added, from_bits

__all__ = ["Kept"]

ADD = (operator.add, operator.iadd, torch.add, "add", "add_")  # functions, and names of methods


class Kept:
    """Spikes and sums of a run, by the operation that gave them.

    Attributes:
        binary: neurons whose result is 0 and 1.
        again: how values are computed again from what other layers keep.
        enabled: whether spikes may be kept as bytes.
    """

    def __init__(self, values: Mapping[fx.Node, Signal], written: Collection[str]) -> None:
        self.values, self.written = values, written
        self.binary: set[Any] = set()
        self.again: dict[fx.Node, Again] = {}
        self.bits: dict[fx.Node, Tensor] = {}
        self.enabled = True

    def forget(self, node: fx.Node) -> None:
        """Drop what nobody needs any more."""
        self.again.pop(node, None)
        self.bits.pop(node, None)

    def bits_of(self, node: fx.Node) -> Tensor | None:
        """Spikes as bool, one tensor for all layers; None for other values and where nothing is kept."""
        if not (self.enabled and node in self.binary and torch.is_grad_enabled()):
            return None
        if node not in self.bits:
            self.bits[node] = self.values[node].value.detach().to(torch.bool)
        return self.bits[node]

    def note(self, node: fx.Node, again: Again) -> None:
        """Say how a value is computed again."""
        if self.enabled and torch.is_grad_enabled():
            self.again[node] = again

    def note_sum(self, node: fx.Node) -> None:
        """Find out how a sum of two values is computed again, if other layers keep what that needs."""
        if node.target not in ADD or len(node.args) != 2 or node.kwargs:
            return
        parts = [self._part(each) for each in node.args]
        if parts[0] is None or parts[1] is None:
            return
        a, b = (self.values[cast(fx.Node, each)].value for each in node.args)
        if a.shape == b.shape and a.dtype == b.dtype:
            self.note(node, added(parts[0], parts[1]))

    def _part(self, node: Any) -> Again | None:
        if not isinstance(node, fx.Node) or self.values[node].form != FOLDED:
            return None
        found = self.again.get(node)
        bits = None if found or node.name in self.written else self.bits_of(node)
        return found if bits is None else from_bits(bits, self.values[node].value.dtype)

    def packed(self, source: Any, function: Callable[..., Any]) -> AbstractContextManager[Any]:
        """Weight layers keep spikes for their backward pass as bytes."""
        if not (isinstance(function, WEIGHTED) and source in self.binary):
            return nullcontext()
        spikes = self.values[source].value
        bits = self.bits_of(source) if spikes.dtype == torch.float32 else None
        if bits is None:
            return nullcontext()
        place, shape = spikes.data_ptr(), spikes.shape  # a hook that holds values is never freed

        def pack(kept: Tensor) -> Tensor:
            alike = kept.data_ptr() == place and kept.shape == shape and kept.dtype == torch.float32
            return bits if alike else kept

        def unpack(kept: Tensor) -> Tensor:
            return kept.to(torch.float32) if kept.dtype == torch.bool else kept

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
