"""What the operations of a step do beside their result: a trial of one step, one operation after the other.

In a folded run an operation is called for all steps at once, or once for a value that is the same at every
step. That is the same as a call per step only if the operation leaves the values of others alone. Tensors
count their changes, and storages tell which values share memory, so the trial sees what names do not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import snntorch as snn
import torch
from torch import Tensor, fx, nn

from biril_nm.models.draws import Draws
from biril_nm.models.signals import tensors
from biril_nm.models.tracer import UntraceableError, is_neuron
from biril_nm.models.tracing import StepGraph, operation_of
from biril_nm.neurons.unroll import LEAKY

__all__ = ["OTHER_SHAPES", "Effects", "effects", "random_spikes"]

OTHER_SHAPES = (
    snn.SLSTM,
    snn.SConv2dLSTM,
)  # neurons whose spikes have another shape than their input


@dataclass(frozen=True)
class Effects:
    """Names of operations.

    Attributes:
        writers: those that change an argument in place.
        written: those whose result is changed in place by a later one, or is such a change.
        random: those that draw random numbers.
    """

    writers: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    random: frozenset[str] = frozenset()


def effects(graph: StepGraph, net: nn.Module, x: Tensor) -> Effects:
    """What the operations of ``graph`` do to ``x``, one step ``(batch, ...)``, and to each other.

    Raises:
        UntraceableError: an operation changes in place the input, a parameter, a buffer, a state of neurons,
            or a value that is read later under another name.
    """
    trial = _Trial(graph, net, x.clone())
    with _unchanged(net):
        for node in graph.result.graph.nodes:
            if node.op != "output":
                trial.call(node)
    trial.refuse_what_is_read()
    writers, written = frozenset(n.name for n in trial.writes), set(trial.writes)
    for members in trial.writes.values():
        written |= members
    return Effects(writers, frozenset(n.name for n in written), frozenset(trial.random))


def random_spikes(neuron: Any, current: Tensor, generator: torch.Generator) -> Any:
    """What neurons might give for ``current``: spikes, and states if they return them."""
    noise = torch.rand(current.shape, generator=generator)
    spikes = (noise > 0.5).to(current)
    given = bool(neuron.output or not neuron.init_hidden)
    return tuple(spikes.clone() for _ in range(4)) if given else spikes


class _Trial:
    """One step in which values live on, so that no two of them share memory by chance."""

    def __init__(self, graph: StepGraph, net: nn.Module, x: Tensor) -> None:
        self.graph, self.net, self.x = graph, net, x
        self.values: dict[fx.Node, Any] = {}
        self.places: dict[fx.Node, set[int]] = {}  # storages of the value
        self.states: set[int] = set()  # storages that neurons keep for the next step
        self.writes: dict[fx.Node, set[fx.Node]] = {}  # to the values that have changed
        self.random: set[str] = set()
        self.draws = Draws(net)
        self.generator = torch.Generator().manual_seed(2)

    def call(self, node: fx.Node) -> None:
        """Call an operation, and note what it does."""
        arguments = fx.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        given = tensors([*arguments[0], *arguments[1].values()])
        before = [t._version for t in given]
        value = self.values[node] = self.result(node, *arguments)
        if self.draws.made():
            self.random.add(node.name)
            self.draws.note()
        self.places[node] = _places(value)
        changed = _places([t for t, version in zip(given, before) if t._version != version])
        if changed:
            if changed & self.states:
                raise UntraceableError(f"'{node.name}' changes a state of neurons in place")
            self.writes[node] = {
                n for n in self.values if n is not node and self.places[n] & changed
            }

    def result(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """What an operation gives; of attributes a copy."""
        if node.op == "placeholder":
            return self.x
        if node.op == "get_attr":
            constant = self.graph.constants.get(str(node.target))
            held = operation_of(node, self.net)() if constant is None else constant
            return held.to(self.x.device, copy=True) if isinstance(held, Tensor) else held
        operation: Any = operation_of(node, self.net)
        if not (node.op == "call_module" and is_neuron(operation)):
            return operation(*args, **kwargs)
        other = type(operation) in OTHER_SHAPES
        value = operation(*args) if other else random_spikes(operation, args[0], self.generator)
        self.states |= _places(_states(operation, value))
        return value

    def refuse_what_is_read(self) -> None:
        """Refuse changes that a later operation, a later step or a later run sees."""
        for node, members in self.writes.items():
            for member in members:
                if member.op in ("placeholder", "get_attr"):
                    raise UntraceableError(f"'{node.name}' changes '{member.target}' in place")
            later = iter(self.values)
            while next(later) is not node:
                pass
            read = any(n in self.graph.needed and members & set(n.all_input_nodes) for n in later)
            if read or self.graph.result in members:
                raise UntraceableError(f"'{node.name}' changes a value that has another name")


def _states(neuron: nn.Module, result: Any) -> Any:
    """What of the result of neurons is a state, which they keep for the next step."""
    if type(neuron) not in LEAKY:
        return result
    return result[1:] if isinstance(result, tuple) else ()


def _places(value: Any) -> set[int]:
    """Storages of tensors, which must live on: another takes the place of one that is gone."""
    return {t.untyped_storage()._cdata for t in tensors(value) if t.numel()}


@contextmanager
def _unchanged(net: nn.Module) -> Iterator[None]:
    """Refuse operations that change a buffer or a parameter, and put buffers back.

    Raises:
        UntraceableError: one has changed.
    """
    held = {name: value for name, value in net.named_buffers() if not _of_neuron(net, name)}
    kept = {name: value.detach().clone() for name, value in held.items()}
    versions = {name: value._version for name, value in net.named_parameters()}
    try:
        yield
    finally:
        changed = [name for name, value in held.items() if not _same(value, kept[name])]
        with torch.no_grad():
            for name in changed:
                held[name].copy_(kept[name])
    changed += [name for name, value in net.named_parameters() if value._version != versions[name]]
    if changed:
        raise UntraceableError(f"a step changes {', '.join(changed)}")


def _of_neuron(net: nn.Module, name: str) -> bool:
    return is_neuron(net.get_submodule(name.rpartition(".")[0]))


def _same(value: Tensor, kept: Tensor) -> bool:
    return torch.equal(value, kept) or torch.allclose(value, kept, rtol=0, atol=0, equal_nan=True)
