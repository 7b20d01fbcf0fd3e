"""The first difference between two recordings: integer by integer, earliest step first.

Names and shapes are compared before values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.errors import ParityError
from biril_nm.recording import LEARNING_VARIABLES, Recording

__all__ = ["Mismatch", "compare", "compare_learning", "count_integers"]

LEARNING_CAUSE_FIRST = ("x1", "x2", "y1", "y2", "y3", "d", "t", "w")
CAUSE_FIRST = ("u", "v", "s")  # within one step a wrong u causes a wrong v, that a wrong s


@dataclass(frozen=True)
class Mismatch:
    """The first difference between two engines, in node time.

    Attributes:
        engines: names of both engines.
        node: Neurons node, or plastic connection.
        variable: s, u or v, or one of the connection's.
        step: step within the sample, from 1; of a plastic connection the chip step.
        sample: sample within the batch, from 0.
        neuron: flat index within the node, torch order; of a plastic connection the synapse or trace.
        values: what each engine has there.
    """

    engines: tuple[str, str]
    node: str
    variable: str
    step: int
    sample: int
    neuron: int
    values: tuple[int, int]

    def __str__(self) -> str:
        a, b = self.engines
        if self.variable in LEARNING_VARIABLES:
            return (
                f"{self.node}: {self.variable} differs first at chip step {self.step}, element "
                f"{self.neuron}: {a} {self.values[0]}, {b} {self.values[1]}"
            )
        return (
            f"{self.node}: {self.variable} differs first at step {self.step}, sample {self.sample}, "
            f"neuron {self.neuron}: {a} {self.values[0]}, {b} {self.values[1]}"
        )


class Difference(NamedTuple):
    """Where two arrays differ first, and what each has there."""

    step: int
    sample: int
    place: int
    values: tuple[int, int]


@checked
def compare(
    name_a: str, a: Recording, name_b: str, b: Recording, order: Sequence[str]
) -> Mismatch | None:
    """First difference between two recordings: earliest step, then node order, then u, v, s.

    Raises:
        ParityError: the recordings have other nodes, variables or shapes.
    """
    if set(a) != set(b):
        raise ParityError(f"{name_a} recorded nodes {sorted(a)}, {name_b} {sorted(b)}")
    found: list[tuple[tuple[int, int, int], Mismatch]] = []
    for rank, node in enumerate(name for name in order if name in a):
        ours, theirs = a[node].variables(), b[node].variables()
        if _shapes(ours) != _shapes(theirs):
            raise ParityError(
                f"{node}: {name_a} recorded {_shapes(ours)}, {name_b} {_shapes(theirs)}"
            )
        for cause, variable in enumerate(v for v in CAUSE_FIRST if v in ours):
            first = _first_difference(ours[variable], theirs[variable])
            if first is not None:
                mismatch = _mismatch((name_a, name_b), node, variable, first)
                found.append(((first.step, rank, cause), mismatch))
    return min(found, key=lambda item: item[0])[1] if found else None


@checked
def compare_learning(name_a: str, a: Recording, name_b: str, b: Recording) -> Mismatch | None:
    """First difference between the plastic connections of two runs: earliest chip step first.

    Weights and tags that exist in one run only (a tag that no rule uses) are not compared.

    Raises:
        ParityError: the recordings have other connections or shapes.
    """
    if set(a.connections) != set(b.connections):
        raise ParityError(
            f"{name_a} recorded connections {sorted(a.connections)}, {name_b} {sorted(b.connections)}"
        )
    found: list[Mismatch] = []
    for name in a.connections:
        ours, theirs = a.connections[name].variables(), b.connections[name].variables()
        for variable in (v for v in LEARNING_CAUSE_FIRST if v in ours and v in theirs):
            x, y = ours[variable], theirs[variable]
            if x.shape != y.shape:
                raise ParityError(
                    f"{name}: {variable} has shape {x.shape} in {name_a}, {y.shape} in {name_b}"
                )
            first = _first_difference(x[:, np.newaxis], y[:, np.newaxis])
            if first is not None:
                found.append(_mismatch((name_a, name_b), name, variable, first))
    return min(found, key=lambda mismatch: mismatch.step) if found else None


def count_integers(recording: Recording) -> int:
    """Number of recorded integers."""
    recorded = [node.variables() for node in recording.values()]
    recorded += [connection.variables() for connection in recording.connections.values()]
    return sum(array.size for variables in recorded for array in variables.values())


def _shapes(variables: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in variables.items()}


def _mismatch(engines: tuple[str, str], name: str, variable: str, first: Difference) -> Mismatch:
    return Mismatch(
        engines, name, variable, first.step + 1, first.sample, first.place, first.values
    )


def _first_difference(a: NDArray[Any], b: NDArray[Any]) -> Difference | None:
    """Of arrays ``(n_steps, batch, *shape)``."""
    different = (a != b).reshape(a.shape[0], a.shape[1], -1)
    steps = np.flatnonzero(different.any(axis=(1, 2)))
    if steps.size == 0:
        return None
    step = int(steps[0])
    sample, place = (int(i[0]) for i in np.nonzero(different[step]))
    x, y = (int(array[step, sample].reshape(-1)[place]) for array in (a, b))
    return Difference(step, sample, place, (x, y))
