"""The tracer of :mod:`biril_nm.models.tracing`: torch.fx, and what torch.fx does not see.

torch.fx records calls. Four things pass it by, and each changes what a network computes: the modes in which
an operation is called (no gradients, autocast), operations that change a value in place, assignments to
attributes of a value, and values that are read at once instead of at each run.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, cast

import snntorch as snn
import torch
from torch import fx, nn

__all__ = ["Tracer", "UntraceableError", "is_neuron", "writes"]

IN_PLACE = tuple(
    getattr(operator, f"i{name}")
    for name in (
        *("add", "and", "concat", "floordiv", "lshift", "matmul", "mod", "mul"),
        *("or", "pow", "rshift", "sub", "truediv", "xor"),
    )
)
METHODS_IN_PLACE = ("__setitem__", *(f"__{function.__name__}__" for function in IN_PLACE))
OF_GRADIENTS = ("backward", "detach_", "register_hook", "requires_grad_", "retain_grad")
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


class _Value(fx.Proxy):
    """A value of the forward, on which operators in place are what they are."""

    def __getattr__(self, name: str) -> Any:
        return _Attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in OF_PROXIES:
            raise UntraceableError(f"the forward sets '{name}' of a value")
        super().__setattr__(name, value)


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

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one operation."""
        return is_neuron(m) or super().is_leaf_module(m, module_qualified_name)

    def trace(self, *arguments: Any, **named: Any) -> fx.Graph:
        """The graph of a module; its values are of no use later, where a forward may have kept them."""
        try:
            return cast(fx.Graph, super().trace(*arguments, **named))
        finally:
            self._done = True

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
