"""The input of a run: which inputs drive a network, and values checked against them once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, RangeError, bullet_list
from biril_nm.hw_graph.graph import LoihiGraph
from biril_nm.hw_graph.nodes import Input

__all__ = [
    "check_arrays",
    "check_inputs",
    "driving_inputs",
    "input_coding",
    "single_input",
]

INTEGERS = "biu"
RANGE_CHECK_BYTES = 1 << 24  # slice of the input whose range is computed in one go


def driving_inputs(graph: LoihiGraph) -> dict[str, Input]:
    """The inputs that drive neurons; the others only modulate learning."""
    return {name: i for name, i in graph.inputs.items() if name not in graph.modulator_inputs}


def single_input(graph: LoihiGraph) -> str:
    """Name of the only input that drives neurons.

    Raises:
        ConfigError: there are several inputs, or none.
    """
    names = tuple(driving_inputs(graph))
    if len(names) != 1:
        raise ConfigError(
            f"the graph has {len(names)} inputs ({', '.join(names)}); expected one. Give the spikes "
            f"of each input by name"
        )
    return names[0]


def input_coding(graph: LoihiGraph, name: str) -> Coding | None:
    """How values enter the input ``name``, if the graph's metadata say."""
    stored = graph.metadata.get("coding", {}).get(name)
    return Coding.from_dict(stored) if stored else None


def check_inputs(graph: LoihiGraph, values: Any, learn: bool = False) -> dict[str, NDArray[Any]]:
    """Return the integers of each input ``(n_steps, batch, *shape)``, in the order of the graph.

    Nothing is copied: memory-mapped arrays and repeated images (``np.broadcast_to``) stay what they
    are.

    Args:
        graph: the network.
        values: an array, or a dict with one array for each input.
        learn: whether the run learns; without learning, inputs that only modulate it may be
            missing, and are 0.

    Raises:
        ConfigError: names, shapes or dtypes that do not fit; all findings are listed.
        RangeError: a graded input outside ``0 .. 2**message_bits - 1``.
    """
    arrays = check_arrays(graph.inputs, values, () if learn else graph.modulator_inputs)
    for name, node in graph.inputs.items():
        _check_range(name, node.message_bits, arrays[name])
    return arrays


def check_arrays(
    inputs: Mapping[str, Input],
    values: Any,
    optional: Collection[str] = (),
    kinds: str = INTEGERS,
) -> dict[str, NDArray[Any]]:
    """As :func:`check_inputs`, for the Input nodes alone, and without reading the values.

    Args:
        inputs: Input nodes by name.
        values: an array, or a dict with one array for each input.
        optional: inputs that may be missing, and are 0 then.
        kinds: kinds of dtype, as NumPy names them.

    Raises:
        ConfigError: names, shapes or dtypes that do not fit; all findings are listed.
    """
    given = _by_name(inputs, values, optional)
    arrays = {name: _as_array(name, given[name]) for name in inputs}
    found = [_problem(name, node, arrays[name], kinds) for name, node in inputs.items()]
    problems = [problem for problem in found if problem is not None]
    lengths = {name: array.shape[:2] for name, array in arrays.items()}
    if not problems and len(set(lengths.values())) > 1:
        problems = [f"inputs differ in (n_steps, batch): {lengths}"]
    if problems:
        raise ConfigError(bullet_list("the spikes do not fit the graph:", problems))
    return arrays


def _by_name(
    inputs: Mapping[str, Input], values: Any, optional: Collection[str]
) -> Mapping[str, Any]:
    """Arrays by input name; optional ones that are not given are 0."""
    names = [name for name in inputs if name not in optional]
    if not isinstance(values, Mapping):
        if len(names) != 1:
            raise ConfigError(
                f"the graph has {len(names)} inputs ({', '.join(names)}). Pass a dict with one array "
                f"for each"
            )
        values = {names[0]: values}
    missing = [name for name in optional if name not in values]
    if set(values) | set(missing) != set(inputs):
        raise ConfigError(
            f"spikes are given for {sorted(map(str, values))}; the graph's inputs are {sorted(names)}. "
            f"Pass a dict with one array for each"
        )
    length = np.shape(values[names[0]])[:2] if names else (1, 1)
    zeros = {
        name: np.broadcast_to(np.zeros((), np.uint8), (*length, *inputs[name].shape))
        for name in missing
    }
    return {**values, **zeros}


def _as_array(name: str, values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of unequal length
        raise ConfigError(f"input '{name}' is not an array: {error}") from error


def _problem(name: str, node: Input, array: NDArray[Any], kinds: str) -> str | None:
    expected = f"(n_steps, batch, {', '.join(map(str, node.shape))})"
    if array.ndim != 2 + len(node.shape) or array.shape[2:] != node.shape:
        return f"input '{name}' has shape {array.shape}; expected {expected}"
    if min(array.shape[:2]) < 1:
        return f"input '{name}' has shape {array.shape}; expected at least one step and one sample"
    if array.dtype.kind not in kinds:
        return (
            f"input '{name}' has dtype {array.dtype}; expected integers. Encode values first "
            f"(biril_nm.coding.Coding), or cast spikes with .astype('int32')"
        )
    return None


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
