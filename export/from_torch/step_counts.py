"""A forward that is told its number of steps: ``forward(x, num_steps)``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.from_torch.sizes import Graph, repeated, same_graph
from biril_nm.export.from_torch.wiring import Wiring
from biril_nm.models.carried import positional_arguments

__all__ = ["trace_counted"]

COUNTS = (2, 3)

Samples = list[torch.Tensor]
Found = tuple[Wiring, Samples]


def trace_counted(
    root: nn.Module,
    samples: Samples,
    refusal: ConfigError,
    trace: Callable[[nn.Module, Samples], Found],
    build: Callable[[Wiring], Graph],
) -> Found:
    """The wiring of a forward that requires one argument more than its inputs, if that counts the steps.

    From here on ``root``, a copy, is called with that argument.

    Args:
        root: the network.
        samples: its inputs.
        refusal: what was wrong with it without that argument.
        trace: finds the wiring, and the samples that showed it.
        build: makes the graph of a wiring.

    Raises:
        ConfigError: ``refusal``: it is no number of steps.
        UnsupportedNodeError: another number of steps is another network.
    """
    required, _ = positional_arguments(root)
    if len(required) != len(samples) + 1:
        raise refusal
    told = _Told(root, required[-1], refusal, trace)
    first, samples = told.of(COUNTS[0], samples)
    samples = [_longer(s, first.time_axes.get(i)) for i, s in enumerate(samples)]
    graphs = []
    for count in COUNTS:
        found, samples = told.of(count, samples)
        graphs.append(build(found))
    if not same_graph(*graphs):
        raise UnsupportedNodeError(
            f"the forward does something else where '{required[-1]}' is {COUNTS[0]} than where it is "
            f"{COUNTS[1]}; expected the same for any number of steps. Give it a default if it is no number "
            f"of steps"
        )
    return found, samples


class _Told:
    """A network whose forward is told a number of steps, to be traced."""

    def __init__(
        self, root: nn.Module, name: str, refusal: ConfigError, trace: Callable[..., Found]
    ) -> None:
        self.root, self.name, self.refusal, self.trace = root, name, refusal, trace
        self.forward = root.forward

    def of(self, count: int, samples: Sequence[torch.Tensor]) -> Found:
        """The wiring with that number; refused if the loop has another."""
        told: Any = functools.partial(self.forward, **{self.name: count})
        cast(Any, self.root).forward = told
        try:
            found = self.trace(self.root, list(samples))
        except ConfigError:
            raise self.refusal from None
        if found[0].n_steps != count:
            raise self.refusal
        return found


def _longer(sample: torch.Tensor, axis: int | None) -> torch.Tensor:
    """The sample with as many steps as are counted at most."""
    if axis is None or sample.shape[axis] >= max(COUNTS):
        return sample
    return repeated(sample, axis, max(COUNTS))
