"""Types and fill values of HDF5 datasets, checked before the HDF5 library takes them as they are.

Readable are whole numbers, floats, text, enumerations (as which h5py writes booleans), and sequences of such
elements. The library takes the kind of a sequence and the length of a fill value without a look, and types
within types cost it time that grows with their cube. Layout: HDF5 File Format Specification 3.0, IV.A.2.d
(types), IV.A.2.e and f (fill values).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["type_problem"]

TYPE, OLD_FILL, FILL = 3, 4, 5  # kinds of messages
HEAD = struct.Struct("<BBBBI")  # class and version, three bytes of flags, bytes of an element
INTEGER, FLOAT, TEXT, ENUMERATION, SEQUENCE = 0, 1, 3, 8, 9  # classes
OTHERS = {
    2: "times",
    6: "records or complex numbers",
    7: "references",
    10: "arrays",
    11: "complex numbers",
}
INTEGER_BITS = struct.Struct("<HH")  # the first bit, and how many
FLOAT_BITS = struct.Struct("<HHBBBB")  # the same; first bit and bits of exponent and of mantissa
MAX_NUMBER_BYTES = 16
REFERENCE_BYTES = 16  # of an element of variable length: its length and its place in a heap
KINDS_OF_SEQUENCE = (0, 1)  # a sequence, or text
SIZE = struct.Struct("<I")
FILLED = 0x20  # flag of a fill message of version 3 that holds a value
NO_FILL = (0, (1 << 32) - 1)


def type_problem(messages: Sequence[tuple[int, bytes]]) -> str | None:
    """What is wrong with the types and fill values of an object, and what is expected; None if nothing is.

    Args:
        messages: kind and data of each message of its header.

    Raises:
        struct.error: a message is too short.
        IndexError: the same.
    """
    types = [data for kind, data in messages if kind == TYPE]
    for data in types:
        if not _readable(data):
            other = OTHERS.get(data[0] & 15, "elements of a type that h5py does not write")
            return f"holds {other}; expected numbers, text or sequences of numbers"
    sizes = {HEAD.unpack_from(data)[-1] for data in types if data[0] & 15 != SEQUENCE}
    for kind, data in messages:
        found = _fill_bytes(kind, data)
        if found not in NO_FILL and sizes != {found}:
            wanted = f"{min(sizes)}, those of an element" if sizes else "none for its type"
            return f"has a fill value of {found} bytes; expected {wanted}"
    return None


def _readable(data: bytes, within: bool = False) -> bool:
    """Whether a type is one of those that are read."""
    kind, flags, sign, _, size = HEAD.unpack_from(data)
    kind, rest, room = kind & 15, data[HEAD.size :], 8 * min(size, MAX_NUMBER_BYTES)
    if kind == INTEGER:
        first, bits = INTEGER_BITS.unpack_from(rest)
        return _inside(first, bits, room)
    if kind == FLOAT:
        first, bits, exponent, n_exponent, mantissa, n_mantissa = FLOAT_BITS.unpack_from(rest)
        parts = _inside(exponent, n_exponent, bits) and _inside(mantissa, n_mantissa, bits)
        return parts and sign < bits and _inside(first, bits, room)
    if kind == TEXT:
        return int(size) > 0
    if within or kind not in (ENUMERATION, SEQUENCE):
        return False
    if kind == ENUMERATION:
        fits = rest[0] & 15 == INTEGER and HEAD.unpack_from(rest)[-1] == size
    else:
        fits = flags & 15 in KINDS_OF_SEQUENCE and size == REFERENCE_BYTES
    return fits and _readable(rest, within=True)


def _inside(first: int, bits: int, room: int) -> bool:
    return bits > 0 and first + bits <= room


def _fill_bytes(kind: int, data: bytes) -> int:
    """Bytes of the value in a message that has one, else 0."""
    if kind == OLD_FILL:
        return int(SIZE.unpack_from(data)[0])
    if kind != FILL:
        return 0
    if data[0] == 3:
        return int(SIZE.unpack_from(data, 2)[0]) if data[1] & FILLED else 0
    return int(SIZE.unpack_from(data, 4)[0]) if data[0] == 1 or data[3] else 0
