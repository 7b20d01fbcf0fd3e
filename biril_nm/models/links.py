"""Links of a step graph: each weight layer with the populations that it joins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, fx, nn

from biril_nm.models.tracer import is_neuron, writes
from biril_nm.models.tracing import StepGraph, module_path, operation_of

__all__ = ["INPUT", "Link", "find_links"]

INPUT = "input"
WEIGHT_LAYERS = (nn.Conv2d, nn.Linear)
NO_VALUES = ("size", "dim", "shape", "ndim", "dtype", "device")  # of a tensor


@dataclass(frozen=True)
class Link:
    """A weight layer between two populations.

    A layer that takes the sum of several populations, or feeds several, has a link for each pair.

    Attributes:
        name: name of the weight layer in its network.
        layer: the Conv2d or Linear.
        pre: name of the neurons before it, or ``"input"``.
        between: memoryless layers from the pre-neurons to the weight layer (pooling, flatten).
        post: name of the neurons after it.
    """

    name: str
    layer: nn.Module
    pre: str
    between: tuple[nn.Module, ...]
    post: str

    @property
    def weight(self) -> nn.Parameter:
        """The kernel or weight matrix."""
        return cast(nn.Parameter, self.layer.weight)


class _Path(nn.Module):
    """Operations without memory that lead from one value to another, which stays as it is."""

    def __init__(self, operations: tuple[fx.Node, ...], start: fx.Node, net: nn.Module) -> None:
        super().__init__()
        self._operations, self._start, self._nets = operations, start, (net,)
        modules = dict(net.named_modules(remove_duplicate=False))
        self._changes = any(writes(n, modules.get(module_path(n))) for n in operations)

    def forward(self, x: Tensor) -> Any:
        values: dict[fx.Node, Any] = {self._start: x.clone() if self._changes else x}
        for node in self._operations:
            function = operation_of(node, self._nets[0])
            # Of values elsewhere a forward asks the number of samples, which is that of x.
            arguments = fx.map_arg((node.args, node.kwargs), lambda n: values.get(n, x))
            values[node] = function(*arguments[0], **arguments[1])
        return values[self._operations[-1]]


def _asks_shape(node: fx.Node) -> bool:
    """Whether the result says nothing of the values."""
    return node.target in NO_VALUES or node.args[1:2] in [(name,) for name in NO_VALUES]


def find_links(graph: StepGraph, net: nn.Module) -> tuple[Link, ...]:
    """All links, in the order of their weight layers."""
    return _Links(graph, net).found()


class _Links:
    def __init__(self, graph: StepGraph, net: nn.Module) -> None:
        self.graph, self.net = graph, net
        self.modules = dict(net.named_modules(remove_duplicate=False))

    def found(self) -> tuple[Link, ...]:
        """The links of all weight layers."""
        return tuple(
            Link(module_path(node), self.modules[module_path(node)], pre, between, post)
            for node in self.graph.needed
            if self.is_weight_layer(node)
            for pre, between in self.sources(node)
            for post in self.targets(node)
        )

    def is_weight_layer(self, node: fx.Node) -> bool:
        """Whether the operation is a Conv2d or Linear."""
        return node.op == "call_module" and isinstance(
            self.modules[module_path(node)], WEIGHT_LAYERS
        )

    def population(self, node: fx.Node) -> str:
        """Name of what spikes, "" for other operations."""
        if node.op == "placeholder":
            return INPUT
        called = node.op == "call_module" and is_neuron(self.modules[module_path(node)])
        return module_path(node) if called else ""

    def sources(self, weight: fx.Node) -> list[tuple[str, tuple[nn.Module, ...]]]:
        """Populations before a weight layer, and what lies between."""
        seen: set[fx.Node] = set()
        found: list[fx.Node] = []
        front = list(weight.all_input_nodes)
        while front:
            node = front.pop(0)
            if node in seen:
                continue
            seen.add(node)
            if self.population(node):
                found.append(node)
            elif not _asks_shape(node):
                front += node.all_input_nodes
        between = tuple(node for node in self.graph.needed if node in seen - set(found))
        return [(self.population(node), self.layers(between, node, found)) for node in found]

    def layers(
        self, between: tuple[fx.Node, ...], start: fx.Node, starts: Collection[fx.Node]
    ) -> tuple[nn.Module, ...]:
        """The operations as modules; none if they join several populations."""
        if not between or len(starts) > 1:
            return ()
        chain = all(
            node.op == "call_module"
            and node.args == (before,)
            and not writes(node, self.modules[module_path(node)])
            for before, node in zip((start, *between), between)
        )
        if chain:
            return tuple(self.modules[module_path(node)] for node in between)
        return (_Path(between, start, self.net),)

    def targets(self, weight: fx.Node) -> list[str]:
        """Populations behind a weight layer, with no other weight layer between."""
        seen: dict[fx.Node, None] = {}
        front = [user for user in weight.users if user in self.graph.needed]
        while front:
            node = front.pop(0)
            if node in seen or self.is_weight_layer(node):
                continue
            seen[node] = None
            if not self.population(node) and not _asks_shape(node):
                front += [user for user in node.users if user in self.graph.needed]
        return [self.population(node) for node in seen if self.population(node)]
