"""What a network does in one time step, as a graph: torch.fx, with torch.nn modules and neurons as leaves.

A graph stands for every step only if nothing but snnTorch neurons keeps a value from one step to the
next. What cannot be traced, or keeps values elsewhere, raises :class:`UntraceableError`; such networks
run step by step.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from biril_nm.models.draws import Draws
from biril_nm.models.nir_net import NirNet
from biril_nm.models.tracer import Tracer, UntraceableError, is_neuron, writes
from biril_nm.neurons.unroll import LEAKY

__all__ = [
    "OwnState",
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
OF_TORCH = ("training", "_parameters", "_modules", "_buffers", "_non_persistent_buffers_set")


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
            with torch.no_grad():
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
    """Whether two traces agree: random numbers and counters make them differ."""
    texts = [[node.format_node() for node in graph.needed] for graph in (first, second)]
    return texts[0] == texts[1] and all(
        torch.equal(value, second.constants[name]) for name, value in first.constants.items()
    )


def _refuse_hooks(net: nn.Module) -> None:
    for name, module in net.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
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


class OwnState:
    """Attributes and buffers of the modules that are neither torch's nor neurons, to put back later."""

    def __init__(self, net: nn.Module) -> None:
        self._known = weakref.ref(net)  # what is known of a network must not keep it
        self._saved = {key: (value, _copied(value)) for key, _, value in _attributes(net)}

    @property
    def _net(self) -> nn.Module:
        net = self._known()
        if net is None:
            raise ReferenceError("the network is gone")
        return net

    def changed(self) -> list[str]:
        """Names of the attributes that differ from then."""
        now = {key: value for key, _, value in _attributes(self._net)}
        new = [key for key in now if key not in self._saved]
        return new + [
            key
            for key, (value, copy) in self._saved.items()
            if key not in now or now[key] is not value or not _same(value, copy)
        ]

    def restore(self, only: list[str] | None = None) -> None:
        """Put back all attributes, or those of the given names."""
        modules = dict(self._net.named_modules())
        for key in self.changed() if only is None else only:
            path, _, attribute = key.rpartition(".")
            module = modules[path]
            if key not in self._saved:
                module.__dict__.pop(attribute, None)
                continue
            value, copy = self._saved[key]
            _put(module, attribute, value, copy)


def _attributes(net: nn.Module) -> Iterator[tuple[str, nn.Module, Any]]:
    for path, module in net.named_modules():
        if type(module).__module__.startswith("torch.nn") or is_neuron(module):
            continue
        own = {k: v for k, v in vars(module).items() if k not in OF_TORCH and "_hooks" not in k}
        for name, value in {**own, **module._buffers}.items():
            yield f"{path}.{name}".removeprefix("."), module, value


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return type(value)(value) if type(value) in (list, dict, set) else value


def _same(value: Any, copy: Any) -> bool:
    if isinstance(value, Tensor):
        return value.shape == copy.shape and torch.equal(value.detach(), copy.to(value.device))
    if type(value) is dict:
        return list(value) == list(copy) and all(value[key] is copy[key] for key in value)
    if type(value) is list:
        return len(value) == len(copy) and all(a is b for a, b in zip(value, copy))
    return type(value) is not set or value == copy


def _put(module: nn.Module, name: str, value: Any, copy: Any) -> None:
    """Give an attribute the object that it was, with the values that it had."""
    if isinstance(value, Tensor):
        now = getattr(module, name, value)
        place = now.device if isinstance(now, Tensor) else value.device
        untouched = value.device == place and _same(value, copy)
        setattr(module, name, value if untouched else copy.detach().clone().to(place))
        return
    if type(value) is list:
        value[:] = copy
    elif type(value) in (dict, set):
        value.clear()
        value.update(copy)
    setattr(module, name, value)
