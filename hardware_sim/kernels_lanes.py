"""Vector instructions that plain loops do not reliably become: blocks of lanes, and masks of spikes.

Each function compiles to a few instructions of whatever vector unit the machine has (LLVM splits what
is too wide), so that speed does not hang on how a loop was recognised. Loads need no alignment. Nothing
is checked: callers keep indices inside arrays, which end in slack for the last block.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from biril_nm.hardware_sim.jit import instruction

__all__ = [
    "FEW",
    "GROUP",
    "LANES",
    "MASK",
    "add_few",
    "add_lanes",
    "add_rows",
    "count_bits",
    "lowest_bit",
    "spike_mask",
]

LANES = 32  # values that one block adds
FEW = 8  # values of a small block, for what is left over
GROUP = 8  # rows that one pass over the sums adds
MASK = 64  # spikes of one mask
INDEX = types.intp


def _vector_pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, n: int) -> Any:
    """Pointer to ``n`` values from ``index`` on of a contiguous array, and their alignment."""
    value = context.get_data_type(kind.dtype)
    data = context.make_array(kind)(context, builder, array).data
    first = builder.gep(data, [index])
    return builder.bitcast(first, ir.VectorType(value, n).as_pointer()), kind.dtype.bitwidth // 8


def _load(context: Any, builder: Any, kind: Any, array: Any, index: Any, n: int) -> Any:
    pointer, alignment = _vector_pointer(context, builder, kind, array, index, n)
    value = builder.load(pointer)
    value.align = alignment
    return value


def _add(
    context: Any, builder: Any, sums: tuple[Any, ...], terms: list[Any], n: int = LANES
) -> None:
    """``sums[at : at + n] += terms``, widened to the type of the sums; adds in pairs."""
    kind, array, at = sums
    wide = ir.VectorType(context.get_data_type(kind.dtype), n)
    parts = [term if term.type == wide else builder.sext(term, wide) for term in terms]
    while len(parts) > 1:
        rest = parts[len(parts) // 2 * 2 :]
        parts = [builder.add(a, b) for a, b in zip(parts[::2], parts[1::2])] + rest
    pointer, alignment = _vector_pointer(context, builder, kind, array, at, n)
    before = builder.load(pointer)
    before.align = alignment
    stored = builder.store(builder.add(before, parts[0]), pointer)
    stored.align = alignment


def _block(n: int) -> Any:
    """The function that adds ``n`` values."""

    def add(typing: Any, sums: Any, at: Any, weight: Any, place: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            term = _load(context, builder, signature.args[2], args[2], args[3], n)
            _add(context, builder, (signature.args[0], args[0], args[1]), [term], n)
            return context.get_dummy_value()

        return types.void(sums, INDEX, weight, INDEX), generate

    return instruction(add)


# ``sums[at + i] += weight[place + i]`` for i below LANES, or FEW; wraps in the type of the sums.
add_lanes = _block(LANES)
add_few = _block(FEW)


@instruction
def add_rows(typing: Any, sums: Any, at: Any, weight: Any, rows: Any) -> Any:
    """``sums[at + i] += sum of weight[row + at + i]`` over a tuple of places ``rows``, i below LANES."""
    n = len(rows)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = [builder.add(builder.extract_value(args[3], q), args[1]) for q in range(n)]
        terms = [
            _load(context, builder, signature.args[2], args[2], place, LANES) for place in places
        ]
        _add(context, builder, (signature.args[0], args[0], args[1]), terms)
        return context.get_dummy_value()

    return types.void(sums, INDEX, weight, types.UniTuple(INDEX, n)), generate


@instruction
def spike_mask(typing: Any, spikes: Any, first: Any) -> Any:
    """Bit i tells whether byte ``first + i`` is not 0, for i below :data:`MASK`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _load(context, builder, signature.args[0], args[0], args[1], MASK)
        fired = builder.icmp_unsigned("!=", value, ir.Constant(value.type, None))
        return builder.bitcast(fired, ir.IntType(MASK))

    return types.uint64(spikes, INDEX), generate


@instruction
def lowest_bit(typing: Any, mask: Any) -> Any:
    """Place of the lowest bit of a mask that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@instruction
def count_bits(typing: Any, mask: Any) -> Any:
    """Number of bits of a mask."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate
