"""Concrete tracing: the forward runs as it is, and every tensor remembers where it came from.

Layers are leaves: what happens inside them is not followed. Between layers a torch function mode
sees every operation; those that NIR can say become expressions (:mod:`torch_signals`), reading a value
(``if x.sum() > 0``) is an error, because the trace would hold for this input only. Since the
forward really runs, it may initialise states, loop over time and keep lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from biril_nm.arrays import Shape
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.from_torch.call import Tracked
from biril_nm.export.from_torch.layers import VANISHING, WEIGHTLESS
from biril_nm.export.from_torch.module import kind_of, state_names, tensors_in
from biril_nm.export.from_torch.operations import OPERATIONS, READS_VALUES, shape_only, writes
from biril_nm.export.from_torch.signals import (
    STATIC,
    Applied,
    Expr,
    InputStep,
    LayerOutput,
    Operation,
    State,
    leaves,
)

__all__ = ["NOT_AT_REST", "Call", "Tracer"]

NOT_AT_REST = "a state other than zero"


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
        self.functions: list[tuple[str, nn.Module]] = []  # (name, layer) of Applied signals
        self.entered: dict[str, None] = {}  # layers that were called, also if they failed
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
        tensors = [v for v in tensors_in((args, kwargs)) if self.expr(v) is not None]
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
        target = kwargs.get("out", args[0] if writes(name) else None)
        if isinstance(target, torch.Tensor):
            self._overwritten(target, name)
        changed = (
            target if name == "__setitem__" else result
        )  # what is written into returns nothing
        if expr is None:
            parts = tuple(e for e in (self.expr(t) for t in tensors) if e is not None)
            for tensor in tensors_in(changed):
                self.know(tensor, Operation(name, parts))
        elif isinstance(changed, torch.Tensor):
            self.know(changed, expr)
        return result

    def _overwritten(self, target: torch.Tensor, name: str) -> None:
        """Other tensors on the memory of one that was written into have changed with it."""
        place = target.untyped_storage().data_ptr()
        for tensor, expr in list(self._known.values()):
            if tensor is not target and tensor.untyped_storage().data_ptr() == place:
                self.know(tensor, Operation(name, (expr,)))

    @contextmanager
    def following(self) -> Iterator[None]:
        """The active mode; plain indices, which torch hides from modes, take another way."""
        read, write = torch.Tensor.__getitem__, torch.Tensor.__setitem__
        own = {n: torch.Tensor.__dict__.get(n) for n in ("__getitem__", "__setitem__")}

        def item(tensor: torch.Tensor, index: Any) -> Any:
            if isinstance(index, int) and not isinstance(index, bool):
                return torch.select(tensor, 0, index)
            simple = index is None or index is Ellipsis or isinstance(index, slice)
            return read(tensor, (index,) if simple else index)

        def set_item(tensor: torch.Tensor, index: Any, value: Any) -> None:
            args = (tensor, index, value)
            if self._depth or not any(self.expr(t) is not None for t in (tensor, value)):
                write(*args)
            else:
                self.__torch_function__(write, (), args)

        item.__name__ = "__getitem__"  # torch hands these very functions to the mode
        set_item.__name__ = "__setitem__"
        torch.Tensor.__getitem__ = item  # type: ignore[method-assign, assignment]
        torch.Tensor.__setitem__ = set_item  # type: ignore[method-assign, assignment]
        try:
            with self:
                yield
        finally:
            for name, method in own.items():
                if method is None:
                    delattr(torch.Tensor, name)
                else:
                    setattr(torch.Tensor, name, method)

    @property
    def input_steps(self) -> int:
        """How many steps of a whole input the layers received; 0 if the input was not taken apart."""
        sources = [call.source for calls in self.calls.values() for call in calls]
        parts = [leaf for source in sources if source is not None for leaf in leaves(source)]
        return len({p.step for p in parts if isinstance(p, InputStep) and p.step != STATIC})

    @property
    def failing(self) -> str | None:
        """The layer that an error came out of, None if it came from between the layers."""
        return next(reversed(self.entered), None) if self._depth else None

    # --- layers -------------------------------------------------------------------------------

    def applied(self, of: Expr, name: str, layer: nn.Module, before: Any, after: Any) -> Applied:
        """``of`` through a layer without states; equal layers of one name share their number."""
        number = next((i for i, f in enumerate(self.functions) if _equal(f, (name, layer))), None)
        if number is None:
            number = len(self.functions)
            self.functions.append((name, layer))
        return Applied(of, number, tuple(before.shape[1:]), tuple(after.shape[1:]))

    def hooks(self, leaves: Mapping[str, nn.Module]) -> Any:
        """Register hooks on all leaf layers (path -> layer); returns their handles.

        The user's own hooks run outside of ours, so what they do to signals is followed.
        """
        handles = []
        for path, layer in leaves.items():
            before, after = self._hooks_of(path, state_names(layer))
            handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(layer.register_forward_hook(after, with_kwargs=True, prepend=True))
        return handles

    def _hooks_of(self, path: str, names: tuple[str, ...]) -> tuple[Any, Any]:
        pending: list[tuple[bool, tuple[Expr, ...]]] = []

        def before(layer: nn.Module, args: Any, kwargs: Any) -> Any:
            self.entered.pop(path, None)
            self.entered[path] = None
            if args:
                args = (self._in_dtype_of(layer, args[0]), *args[1:])
            pending.append(self._incoming(path, layer, names, (*args[1:], *kwargs.values())))
            self._depth += 1
            return args, kwargs

        def after(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            fresh, foreign = pending.pop()
            self._depth -= 1
            received = args[0] if args else next(iter(kwargs.values()))
            if kind_of(layer) in (*WEIGHTLESS, *VANISHING):
                self._inline(path, layer, received, output)
                return output
            first, *more = tensors_in(output)
            calls = self.calls.setdefault(path, [])
            source = self._source(received, first=not calls)
            for extra in more:
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

    def _in_dtype_of(self, layer: nn.Module, received: Any) -> Any:
        """Spikes of snnTorch are float32 whatever its dtype; a float64 layer behind takes them too."""
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, torch.Tensor) or not isinstance(received, torch.Tensor):
            return received
        if not received.is_floating_point() or received.dtype == weight.dtype:
            return received
        cast, expr = received.to(weight.dtype), self.expr(received)
        if expr is not None:
            self.know(cast, expr)
        return cast

    def _inline(self, path: str, layer: nn.Module, received: torch.Tensor, output: Any) -> None:
        """A layer without weights is part of the expression, so that it may be used at many places."""
        expr = self.expr(received)
        if expr is None:
            if bool(torch.any(received != 0)):
                self.know(output, Operation("constant input", ()))
        elif kind_of(layer) in VANISHING:
            self.know(output, expr)
        else:
            self.know(output, self.applied(expr, path, layer, received, output))

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
                foreign.append(Operation(NOT_AT_REST, ()))
            else:
                fresh = True
        self._depth -= 1
        return fresh, tuple(foreign)


def _equal(first: tuple[str, nn.Module], second: tuple[str, nn.Module]) -> bool:
    """Whether two named layers without states do the same."""
    (name, one), (other_name, other) = first, second
    if one is other or name != other_name or type(one) is not type(other):
        return one is other

    def settings(layer: nn.Module) -> dict[str, Any]:
        return {k: v for k, v in vars(layer).items() if isinstance(v, (int, float, str, tuple))}

    mine, theirs = one.state_dict(), other.state_dict()
    return (
        settings(one) == settings(other)
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[key], theirs[key]) for key in mine)
    )
