"""The input of a run: which inputs drive a network, and values checked against them once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.coding import MAX_STEPS, Coding
from biril_nm.errors import ConfigError, RangeError, bullet_list
from biril_nm.hw_graph.graph import LoihiGraph
from biril_nm.hw_graph.input_node import Input

__all__ = [
    "check_arrays",
    "check_inputs",
    "check_values",
    "driving_inputs",
    "input_coding",
    "single_input",
    "with_input_coding",
]

INTEGERS = "biu"
BLOCK_BYTES = 1 << 24  # slice of the input that is read in one go
WIDEST = 16  # bits of a message that a coding has
WIDE_COUNT = 15  # largest number that looks like a count


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


def with_input_coding(graph: LoihiGraph, coding: Coding) -> LoihiGraph:
    """The graph whose metadata say how values enter its only input.

    Raises:
        ConfigError: several inputs, or messages of another width than the input carries.
    """
    name = single_input(graph)
    node, stored = graph.inputs[name], input_coding(graph, name)
    if (node.message_bits, node.signed) != (coding.message_bits, coding.signed):
        sign = ", signed" if node.signed else ""
        raise ConfigError(
            f"coding is {coding}; input '{name}' has message_bits {node.message_bits}{sign}. Give the coding "
            f"to to_nir, before the network is lowered"
        )
    if stored is not None and stored.kind not in (coding.kind, "spikes"):
        raise ConfigError(
            f"coding is {coding}; the graph was lowered for {stored}, which scales its weights. Give the "
            f"coding to to_nir, before the network is lowered"
        )
    known = graph.metadata.get("coding", {})
    return graph.with_metadata(coding={**known, name: coding.to_dict()})


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
        RangeError: values that an input does not carry: a binary one 0 and 1, a graded one
            ``0 .. 2**message_bits - 1``, a signed one those and their negatives.
    """
    arrays = check_arrays(graph.inputs, values, () if learn else graph.modulator_inputs)
    check_values(graph.inputs, arrays)
    return arrays


def check_values(inputs: Mapping[str, Input], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check that each input carries its values; memory-mapped arrays are read block by block.

    Args:
        inputs: Input nodes by name.
        arrays: integers, or floats that are whole numbers, ``(n_steps, batch, *shape)`` by name.

    Raises:
        RangeError: a value that an input does not carry; all inputs are listed.
    """
    found = (_value_problem(name, inputs[name], array) for name, array in arrays.items())
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise RangeError(bullet_list("the input holds values that it cannot carry:", problems))


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
    if not problems and len(arrays) > 1:
        lengths = {name: array.shape[:2] for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
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
    given: Mapping[str, Any] = values
    if given.keys() == inputs.keys():
        return given
    missing = [name for name in optional if name not in values]
    if set(values) | set(missing) != set(inputs):
        raise ConfigError(
            f"spikes are given for {sorted(map(str, values))}; the graph's inputs are {sorted(names)}. "
            f"Pass a dict with one array for each"
        )
    length = _as_array(names[0], values[names[0]]).shape[:2] if names else (1, 1)
    zeros = {
        name: np.broadcast_to(np.zeros((), np.uint8), (*length, *inputs[name].shape))
        for name in missing
    }
    return {**values, **zeros}


def _as_array(name: str, values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray) and np.any(values.mask):
        raise ConfigError(
            f"input '{name}' is a masked array; expected an array without a mask. Fill it: x.filled(0)"
        )
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # unequal lengths, tensors on a device
        raise ConfigError(f"input '{name}' is not an array: {error}") from error


def _problem(name: str, node: Input, array: NDArray[Any], kinds: str) -> str | None:
    if array.ndim != 2 + len(node.shape) or array.shape[2:] != node.shape:
        expected = f"(n_steps, batch, {', '.join(map(str, node.shape))})"
        return f"input '{name}' has shape {array.shape}; expected {expected}"
    if min(array.shape[:2]) < 1:
        return f"input '{name}' has shape {array.shape}; expected at least one step and one sample"
    if array.dtype.kind in kinds:
        return None
    found = f"input '{name}' has dtype {array.dtype}; expected integers"
    return f"{found}. {_float_way_out(array)}" if array.dtype.kind == "f" else found


def _value_problem(name: str, node: Input, array: NDArray[Any]) -> str | None:
    """What is wrong with the values of one input, and what to do about it."""
    if array.dtype == np.bool_:
        return None
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        if node.low <= info.min and info.max <= node.high:
            return None
    blocks = list(_blocks(array))
    if all(_carries(node, block) for block in blocks):
        return None
    low, high = (float(min(b.min() for b in blocks)), float(max(b.max() for b in blocks)))
    if array.dtype.kind == "f" and not all(_whole(block) for block in blocks):
        return (
            f"input '{name}' holds fractions between {low:g} and {high:g}. {_float_way_out(array)}"
        )
    kind = "a binary input" if not node.message_bits else f"message_bits {node.message_bits}"
    kind += " with a sign" if node.signed else ""
    return (
        f"input '{name}' has values from {low:.0f} to {high:.0f}; {kind} allows {node.low} to "
        f"{node.high}. {_integer_way_out(node, len(array), int(low), int(high))}"
    )


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Slices along time; what np.broadcast_to repeats is there once."""
    rows = array[tuple(slice(1) if step == 0 else slice(None) for step in array.strides)]
    size = max(1, BLOCK_BYTES // max(1, rows[0].nbytes))
    return (rows[t : t + size] for t in range(0, len(rows), size))


def _carries(node: Input, block: NDArray[Any]) -> bool:
    inside = block.max() <= node.high
    inside = inside and (block.dtype.kind == "u" or node.low <= block.min())
    return bool(inside) and (block.dtype.kind != "f" or _whole(block))


def _whole(block: NDArray[Any]) -> bool:
    return bool(np.array_equal(block, np.rint(block)))


def _integer_way_out(node: Input, n_steps: int, low: int, high: int) -> str:
    """The coding that carries these integers, and the calls that give it to a network."""
    bits = max(-low, high, 1).bit_length()
    if bits > WIDEST:
        kind = "signed" if low < 0 else "direct"
        return f"They are wider than {WIDEST} bits: divide by {max(-low, high)}. {_coded(kind, n_steps)}"
    bits, n_steps = max(bits, node.message_bits), min(n_steps, MAX_STEPS)
    coding = Coding("signed" if low < 0 or node.signed else "counts", n_steps, bits)
    text = f"{coding.kind}:{n_steps}:{bits}"
    advice = f"Export with to_nir(net, sample, coding={coding!r}), or 'biril export x.nir --coding {text}'"
    if high > WIDE_COUNT and not low:
        direct = Coding("direct", n_steps, max(bits, 1))
        advice += f"; if the network was trained on x / {direct.scale}, with {direct!r}"
    return advice + ("" if node.message_bits else "; or send spikes, such as x > 0")


def _float_way_out(array: NDArray[Any]) -> str:
    """What to do with floats, which are not messages yet."""
    blocks = list(_blocks(array))
    if not all(np.isfinite(block).all() for block in blocks):
        return "Remove what is not finite"
    if all(map(_whole, blocks)):
        return "Cast them with .astype('int32')"
    low, high = (float(min(b.min() for b in blocks)), float(max(b.max() for b in blocks)))
    if max(-low, high) <= 1:
        return _coded("direct" if low >= 0 else "signed", len(array))
    kind = "signed" if low < 0 else "direct"
    return f"Scale them: x / {max(-low, high):g}. {_coded(kind, len(array))}"


def _coded(kind: str, n_steps: int) -> str:
    coding = Coding(kind, min(n_steps, MAX_STEPS))
    return (
        f"Use a coding (biril_nm.coding): c = {coding!r}, to_nir(net, sample, coding=c), and "
        f"c.messages(x) as input"
    )
