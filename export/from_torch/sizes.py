"""A forward that looks at the size of its input: it is traced with other sizes, which must give the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from biril_nm.errors import BirilError, ConfigError, UnsupportedNodeError
from biril_nm.export.from_torch.runs import trace_network
from biril_nm.export.from_torch.wiring import Wiring

__all__ = ["Graph", "check_sizes", "repeated", "same_graph"]

Graph = tuple[dict[str, Any], list[tuple[str, str]]]
OTHER_BATCHES = (1, 2, 3)
MORE_STEPS = 2  # times as many, beside the largest batch
RTOL = 1e-5  # of maps that are found by running a function


def check_sizes(
    root: nn.Module,
    samples: Sequence[torch.Tensor],
    wiring: Wiring,
    build: Callable[[Wiring], Graph],
    graph: Graph,
) -> None:
    """Refuse a forward that does something else for another number of samples, or of steps if it loops.

    A size that the forward does not accept says nothing; nor does a refusal for one sample, whose dimension
    ``squeeze()`` takes away.

    Raises:
        UnsupportedNodeError: it does.
    """
    for batch in OTHER_BATCHES:
        resized = [_resized(sample, i, wiring, batch) for i, sample in enumerate(samples)]
        given = [sample for sample in resized if sample is not None]
        if len(given) < len(samples) or all(a.shape == b.shape for a, b in zip(given, samples)):
            continue
        shapes = ", ".join(str(tuple(sample.shape)) for sample in given)
        try:
            found = trace_network(root, given)
            if found.loops != wiring.loops:
                continue
            differs = not same_graph(build(found), graph)
        except ConfigError:
            continue
        except BirilError as error:
            if batch == 1:
                continue
            raise UnsupportedNodeError(
                f"{_what(shapes, samples)}. It is refused for the first: {error}"
            ) from error
        if differs:
            raise UnsupportedNodeError(
                f"{_what(shapes, samples)}. Take out what branches on the shape"
            )


def _what(shapes: str, samples: Sequence[torch.Tensor]) -> str:
    before = ", ".join(str(tuple(sample.shape)) for sample in samples)
    return (
        f"the forward does something else with an input of shape {shapes} than of {before}; expected the "
        f"same for any number of samples and steps"
    )


def _resized(sample: torch.Tensor, index: int, wiring: Wiring, batch: int) -> torch.Tensor | None:
    """The sample with another number of samples; None where it is not known which dimension counts them."""
    if not wiring.loops:
        return repeated(sample, 0, batch)
    time = wiring.time_axes.get(index)
    if time not in (0, 1) or sample.ndim < 3:
        return None
    found = repeated(sample, 1 - time, batch)
    longer = MORE_STEPS * sample.shape[time]
    return repeated(found, time, longer) if batch == max(OTHER_BATCHES) else found


def repeated(sample: torch.Tensor, axis: int, length: int) -> torch.Tensor:
    """The first ``length`` slices of the sample, which begins again at its end."""
    return sample.index_select(axis, torch.arange(length) % sample.shape[axis])


def same_graph(one: Graph, other: Graph) -> bool:
    """Whether nodes and edges are the same."""
    (nodes, edges), (theirs, their_edges) = one, other
    return (
        list(nodes) == list(theirs)
        and edges == their_edges
        and all(_same_node(nodes[name], theirs[name]) for name in nodes)
    )


def _same_node(one: Any, other: Any) -> bool:
    return type(one) is type(other) and all(
        _equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(one)
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    a, b = np.asarray(one), np.asarray(other)
    if a.dtype.kind in "fc" and b.dtype.kind in "fc":
        return a.shape == b.shape and np.allclose(a, b, rtol=RTOL, atol=0, equal_nan=True)
    return bool(np.array_equal(a, b))
