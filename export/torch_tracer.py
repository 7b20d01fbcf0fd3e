"""Concrete tracing: the forward runs as it is, and every tensor remembers where it came from.

Layers are leaves: what happens inside them is not followed. Between layers a torch function mode
sees every operation; those that NIR can say become expressions (:mod:`torch_signals`), reading a value
(``if x.sum() > 0``) is an error, because the trace would hold for this input only. Since the
forward really runs, it may initialise states, loop over time and keep lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.torch_operations import OPERATIONS, READS_VALUES, Tracked, shape_only
from biril_nm.export.torch_signals import Expr, LayerOutput, Operation, State

__all__ = ["Call", "Tracer", "leaf_modules"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One use of a layer.

    Attributes:
        source: what it received; None for a constant (zero before the first spike).
        shapes: of input and output, without the batch dimension.
        fresh: whether a neuron layer started this call from rest instead of its last state.
        foreign: states it was given that are not its own last ones.
    """

    source: Expr | None
    shapes: tuple[Shape, Shape]
    fresh: bool
    foreign: tuple[Expr, ...] = ()


@dataclass
class Tracer(TorchFunctionMode):  # type: ignore[misc]
    """Follows tensors through a forward while it is the active torch function mode."""

    calls: dict[str, list[Call]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._depth = 0
        self._known: dict[int, tuple[torch.Tensor, Expr]] = {}
        self.constants: list[torch.Tensor] = []
        self.sliced: dict[int, tuple[int, Shape]] = {}  # input -> (time axis, shape of one step)

    # --- tensors ------------------------------------------------------------------------------

    def know(self, tensor: torch.Tensor, expr: Expr) -> None:
        """From now on ``tensor`` stands for ``expr``; it is kept alive, so that its id stays its own."""
        self._known[id(tensor)] = (tensor, expr)

    def expr(self, value: Any) -> Expr | None:
        """What ``value`` stands for, None for constants."""
        found = self._known.get(id(value)) if isinstance(value, torch.Tensor) else None
        return found[1] if found is not None and found[0] is value else None

    def constant(self, value: torch.Tensor) -> int:
        """Number of a constant, equal ones sharing one."""
        for number, other in enumerate(self.constants):
            if other.shape == value.shape and torch.equal(other, value):
                return number
        self.constants.append(value.detach().clone())
        return len(self.constants) - 1

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and note what its result stands for."""
        kwargs = dict(kwargs or {})
        if self._depth:
            return func(*args, **kwargs)
        self._depth += 1
        try:
            return self._follow(func, args, kwargs)
        finally:
            self._depth -= 1

    def _follow(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = str(getattr(func, "__name__", func))
        if name == "__get__":
            name = str(getattr(getattr(func, "__self__", None), "__name__", name))
        tensors = [v for v in _values((args, kwargs)) if self.expr(v) is not None]
        if not tensors:
            return func(*args, **kwargs)
        if name in READS_VALUES:
            raise UnsupportedNodeError(
                f"the forward cannot be traced: it reads values of a signal ('{name}'), so what it "
                f"computes depends on the input. It must compute without branching on values"
            )
        before = self.expr(args[0]) if args else None
        if shape_only(name) or (before is None and name in ("to", "type_as", "expand_as")):
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        handler = OPERATIONS.get(name)
        expr = handler(Tracked(self, name, args, kwargs, before, result)) if handler else None
        if expr is not None and isinstance(result, torch.Tensor):
            self.know(result, expr)
        elif expr is None:
            parts = tuple(e for e in (self.expr(t) for t in tensors) if e is not None)
            for tensor in _values(result):
                if not any(tensor is t for t in tensors) or name.endswith("_"):
                    self.know(tensor, Operation(name, parts))
        return result

    @contextmanager
    def following(self) -> Iterator[None]:
        """The active mode; plain indices, which torch hides from modes, take another way."""
        plain = torch.Tensor.__getitem__
        own = torch.Tensor.__dict__.get("__getitem__")

        def item(tensor: torch.Tensor, index: Any) -> Any:
            if isinstance(index, int) and not isinstance(index, bool):
                return torch.select(tensor, 0, index)
            simple = index is None or index is Ellipsis or isinstance(index, slice)
            return plain(tensor, (index,) if simple else index)

        item.__name__ = "__getitem__"  # torch hands this very function to the mode
        torch.Tensor.__getitem__ = item  # type: ignore[method-assign, assignment]
        try:
            with self:
                yield
        finally:
            if own is None:
                del torch.Tensor.__getitem__
            else:
                torch.Tensor.__getitem__ = own  # type: ignore[method-assign]

    # --- layers -------------------------------------------------------------------------------

    def hooks(self, leaves: Mapping[str, nn.Module], states: Callable[[nn.Module], Any]) -> Any:
        """Register hooks on all leaf layers; returns their handles.

        Args:
            leaves: path -> layer.
            states: layer -> names of its state attributes, () for layers without.
        """
        handles = []
        for path, layer in leaves.items():
            names = tuple(states(layer))
            before, after = self._hooks_of(path, names)
            handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(layer.register_forward_hook(after, with_kwargs=True))
        return handles

    def _hooks_of(self, path: str, names: tuple[str, ...]) -> tuple[Any, Any]:
        pending: list[tuple[bool, tuple[Expr, ...]]] = []

        def before(layer: nn.Module, args: Any, kwargs: Any) -> None:
            pending.append(self._incoming(path, layer, names, (*args[1:], *kwargs.values())))
            self._depth += 1

        def after(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            fresh, foreign = pending.pop()
            received = args[0] if args else next(iter(kwargs.values()))
            if output is received:  # Dropout at inference; input and output need their own names
                output = received.view_as(received)
            self._depth -= 1
            first = output[0] if isinstance(output, tuple) else output
            calls = self.calls.setdefault(path, [])
            source = self._source(received, first=not calls)
            if isinstance(output, tuple):
                for extra in output[1:]:
                    self.know(extra, State(path, "mem", len(calls)))
            for name in names:
                held = getattr(layer, name, None)
                if isinstance(held, torch.Tensor) and held is not first:
                    self.know(held, State(path, name, len(calls)))
            self.know(first, LayerOutput(path, len(calls)))
            shapes = (tuple(received.shape[1:]), tuple(first.shape[1:]))
            calls.append(Call(source, shapes, fresh, foreign))
            return output

        return before, after

    def _source(self, received: torch.Tensor, first: bool) -> Expr | None:
        """Zeros without origin are the missing past at the first call, and an error later."""
        expr = self.expr(received)
        if expr is None and (not first or bool(torch.any(received != 0))):
            return Operation("constant input", ())
        return expr

    def _incoming(
        self, path: str, layer: nn.Module, names: tuple[str, ...], given: tuple[Any, ...]
    ) -> tuple[bool, tuple[Expr, ...]]:
        """Whether a neuron layer starts from rest, and states that are not its own last ones."""
        if not names:
            return False, ()
        last = len(self.calls.get(path, ())) - 1
        states = [value for value in given if isinstance(value, torch.Tensor)]
        if not states:
            states = [getattr(layer, name) for name in names]
        self._depth += 1
        foreign: list[Expr] = []
        fresh = False
        for state in states:
            expr = self.expr(state)
            own = isinstance(expr, (State, LayerOutput)) and expr.path == path
            if own and isinstance(expr, (State, LayerOutput)) and expr.call == last:
                continue
            if expr is not None:
                foreign.append(expr)
            elif state.numel() and bool(torch.any(state != 0)):
                foreign.append(Operation("a state other than zero", ()))
            else:
                fresh = True
        self._depth -= 1
        return fresh, tuple(foreign)


def _values(value: Any) -> list[torch.Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in _values(item)]
    return [t for item in value.values() for t in _values(item)] if isinstance(value, dict) else []


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def leaf_modules(root: nn.Module, known: tuple[type, ...]) -> dict[str, nn.Module]:
    """Path -> layer: known ones, and torch's and snnTorch's own that are no containers."""
    found: dict[str, nn.Module] = {}

    def walk(module: nn.Module, path: str) -> None:
        foreign = type(module).__module__.startswith(("torch.nn.", "snntorch."))
        if path and (isinstance(module, known) or foreign) and type(module) not in _CONTAINERS:
            if not any(module is other for other in found.values()):
                found[path] = module
            return
        for name, child in module.named_children():
            walk(child, f"{path}.{name}" if path else name)

    walk(root, "")
    return found
