"""Concrete tracing: the forward runs as it is, and every tensor remembers where it came from.

Layers are leaves: what happens inside them is not followed. Between layers a torch function mode
sees every operation; those that NIR can say become expressions (:mod:`torch_signals`), reading a value
(``if x.sum() > 0``) is an error, because the trace would hold for this input only. Since the
forward really runs, it may initialise states, loop over time and keep lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from biril_nm.arrays import Shape
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.from_torch.call import Tracked
from biril_nm.export.from_torch.counting import CountedTensor, follow_count
from biril_nm.export.from_torch.kinds import LayerKind
from biril_nm.export.from_torch.linear_functions import followed, is_linear
from biril_nm.export.from_torch.maxima import MAXIMA, largest, maximum
from biril_nm.export.from_torch.module import tensors_in
from biril_nm.export.from_torch.operations import OPERATIONS, writes
from biril_nm.export.from_torch.origins import Origins
from biril_nm.export.from_torch.reads import DRAWS, reads_values, shape_only
from biril_nm.export.from_torch.registry import kind_of, state_names
from biril_nm.export.from_torch.signals import (
    STATIC,
    Expr,
    InputStep,
    LayerOutput,
    Operation,
    Permuted,
    State,
    leaves,
)
from biril_nm.export.from_torch.steady import changed_values, values_of

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
    """Follows tensors through a forward while it is the active torch function mode.

    Attributes:
        origins: what the tensors stand for.
        calls: layer -> its uses.
        entered: layers that were called, also if they failed; the last one at the end.
        counts: tensors that count steps, by id.
        values: layer -> what it computed with at its first use.
        changed: names of values that were others at a later use.
    """

    origins: Origins = field(default_factory=Origins)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    entered: dict[str, None] = field(default_factory=dict)
    counts: dict[int, CountedTensor] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._depth = 0

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
        if name == "__set__":
            return self._set(func, args)
        if name == "__get__":
            name = str(getattr(getattr(func, "__self__", None), "__name__", name))
        tensors = [v for v in tensors_in((args, kwargs)) if self.origins.expr(v) is not None]
        if not tensors:
            result = func(*args, **kwargs)
            return follow_count(self.counts, name, args, result) if self.counts else result
        if reads_values(name, args, tensors):
            raise UnsupportedNodeError(
                f"the forward reads values of a signal ('{name}'), so that what it computes depends on the "
                f"input; expected a forward that does the same for every input. Take out what branches on "
                f"values"
            )
        before = self.origins.expr(args[0]) if args else None
        if shape_only(name) or (before is None and name in ("to", "type_as", "expand_as")):
            return func(*args, **kwargs)
        target = kwargs.get("out", args[0] if writes(name) else None)
        given = self._before(args, target)
        result = torch.zeros_like(tensors[0]) if name in DRAWS else func(*args, **kwargs)
        expr = self._expression(func, Tracked(self.origins, name, given, kwargs, before, result))
        if isinstance(target, torch.Tensor):
            self.origins.overwritten(target, name)
        # __setitem__ returns nothing.
        changed = target if name == "__setitem__" else result
        if expr is None:
            parts = tuple(e for e in (self.origins.expr(t) for t in tensors) if e is not None)
            for tensor in tensors_in(changed):
                self.origins.know(tensor, Operation(name, parts))
        elif isinstance(changed, torch.Tensor):
            self.origins.know(changed, expr)
        return result

    def _before(self, args: Any, target: Any) -> Any:
        """The arguments of a call that writes into ``target``: a constant with the values that it had."""
        if not isinstance(target, torch.Tensor) or self.origins.expr(target) is not None:
            return args
        return tuple(value.clone() if value is target else value for value in args)

    def _set(self, func: Any, args: Any) -> None:
        """``x.data = y``: from now on x stands for what y stands for."""
        func(*args)
        target, value = args
        before, expr = self.origins.expr(target), self.origins.expr(value)
        if func.__self__.__name__ == "data" and (before, expr) != (None, None):
            self.origins.know(target, expr or Operation("data", ()))

    @staticmethod
    def _expression(func: Any, call: Tracked) -> Expr | None:
        """What the result of a call stands for; None where NIR has no form for it."""
        if call.name in MAXIMA:
            return maximum(call, func)
        handler = OPERATIONS.get(call.name)
        expr = handler(call) if handler else None
        if isinstance(expr, Permuted):
            return replace(expr, instead=followed(call, func))
        return followed(call, func) if expr is None and is_linear(call.name) else expr

    @contextmanager
    def following(self) -> Iterator[None]:
        """The active mode; plain indices, which torch hides from modes, take another way."""
        read, write = torch.Tensor.__getitem__, torch.Tensor.__setitem__
        own = {n: torch.Tensor.__dict__.get(n) for n in ("__getitem__", "__setitem__")}

        def item(tensor: torch.Tensor, index: Any) -> Any:
            if isinstance(index, int) and not isinstance(index, bool):
                return torch.select(tensor, 0, index)
            args = (tensor, index)
            if self._depth or all(self.origins.expr(t) is None for t in tensors_in(args)):
                return read(*args)
            return self.__torch_function__(read, (), args)

        def set_item(tensor: torch.Tensor, index: Any, value: Any) -> None:
            args = (tensor, index, value)
            if self._depth or not any(self.origins.expr(t) is not None for t in (tensor, value)):
                write(*args)
            else:
                self.__torch_function__(write, (), args)

        # torch hands these very functions to the mode.
        item.__name__ = "__getitem__"
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
            self._compare(path, layer)
            pending.append(self._incoming(path, layer, names, (*args[1:], *kwargs.values())))
            self._depth += 1
            return args, kwargs

        def after(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            fresh, foreign = pending.pop()
            self._depth -= 1
            received = args[0] if args else next(iter(kwargs.values()))
            kind = kind_of(layer)
            if isinstance(kind, LayerKind) and kind.weightless:
                self._inline(path, layer, kind, received, output)
                return output
            first, *more = tensors_in(output)
            calls = self.calls.setdefault(path, [])
            source = self._source(received, first=not calls)
            for extra in more:
                self.origins.know(extra, State(path, "mem", len(calls)))
            for name in names:
                held = getattr(layer, name, None)
                if isinstance(held, torch.Tensor) and held is not first:
                    self.origins.know(held, State(path, name, len(calls)))
            self.origins.know(first, LayerOutput(path, len(calls)))
            shapes = (tuple(received.shape[1:]), tuple(first.shape[1:]))
            calls.append(Call(source, shapes, fresh, foreign))
            return output

        return before, after

    def _compare(self, path: str, layer: nn.Module) -> None:
        """Note what a layer computes with that was something else at its first use."""
        self._depth += 1
        now = values_of(path, layer)
        before = self.values.setdefault(path, now)
        self.changed |= changed_values(before, now)
        self._depth -= 1

    def _in_dtype_of(self, layer: nn.Module, received: Any) -> Any:
        """Spikes of snnTorch are float32 whatever its dtype; a float64 layer behind takes them too."""
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, torch.Tensor) or not isinstance(received, torch.Tensor):
            return received
        if not received.is_floating_point() or received.dtype == weight.dtype:
            return received
        cast, expr = received.to(weight.dtype), self.origins.expr(received)
        if expr is not None:
            self.origins.know(cast, expr)
        return cast

    def _inline(
        self, path: str, layer: nn.Module, kind: LayerKind, received: torch.Tensor, output: Any
    ) -> None:
        """A layer without weights is part of the expression, so that it may be used at many places."""
        expr = self.origins.expr(received)
        if expr is None:
            if bool(torch.any(received != 0)):
                self.origins.know(output, Operation("constant input", ()))
        elif kind.vanishes:
            self.origins.know(output, expr)
        elif not isinstance(output, torch.Tensor):
            for tensor in tensors_in(output):
                self.origins.know(tensor, Operation(type(layer).__name__, (expr,)))
        elif kind.largest:
            self.origins.know(output, largest(self.origins, expr, path, layer, (received, output)))
        else:
            self.origins.know(output, self.origins.applied(expr, path, layer, received, output))

    def _source(self, received: torch.Tensor, first: bool) -> Expr | None:
        """Zeros without origin are the missing past at the first call, and an error later."""
        expr = self.origins.expr(received)
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
            expr = self.origins.expr(state)
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
