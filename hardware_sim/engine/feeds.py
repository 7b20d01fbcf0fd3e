"""Inputs: checked once, then handed out block by block as rows of spikes.

A feed never copies the whole input: memory-mapped arrays and repeated images (``np.broadcast_to``,
direct coding) stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError, RangeError, bullet_list
from biril_nm.hardware_sim.kernels.loops import load
from biril_nm.hw_graph import Input, LoihiGraph, Shape

__all__ = ["Feed", "StreamFeed", "make_feeds"]

RANGE_CHECK_BYTES = 1 << 24  # slice of the input that is looked at in one go


@dataclass(frozen=True)
class Feed:
    """Input of one Input node: ``values`` (n_steps, batch, *shape)."""

    values: NDArray[Any]
    shape: Shape
    graded: bool

    @property
    def constant(self) -> bool:
        """Whether one image is repeated at every step (a view without stride along time)."""
        return self.values.strides[0] == 0

    @property
    def dtype(self) -> type:
        """Type of the spikes that kernels read."""
        return np.int32 if self.graded else np.uint8

    def load(self, out: NDArray[Any], b0: int, t0: int) -> None:
        """Write the samples from b0 and steps from t0 that fit ``out`` (batch, steps, size)."""
        batch, steps = out.shape[:2]
        self._write(out, self.values[t0 : t0 + steps, b0 : b0 + batch])

    def _write(self, out: NDArray[Any], values: NDArray[Any]) -> None:
        """Copy (steps, batch, *shape) into rows (batch, steps, size): payloads, or whether there is one."""
        flat = values.reshape(*values.shape[:2], math.prod(self.shape))
        if self.graded:
            np.copyto(out, flat.swapaxes(0, 1), casting="unsafe")
        elif flat.dtype.itemsize == 1:
            load(flat.view(np.uint8), out)
        else:
            np.not_equal(flat.swapaxes(0, 1), flat.dtype.type(0), out=out.view(np.bool_))


@dataclass(frozen=True)
class StreamFeed(Feed):
    """The same input in chip time: one stream, sample i from chip step ``i * period + 1`` on."""

    period: int = 1

    @property
    def constant(self) -> bool:
        """Gaps and samples alternate."""
        return False

    def load(self, out: NDArray[Any], b0: int, t0: int) -> None:
        """Write chip steps from t0 (counted from 0) into ``out`` (1, steps, size)."""
        n_steps, batch = self.values.shape[:2]
        sample, step = np.divmod(np.arange(t0, t0 + out.shape[1]), self.period)
        inside = (step < n_steps) & (sample < batch)
        out[0, ~inside] = 0
        rows = np.empty((1, int(inside.sum()), out.shape[2]), dtype=out.dtype)
        self._write(rows, self.values[step[inside], sample[inside]][:, None])
        out[0, inside] = rows[0]


def make_feeds(graph: LoihiGraph, spikes: Any, learn: bool = False) -> dict[str, Feed]:
    """Check the input of a run.

    Args:
        graph: the network.
        spikes: array (n_steps, batch, *shape), or a dict with one array per input name.
        learn: whether inputs that only modulate learning are needed; else they may be missing.

    Raises:
        ConfigError: names, shapes or dtypes that do not fit; all findings are listed.
        RangeError: a graded input outside ``0 .. 2**message_bits - 1``.
    """
    given = _by_name(graph, spikes, () if learn else graph.modulator_inputs)
    arrays = {name: np.asarray(given[name]) for name in graph.inputs}
    findings = [
        finding
        for name, node in graph.inputs.items()
        for finding in _findings(name, node, arrays[name])
    ]
    lengths = {name: array.shape[:2] for name, array in arrays.items()}
    if not findings and len(set(lengths.values())) > 1:
        findings = [f"inputs differ in (n_steps, batch): {lengths}"]
    if findings:
        raise ConfigError(bullet_list("the spikes do not fit the graph:", findings))
    for name, node in graph.inputs.items():
        _check_range(name, node.message_bits, arrays[name])
    return {
        name: Feed(arrays[name], node.shape, node.message_bits > 0)
        for name, node in graph.inputs.items()
    }


def _by_name(graph: LoihiGraph, spikes: Any, optional: tuple[str, ...]) -> Mapping[str, Any]:
    """Arrays by input name; optional ones that are not given are 0."""
    names = [name for name in graph.inputs if name not in optional]
    if not isinstance(spikes, Mapping):
        if len(names) != 1:
            raise ConfigError(
                f"the graph has {len(names)} inputs ({', '.join(names)}); pass a dict with one array each"
            )
        spikes = {names[0]: spikes}
    missing = [name for name in optional if name not in spikes]
    if set(spikes) | set(missing) != set(graph.inputs):
        raise ConfigError(
            f"spikes are given for {sorted(map(str, spikes))}; the graph's inputs are {sorted(names)}"
        )
    length = np.shape(spikes[names[0]])[:2] if names else (1, 1)
    zeros = {
        name: np.broadcast_to(np.zeros((), np.uint8), (*length, *graph.inputs[name].shape))
        for name in missing
    }
    return {**spikes, **zeros}


def _findings(name: str, node: Input, array: NDArray[Any]) -> list[str]:
    wanted = f"(n_steps, batch, {', '.join(map(str, node.shape))})"
    if array.ndim != 2 + len(node.shape) or array.shape[2:] != node.shape:
        return [f"input '{name}' has shape {array.shape}, needed is {wanted}"]
    if min(array.shape[:2]) < 1:
        return [f"input '{name}' has shape {array.shape}: at least one step and one sample"]
    if array.dtype.kind not in "biu":
        return [
            f"input '{name}' has dtype {array.dtype}, needed are integers; encode values first "
            f"(biril_nm.coding.Coding) or cast spikes with .astype('int32')"
        ]
    return []


def _check_range(name: str, message_bits: int, array: NDArray[Any]) -> None:
    """Graded payloads must fit; binary inputs count as spikes wherever they are not 0."""
    if message_bits == 0 or array.dtype == np.bool_:
        return
    limit = (1 << message_bits) - 1
    info = np.iinfo(array.dtype)
    if info.min >= 0 and info.max <= limit:
        return
    rows = array[:1] if array.strides[0] == 0 else array
    step = max(1, RANGE_CHECK_BYTES // max(1, rows[0].nbytes))
    for t in range(0, len(rows), step):
        low, high = int(rows[t : t + step].min()), int(rows[t : t + step].max())
        if low < 0 or high > limit:
            raise RangeError(
                f"input '{name}' has payloads from {low} to {high}; message_bits {message_bits} "
                f"allows 0 to {limit}. Encode the values again or raise message_bits"
            )
