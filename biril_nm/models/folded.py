"""Any network of one time step, run over all steps at once.

The step is a graph (:mod:`biril_nm.models.tracing`). Operations without memory see time folded into
the samples, ``(n_steps * batch, ...)``, and a value that is the same at every step only once; neurons
see all steps in a row. Equal to calling the network step by step, except BatchNorm in train mode: its
statistics are those of all steps together.

An operation that mixes samples would mix steps too. :func:`plan` finds those with random numbers, and
they run step by step.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import snntorch as snn
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from biril_nm.models.signals import EACH, FOLDED, ONCE, PLAIN, Rows, Signal, Size, tensors
from biril_nm.models.taps import CLOSED, WEIGHTED, current_taps, forget, without_history
from biril_nm.models.tracing import (
    StepGraph,
    UntraceableError,
    is_neuron,
    module_path,
    operation_of,
    readout_name,
)
from biril_nm.neurons.unroll import can_pool, can_unroll, unroll

__all__ = ["FoldedPlan", "StepsRun", "plan"]

SAMPLES, STEPS = 3, 2  # of the run that looks for operations that mix samples
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # sums over other sizes may round differently
NORMS = (nn.modules.batchnorm._NormBase,)
RANDOM = (nn.modules.dropout._DropoutNd,)
RANDOM_FUNCTIONS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
)


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
    """

    graph: StepGraph
    stepwise: frozenset[str]

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
        run = _Run(self, net, x)
        run.names, run.starts, run.keep_spikes = record, starts or {}, keep_spikes
        run.taps = current_taps()
        found = run.result()
        readout = readout_name(self.graph, net)
        return StepsRun(found.steps(run.size), run.membranes, run.recorded, readout)


def plan(graph: StepGraph, net: nn.Module, x: Tensor) -> FoldedPlan:
    """The plan for inputs such as ``x``, after a run on random numbers that leaves no mark.

    Raises:
        UntraceableError: the network cannot be run on these.
    """
    found = FoldedPlan(graph, frozenset())
    if x.shape[0] == 1:
        return found
    sample = x[:1, :1].expand(STEPS, SAMPLES, *x.shape[2:])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _unmoved_norms(net):
        if x.is_floating_point():
            steps = 1 if _is_constant(x) else STEPS
            noise = torch.rand((steps, *sample.shape[1:]), generator=generator)
            sample = noise.to(x.device, x.dtype).expand(sample.shape)
        probe = _Probe(found, net, sample)
        try:
            probe.result()
        except Exception as error:  # of the forward: the plain loop shows it to the user
            raise UntraceableError(f"the forward fails on {tuple(sample.shape[1:])}") from error
    return FoldedPlan(graph, frozenset(probe.mixing))


def _is_constant(x: Tensor) -> bool:
    return x.shape[0] == 1 or x.stride(0) == 0


@contextmanager
def _unmoved_norms(net: nn.Module) -> Any:
    """Layers that learn from what they see, or are random, in eval mode."""
    training = [m for m in net.modules() if isinstance(m, NORMS + RANDOM) and m.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Run:
    """One pass through the graph."""

    def __init__(self, plan: FoldedPlan, net: nn.Module, x: Tensor) -> None:
        self.plan, self.net, self.x = plan, net, x
        self.size = Size(x.shape[0], x.shape[1])
        self.values: dict[fx.Node, Signal] = {}
        self.names: Collection[str] = ()
        self.taps = CLOSED
        self.starts: Mapping[str, Tensor] = {}
        self.keep_spikes = True
        self.binary: set[Any] = set()  # neurons whose result is 0 and 1
        self.pooled: set[fx.Node] = set()  # poolings that the neurons before them have done
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
        found = self.values[wanted]
        return Signal(found.form, found.value[0]) if isinstance(found.value, tuple) else found

    def evaluate(self, node: fx.Node) -> Signal:
        if node.op == "placeholder":
            constant = _is_constant(self.x)
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
        name = module_path(node)
        signal = self.values[cast(fx.Node, node.args[0])]
        pool = self.pool_behind(node)
        fused = pool is not None and name not in self.names and signal.form != EACH
        fused = fused and self.taps is CLOSED and can_pool(neuron, signal.value)
        run = (self.size, self.needs_states(node), fused, self.starts.get(name))
        one_step = self.taps.one_step
        found = _calls(neuron, signal, self.size, one_step) if one_step else None
        spikes, self.membranes[name], rest = found or _advance(neuron, signal, *run)
        if fused and pool is not None:
            self.pooled.add(pool)
        elif can_unroll(cast(Any, neuron)) and not _gives_tuple(cast(Any, neuron)):
            self.binary.add(node)
        if name in self.names:
            self.recorded[name] = spikes.detach()
        if self.taps.spikes is not None:
            spikes = self.taps.spikes(name, spikes)
            rest = rest if spikes.requires_grad else without_history(rest)
        folded = spikes.flatten(0, 1)
        if not _gives_tuple(cast(Any, neuron)):
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
        forms = {self.values[n].form for n in node.all_input_nodes}
        if node.name in self.plan.stepwise or EACH in forms:
            return self.stepped(node, function)
        if FOLDED not in forms and not self.differs_by_step(function):
            value = self.call(node, function, lambda signal: signal.value)
            constant = self.size.constant(value) if ONCE in forms else Signal(PLAIN, value)
            return _with_rows(node, constant)
        with self.packed(node, function):
            value = self.call(node, function, lambda signal: signal.folded(self.size))
        if not tensors(value):
            value = self.call(node, function, lambda signal: signal.at(0, self.size))
            return _with_rows(node, Signal(PLAIN, value))
        if self.size.rows_fit(value, self.size.n_steps * self.size.batch):
            return Signal(FOLDED, value)
        return self.stepped(node, function)

    def packed(self, node: fx.Node, function: Callable[..., Any]) -> AbstractContextManager[Any]:
        """Weight layers keep spikes for their backward pass as bytes."""
        source = node.args[0] if node.args else None
        kept = self.keep_spikes and isinstance(function, WEIGHTED)
        if not kept or source not in self.binary:
            return nullcontext()
        spikes = self.values[cast(fx.Node, source)].value
        place, shape = spikes.data_ptr(), spikes.shape

        def pack(kept: Tensor) -> Tensor:
            alike = kept.data_ptr() == place and kept.shape == shape and kept.dtype == torch.float32
            return kept.to(torch.bool) if alike else kept

        def unpack(kept: Tensor) -> Tensor:
            return kept.to(torch.float32) if kept.dtype == torch.bool else kept

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)

    def differs_by_step(self, function: Callable[..., Any]) -> bool:
        """Whether a layer needs all steps of a constant value: for more than one value, or to be random."""
        if not isinstance(function, NORMS + RANDOM) or not function.training:
            return False
        return isinstance(function, RANDOM) or self.size.batch == 1

    def stepped(self, node: fx.Node, function: Callable[..., Any]) -> Signal:
        steps = range(self.size.n_steps)
        found = [self.call(node, function, lambda s, t=t: s.at(t, self.size)) for t in steps]
        return self.size.joined(found)

    def call(self, node: fx.Node, function: Callable[..., Any], take: Callable[..., Any]) -> Any:
        def value(argument: fx.Node) -> Any:
            return take(self.values[argument])

        arguments, named = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        if self.taps.weighted is None or not isinstance(function, WEIGHTED) or named:
            return function(*arguments, **named)
        (x,) = arguments
        return self.taps.weighted(function, x, function(x.detach()))


class _Probe(_Run):
    """A run on random numbers that compares each folded operation with the same step by step."""

    def __init__(self, plan: FoldedPlan, net: nn.Module, x: Tensor) -> None:
        super().__init__(plan, net, x)
        self.mixing: set[str] = set()
        self.generator = torch.Generator().manual_seed(1)

    def neurons(self, node: fx.Node, neuron: nn.Module) -> Signal:
        if type(neuron) in (snn.SLSTM, snn.SConv2dLSTM):  # their spikes have another shape
            return super().neurons(node, neuron)
        current = self.values[cast(fx.Node, node.args[0])].steps(self.size)
        noise = torch.rand(current.shape, generator=self.generator)
        spikes = (noise > 0.5).to(current).flatten(0, 1)
        return Signal(FOLDED, (spikes,) * 4 if _gives_tuple(cast(Any, neuron)) else spikes)

    def operation(self, node: fx.Node, function: Callable[..., Any]) -> Signal:
        kept = {n: self.values[n] for n in node.all_input_nodes}
        if isinstance(function, RANDOM) or function in RANDOM_FUNCTIONS:
            return super().operation(node, function)
        first = self.attempt(node, function, kept)
        self.values |= {n: _cloned(signal) for n, signal in kept.items()}
        stepped = self.stepped(node, function)
        self.values |= kept
        if first is None or not _agree(first, stepped, self.size):
            self.mixing.add(node.name)
            return stepped
        return first

    def attempt(
        self, node: fx.Node, function: Callable[..., Any], kept: Mapping[fx.Node, Signal]
    ) -> Signal | None:
        """All steps at once, without effect on the arguments."""
        self.values |= {n: _cloned(signal) for n, signal in kept.items()}
        try:
            return super().operation(node, function)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return None


def _cloned(signal: Signal) -> Signal:
    """A copy that an operation in place may change."""
    if isinstance(signal.value, Tensor):
        return Signal(signal.form, signal.value.clone())
    return signal


def _agree(found: Signal, expected: Signal, size: Size) -> bool:
    for t in range(size.n_steps):
        ours, theirs = tensors(found.at(t, size)), tensors(expected.at(t, size))
        if len(ours) != len(theirs):
            return False
        for a, b in zip(ours, theirs):
            if a.shape != b.shape or not torch.allclose(
                a.double(), b.double(), equal_nan=True, **CLOSE
            ):
                return False
    return True


def _with_rows(node: fx.Node, signal: Signal) -> Signal:
    """A shape, whose first number is known to be that of the samples."""
    value, further = signal.value, node.args[1:]
    if (node.target == "size" and further == () and not node.kwargs) or further == ("shape",):
        return Signal(PLAIN, (Rows(value[0]), *value[1:])) if tuple(value) else signal
    if node.target == "size" and (further == (0,) or node.kwargs == {"dim": 0}):
        return Signal(PLAIN, Rows(value))
    return signal


def _gives_tuple(neuron: Any) -> bool:
    return bool(neuron.output or not neuron.init_hidden)


def _advance(
    neuron: Any, current: Signal, size: Size, all_states: bool, pooled: bool, start: Tensor | None
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Spikes of all steps, the last membrane, and further results of all steps."""
    if can_unroll(neuron) and not (all_states and _gives_tuple(neuron)):
        spikes, mem = unroll(neuron, current.given_steps(size), size.n_steps, pooled, start)
        return spikes, mem, ()
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
    if not _gives_tuple(neuron):
        return torch.stack(found), neuron.mem, ()
    spikes, *states = (torch.stack(series) for series in zip(*found))
    return spikes, states[-1][-1], tuple(states)
