"""Forwards with a loop over the steps of their own: the order of dimensions that they take and return."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from biril_nm.errors import ConfigError
from biril_nm.models.returned import first_of

__all__ = ["AXES", "LOOPS", "OwnLoop", "given", "is_of_all", "spikes_of"]

# The dimension of the steps in what a forward takes.
AXES = {"steps": 0, "samples": 1, "last": -1}
# What a forward with a loop may take, in the order in which it is tried.
LOOPS = ("steps", "samples", "image", "last")


@dataclass(frozen=True)
class OwnLoop:
    """How a forward with a loop over the steps is called.

    Attributes:
        given: input ``(n_steps, batch, ...)`` to its arguments.
        arranged: its first result to ``(n_steps, batch, ...)``.
        name: of the two.
    """

    given: Callable[[Tensor], tuple[Any, ...]]
    arranged: Callable[[Tensor], Tensor]
    name: Hashable

    def run(self, net: nn.Module, x: Tensor) -> Tensor:
        """The first result of ``net`` for ``x``."""
        return self.arranged(spikes_of(net, net(*self.given(x))))


def given(x: Tensor, takes: str) -> Tensor:
    """All steps in the order that a forward takes them in, or the first one."""
    return x.movedim(0, AXES[takes]).contiguous() if takes in AXES else x[0]


def is_of_all(shape: tuple[int, ...], n_steps: int, batch: int) -> bool:
    """Whether this is the shape of an output of all steps and samples, or of all samples."""
    if len(shape) == 2:
        return shape[0] == batch
    return len(shape) == 3 and shape[:2] in ((n_steps, batch), (batch, n_steps))


def spikes_of(net: nn.Module, result: Any) -> Tensor:
    """The first tensor that a forward returned.

    Raises:
        ConfigError: it returned something else first.
    """
    found = first_of(result)
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"{type(net).__name__} returns a {type(found).__name__}; expected a tensor of spikes, or a tuple "
            f"or list that begins with it. Return the spikes first"
        )
    return found
