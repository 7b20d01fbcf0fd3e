"""Taps: where training takes hold of a network while it runs, between its layers.

A learning method that does not send gradients from layer to layer opens taps around a forward pass; they
hold for every way of running a network (:mod:`biril_nm.models.running`), folded or step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["WEIGHTED", "Taps", "current_taps", "forget", "tapped", "without_history"]

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Taps:
    """Functions that a run calls.

    Attributes:
        spikes: ``(population, spikes) -> spikes``: what goes on to the layers behind. Spikes are
            ``(n_steps, batch, ...)``; a run step by step calls it at each step, with one step.
        weighted: ``(layer, x, output) -> output`` for each call of a weight layer, whose output was computed
            from ``x`` without a path for gradients.
        one_step: no gradient flows inside a population from one step to the one before.
    """

    spikes: Callable[[str, Tensor], Tensor] | None = None
    weighted: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None
    one_step: bool = False


CLOSED = Taps()
_taps: ContextVar[Taps] = ContextVar("taps", default=CLOSED)


@contextmanager
def tapped(taps: Taps) -> Iterator[None]:
    """Open taps for the runs inside."""
    token = _taps.set(taps)
    try:
        yield
    finally:
        _taps.reset(token)


def current_taps() -> Taps:
    """The taps that are open."""
    return _taps.get()


def forget(neuron: nn.Module) -> None:
    """Cut the states of ``neuron`` from the steps before; their values stay."""
    for name, value in {**vars(neuron), **neuron._buffers}.items():
        if isinstance(value, Tensor) and value.grad_fn is not None:
            setattr(neuron, name, value.detach())


def without_history(states: Iterable[Any]) -> tuple[Any, ...]:
    """States that a neuron takes as arguments, or returns, cut from the steps before."""
    return tuple(x.detach() if isinstance(x, Tensor) else x for x in states)
