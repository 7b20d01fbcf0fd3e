"""From the wiring of one step to NIR nodes and edges: names, virtual nodes, recurrence, outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import Shape
from biril_nm.errors import UnsupportedNodeError, bullet_list
from biril_nm.export.from_torch.kinds import NeuronKind
from biril_nm.export.from_torch.layers import layer_node, one_to_one
from biril_nm.export.from_torch.maps import chain_of, copies, either_node, is_largest
from biril_nm.export.from_torch.maxima import only_spikes
from biril_nm.export.from_torch.module import objection
from biril_nm.export.from_torch.neurons import (
    UNREACHABLE,
    UNUSUAL,
    is_memoryless,
    neuron_node,
    never_spikes,
    recurrent_weight,
)
from biril_nm.export.from_torch.registry import layer_kind, neuron_kind
from biril_nm.export.from_torch.signals import (
    Applied,
    Either,
    Expr,
    InputStep,
    LayerOutput,
    Scaled,
    State,
    Sum,
    leaves,
)
from biril_nm.export.from_torch.wiring import Readout, Wiring

__all__ = ["GraphBuilder"]

Nodes = dict[str, Any]
Edges = list[tuple[str, str]]
ONE_STEP = "step"


class GraphBuilder:
    """Turns a :class:`Wiring` into nodes and edges; additions dissolve, since edges add up."""

    def __init__(self, wiring: Wiring, dt_s: float, arguments: Sequence[str]) -> None:
        self.wiring, self.dt_s = wiring, dt_s
        self.layers = wiring.layers
        self.nodes: Nodes = {}
        self.edges: Edges = []
        self.made: dict[Expr, str] = {}
        self.late: list[tuple[str, str]] = []  # (source, destination) across a step
        single = len(wiring.inputs) == 1
        self.input_names = {
            index: "input" if single else self._free(arguments[index]) for index in wiring.inputs
        }
        changed = [
            o.source for o in wiring.outputs if not isinstance(o.source, (LayerOutput, State))
        ]
        received = [
            leaf for source in (*wiring.sources.values(), *changed) for leaf in leaves(source)
        ]
        self.fed = {leaf.path for leaf in received if isinstance(leaf, LayerOutput)}
        self.read = {leaf.path for leaf in received if isinstance(leaf, State)}
        self.outputs = self._chosen_outputs()

    def build(self) -> tuple[Nodes, Edges]:
        """All nodes and edges, types not yet inferred.

        Raises:
            UnsupportedNodeError: a layer or the wiring has no NIR form.
        """
        for index, shape in self.wiring.inputs.items():
            self.nodes[self.input_names[index]] = nir.Input(input_type={"input": np.array(shape)})
        for path, source in self.wiring.sources.items():
            self._add_layer(path, source)
        for position, output in enumerate(self.outputs):
            single = len(self.outputs) == 1
            name = self._free("output" if single else f"output_{_path(output.source) or position}")
            metadata: dict[str, Any] = {}
            if output.how != ONE_STEP:
                metadata["readout"] = output.how
            if not single:
                metadata["position"] = position
            if output.over:
                metadata["over"] = output.over
            self.edges += [(a, name) for a in self._names(output.source, name)]
            shape = self._shape(output.source)
            self.nodes[name] = nir.Output(
                output_type={"output": np.array(shape)}, metadata=metadata
            )
        self._settle_late()
        twice = sorted({f"{a} -> {b}" for a, b in self.edges if self.edges.count((a, b)) > 1})
        if twice:
            raise UnsupportedNodeError(
                f"a signal is added to itself ({', '.join(twice)}); expected different ones, since NIR edges "
                f"cannot say that. Scale the weights instead"
            )
        return self.nodes, self.edges

    # --- layers -------------------------------------------------------------------------------

    def _spiking(self, path: str) -> bool:
        """False if only the membrane of a layer without reset, or that never spikes, is read."""
        layer: Any = self.layers[path]
        if path in self.fed:
            return True
        returned = {leaf for out in self.wiring.outputs for leaf in leaves(out.source)}
        if any(isinstance(leaf, LayerOutput) and leaf.path == path for leaf in returned):
            return not never_spikes(layer, UNREACHABLE)
        return not (never_spikes(layer, UNUSUAL) or layer.reset_mechanism == "none")

    def _add_layer(self, path: str, source: Expr) -> None:
        layer = self.layers[path]
        in_shape, out_shape = self.wiring.shapes[path]
        kind = neuron_kind(layer)
        if kind is not None and isinstance(source, Either) and self._exchanges(path, source):
            self._add_exchanged(path, kind, source)
            return
        if kind is not None:
            spiking = self._spiking(path)
            self.nodes[path] = neuron_node(kind, layer, path, out_shape, self.dt_s, spiking)
            self._add_loop(path, layer, out_shape)
        else:
            self.nodes[path] = self._stateless(layer, path, in_shape)
        self.edges += [(a, path) for a in self._names(source, path)]

    def _exchanges(self, path: str, source: Either) -> bool:
        """Whether neurons may stand in front of a maximum of their currents: those without memory."""
        pooled = is_largest(source.of, self.wiring) and not self._is_spikes(*only_spikes(source))
        alone = self._spiking(path) and path not in self.read
        return pooled and alone and is_memoryless(self.layers[path])

    def _add_exchanged(self, path: str, kind: NeuronKind, source: Either) -> None:
        """``max(x) > threshold`` where one of ``x > threshold``: neurons ``PATH.all``, and their OR."""
        windows: Any = source.of
        every = self._free(f"{path}.all")
        shape = windows.in_shape
        self.nodes[every] = neuron_node(kind, self.layers[path], path, shape, self.dt_s, True)
        self.edges += [(a, every) for a in self._names(windows.of, every)]
        behind = self._free(f"{path}.windows")
        self.nodes[behind] = self._applied(windows, behind)
        self.nodes[path] = either_node(source)
        self.edges += [(every, behind), (behind, path)]

    def _applied(self, expr: Applied, name: str) -> nir.NIRNode:
        chain = chain_of(expr, self.wiring, lambda _: False)
        layer = self.wiring.functions[expr.function][1]
        return self._stateless(layer, name, expr.in_shape) if chain is None else chain.node()

    @staticmethod
    def _stateless(layer: Any, name: str, in_shape: Shape) -> nir.NIRNode:
        kind = layer_kind(layer)
        if kind is None:
            raise UnsupportedNodeError(f"layer '{name}' ({type(layer).__name__}) has no NIR form")
        return layer_node(kind, layer, name, in_shape)

    def _add_loop(self, path: str, layer: Any, shape: Shape) -> None:
        """The recurrent weight of RLeaky and RSynaptic: one node, one step."""
        weight = recurrent_weight(layer)
        if weight is None:
            return
        name = f"{path}.recurrent"
        if hasattr(weight, "V"):
            node = one_to_one(weight, shape)
        elif layer_kind(weight) is not None and objection(weight) is None:
            node = self._stateless(weight, name, shape)
        else:
            raise UnsupportedNodeError(
                f"layer '{path}' ({type(layer).__name__}) has the loop {type(weight).__name__}; expected one "
                f"Linear, one Conv2d or all_to_all=False. Or write the loop out in forward"
            )
        node.metadata = {**node.metadata, "lag": 1}
        self.nodes[name] = node
        self.edges += [(path, name), (name, path)]

    # --- expressions --------------------------------------------------------------------------

    def _names(self, expr: Expr, consumer: str) -> list[str]:
        """Names of the nodes whose sum is ``expr``; makes virtual nodes where needed."""
        if isinstance(expr, Sum):
            return [name for term in expr.terms for name in self._names(term, consumer)]
        if isinstance(expr, InputStep):
            return self._now(self.input_names[expr.index], expr.step, consumer)
        if isinstance(expr, LayerOutput):
            return self._now(expr.path, expr.call, consumer)
        return [self._state(expr, consumer) if isinstance(expr, State) else self._virtual(expr)]

    def _now(self, source: str, step: int, consumer: str) -> list[str]:
        """The source, unless it is that of the last step, which is wired later."""
        if step < 0:
            self.late.append((source, consumer))
            return []
        return [source]

    def _state(self, expr: State, consumer: str) -> str:
        if expr.path in self.nodes and self._spiking(expr.path) and consumer not in self.nodes:
            return expr.path  # readout of v
        if self._spiking(expr.path) or expr.name != "mem":
            raise UnsupportedNodeError(
                f"'{consumer}' receives the state '{expr.name}' of '{expr.path}', which spikes; expected its "
                f"spikes, which NIR edges carry. Use its spikes"
            )
        return expr.path

    def _virtual(self, expr: Expr) -> str:
        """A node for a layer without weights, or a function between layers."""
        if expr in self.made:
            return self.made[expr]
        if isinstance(expr, Either):
            return self._either(expr)
        of: Any = expr
        chain = (
            chain_of(expr, self.wiring, self.made.__contains__)
            if isinstance(expr, Applied)
            else None
        )
        if chain is not None:
            name, of = self._free(chain.label), chain
            node: Any = chain.node()
        elif isinstance(expr, Applied):
            label, layer = self.wiring.functions[expr.function]
            own = label not in self.nodes and label in self.layers
            name = label if own else self._free(label)
            node = self._stateless(layer, name, expr.in_shape)
        elif isinstance(expr, Scaled):
            name = self._free("scale")
            factor = self.wiring.constants[expr.constant].double().numpy()
            node = nir.Scale(scale=np.array(np.broadcast_to(factor, expr.shape)))
        else:
            raise UnsupportedNodeError(
                f"{type(expr).__name__} has no NIR form; expected a layer or a sum"
            )
        self.made[expr] = name
        self.nodes[name] = node
        self.edges += [(a, name) for a in self._names(of.of, name)]
        return name

    def _either(self, expr: Either) -> str:
        """The largest of some spikes: neurons without memory."""
        if any(not self._is_spikes(part) for part in only_spikes(expr)):
            raise UnsupportedNodeError(
                f"'{expr.label}' takes the largest of currents (weighted sums, means); expected spikes, of "
                f"which the largest is 1 where one of them is 1. Move it behind the neuron, whose spikes it "
                f"then takes, use average pooling, or neurons without memory (beta=0) behind it"
            )
        own = expr.label not in self.nodes and expr.label in self.layers
        name = self.made[expr] = expr.label if own else self._free(expr.label)
        self.nodes[name] = either_node(expr)
        self.edges += [(a, name) for a in self._names(expr.of, name)]
        return name

    def _is_spikes(self, expr: Expr) -> bool:
        """Whether every value of a signal is one spike, or 0."""
        found = copies(expr, self._spikes_of, self.wiring)
        return found is not None and bool(np.all(found <= 1))

    def _spikes_of(self, expr: Expr) -> Shape | None:
        if isinstance(expr, LayerOutput):
            spikes = neuron_kind(self.layers[expr.path]) is not None and self._spiking(expr.path)
            return self.wiring.shapes[expr.path][1] if spikes else None
        return self._shape(expr) if isinstance(expr, (InputStep, Either)) else None

    def _free(self, name: str) -> str:
        taken = {*self.nodes, *self.layers}
        names = (name, *(f"{name}_{i}" for i in range(1, len(taken) + 2)))
        return next(n for n in names if n not in taken)

    def _shape(self, expr: Expr) -> Shape:
        if isinstance(expr, (LayerOutput, State)):
            return self.wiring.shapes[expr.path][1]
        if isinstance(expr, InputStep):
            return self.wiring.inputs[expr.index]
        if isinstance(expr, (Applied, Scaled, Either)):
            return expr.shape
        return self._shape(expr.terms[0]) if isinstance(expr, Sum) else ()

    # --- recurrence ---------------------------------------------------------------------------

    def _settle_late(self) -> None:
        """What crosses a step: a loop (``lag`` on the node that receives it) or a plain Delay."""
        forward = list(self.edges)
        for source, consumer in dict.fromkeys(self.late):
            node = self.nodes[consumer]
            shape = self._sent(source)
            if not self._reaches(consumer, source, forward):
                name = self._free(f"{consumer}.delay")
                self.nodes[name] = nir.Delay(delay=np.full(shape, self.dt_s))
                self.edges += [(source, name), (name, consumer)]
                continue
            alone = not any(b == consumer for _, b in self.edges)
            if alone and not isinstance(node, (nir.Output, *_NEURON_NODES)):
                node.metadata = {**node.metadata, "lag": 1}
                self.edges.append((source, consumer))
                continue
            name = self._free(f"{consumer}.feedback")
            self.nodes[name] = nir.Scale(scale=np.ones(shape), metadata={"lag": 1})
            self.edges += [(source, name), (name, consumer)]

    def _sent(self, source: str) -> Shape:
        """Shape of what a layer or an input sends."""
        inputs = {self.input_names[i]: shape for i, shape in self.wiring.inputs.items()}
        return inputs[source] if source in inputs else self.wiring.shapes[source][1]

    @staticmethod
    def _reaches(start: str, goal: str, edges: Edges) -> bool:
        seen, waiting = {start}, [start]
        while waiting:
            at = waiting.pop()
            if at == goal:
                return True
            fresh = {b for a, b in edges if a == at} - seen
            seen |= fresh
            waiting += fresh
        return False

    # --- outputs ------------------------------------------------------------------------------

    def _chosen_outputs(self) -> list[Readout]:
        """Spikes before membranes; a membrane counts where its layer is last or an integrator."""
        unique = list(dict.fromkeys(self.wiring.outputs))
        silent = {p for p, layer in self.layers.items() if neuron_kind(layer) is not None}
        silent = {p for p in silent & set(self.wiring.shapes) if not self._spiking(p)}
        signals = [
            o
            for o in unique
            if not isinstance(o.source, State)
            and not (isinstance(o.source, LayerOutput) and o.source.path in silent)
        ]
        sent = {o.source.path for o in signals if isinstance(o.source, LayerOutput)}
        chosen: dict[str, Readout] = {}
        for output in unique:
            state = output.source
            if not isinstance(state, State) or state.path in sent or state.name != "mem":
                continue
            if state.path in silent or state.path not in self.fed:
                chosen[state.path] = _membrane(state, output)
        for output in unique:  # a layer that never spikes is read by its membrane
            if isinstance(output.source, LayerOutput) and output.source.path in silent:
                path = output.source.path
                chosen[path] = _membrane(State(path, "mem", 0), output)
        outputs = [*signals, *chosen.values()]
        if not outputs:
            findings = sorted({str(_path(o.source)) for o in unique})
            raise UnsupportedNodeError(
                bullet_list(
                    "forward returns only states of layers that feed others; expected the last layer. Return "
                    "its spikes or its membrane:", findings,
                )
            )  # fmt: skip
        return outputs


_NEURON_NODES = (nir.IF, nir.LIF, nir.CubaLIF, nir.I, nir.LI, nir.CubaLI, nir.Threshold)


def _membrane(state: State, returned: Readout) -> Readout:
    """The membrane as the readout, which is that of the last step."""
    return Readout(state, "membrane", returned.how if returned.how in ("sum", "mean") else "")


def _path(expr: Expr) -> str | None:
    return expr.path if isinstance(expr, (LayerOutput, State)) else None
