"""Any network of one time step, run over all steps at once.

The step is a graph (:mod:`biril_nm.models.tracing`). Operations without memory see time folded into
the samples, ``(n_steps * batch, ...)``, and a value that is the same at every step only once; neurons
see all steps in a row. Equal to calling the network step by step, except BatchNorm in train mode: its
statistics are those of all steps together.

An operation that mixes samples would mix steps too; those run step by step
(:mod:`biril_nm.models.probing` finds them).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from biril_nm.models import layout
from biril_nm.models.effects import Effects
from biril_nm.models.kept import Kept
from biril_nm.models.pieces import can_cut, convolve
from biril_nm.models.signals import (
    EACH,
    FOLDED,
    ONCE,
    PLAIN,
    Rows,
    Signal,
    Size,
    is_constant,
    mapped,
    tensors,
)
from biril_nm.models.taps import CLOSED, WEIGHTED, current_taps, forget, without_history
from biril_nm.models.tracing import (
    StepGraph,
    is_neuron,
    module_path,
    operation_of,
    readout_name,
)
from biril_nm.neurons.norms import can_normalise, normalise
from biril_nm.neurons.unroll import (
    LOOPS,
    can_join,
    can_pool,
    can_unroll,
    current_engine,
    unroll,
)

__all__ = ["NORMS", "RANDOM", "FoldedPlan", "Run", "StepsRun", "gives_tuple"]

NORMS = (nn.modules.batchnorm._NormBase,)
RANDOM = (nn.modules.dropout._DropoutNd,)


@dataclass
class StepsRun:
    """What a network gave in a run of all steps.

    Attributes:
        output: first result of the forward, ``(n_steps, batch, ...)``.
        membranes: neurons to their membrane after the last step.
        recorded: neurons to their spikes, ``(n_steps, batch, ...)``, without gradient.
        readout: name of the neurons whose spikes are the output, None if it is something else.
    """

    output: Tensor
    membranes: dict[str, Tensor] = field(default_factory=dict)
    recorded: dict[str, Tensor] = field(default_factory=dict)
    readout: str | None = None


@dataclass(frozen=True)
class FoldedPlan:
    """How to run a step graph.

    Attributes:
        graph: the step.
        stepwise: names of the operations that run step by step.
        plain: those whose result, of what is the same at every step, has no row for each sample.
        effects: what operations do beside their result.
    """

    graph: StepGraph
    stepwise: frozenset[str]
    effects: Effects = field(default_factory=Effects)
    plain: frozenset[str] = frozenset()

    def run(
        self,
        net: nn.Module,
        x: Tensor,
        record: Collection[str] = (),
        starts: Mapping[str, Tensor] | None = None,
        keep_spikes: bool = True,
    ) -> StepsRun:
        """Run all steps.

        Args:
            net: the network that the plan was made for.
            x: ``(n_steps, batch, ...)``.
            record: names of neurons.
            starts: membranes before the first step of neurons that :func:`can_unroll`; others are at rest.
            keep_spikes: keep spikes for the backward pass as bytes.
        """
        run = Run(self, net, x)
        run.names, run.starts, run.kept.enabled = record, starts or {}, keep_spikes
        run.taps = current_taps()
        aside = run.taps is CLOSED and not self.effects.writers
        run.last = aside and layout.pays(x)
        found = run.result()
        readout = readout_name(self.graph, net)
        return StepsRun(found.steps(run.size), run.membranes, run.recorded, readout)


class Run:
    """One pass through the graph."""

    def __init__(self, plan: FoldedPlan, net: nn.Module, x: Tensor) -> None:
        self.plan, self.net, self.x = plan, net, x
        self.size = Size(x.shape[0], x.shape[1])
        self.values: dict[fx.Node, Signal] = {}
        self.names: Collection[str] = ()
        self.taps = CLOSED
        self.starts: Mapping[str, Tensor] = {}
        self.kept = Kept(self.values, plan.effects.written)
        self.last = False  # leave channels of pictures last in memory
        self.pooled: set[fx.Node] = set()  # poolings that the neurons before them have done
        self.norms: dict[fx.Node, nn.Module] = {}  # those that the neurons behind them do
        self.membranes: dict[str, Tensor] = {}
        self.recorded: dict[str, Tensor] = {}

    def result(self) -> Signal:
        """The first result of the forward."""
        needed, wanted = self.plan.graph.needed, self.plan.graph.result
        left = {node: sum(user in needed for user in node.users) for node in needed}
        for node in needed:
            self.values[node] = self.evaluate(node)
            for before in node.all_input_nodes:  # free what nobody needs any more
                left[before] -= 1
                if not left[before] and before is not wanted:
                    del self.values[before]
                    self.kept.forget(before)
        found = self.values[wanted]
        return Signal(found.form, found.value[0]) if isinstance(found.value, tuple) else found

    def evaluate(self, node: fx.Node) -> Signal:
        """The value of a node, whose inputs have theirs."""
        if node.op == "placeholder":
            constant = is_constant(self.x)
            return Signal(ONCE, self.x[0]) if constant else Signal(FOLDED, self.x.flatten(0, 1))
        if node.op == "get_attr" and node.target in self.plan.graph.constants:
            return Signal(PLAIN, self.plan.graph.constants[str(node.target)].to(self.x.device))
        if node in self.pooled:
            return self.values[cast(fx.Node, node.args[0])]
        operation = operation_of(node, self.net)
        if isinstance(operation, nn.Module) and is_neuron(operation):
            return self.neurons(node, operation)
        return (
            Signal(PLAIN, operation()) if node.op == "get_attr" else self.operation(node, operation)
        )

    def neurons(self, node: fx.Node, neuron: nn.Module) -> Signal:
        """Spikes of all steps, and the states if the neurons return them."""
        name = module_path(node)
        source = cast(fx.Node, node.args[0])
        signal = self.values[source]
        pool = self.pool_behind(node)
        fused = pool is not None and name not in self.names and signal.form != EACH
        fused = fused and self.taps is CLOSED and can_pool(neuron, signal.value)
        again = self.kept.again.get(source) if signal.form == FOLDED else None
        further = (fused, self.starts.get(name), self.norms.get(source), self.last, again)
        run = (self.size, self.needs_states(node), further)
        one_step = self.taps.one_step
        found = _calls(neuron, signal, self.size, one_step) if one_step else None
        spikes, self.membranes[name], rest = found or _advance(neuron, signal, *run)
        if fused and pool is not None:
            self.pooled.add(pool)
        elif can_unroll(cast(Any, neuron)) and not gives_tuple(cast(Any, neuron)):
            self.kept.binary.add(node)
        if name in self.names:
            changed = node.name in self.plan.effects.written  # by an operation in place behind
            self.recorded[name] = spikes.detach().clone() if changed else spikes.detach()
        if self.taps.spikes is not None:
            spikes = self.taps.spikes(name, spikes)
            rest = rest if spikes.requires_grad else without_history(rest)
        folded = spikes.flatten(0, 1)
        if not gives_tuple(cast(Any, neuron)):
            return Signal(FOLDED, folded)
        return Signal(FOLDED, (folded, *(state.flatten(0, 1) for state in rest)))

    def pool_behind(self, node: fx.Node) -> fx.Node | None:
        """The average pooling over 2x2 that alone takes the result."""
        users = [user for user in node.users if user in self.plan.graph.needed]
        alone = (
            len(users) == 1 and users[0].op == "call_module" and node is not self.plan.graph.result
        )
        pool = operation_of(users[0], self.net) if alone else None
        if type(pool) is not nn.AvgPool2d or pool.divisor_override is not None:
            return None
        given = (pool.kernel_size, pool.stride, pool.padding)
        return users[0] if given in ((2, 2, 0), ((2, 2), (2, 2), (0, 0))) else None

    def needs_states(self, node: fx.Node) -> bool:
        """Whether an operation takes more than the spikes from a neuron that returns its states too."""
        return any(
            user in self.plan.graph.needed
            and not (user.target is operator.getitem and user.args[1] == 0)
            for user in node.users
        )

    def operation(self, node: fx.Node, function: Callable[..., Any]) -> Signal:
        """What an operation without memory gives."""
        each = any(self.values[n].form == EACH for n in node.all_input_nodes)
        whole = None if each or node.name in self.plan.stepwise else self.at_once(node, function)
        if whole is None:
            return self.stepped(node, function)
        if whole.form == FOLDED and any(self.neurons_of(user) for user in node.users):
            self.kept.note_sum(node)
        return whole

    def neurons_of(self, node: fx.Node) -> nn.Module | None:
        """The neurons that a node calls, None if it calls something else."""
        called = operation_of(node, self.net) if node.op == "call_module" else None
        return called if isinstance(called, nn.Module) and is_neuron(called) else None

    def at_once(self, node: fx.Node, function: Callable[..., Any]) -> Signal | None:
        """The same by one call for all steps; None if the result has not a row for each sample."""
        forms = {self.values[n].form for n in node.all_input_nodes}
        if self.joins(node, function):
            self.norms[node] = cast(nn.Module, function)
            return self.values[cast(fx.Node, node.args[0])]
        if FOLDED not in forms and not self.differs_by_step(node, function):
            value = self.call(node, function, lambda signal: signal.value)
            rows = ONCE in forms and node.name not in self.plan.plain
            return _with_rows(node, self.size.constant(value) if rows else Signal(PLAIN, value))
        value = self.in_loops(node, function)
        if value is None:
            with self.kept.packed(node.args[0] if node.args else None, function):
                value = self.call(node, function, lambda signal: signal.folded(self.size))
        if not tensors(value):
            value = self.call(node, function, lambda signal: signal.at(0, self.size))
            return _with_rows(node, Signal(PLAIN, value))
        fits = self.size.rows_fit(value, self.size.n_steps * self.size.batch)
        return Signal(FOLDED, value) if fits else None

    def layer_input(self, node: fx.Node, function: Callable[..., Any]) -> fx.Node | None:
        """What a layer is called with, None for other operations and where taps hold the layer."""
        source = node.args[0] if len(node.args) == 1 and not node.kwargs else None
        plain = isinstance(function, nn.Module) and self.taps.weighted is None
        return source if plain and isinstance(source, fx.Node) else None

    def in_loops(self, node: fx.Node, function: Callable[..., Any]) -> Tensor | None:
        """The result of a layer that has a faster way on the CPU, None for all others."""
        source = self.layer_input(node, function)
        if source is None or self.values[source].form != FOLDED:
            return None
        x, layer = self.values[source].value, cast(nn.Module, function)
        if can_cut(layer, x):
            return convolve(layer, x, self.kept.bits_of(source))
        if isinstance(layer, NORMS) and current_engine() in LOOPS and can_normalise(layer, x):
            found, again = normalise(layer, x)
            self.kept.note(node, again)
            return found
        return None

    def joins(self, node: fx.Node, function: Callable[..., Any]) -> bool:
        """Whether the neurons that alone take the result of a norm do its work."""
        source = self.layer_input(node, function)
        if source is None or not isinstance(function, NORMS) or self.taps is not CLOSED:
            return False
        signal = self.values[source]
        once = signal.form == ONCE and not self.differs_by_step(node, function)
        users = [user for user in node.users if user in self.plan.graph.needed]
        called = len(users) == 1 and users[0].op == "call_module"
        called = called and cast(fx.Node, node.args[0]).name not in self.plan.effects.written
        if not called or node is self.plan.graph.result or not (once or signal.form == FOLDED):
            return False
        neuron: Any = operation_of(users[0], self.net)
        if not is_neuron(neuron) or (gives_tuple(neuron) and self.needs_states(users[0])):
            return False
        return can_join(neuron, function, signal.value)

    def differs_by_step(self, node: fx.Node, function: Callable[..., Any]) -> bool:
        """Whether a layer needs all steps of a constant value: for more than one value, or to be random."""
        if node.name in self.plan.effects.random:
            return True
        if not isinstance(function, NORMS + RANDOM) or not function.training:
            return False
        return isinstance(function, RANDOM) or self.size.batch == 1

    def stepped(self, node: fx.Node, function: Callable[..., Any]) -> Signal:
        """The same, step by step."""
        changes = node.name in self.plan.effects.writers

        def at(t: int) -> Callable[[Signal], Any]:
            return lambda s: _copied(s.at(t, self.size)) if changes else s.at(t, self.size)

        found = [self.call(node, function, at(t)) for t in range(self.size.n_steps)]
        return self.size.joined(found)

    def call(self, node: fx.Node, function: Callable[..., Any], take: Callable[..., Any]) -> Any:
        """Call the function of a node with what ``take`` makes of its inputs."""
        keeps = not self.last or layout.takes_last(function)

        def value(argument: fx.Node) -> Any:
            found = take(self.values[argument])
            return found if keeps else layout.in_order(found)

        arguments, named = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        if self.taps.weighted is None or not isinstance(function, WEIGHTED) or named:
            return function(*arguments, **named)
        (x,) = arguments
        return self.taps.weighted(function, x, function(x.detach()))


def _copied(value: Any) -> Any:
    """A value that an operation in place may change."""
    return mapped(value, lambda x: x.clone() if isinstance(x, Tensor) else x)


def _with_rows(node: fx.Node, signal: Signal) -> Signal:
    """A shape, whose first number is known to be that of the samples."""
    value, further = signal.value, node.args[1:]
    if (node.target == "size" and further == () and not node.kwargs) or further == ("shape",):
        return Signal(PLAIN, (Rows(value[0]), *value[1:])) if tuple(value) else signal
    if node.target == "size" and (further == (0,) or node.kwargs == {"dim": 0}):
        return Signal(PLAIN, Rows(value))
    return signal


def gives_tuple(neuron: Any) -> bool:
    """Whether a neuron returns its states beside the spikes."""
    return bool(neuron.output or not neuron.init_hidden)


def _advance(
    neuron: Any,
    current: Signal,
    size: Size,
    all_states: bool,
    further: tuple[Any, ...],
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Spikes of all steps, the last membrane, and further results of all steps."""
    if can_unroll(neuron) and not (all_states and gives_tuple(neuron)):
        spikes, mem = unroll(neuron, current.given_steps(size), size.n_steps, *further)
        return spikes, mem, ()
    if further[1] is not None:
        neuron.mem = further[1]
    return _calls(neuron, current, size)


def _calls(
    neuron: Any, current: Signal, size: Size, one_step: bool = False
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """:func:`_advance` by a call for each step; ``one_step`` cuts each step from the one before."""
    found = []
    for step in current.steps(size):
        if one_step:
            forget(neuron)
        found.append(neuron(step))
    if not gives_tuple(neuron):
        return torch.stack(found), neuron.mem, ()
    spikes, *states = (torch.stack(series) for series in zip(*found))
    return spikes, states[-1][-1], tuple(states)
