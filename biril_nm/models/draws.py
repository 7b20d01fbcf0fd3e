"""Generators of random numbers that a network may draw from: their states, to compare and to put back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Draws"]

State = tuple[Callable[[], Any], Callable[[Any], Any]]  # how to read and how to set it


class Draws:
    """The states of all generators within reach of a network's forward.

    Those of Python, NumPy and torch, and generators that are attributes of a module or stand in the file of
    its class.
    """

    def __init__(self, net: nn.Module) -> None:
        self._states = list(_states(net))
        self.note()

    def note(self) -> None:
        """Take the states as they are now."""
        self._kept = [(state, _copied(state[0]())) for state in self._states]

    def made(self) -> bool:
        """Whether a number was drawn since."""
        return any(not _same(read(), kept) for (read, _), kept in self._kept)

    def restore(self) -> None:
        """Put all back as they were."""
        for (read, put), kept in self._kept:
            if not _same(read(), kept):
                put(_copied(kept))


def _states(net: nn.Module) -> Iterator[State]:
    yield random.getstate, random.setstate
    yield np.random.get_state, np.random.set_state
    yield torch.random.get_rng_state, torch.random.set_rng_state
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        yield torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all
    kinds = {
        type(module) for module in net.modules()
    }  # scripted ones have no forward of their class
    files = {kind: getattr(getattr(kind, "forward", None), "__globals__", {}) for kind in kinds}
    holders = [vars(module) for module in net.modules()] + list(files.values())
    for value in {id(v): v for held in holders for v in list(held.values())}.values():
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            yield partial(getattr, bits, "state"), partial(setattr, bits, "state")
        elif isinstance(value, (np.random.RandomState, torch.Generator)):
            yield value.get_state, value.set_state
        elif isinstance(value, random.Random):
            yield value.getstate, value.setstate


def _copied(state: Any) -> Any:
    if isinstance(state, (Tensor, np.ndarray)):
        return state.clone() if isinstance(state, Tensor) else state.copy()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state


def _same(state: Any, kept: Any) -> bool:
    if isinstance(state, Tensor):
        return torch.equal(state, kept)
    if isinstance(state, np.ndarray):
        return np.array_equal(state, kept)
    if isinstance(state, dict):
        return all(_same(value, kept[key]) for key, value in state.items())
    if isinstance(state, (list, tuple)):
        return len(state) == len(kept) and all(_same(a, b) for a, b in zip(state, kept))
    return bool(state == kept)
