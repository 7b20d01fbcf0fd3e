"""Sums of rows where spikes are, the compiled loops of one thread (:mod:`biril_nm.neurons.spike_sums`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from biril_nm.neurons.loops import piece

__all__ = ["BLOCK", "from_rows_loop", "sum_loop", "to_rows_loop"]

VECTOR, VECTORS = 8, 4  # numbers of a register, and registers of a block
BLOCK = VECTOR * VECTORS  # channels of the result that are summed side by side
BYTES = 4  # of a number
LINE = 16  # numbers of a line of the cache
U = np.uint64  # of an index, which then needs no look at its sign


@intrinsic  # type: ignore[untyped-decorator]
def _add_rows(typing_context, out, rows, places, n):  # type: ignore[no-untyped-def]
    """Add the rows at n places to a row, in registers; addresses of float32, float32 and int32."""
    del typing_context, out, rows, places, n
    return types.void(*[types.intp] * 4), _generate_add_rows


def _generate_add_rows(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    del signature
    size, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), VECTOR)
    out, rows = (builder.inttoptr(a, vector.as_pointer()) for a in arguments[:2])
    places = builder.inttoptr(arguments[2], ir.IntType(32).as_pointer())
    starts = [builder.load(builder.gep(out, [size(v)]), align=BYTES) for v in range(VECTORS)]
    entry = builder.block
    test, body, end = (builder.append_basic_block(name) for name in ("test", "body", "end"))
    builder.branch(test)

    builder.position_at_end(test)
    i, sums = builder.phi(size), [builder.phi(vector) for _ in starts]
    builder.cbranch(builder.icmp_signed("<", i, arguments[3]), body, end)

    builder.position_at_end(body)
    place = builder.sext(builder.load(builder.gep(places, [i])), size)
    first = builder.mul(place, size(VECTORS))
    added = []
    for v, total in enumerate(sums):
        row = builder.gep(rows, [builder.add(first, size(v))])
        added.append(builder.fadd(total, builder.load(row, align=BYTES)))
    following = builder.add(i, size(1))
    builder.branch(test)
    for value, start, then in zip([i, *sums], [size(0), *starts], [following, *added]):
        value.add_incoming(start, entry)
        value.add_incoming(then, body)

    builder.position_at_end(end)
    for v, total in enumerate(sums):
        builder.store(total, builder.gep(out, [size(v)]), align=BYTES)
    return context.get_dummy_value()


@piece
def _turn(given, out):  # type: ignore[no-untyped-def]
    """``out = given.T``, some lines of the cache at a time."""
    n, m = given.shape
    for i in range(0, n, LINE):
        for j in range(0, m, LINE):
            for a in range(i, min(n, i + LINE)):
                for b in range(j, min(m, j + LINE)):
                    out[b, a] = given[a, b]


def to_rows_loop(grad, rows):  # type: ignore[no-untyped-def]
    """Gradient (n, outputs, places) to (blocks, n, places, BLOCK)."""
    outputs = grad.shape[1]
    for block in range(len(rows)):
        at = block * BLOCK
        end = min(outputs, at + BLOCK)
        for n in range(len(grad)):
            _turn(grad[n, at:end], rows[block, n, :, : end - at])


def from_rows_loop(sums, found):  # type: ignore[no-untyped-def]
    """Sums (blocks, places, BLOCK) to (outputs, places)."""
    outputs = len(found)
    for block in range(len(sums)):
        at = block * BLOCK
        end = min(outputs, at + BLOCK)
        _turn(sums[block, :, : end - at], found[at:end])


@piece
def _list_spikes(spikes, places, fired, listed, ends):  # type: ignore[no-untyped-def]
    """Of each channel and tap, one after the other, the places of the result that the tap joins to a spike.

    Spikes (n, channels, q), places (taps, n q), ends of each part of the list (channels, taps).
    """
    at, length = U(0), spikes.shape[2]
    for c in range(spikes.shape[1]):
        m = U(0)
        for n in range(len(spikes)):
            picture, first = spikes[n, c], n * length
            for q in range(length):  # written in any case, which is faster than asking
                fired[m] = first + q
                m += U(picture[q])
        for k in range(len(places)):
            to = places[k]
            for i in range(m):
                p = to[fired[i]]
                listed[at] = p
                at += U(p >= 0)
            ends[c, k] = at


@piece
def _add_listed(rows, listed, ends, sums):  # type: ignore[no-untyped-def]
    """Add listed rows of (places, BLOCK) to the sums (channels, taps, BLOCK)."""
    first = 0
    for c in range(len(sums)):
        for k in range(sums.shape[1]):
            n = ends[c, k] - first
            _add_rows(sums[c, k].ctypes.data, rows.ctypes.data, listed[first:].ctypes.data, n)
            first += n


def sum_loop(spikes, rows, places, sizes, lists, sums):  # type: ignore[no-untyped-def]
    """Sums (blocks, channels, taps, BLOCK) of rows (blocks, n, places, BLOCK).

    Sizes: pictures at a time, and places of the input at a time.
    """
    together, part = sizes[0], sizes[1]
    fired, listed, ends = lists
    for at in range(0, spikes.shape[0], together):
        for q in range(0, spikes.shape[2], part):
            given = spikes[at : at + together, :, q : q + part]
            to = places[:, q : q + given.shape[0] * given.shape[2]]
            _list_spikes(given, to, fired, listed, ends)
            for block in range(len(rows)):
                _add_listed(rows[block, at], listed, ends, sums[block])
