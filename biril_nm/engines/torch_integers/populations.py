"""Populations in torch: the step that a compartment model declares, on tensors of 64-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biril_nm.arrays import IntArray, Shape
from biril_nm.compartments import CompartmentModel
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph

__all__ = ["Population", "make_population"]

PROBES = (0, -1, 3, 700, -90_000, 1 << 20)  # inputs for which a step is tried
WORDS = (torch.int32, torch.int32)  # u and v; further words have 64 bits


@dataclass(frozen=True, eq=False)
class Population:
    """One Neurons node.

    Attributes:
        shape: of the node.
        model: whose step it runs.
        constants: of the step, int64, one for all neurons or one for each.
    """

    shape: Shape
    model: CompartmentModel
    constants: tuple[Tensor, ...]

    def at_rest(self, batch: int) -> tuple[Tensor, ...]:
        """State words of samples at rest, ``(batch, *shape)``."""
        more = len(self.model.state) - len(WORDS)
        device = self.constants[0].device
        return tuple(
            torch.zeros((batch, *self.shape), dtype=kind, device=device)
            for kind in (*WORDS, *[torch.int64] * more)
        )

    def step(self, a: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """New state words, and spikes as bytes, for what arrives, int32 ``(batch, *shape)``."""
        wide = tuple(word.to(torch.int64) for word in state)
        after, spikes = self.model.step(a.to(torch.int64), wide, self.constants)
        kept = (word.to(old.dtype).expand(a.shape) for word, old in zip(after, state))
        return tuple(kept), spikes.to(torch.int8).expand(a.shape)


def make_population(graph: LoihiGraph, name: str, device: torch.device) -> Population:
    """Prepare one Neurons node.

    Raises:
        ConfigError: the step of its model does not run on tensors, or gives other integers there.
    """
    node = graph.neurons[name]
    model = node.compartment
    arrays = [np.asarray(each, dtype=np.int64) for each in model.prepare(node.registers)]
    constants = tuple(torch.from_numpy(np.array(each)).to(device) for each in arrays)
    _check_step(name, model, arrays, device)
    return Population(node.shape, model, constants)


def _check_step(
    name: str, model: CompartmentModel, arrays: list[IntArray], device: torch.device
) -> None:
    """Hold some steps of some neurons on tensors against the same on Python integers."""
    places = _extremes(arrays)
    chosen = [each if each.ndim == 0 else each.ravel()[places] for each in arrays]
    try:
        found = _on_tensors(model, chosen, len(places), device)
        same = found == _on_integers(model, chosen, len(places))
    except Exception as error:  # a step is code of users, and may do anything
        raise ConfigError(_refusal(name, model, f"{type(error).__name__}: {error}")) from error
    if not same:
        raise ConfigError(_refusal(name, model, "it gives other integers"))


def _extremes(arrays: list[IntArray]) -> list[int]:
    """Neurons with the smallest and the largest of each constant; the first where all are alike."""
    found = {int(at) for each in arrays if each.ndim for at in (each.argmin(), each.argmax())}
    return sorted(found) or [0]


def _on_integers(model: CompartmentModel, constants: list[IntArray], n: int) -> list[list[int]]:
    found = []
    for a in PROBES:
        states: list[tuple[Any, ...]] = [(0,) * len(model.state)] * n
        for _ in range(2):
            for i, state in enumerate(states):
                own = tuple(int(each if each.ndim == 0 else each[i]) for each in constants)
                states[i], spike = model.step(a, state, own)
                found.append([*map(int, states[i]), int(spike)])
    return found


def _on_tensors(
    model: CompartmentModel, constants: list[IntArray], n: int, device: torch.device
) -> list[list[int]]:
    a = torch.tensor(PROBES, device=device)[:, None].expand(-1, n).contiguous()
    known = tuple(torch.from_numpy(np.array(each)).to(device) for each in constants)
    state: tuple[Any, ...] = tuple(torch.zeros_like(a) for _ in model.state)
    rows = []
    for _ in range(2):
        state, spike = model.step(a, state, known)
        rows.append(torch.stack([word.expand(a.shape) for word in (*state, spike)], dim=-1))
    return torch.stack(rows, dim=1).flatten(0, 2).tolist()


def _refusal(name: str, model: CompartmentModel, reason: str) -> str:
    return (
        f"population '{name}' has compartment model '{model.name}', whose step does not run on tensors "
        f"({reason}); expected integer arithmetic without branches, as in cuba_lif. Use the engine 'sim'"
    )
