"""What a network does in one time step, as a graph: torch.fx, with torch.nn modules and neurons as leaves.

A graph stands for every step only if nothing but snnTorch neurons keeps a value from one step to the
next. What cannot be traced, or keeps values elsewhere, raises :class:`UntraceableError`; such networks
run step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from biril_nm.models.draws import Draws
from biril_nm.models.nir_net import NirNet
from biril_nm.models.own_state import OwnState
from biril_nm.models.tracer import Tracer, UntraceableError, is_neuron, writes
from biril_nm.neurons.norms import HOOKS
from biril_nm.neurons.unroll import LEAKY

__all__ = [
    "StepGraph",
    "UntraceableError",
    "is_neuron",
    "module_path",
    "operation_of",
    "readout_name",
    "reset_neurons",
    "trace_step",
]

ROOT = "net"


def reset_neurons(net: nn.Module) -> None:
    """Put all snnTorch neurons of ``net`` to rest, and forget what loops carry."""
    for module in net.modules():
        if type(module) in LEAKY:  # takes the shape of its next input
            module.mem = torch.zeros(0, device=module.mem.device)
        elif is_neuron(module):
            cast(Any, module).reset_mem()
        elif isinstance(module, NirNet):
            module.before = {}


@dataclass(frozen=True)
class StepGraph:
    """One time step.

    Attributes:
        needed: the operations that lead to the result, and all neurons, in order.
        result: the operation whose result is the first that forward returns.
        constants: tensors that forward makes, the same at every step.
    """

    needed: dict[fx.Node, None]
    result: fx.Node
    constants: dict[str, Tensor]


def module_path(node: fx.Node) -> str:
    """Name of the module that a ``call_module`` node calls; "" is the network itself."""
    return str(node.target).removeprefix(ROOT).removeprefix(".")


def operation_of(node: fx.Node, net: nn.Module) -> Callable[..., Any]:
    """What a node of the graph of ``net`` calls; attributes are functions without argument."""
    target = str(node.target)
    if node.op == "call_function":
        return cast(Callable[..., Any], node.target)
    if node.op == "call_method":
        return lambda x, *args, **kwargs: getattr(x, target)(*args, **kwargs)
    if node.op == "call_module":
        return net.get_submodule(module_path(node))
    path, _, name = target.rpartition(".")
    owner = net.get_submodule(path.removeprefix(ROOT).removeprefix("."))
    return lambda: getattr(owner, name)


def readout_name(graph: StepGraph, net: nn.Module) -> str | None:
    """Name of the neurons whose spikes the network returns, None if it returns something else."""
    node = graph.result
    if node.op == "call_function" and node.args[1:] == (0,):  # of the tuple of a neuron
        node = cast(fx.Node, node.args[0])
    modules = dict(net.named_modules(remove_duplicate=False))
    called = node.op == "call_module" and is_neuron(modules[module_path(node)])
    return module_path(node) if called else None


class _OneStep(nn.Module):
    """Takes the input only, so that further arguments of a forward have their defaults."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


def trace_step(net: nn.Module) -> StepGraph:
    """The graph of one step of ``net``.

    Raises:
        UntraceableError: the forward depends on values or random numbers, loops over the input, or keeps
            state of its own.
    """
    _refuse_hooks(net)
    state, draws = OwnState(net), Draws(net)
    try:
        with torch.inference_mode(False):  # what forward makes is used with gradients later
            with torch.set_grad_enabled(True):
                first = _traced(net)
            with torch.no_grad(), _other_values(net):
                second = _traced(net)
    finally:
        changed, drawn = state.changed(), draws.made()
        state.restore()
        draws.restore()
    if drawn:
        raise UntraceableError("the forward draws random numbers")
    if changed:
        raise UntraceableError(f"the forward changes {', '.join(changed)}")
    if not _equal(first, second):
        raise UntraceableError("the forward is not the same each time")
    _refuse_state(first, net)
    return first


@contextmanager
def _other_values(net: nn.Module) -> Iterator[None]:
    """Let parameters and buffers have other values, which a graph must not depend on."""
    held = [x for x in (*net.parameters(), *net.buffers()) if x.is_floating_point() and x.numel()]
    kept = [(x, x.data) for x in held]
    try:
        for x, value in kept:
            x.data = value + 1  # beside it: what a buffer shares or may not write stays as it is
        yield
    finally:
        for x, value in kept:
            x.data = value


def _traced(net: nn.Module) -> StepGraph:
    root = _OneStep(net)
    try:
        graph = Tracer().trace(root)
    except UntraceableError:
        raise
    except Exception as error:  # whatever the forward does with a value that is none yet
        raise UntraceableError(f"the forward cannot be traced: {error}") from error
    names = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    constants = {name: value for name, value in vars(root).items() if name in names}
    if any(isinstance(value, Tensor) and value.requires_grad for value in constants.values()):
        raise UntraceableError(
            "the forward computes with gradients what does not depend on its input"
        )
    *nodes, last = graph.nodes
    result: Any = last.args[0]
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    if not isinstance(result, fx.Node):
        raise UntraceableError("the forward returns no tensor first")
    modules = dict(net.named_modules(remove_duplicate=False))
    wanted = {result}
    for node in reversed(nodes):
        module = modules[module_path(node)] if node.op == "call_module" else None
        called = module is not None and is_neuron(module)
        if node in wanted or called or writes(node, module):
            wanted.update((node, *node.all_input_nodes))
    return StepGraph({node: None for node in nodes if node in wanted}, result, constants)


def _equal(first: StepGraph, second: StepGraph) -> bool:
    """Whether two traces agree: random numbers, counters and values of parameters make them differ."""
    texts = [[node.format_node() for node in graph.needed] for graph in (first, second)]
    return texts[0] == texts[1] and all(
        torch.equal(value, second.constants[name]) for name, value in first.constants.items()
    )


def _refuse_hooks(net: nn.Module) -> None:
    for name, module in net.named_modules():
        held = (getattr(module, kind) for kind in HOOKS)
        hooks = [hook for each in held for hook in each.values()]
        if any(not type(hook).__module__.startswith("torch.nn") for hook in hooks):
            raise UntraceableError(f"'{name}' has hooks, which expect one step")


def _refuse_state(graph: StepGraph, net: nn.Module) -> None:
    modules = dict(net.named_modules(remove_duplicate=False))
    called: set[int] = set()
    for node in graph.needed:
        module = modules.get(module_path(node)) if node.op == "call_module" else None
        if module is not None and is_neuron(module):
            if id(module) in called:
                raise UntraceableError(f"'{module_path(node)}' is called twice in a step")
            if len(node.args) != 1 or node.kwargs:
                raise UntraceableError(f"'{module_path(node)}' takes its state as an argument")
            called.add(id(module))
        if writes(node, module):
            held = [given for given in node.all_input_nodes[:1] if given.op == "get_attr"]
            if held:
                raise UntraceableError(f"the forward changes '{held[0].target}'")
    if not called:
        raise UntraceableError("it calls no neurons")
