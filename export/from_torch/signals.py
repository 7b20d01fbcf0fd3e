"""What a traced tensor stands for: which layer sent it at which step, and what was done to it.

Expressions are immutable and compared by value, so that the wiring of one time step can be compared
with that of the next. ``call`` counts the uses of a layer from 0; :func:`relative` replaces it by
the distance to the current step: 0 is this step, -1 the previous one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Union

from biril_nm.arrays import Shape

__all__ = [
    "STATIC",
    "Applied",
    "Collected",
    "Either",
    "Expr",
    "InputStep",
    "LayerOutput",
    "Operation",
    "Permuted",
    "Scaled",
    "State",
    "Sum",
    "add",
    "leaves",
    "of_one_step",
    "relative",
    "without_past",
]

STATIC = -1  # step of an input that is the same at every step


@dataclass(frozen=True)
class InputStep:
    """The input at one step (or at all, :data:`STATIC`)."""

    index: int
    step: int


@dataclass(frozen=True)
class LayerOutput:
    """What a layer sent at one of its calls; of a neuron layer its spikes."""

    path: str
    call: int


@dataclass(frozen=True)
class State:
    """A state (mem, syn) that a neuron layer returned or kept."""

    path: str
    name: str
    call: int


@dataclass(frozen=True)
class Sum:
    """Elementwise sum of the terms; the empty sum is zero."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True)
class Applied:
    """A signal through a layer without states, given as its number in the tracer's list of functions."""

    of: Expr
    function: int
    in_shape: Shape
    shape: Shape


@dataclass(frozen=True)
class Scaled:
    """A signal times a constant, given as its number in the tracer's list of constants."""

    of: Expr
    constant: int
    shape: Shape


@dataclass(frozen=True)
class Either:
    """1 where a sum of spikes is above 0, else 0: the largest of some spikes; needs neurons of its own."""

    of: Expr
    label: str
    shape: Shape


@dataclass(frozen=True)
class Collected:
    """Steps put together behind the network: ``how`` is stack, cat, sum or mean; ``dim`` counts the steps."""

    items: tuple[Expr, ...]
    how: str
    dim: int = 0


@dataclass(frozen=True)
class Operation:
    """Anything else that was done to signals; an error where a layer receives it."""

    name: str
    of: tuple[Expr, ...]


@dataclass(frozen=True)
class Permuted(Operation):
    """A whole input with its dimensions in another order, until one step is taken out of it.

    ``instead``: the same where the input is one step, of which the order of values has changed.
    """

    dims: tuple[int, ...] = ()
    instead: Expr | None = None


Expr = Union[InputStep, LayerOutput, State, Sum, Applied, Scaled, Either, Collected, Operation]
_OF_ONE = (Applied, Scaled, Either)


def add(*terms: Expr) -> Expr:
    """Sum without nesting, in a fixed order."""
    flat: list[Expr] = []
    for term in terms:
        flat += term.terms if isinstance(term, Sum) else (term,)
    return flat[0] if len(flat) == 1 else Sum(tuple(sorted(flat, key=repr)))


def leaves(expr: Expr) -> Iterator[Expr]:
    """All inputs, layer outputs and states that an expression is made of."""
    if isinstance(expr, (InputStep, LayerOutput, State)):
        yield expr
    else:
        for part in _parts(expr):
            yield from leaves(part)


def _parts(expr: Expr) -> tuple[Expr, ...]:
    if isinstance(expr, Sum):
        return expr.terms
    if isinstance(expr, Collected):
        return expr.items
    if isinstance(expr, Operation):
        return expr.of
    return (expr.of,) if isinstance(expr, _OF_ONE) else ()


def relative(expr: Expr, step: int, static: frozenset[str] = frozenset()) -> Expr:
    """The expression as seen from ``step``; layers in ``static`` send the same at every step."""
    if isinstance(expr, InputStep):
        return InputStep(expr.index, 0 if expr.step == STATIC else expr.step - step)
    if isinstance(expr, LayerOutput):
        return LayerOutput(expr.path, 0 if expr.path in static else expr.call - step)
    if isinstance(expr, State):
        return State(expr.path, expr.name, expr.call - step)
    parts = tuple(relative(part, step, static) for part in _parts(expr))
    return _rebuilt(expr, parts)


def of_one_step(expr: Expr) -> Expr:
    """The expression in a forward of one step, of whose input no step is taken out."""
    if isinstance(expr, Permuted) and expr.instead is not None:
        return expr.instead
    return _rebuilt(expr, tuple(of_one_step(part) for part in _parts(expr)))


def without_past(expr: Expr) -> Expr:
    """A relative expression without what comes from earlier steps: zero there at the first step."""
    if isinstance(expr, InputStep):
        return expr if expr.step >= 0 else Sum(())
    if isinstance(expr, (LayerOutput, State)):
        return expr if expr.call >= 0 else Sum(())
    parts = tuple(without_past(part) for part in _parts(expr))
    kept = tuple(part for part in parts if part != Sum(()))
    return _rebuilt(expr, kept) if kept else Sum(())


def _rebuilt(expr: Expr, parts: tuple[Expr, ...]) -> Expr:
    if isinstance(expr, Sum):
        return add(*parts) if parts else Sum(())
    if isinstance(expr, Collected):
        return replace(expr, items=parts)
    if isinstance(expr, Operation):
        return replace(expr, of=parts)
    return replace(expr, of=parts[0]) if isinstance(expr, _OF_ONE) else expr
