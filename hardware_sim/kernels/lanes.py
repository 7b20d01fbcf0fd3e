"""Vector instructions that plain loops do not reliably become: blocks of lanes, and masks of spikes.

Each function compiles to a few instructions of whatever vector unit the machine has (LLVM splits what
is too wide), so that speed does not depend on how a loop was recognised. Loads need no alignment. Nothing
is checked: callers keep indices inside arrays, which end in slack for the last block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function

from biril_nm.hardware_sim.kernels.jit import instruction
from biril_nm.loihi import DECAY_BITS, DECAY_UNITY, STATE_LIMIT

__all__ = [
    "FEW",
    "GROUP",
    "LANES",
    "MASK",
    "add_few",
    "add_lanes",
    "add_rows",
    "count_bits",
    "fetch",
    "lowest_bit",
    "spike_mask",
    "step_each",
    "step_shared",
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
    """Bit i is 1 where byte ``first + i`` is not 0, for i below :data:`MASK`."""

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


@instruction
def fetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for a value that is read soon, so that nothing waits for memory then."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, _ = _vector_pointer(context, builder, signature.args[0], args[0], args[1], 1)
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, WORD, WORD, WORD])
        function = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, keep, data = (ir.Constant(WORD, n) for n in (0, 3, 1))
        builder.call(function, [builder.bitcast(pointer, byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(array, INDEX), generate


# --- neurons ------------------------------------------------------------------------------------

WORD = ir.IntType(32)
WORDS = ir.VectorType(WORD, LANES)


def _all(value: int) -> Any:
    return ir.Constant(WORDS, [value] * LANES)


def _spread(builder: Any, value: Any) -> Any:
    """One number in all lanes."""
    none = ir.Constant(WORDS, ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, none, ir.Constant(WORDS, [0] * LANES))


def _decayed(builder: Any, v: Any, keep: Any) -> Any:
    """``v * keep / 4096`` toward zero, as ``neuron.py`` has it."""
    bits, fraction = _all(DECAY_BITS), _all(DECAY_UNITY - 1)
    keep = _spread(builder, builder.and_(keep, ir.Constant(WORD, 2 * DECAY_UNITY - 1)))
    low = builder.mul(builder.and_(v, fraction), keep)
    up = builder.and_(builder.ashr(v, _all(31)), fraction)
    whole = builder.mul(builder.ashr(v, bits), keep)
    return builder.add(whole, builder.ashr(builder.add(low, up), bits))


def _clipped(builder: Any, v: Any) -> Any:
    high, low = _all(STATE_LIMIT - 1), _all(1 - STATE_LIMIT)
    v = builder.select(builder.icmp_signed(">", v, high), high, v)
    return builder.select(builder.icmp_signed("<", v, low), low, v)


def _fire(builder: Any, v: Any, keep: Any, given: Any, vth: Any) -> tuple[Any, Any]:
    """New v and spikes of neurons that a spike sets to 0."""
    moved = _clipped(builder, builder.add(_decayed(builder, v, keep), given))
    fired = builder.icmp_signed(">", moved, vth)
    return builder.select(fired, _all(0), moved), fired


def _fire_masked(
    builder: Any, v: Any, keep: Any, given: Any, vth: Any, masks: Sequence[Any]
) -> tuple[Any, Any]:
    """The same with other resets, as ``neuron.py`` has it; masks in the order of ``ResetMasks``."""
    zero, fall, late_zero, late_fall, lossy, guard = masks

    def without(value: Any, where: Any, mask: Any) -> Any:
        return builder.and_(value, builder.not_(builder.and_(where, mask)))

    before = builder.sext(builder.icmp_signed(">", v, vth), WORDS)
    late = builder.and_(before, builder.and_(late_fall, vth))
    kept = _decayed(builder, without(v, before, late_zero), keep)
    moved = _clipped(builder, builder.sub(builder.add(kept, given), late))
    moved = without(moved, before, lossy)
    more = builder.and_(before, builder.and_(guard, vth))
    fired = builder.icmp_signed(">", builder.sub(moved, more), vth)
    spikes = builder.sext(fired, WORDS)
    left = without(moved, spikes, zero)
    return builder.sub(left, builder.and_(spikes, builder.and_(fall, vth))), fired


def _step(shared: bool) -> Any:
    """The step of LANES neurons without memory; registers shared (place 0) or one for each."""

    def step(
        typing: Any, sums: Any, v: Any, s: Any, i: Any, shift: Any, keep: Any, bias: Any, vth: Any,
        masks: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args

            def load(k: int) -> Any:
                return _load(context, builder, kinds[k], args[k], args[3], LANES)

            def register(k: int) -> Any:
                if not shared:
                    return load(k)
                pointer, _ = _vector_pointer(
                    context, builder, kinds[k], args[k], ir.Constant(args[3].type, 0), 1
                )
                return _spread(builder, builder.load(builder.bitcast(pointer, WORD.as_pointer())))

            def store(k: int, value: Any) -> None:
                n = context, builder, kinds[k], args[k], args[3], LANES
                pointer, alignment = _vector_pointer(*n)
                builder.store(value, pointer).align = alignment

            given = load(0)
            if given.type != WORDS:
                width = given.type.element.width
                given = (builder.sext if width < WORD.width else builder.trunc)(given, WORDS)
            given = builder.shl(given, _spread(builder, args[4]))
            given = builder.add(given, register(6))
            if isinstance(masks, types.NoneType):
                moved, fired = _fire(builder, load(1), args[5], given, register(7))
            else:
                known = [
                    _spread(builder, builder.extract_value(args[8], q)) for q in range(len(masks))
                ]
                moved, fired = _fire_masked(builder, load(1), args[5], given, register(7), known)
            store(1, moved)
            store(2, builder.zext(fired, ir.VectorType(ir.IntType(8), LANES)))
            return context.get_dummy_value()

        word = types.int32
        return types.void(sums, v, s, INDEX, word, word, bias, vth, masks), generate

    return instruction(step)


# ``v = clip(decay(v) + (sums << shift) + bias)``, s = v > vth, v = 0 where s, or what the masks of another
# reset say: neurons i to i + LANES - 1.
step_shared = _step(shared=True)
step_each = _step(shared=False)
