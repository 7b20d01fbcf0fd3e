"""Running the user's forward under the tracer: one step several times, or its own loop once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import nn

from biril_nm.errors import BirilError, ConfigError, UnsupportedNodeError
from biril_nm.export.from_torch.module import (
    isolated,
    leaf_modules,
    objection,
)
from biril_nm.export.from_torch.origins import Origins
from biril_nm.export.from_torch.registry import state_names
from biril_nm.export.from_torch.signals import (
    STATIC,
    Collected,
    Expr,
    InputStep,
    LayerOutput,
    State,
)
from biril_nm.export.from_torch.steady import (
    changed_values,
    check_notes,
    check_weights,
    counters,
    move_on,
    refuse_global_hooks,
    stored_weights,
    weights_of,
)
from biril_nm.export.from_torch.tracer import Tracer
from biril_nm.export.from_torch.wiring import Analysis, ForgetfulStepError, Wiring, refusal_of
from biril_nm.models.carried import positional_arguments

__all__ = ["call_arguments", "returned_states", "trace_network"]

RUNS = 3
SHIFT = 0.5


def call_arguments(root: nn.Module, samples: Sequence[Any], states: Any = None) -> tuple[Any, ...]:
    """``samples`` and the states, or None for each further argument that forward requires (at rest)."""
    if states is not None:
        return (*samples, *states)
    required, _ = positional_arguments(root)
    return (*samples, *[None] * max(0, len(required) - len(samples)))


def returned_states(root: nn.Module, samples: Sequence[Any], result: Any) -> tuple[Any, ...] | None:
    """What forward returns behind its signal, if it is as much as it takes behind ``samples``."""
    required, optional = positional_arguments(root)
    further = len(required) + len(optional) - len(samples)
    if further < 1 or not isinstance(result, (tuple, list)) or len(result) != 1 + further:
        return None
    return tuple(result[1:])


def trace_network(root: nn.Module, samples: Sequence[torch.Tensor]) -> Wiring:
    """Run copies of ``root`` on ``samples`` and find out how its layers are wired.

    Raises:
        UnsupportedNodeError: the wiring has no NIR form; all findings are listed.
        ConfigError: the network does not accept the samples.
    """
    try:
        return _with_states(root, samples, parts=False)
    except _NoLoopError:
        return _with_states(root, samples, parts=True)


class _NoLoopError(Exception):
    """``x[:, n]`` in a forward of one step, which takes a part of each sample and no step."""


def _with_states(root: nn.Module, samples: Sequence[torch.Tensor], parts: bool) -> Wiring:
    try:
        return _traced(copy.deepcopy(root), samples, pass_states=False, parts=parts)
    except ForgetfulStepError as refusal:
        try:
            return _traced(copy.deepcopy(root), samples, pass_states=True, parts=parts)
        except BirilError:
            raise UnsupportedNodeError(str(refusal)) from None


def _traced(
    root: nn.Module, samples: Sequence[torch.Tensor], pass_states: bool, parts: bool
) -> Wiring:
    refuse_global_hooks()
    layers = leaf_modules(root)
    tracer = Tracer(Origins(parts))
    handles = tracer.hooks(layers)
    states = None
    notes: dict[str, list[str]] = {}
    try:
        with isolated(root):
            stored = stored_weights(layers)
            result = _forward(root, samples, tracer, STATIC)
            weights = weights_of(layers)
            calls = [len(c) for path, c in tracer.calls.items() if state_names(layers[path])]
            if max(calls, default=1) == 1 and _has_parts(tracer, samples):
                raise _NoLoopError
            n_steps = tracer.input_steps or min(calls, default=1)
            loops = n_steps > 1
            if not loops:
                result, states = _more_steps(root, samples, tracer, (result, notes), pass_states)
            later = weights_of(layers)
    finally:
        for handle in handles:
            handle.remove()
    found = Analysis(tracer, layers, n_steps if loops else RUNS, loops)
    wiring = found.wiring(_exprs(tracer, result), samples)
    check_weights(changed_values(stored, weights) | changed_values(weights, later) | tracer.changed)
    check_notes(notes)
    layers = dict(root.named_modules())
    axes = {index: axis for index, (axis, _) in tracer.origins.sliced.items()} if loops else {}
    return replace(
        wiring,
        layers=layers,
        takes_states=states is not None,
        loops=loops,
        time_axes=axes,
        n_steps=n_steps if loops else 1,
    )


def _has_parts(tracer: Tracer, samples: Sequence[torch.Tensor]) -> bool:
    """Whether the forward takes an input apart along a dimension that is neither samples nor one step."""
    axes = [(index, axis) for index, (axis, _) in tracer.origins.sliced.items()]
    return bool(axes) and all(axis > 0 and samples[index].shape[axis] > 1 for index, axis in axes)


def _more_steps(
    root: nn.Module,
    samples: Sequence[torch.Tensor],
    tracer: Tracer,
    first: tuple[Any, dict[str, list[str]]],
    pass_states: bool,
) -> tuple[Any, Any]:
    """Run the steps behind the first, the last as if much later; its result and the states it was given.

    ``first`` is the result of the first step, and where to note what is done with counts of steps.
    """
    (result, notes), states = first, None
    counted = counters(root, tracer.origins)
    for run in range(1, RUNS):
        states = returned_states(root, samples, result) if pass_states else None
        moved = []
        if run == RUNS - 1:
            now = counters(root, tracer.origins)
            moved = move_on(root, counted, now, notes, tracer.counts)
        try:
            result = _forward(root, samples, tracer, run, states)
        except ConfigError as error:
            if not moved:
                raise
            names = ", ".join(f"'{name}'" for name in moved)
            raise UnsupportedNodeError(
                f"the forward counts its steps in {names} and fails at a later one ({error.__cause__}); "
                f"expected the same at every step. Take out what depends on the step"
            ) from error
    return result, states


def _forward(
    root: nn.Module, samples: Sequence[torch.Tensor], tracer: Tracer, step: int, states: Any = None
) -> Any:
    # No zeros: a signal that got lost would look like one at rest.
    generator = torch.Generator().manual_seed(0)
    own = [torch.rand(s.shape, generator=generator).to(s) + SHIFT for s in samples]
    for index, sample in enumerate(own):
        tracer.origins.know(sample, InputStep(index, step))
    try:
        with torch.no_grad(), tracer.following():
            return root(*call_arguments(root, own, states))
    except BirilError:
        raise
    except Exception as error:  # whatever the user's forward raises
        _refuse_unknown(root, tracer)
        shapes = ", ".join(str(tuple(sample.shape)) for sample in samples)
        where = f" in layer '{tracer.failing}'" if tracer.failing else ""
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"the network does not accept a sample_input of shape {shapes} ({type(error).__name__}{where}: "
            f"{reason}); expected one step (batch, *shape), or (n_steps, batch, *shape) if forward loops "
            f"over time itself. Further arguments of forward are filled with None, or with the number of "
            f"steps if there is one: give others that are no input a default, and pass several inputs as a "
            f"tuple"
        ) from error


def _refuse_unknown(root: nn.Module, tracer: Tracer) -> None:
    """An unknown layer is the likely reason of an error behind it."""
    layers = dict(root.named_modules())
    findings = [f"layer '{p}' {why}" for p in tracer.entered if (why := objection(layers[p]))]
    if findings:
        raise refusal_of(findings)


def _exprs(tracer: Tracer, result: Any) -> list[Expr]:
    """Expressions of all returned tensors, in order; a list of one layer's steps is a stack."""
    if isinstance(result, torch.Tensor):
        expr = tracer.origins.expr(result)
        return [] if expr is None else [expr]
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if is_dataclass(result) and not isinstance(result, type):
        result = tuple(vars(result).values())
    if not isinstance(result, (tuple, list)):
        return []
    items = [_exprs(tracer, item) for item in result]
    flat = [expr for item in items for expr in item]
    signals = [expr for expr in flat if isinstance(expr, (LayerOutput, State))]
    alike = len({(type(signal), signal.path) for signal in signals}) == 1
    if isinstance(result, list) and len(flat) == len(signals) == len(items) > 1 and alike:
        return [Collected(tuple(flat), "stack")]
    return flat
