"""Plain arrays in numpy's ``.npy`` form: the header is read here, and checked before the data.

Format: numpy ``numpy/lib/format.py``, versions 1.0 to 3.0. numpy itself evaluates the header as Python
text; here it must be the three pairs that numpy writes, and the dtype plain numbers or text, or records of
numbers where a caller asks for them.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from biril_nm.errors import FileFormatError
from biril_nm.storage.bounds import open_regular

__all__ = ["NpyHeader", "map_npy", "read_array", "read_header", "write_npy"]

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000  # as numpy
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # major version -> bytes of the header's length
CHUNK = 1 << 20
_NPY: Any = npy_format  # numpy declares no types for it
NAME, KIND = r"\w{0,40}", r"[<>|=]?(?:[?]|[biufcV][0-9]{1,4})"  # of a field
FIELDS = re.compile(rf"\('({NAME})',\s*'({KIND})'\)", re.ASCII)
FIELD = rf"\('{NAME}',\s*'{KIND}'\)"
RECORD = rf"\[{FIELD}(?:,\s*{FIELD}){{0,15}},?\]"
PAIR = rf"'(\w{{1,20}})'\s*:\s*('[^'\\]{{1,20}}'|True|False|\([0-9, ]*\)|{RECORD})"
HEADER = re.compile(rf"\s*\{{\s*{PAIR}\s*,\s*{PAIR}\s*,\s*{PAIR}\s*,?\s*\}}\s*", re.ASCII)
DTYPE = re.compile(r"[<>|=]?(?:[?]|[biufcSU][0-9]{1,9})", re.ASCII)
MAX_LENGTH_DIGITS = 19
NEVER = ("Objects and records are never read", "Objects are never read")


@dataclass(frozen=True)
class NpyHeader:
    """What the header of an array says.

    Attributes:
        dtype: numbers, booleans or text of fixed width, or records of numbers; never objects.
        shape: lengths.
        fortran_order: the first axis varies fastest.
        start: bytes before the data.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    start: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return self.size * int(self.dtype.itemsize)


def read_header(stream: Any, what: str, records: bool = False) -> NpyHeader:
    """Read the header at the start of ``stream``.

    Args:
        stream: bytes of an ``.npy`` file.
        what: the file, for messages.
        records: whether records of numbers are readable as well.

    Raises:
        FileFormatError: no ``.npy`` data, or an array of other things than numbers and text.
    """
    begin = stream.read(len(MAGIC) + 2)
    if len(begin) < len(MAGIC) + 2 or not begin.startswith(MAGIC):
        raise FileFormatError(f"{what} is not an array in numpy's .npy form")
    width = LENGTH_BYTES.get(begin[len(MAGIC)])
    if width is None:
        raise FileFormatError(f"{what} is of version {begin[len(MAGIC)]}; readable are 1 to 3")
    length = int.from_bytes(stream.read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise FileFormatError(f"{what} has a header of {length} bytes; numpy writes fewer")
    text = stream.read(length)
    start = len(begin) + width + length
    match = HEADER.fullmatch(text.decode("latin-1")) if len(text) == length else None
    pairs = {} if match is None else dict(zip(match.groups()[::2], match.groups()[1::2]))
    if pairs.keys() != {"descr", "fortran_order", "shape"}:
        raise FileFormatError(
            f"{what} is not a plain array: its header is {text[:80]!r}; expected numbers or text as "
            f"numpy.save writes them. {NEVER[records]}"
        )
    kind = pairs["descr"]
    of_records = records and kind.startswith("[")
    return NpyHeader(
        _record(kind, what) if of_records else _dtype(kind, what, NEVER[records]),
        _shape(pairs["shape"], what),
        pairs["fortran_order"] == "True",
        start,
    )


def _dtype(text: str, what: str, never: str) -> np.dtype[Any]:
    name = text.strip("'")
    try:
        dtype = np.dtype(name) if DTYPE.fullmatch(name) else None
    except TypeError:  # such as '<i3'
        dtype = None
    if dtype is None or dtype.itemsize < 1:
        raise FileFormatError(
            f"{what} holds elements of type {text:.80}; expected numbers or text. {never}"
        )
    return dtype


def _record(text: str, what: str) -> np.dtype[Any]:
    """Records of numbers; fields without a name are gaps, which numpy writes for aligned records."""
    fields = FIELDS.findall(text)
    try:
        kinds = [np.dtype(kind) for _, kind in fields]
        ends = np.cumsum([kind.itemsize for kind in kinds]).tolist()
        named = [i for i, (name, kind) in enumerate(fields) if name and "V" not in kind]
        return np.dtype(
            {
                "names": [fields[i][0] for i in named],
                "formats": [kinds[i] for i in named],
                "offsets": [ends[i] - kinds[i].itemsize for i in named],
                "itemsize": ends[-1],
            }
        )
    except (TypeError, ValueError) as error:  # such as '<i3', or a name twice
        raise FileFormatError(
            f"{what} holds records {text:.80}; expected fields of numbers, each name once ({error})"
        ) from error


def _shape(text: str, what: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.strip("()").split(",")]
    if parts and not parts[-1]:
        parts.pop()
    if not all(part.isdecimal() and len(part) <= MAX_LENGTH_DIGITS for part in parts):
        raise FileFormatError(f"{what} has shape {text[:80]}; expected lengths")
    return tuple(int(part) for part in parts)


def read_array(stream: Any, header: NpyHeader, what: str) -> NDArray[Any]:
    """The data that follow ``header``; the caller has bounded their size.

    Raises:
        FileFormatError: the data end early, or numpy has no such shape.
    """
    try:
        flat = np.empty(header.size, header.dtype)
        order: Any = "F" if header.fortran_order else "C"
        array = flat.reshape(header.shape, order=order)
    except (ValueError, OverflowError) as error:
        raise FileFormatError(f"{what} has shape {header.shape}: {error}") from error
    room: Any = flat.view(np.uint8) if header.nbytes else b""
    done = 0
    while done < len(room):
        part = stream.read(min(CHUNK, len(room) - done))
        if not part:
            raise FileFormatError(f"{what} ends after {done} of {len(room)} bytes")
        room[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    return array


def map_npy(path: str | Path, follow_links: bool = True, records: bool = False) -> NDArray[Any]:
    """The array of an ``.npy`` file, mapped read-only: what is not looked at takes no memory.

    Args:
        path: the file.
        follow_links: False for members of a folder, which must not point out of it.
        records: whether it may hold records of numbers.

    Raises:
        FileFormatError: no plain array, or shorter than it claims.
    """
    with open_regular(path, follow_links) as stream:
        header = read_header(stream, f"'{path}'", records)
        size = os.fstat(stream.fileno()).st_size
        if header.start + header.nbytes > size:
            raise FileFormatError(
                f"'{path}' claims {header.nbytes} bytes in shape {header.shape} but stores "
                f"{size - header.start}"
            )
        try:
            return _mapped(stream, header)
        except (ValueError, OverflowError, OSError) as error:
            raise FileFormatError(f"'{path}' is not a readable array: {error}") from error


def write_npy(path: Path, array: NDArray[Any]) -> None:
    """Write an array in pieces, C order; one that is mapped from a file takes no memory.

    ``np.save`` leaves out the system's reason where a disk is full.

    Raises:
        OSError: as the system says.
    """
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    with path.open("wb") as stream:
        _NPY.write_array_header_1_0(stream, header)
        for first in range(0, len(array), rows):
            stream.write(np.ascontiguousarray(array[first : first + rows]).tobytes())


def _mapped(stream: BinaryIO, header: NpyHeader) -> NDArray[Any]:
    if not header.nbytes:  # an empty file cannot be mapped
        return np.empty(header.shape, header.dtype)
    return np.asarray(
        np.memmap(
            stream,
            header.dtype,
            mode="r",
            offset=header.start,
            shape=header.shape,
            order="F" if header.fortran_order else "C",
        )
    )
