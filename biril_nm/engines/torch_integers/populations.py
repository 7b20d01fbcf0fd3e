"""Populations in torch: the step that a compartment model declares, on tensors of 64-bit integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biril_nm.arrays import Shape
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
        kept = tuple(word.to(before.dtype) for word, before in zip(after, state))
        return kept, spikes.to(torch.int8)


def make_population(graph: LoihiGraph, name: str, device: torch.device) -> Population:
    """Prepare one Neurons node.

    Raises:
        ConfigError: the step of its model does not run on tensors, or gives other integers there.
    """
    node = graph.neurons[name]
    model = node.compartment
    arrays = [np.asarray(each, dtype=np.int64) for each in model.prepare(node.registers)]
    _check_step(name, model, [int(each.flat[0]) for each in arrays if each.size])
    constants = (torch.from_numpy(np.array(each)).to(device) for each in arrays)
    return Population(node.shape, model, tuple(constants))


def _check_step(name: str, model: CompartmentModel, constants: list[int]) -> None:
    """Hold some steps on tensors against the same on Python integers."""
    try:
        same = _on_tensors(model, constants) == _on_integers(model, constants)
    except Exception as error:  # a step is code of users, and may do anything
        raise ConfigError(_refusal(name, model, f"{type(error).__name__}: {error}")) from error
    if not same:
        raise ConfigError(_refusal(name, model, "it gives other integers"))


def _on_integers(model: CompartmentModel, constants: list[int]) -> list[list[int]]:
    found = []
    for a in PROBES:
        state: tuple[Any, ...] = (0,) * len(model.state)
        for _ in range(2):
            state, spike = model.step(a, state, tuple(constants))
            found.append([*map(int, state), int(spike)])
    return found


def _on_tensors(model: CompartmentModel, constants: list[int]) -> list[list[int]]:
    a = torch.tensor(PROBES)
    state: tuple[Any, ...] = tuple(torch.zeros_like(a) for _ in model.state)
    rows = []
    for _ in range(2):
        state, spike = model.step(a, state, tuple(torch.tensor(each) for each in constants))
        rows.append(torch.stack([word.expand(a.shape) for word in (*state, spike)], dim=-1))
    return torch.stack(rows, dim=1).flatten(0, 1).tolist()


def _refusal(name: str, model: CompartmentModel, reason: str) -> str:
    return (
        f"population '{name}' has compartment model '{model.name}', whose step does not run on tensors "
        f"({reason}); expected integer arithmetic without branches, as in cuba_lif. Use the engine 'sim'"
    )
