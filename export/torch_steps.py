"""From traced calls to the wiring of one time step.

A forward that computes one step is run :data:`RUNS` times, one with its own loop over time once. Either way
each layer must be used once per step and be fed alike at every step; what comes from the previous
step (recurrence) may be missing at the first one. Everything else is a finding, and all are told.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.torch_signals import (
    STATIC,
    Collected,
    Expr,
    InputStep,
    LayerOutput,
    Operation,
    Scaled,
    State,
    Sum,
    leaves,
    relative,
    without_past,
)
from biril_nm.export.torch_tracer import Call, Shape, Tracer, leaf_modules

__all__ = ["Readout", "Wiring", "call_arguments", "trace_network"]

RUNS = 3
SHIFT = 0.5


@dataclass(frozen=True)
class Readout:
    """One returned signal: what it is at a step, and how the forward puts steps together.

    ``how``: step (the forward computes one step), stack, sum, mean, or last.
    """

    source: Expr
    how: str


@dataclass(frozen=True)
class Wiring:
    """What each layer receives at a regular step, in order of first use.

    Attributes:
        sources: layer -> relative expression.
        shapes: layer -> (input, output) shape without batch.
        inputs: shapes of the inputs that are used, by their position.
        outputs: what the forward returns.
        constants: constants that scaled signals refer to.
    """

    sources: Mapping[str, Expr]
    shapes: Mapping[str, tuple[Shape, Shape]]
    inputs: Mapping[int, Shape]
    outputs: tuple[Readout, ...]
    constants: tuple[torch.Tensor, ...]


def call_arguments(root: nn.Module, samples: Sequence[Any]) -> tuple[Any, ...]:
    """``samples``, and None for each further argument that forward requires (states at rest)."""
    parameters = inspect.signature(root.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return (*samples, *[None] * max(0, len(required) - len(samples)))


def trace_network(
    root: nn.Module,
    samples: Sequence[torch.Tensor],
    known: tuple[type, ...],
    states: Mapping[type, tuple[str, ...]],
) -> Wiring:
    """Run ``root`` on ``samples`` and find out how its layers are wired.

    Raises:
        UnsupportedNodeError: the wiring has no NIR form; all findings are listed.
        ConfigError: the network does not accept the samples.
    """
    layers = leaf_modules(root, known)

    def state_names(layer: nn.Module) -> tuple[str, ...]:
        return next((names for kind, names in states.items() if isinstance(layer, kind)), ())

    tracer = Tracer()
    handles = tracer.hooks(layers, state_names)
    try:
        results = [_forward(root, samples, tracer, STATIC)]
        neurons = [p for p in tracer.calls if state_names(layers[p])]
        counts = {path: len(calls) for path, calls in tracer.calls.items()}
        n_steps = min((counts[path] for path in neurons), default=1)
        loops = n_steps > 1
        if not loops:
            results += [_forward(root, samples, tracer, run) for run in range(1, RUNS)]
            n_steps = RUNS
    finally:
        for handle in handles:
            handle.remove()
    return _Analysis(tracer, layers, known, n_steps, loops).wiring(results[-1], samples)


def _forward(root: nn.Module, samples: Sequence[torch.Tensor], tracer: Tracer, step: int) -> Any:
    generator = torch.Generator().manual_seed(
        0
    )  # no zeros: a signal that got lost would look at rest
    own = [torch.rand(s.shape, generator=generator).to(s) + SHIFT for s in samples]
    for index, sample in enumerate(own):
        tracer.know(sample, InputStep(index, step))
    try:
        with torch.no_grad(), tracer.following():
            result = root(*call_arguments(root, own))
    except (RuntimeError, TypeError, IndexError, AttributeError, ValueError) as error:
        shapes = ", ".join(str(tuple(sample.shape)) for sample in samples)
        raise ConfigError(
            f"the network does not accept a sample_input of shape {shapes}: {error}. Give one step "
            f"(batch, *shape), or (n_steps, batch, *shape) if forward loops over time itself; further "
            f"arguments of forward are filled with None, or pass a tuple with all of them"
        ) from error
    return _exprs(tracer, result)


def _exprs(tracer: Tracer, result: Any) -> list[Expr]:
    """Expressions of all returned tensors, in order."""
    if isinstance(result, torch.Tensor):
        expr = tracer.expr(result)
        return [] if expr is None else [expr]
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        items = [_exprs(tracer, item) for item in result]
        steps = isinstance(result, list) and len(items) > 1 and all(len(i) == 1 for i in items)
        if steps and all(isinstance(i[0], (LayerOutput, State)) for i in items):
            return [Collected(tuple(i[0] for i in items), "stack")]
        return [expr for item in items for expr in item]
    return []


class _Analysis:
    """Collects findings while it turns calls into the wiring of one step."""

    def __init__(
        self,
        tracer: Tracer,
        layers: Mapping[str, nn.Module],
        known: tuple[type, ...],
        n_steps: int,
        loops: bool,
    ) -> None:
        self.tracer, self.layers, self.known = tracer, layers, known
        self.n_steps, self.loops = n_steps, loops
        self.findings: list[str] = []
        self.static = frozenset(
            path for path, calls in tracer.calls.items() if loops and len(calls) == 1
        )

    def wiring(self, result: Sequence[Expr], samples: Sequence[torch.Tensor]) -> Wiring:
        sources = {path: self._source(path, calls) for path, calls in self.tracer.calls.items()}
        outputs = tuple(self._readout(expr) for expr in result)
        for path, layer in self.layers.items():
            if path in self.tracer.calls and not isinstance(layer, self.known):
                kind = type(layer)
                self.findings.append(
                    f"layer '{path}' ({kind.__module__}.{kind.__qualname__}) is unknown"
                )
        for name, where in self._operations(sources, outputs):
            self.findings.append(
                f"operation '{name}' in front of {where} is no layer; allowed are additions, constant "
                f"factors and flattening"
            )
        if self.tracer.sliced and not self.loops:
            self.findings.append(
                "forward takes the input apart (x[...]) without a loop over at least two time steps; "
                "give a sample_input with two or more steps, or do it outside"
            )
        if not any(isinstance(e, InputStep) for s in sources.values() for e in leaves(s)):
            self.findings.append("no layer receives the input of forward")
        if not outputs:
            self.findings.append("forward returns nothing that a layer has sent")
        if self.findings:
            supported = ", ".join(sorted(kind.__name__ for kind in self.known))
            raise UnsupportedNodeError(
                bullet_list("the network cannot be expressed in NIR:", self.findings)
                + f"\nSupported layers: {supported}"
            )
        shapes = {path: calls[-1].shapes for path, calls in self.tracer.calls.items()}
        whole = {i: tuple(s.shape[1:]) for i, s in enumerate(samples)}
        inputs = {
            i: self.tracer.sliced[i][1] if i in self.tracer.sliced else whole[i] for i in whole
        }
        used = {
            e.index
            for s in (*sources.values(), *(o.source for o in outputs))
            for e in leaves(s)
            if isinstance(e, InputStep)
        }
        return Wiring(
            sources, shapes, {i: s for i, s in inputs.items() if i in used}, outputs,
            tuple(self.tracer.constants),
        )  # fmt: skip

    # --- sources ------------------------------------------------------------------------------

    def _source(self, path: str, calls: Sequence[Call]) -> Expr:
        """The relative expression that holds at every regular step."""
        zero: Expr = Sum(())
        exprs = [
            relative(zero if call.source is None else call.source, step, self.static)
            for step, call in enumerate(calls)
        ]
        self._states(path, calls)
        if path in self.static:
            if any(not self._constant(leaf) for leaf in leaves(exprs[0])):
                self._used(path, 1)
            return exprs[0]
        regular = exprs[1] if len(exprs) > 1 else exprs[0]
        if len(calls) != self.n_steps:
            per_step = len(calls) // self.n_steps if len(calls) % self.n_steps == 0 else len(calls)
            self._used(path, per_step)
        elif any(e != regular for e in exprs[1:]) or without_past(exprs[0]) != without_past(
            regular
        ):
            self._used(path, self.n_steps)
        elif any(offset not in (0, -1) for offset in self._offsets(regular)):
            self.findings.append(
                f"layer '{path}' receives what a layer sent more than one step before; put the steps "
                f"between into neurons, or use a delay behind the export"
            )
        return regular

    def _constant(self, leaf: Expr) -> bool:
        return isinstance(leaf, InputStep) or (
            isinstance(leaf, LayerOutput) and leaf.path in self.static
        )

    def _used(self, path: str, uses: int) -> None:
        steps = (
            f" in {self.n_steps} steps, or fed differently from step to step" if self.loops else ""
        )
        self.findings.append(
            f"layer '{path}' is used {uses} times{steps}; give each use its own module"
        )

    def _states(self, path: str, calls: Sequence[Call]) -> None:
        if any(call.fresh for call in calls[1:]):
            self.findings.append(
                f"layer '{path}' starts each step from rest, so it has no memory: if forward makes the "
                f"states (init_leaky, zeros), the loop over time must be in the same forward; else pass "
                f"the last states in"
            )
        foreign = sorted({_told(expr) for call in calls for expr in call.foreign})
        if foreign:
            self.findings.append(
                f"layer '{path}' is given {', '.join(foreign)} instead of its own last state"
            )

    @staticmethod
    def _offsets(expr: Expr) -> set[int]:
        found = set()
        for leaf in leaves(expr):
            if isinstance(leaf, InputStep):
                found.add(leaf.step)
            elif isinstance(leaf, (LayerOutput, State)):
                found.add(leaf.call)
        return found

    # --- outputs ------------------------------------------------------------------------------

    def _readout(self, expr: Expr) -> Readout:
        how, inner = "step" if not self.loops else "last", expr
        scaled = False
        while isinstance(inner, Scaled) and self._steps_of(inner.of):
            inner, scaled = inner.of, True
        items = self._steps_of(inner)
        if items:
            how = inner.how if isinstance(inner, Collected) else "sum"
            relatives = [relative(item, step, self.static) for step, item in items]
            if any(r != relatives[-1] for r in relatives[1:]):
                self.findings.append("the forward returns different layers at different steps")
            return Readout(relatives[-1], "mean" if scaled else how)
        return Readout(relative(expr, self.n_steps - 1, self.static), how)

    def _steps_of(self, expr: Expr) -> list[tuple[int, Expr]]:
        """(step, expression) of something that was collected over the steps of the loop."""
        if not self.loops or not isinstance(expr, (Collected, Sum)):
            return []
        items = expr.items if isinstance(expr, Collected) else expr.terms
        steps = [self._offsets(item) for item in items]
        if any(len(s) != 1 for s in steps) or len({min(s) for s in steps}) != len(items):
            return []
        found = sorted(((min(s), item) for s, item in zip(steps, items)), key=lambda pair: pair[0])
        return found if len(found) > 1 else []

    def _operations(
        self, sources: Mapping[str, Expr], outputs: Sequence[Readout]
    ) -> list[tuple[str, str]]:
        found = []
        for where, expr in (
            *((f"layer '{path}'", e) for path, e in sources.items()),
            *(("the output", o.source) for o in outputs),
        ):
            found += [(name, where) for name in _unsaid(expr)]
        return list(dict.fromkeys(found))


def _unsaid(expr: Expr) -> list[str]:
    """Names of operations inside an expression that have no NIR form."""
    if isinstance(expr, Operation):
        return [expr.name]
    if isinstance(expr, Collected):
        return [expr.how]
    if isinstance(expr, Sum):
        return [name for term in expr.terms for name in _unsaid(term)]
    return _unsaid(expr.of) if hasattr(expr, "of") else []


def _told(expr: Expr) -> str:
    if isinstance(expr, State):
        return f"the state '{expr.name}' of '{expr.path}'"
    return f"'{expr.name}'" if isinstance(expr, Operation) else "a signal"
