"""The tracer of :mod:`biril_nm.models.tracing`: torch.fx, and what torch.fx does not see.

torch.fx records calls. Five things pass it by, and each changes what a network computes: the modes in which
an operation is called (no gradients, autocast), operations that change a value in place, assignments to
attributes of a value, values that are read at once instead of at each run, and what a forward puts into a
layer before it calls it (``functional_call``, ``layer.p = 0.1``).
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import snntorch as snn
import torch
from torch import fx, nn

__all__ = ["Tracer", "UntraceableError", "is_neuron", "of_torch", "writes"]

IN_PLACE = tuple(
    getattr(operator, f"i{name}")
    for name in (
        *("add", "and", "concat", "floordiv", "lshift", "matmul", "mod", "mul"),
        *("or", "pow", "rshift", "sub", "truediv", "xor"),
    )
)
METHODS_IN_PLACE = ("__setitem__", *(f"__{function.__name__}__" for function in IN_PLACE))
OF_GRADIENTS = ("backward", "detach_", "register_hook", "requires_grad_", "retain_grad")
PLAIN = (bool, int, float, str, tuple)
OF_PROXIES = (
    "_node",
    "attr",
    "node",
    "root",
    "tracer",
)  # attributes that torch.fx gives its values


class UntraceableError(Exception):
    """Why a network has no step graph."""


def is_neuron(module: nn.Module) -> bool:
    """Whether ``module`` is a snnTorch neuron that is called once per step."""
    return isinstance(module, snn.SpikingNeuron) and hasattr(module, "reset_mem")


def of_torch(module: nn.Module) -> bool:
    """Whether ``module`` is of a class of torch, such as a layer."""
    return type(module).__module__.startswith("torch.nn")


def writes(node: fx.Node, module: nn.Module | None = None) -> bool:
    """Whether the operation says of itself that it changes one of its arguments.

    Args:
        node: the operation.
        module: the module that it calls, if it calls one.
    """
    if not node.all_input_nodes:
        return False
    if node.op == "call_module":
        return getattr(module, "inplace", False) is True
    if node.op == "call_method":
        name = str(node.target)
        return name in METHODS_IN_PLACE or _ends_in_place(name)
    if node.op != "call_function":
        return False
    function = cast(Callable[..., Any], node.target)
    named = function in IN_PLACE or function is operator.setitem
    return named or _ends_in_place(getattr(function, "__name__", "")) or _asked_to(node, function)


def _ends_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _asked_to(node: fx.Node, function: Callable[..., Any]) -> bool:
    """Whether a function gets ``inplace=True`` or ``out=``, by name or place."""
    if node.kwargs.get("out") is not None:
        return True
    try:
        given = inspect.signature(function).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):  # built into torch, where in place is part of the name
        given = dict(node.kwargs)
    return given.get("inplace", False) is True


class _Held:
    """What a module holds: its attributes, parameters and buffers."""

    def __init__(self, module: nn.Module) -> None:
        held: Any = (vars(module), module._parameters, module._buffers)
        self._holders: tuple[dict[str, Any], ...] = held
        self._kept = [dict(holder) for holder in self._holders]

    def changed(self) -> bool:
        """Whether it holds something else than it did."""
        return any(not _alike(*pair) for pair in zip(self._holders, self._kept))

    def put_back(self) -> None:
        """Let it hold what it did."""
        for holder, kept in zip(self._holders, self._kept):
            if not _alike(holder, kept):
                holder.clear()
                holder.update(kept)


def _alike(found: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    """Whether two mappings have the same values, or equal ones of plain types."""
    pairs = [(found[name], value) for name, value in kept.items() if name in found]
    same = (a is b or (type(a) is type(b) and isinstance(a, PLAIN) and a == b) for a, b in pairs)
    return len(pairs) == len(kept) == len(found) and all(same)


class _Value(fx.Proxy):
    """A value of the forward, on which operators in place are what they are."""

    def __getattr__(self, name: str) -> Any:
        return _Attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in OF_PROXIES:
            raise UntraceableError(f"the forward sets '{name}' of a value")
        super().__setattr__(name, value)

    def __setitem__(self, key: Any, new: Any) -> None:
        self.tracer.create_proxy("call_function", set_items_, (self, key, new), {})


def set_items_(value: Any, key: Any, new: Any) -> Any:
    """``value[key] = new``, as an operation in place with a result."""
    value[key] = new
    return value


class _Attribute(fx.proxy.Attribute, _Value):
    """An attribute or a method of a value."""


def _operator_in_place(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda value, other: value.tracer.create_proxy(
        "call_function", function, (value, other), {}
    )


for _function in IN_PLACE:
    if _function is not operator.iconcat:  # whose operator is that of iadd
        setattr(_Value, f"__{_function.__name__}__", _operator_in_place(_function))


def _autocast() -> tuple[bool, bool]:
    """Whether autocast is on for CUDA, and for the CPU, which torch asks by name from 2.4 on."""
    if hasattr(torch.amp, "is_autocast_available"):
        enabled: Any = torch.is_autocast_enabled
        return enabled("cuda"), enabled("cpu")
    return torch.is_autocast_enabled(), torch.is_autocast_cpu_enabled()


def _modes() -> tuple[Any, ...]:
    """What decides how operations are computed, and whether gradients flow through them."""
    nested = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    grad = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    return nested, *grad, *_autocast()


class Tracer(fx.Tracer):
    """torch.nn modules and neurons are leaves; values of parameters and buffers are read at each run."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__()
        self._at_first = _modes()
        self._done = False
        self._held: dict[nn.Module, _Held] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one operation."""
        return is_neuron(m) or super().is_leaf_module(m, module_qualified_name)

    def trace(self, *arguments: Any, **named: Any) -> fx.Graph:
        """The graph of a module; its values are of no use later, where a forward may have kept them.

        Raises:
            UntraceableError: the forward changes a layer of torch or neurons.
        """
        modules = {
            name: m for name, m in arguments[0].named_modules() if of_torch(m) or is_neuron(m)
        }
        self._held = {module: _Held(module) for module in modules.values()}
        try:
            found = cast(fx.Graph, super().trace(*arguments, **named))
            for name, module in modules.items():
                self._refuse_changed(module, name)
            return found
        finally:
            self._done = True
            for held in self._held.values():
                held.put_back()

    def call_module(self, m: nn.Module, *further: Any) -> Any:
        """Note a call, or follow it."""
        if m in self._held:
            for inner in m.modules():
                self._refuse_changed(inner, self.path_of_module(m))
        return super().call_module(m, *further)

    def _refuse_changed(self, module: nn.Module, name: str) -> None:
        if module in self._held and self._held[module].changed():
            raise UntraceableError(f"the forward changes what '{name}' holds")

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """The value of an operation."""
        return cast(fx.Proxy, _Value(node, self))

    def create_node(self, kind: str, target: Any, *further: Any, **named: Any) -> fx.Node:
        """Note an operation.

        Raises:
            UntraceableError: a graph cannot say what it does.
        """
        if self._done:
            raise UntraceableError("the forward keeps values of another run")
        if _modes() != self._at_first:
            raise UntraceableError("the forward changes the mode of gradients or of autocast")
        if kind == "call_method" and target in OF_GRADIENTS:
            raise UntraceableError(f"the forward calls '{target}'")
        node: fx.Node = super().create_node(kind, target, *further, **named)
        if kind == "get_attr":
            self._refuse_states(node)
        return node

    def _refuse_states(self, node: fx.Node) -> None:
        path, _, name = str(node.target).rpartition(".")
        owner = self.root.get_submodule(path)
        kept = {*owner._parameters, *owner._buffers} - owner._non_persistent_buffers_set
        if is_neuron(owner) and name not in kept:
            raise UntraceableError(f"the forward reads the state '{node.target}'")

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *further: Any, **named: Any
    ) -> fx.Proxy:
        """Note an operation; what it changes in place stands for the result from now on."""
        found: fx.Proxy = super().create_proxy(kind, target, args, kwargs, *further, **named)
        other = target in (*IN_PLACE, operator.setitem, *METHODS_IN_PLACE)  # of a number, or None
        module = self.root.get_submodule(target) if kind == "call_module" else None
        if not other and writes(found.node, module):
            changed = kwargs["out"] if kwargs.get("out") is not None else (*args, None)[0]
            if type(changed) is _Value:
                changed.node = found.node
        return found
