"""Writing of ``.npz`` archives, and bounded reading of ``.npz`` and ``.npy`` files.

Loaded files are treated as hostile: nothing is unpickled, and sizes are checked from the headers
before any array is allocated.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.storage.paths import atomic_file

__all__ = [
    "map_npy",
    "read_npz",
    "write_npz",
]

_NPY: Any = npy_format  # numpy declares no types for it
MAX_ARCHIVE_BYTES = 8 << 30  # sum of all arrays of one archive, uncompressed
SMALL_ARCHIVE_BYTES = 512 << 20  # an archive may unpack to this much, whatever its own size
MAX_RATIO = 100  # beyond that, to this many times its own size: deflate reaches 1,000
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # numpy's; bz2 bombs in the first block
MAX_ARCHIVE_MEMBERS = 100_000


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` atomically that :func:`read_npz` takes: compressed unless it is large.

    Raises:
        FileFormatError: object arrays, or more than :data:`MAX_ARCHIVE_BYTES`.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise FileFormatError(f"array '{name}' holds Python objects and cannot be stored")
    size = sum(int(np.asarray(array).nbytes) for array in arrays.values())
    if size > MAX_ARCHIVE_BYTES:
        raise FileFormatError(
            f"'{path}' would hold {size} bytes; an .npz is read up to {MAX_ARCHIVE_BYTES}. Record to a "
            f"folder (--record-to), or save less"
        )
    method = zipfile.ZIP_DEFLATED if size <= SMALL_ARCHIVE_BYTES else zipfile.ZIP_STORED
    # numpy.savez leaves its archive open on a full disk, which Python then reports on stderr.
    with atomic_file(path) as part, zipfile.ZipFile(part, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                _NPY.write_array(stream, np.asanyarray(array), allow_pickle=False)


def read_npz(path: str | Path, max_bytes: int = MAX_ARCHIVE_BYTES) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` after checking the headers.

    Raises:
        FileFormatError: no archive, a damaged member, a pickled (object) array, or more than
            ``max_bytes`` in all; the message names the file and the member.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"file '{source}' does not exist")
    allowed = min(max_bytes, max(SMALL_ARCHIVE_BYTES, MAX_RATIO * source.stat().st_size))
    try:
        with zipfile.ZipFile(source) as archive:
            return _read_members(source, archive, allowed)
    except BirilError:
        raise
    except Exception as error:  # zipfile raises whatever a damaged directory provokes
        raise FileFormatError(f"'{source}' is no readable .npz archive: {error}") from error


def map_npy(path: str | Path) -> NDArray[Any]:
    """The array of an ``.npy`` file, mapped read-only: what is not looked at takes no memory.

    Raises:
        FileFormatError: no plain array, or shorter than it claims.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"file '{source}' does not exist")
    try:
        return np.asarray(np.load(source, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError, TypeError, SyntaxError, OverflowError) as error:
        raise FileFormatError(f"'{source}' is no readable .npy array: {error}") from error


def _read_members(
    source: Path, archive: zipfile.ZipFile, max_bytes: int
) -> dict[str, NDArray[Any]]:
    members = archive.infolist()
    if len(members) > MAX_ARCHIVE_MEMBERS:
        raise FileFormatError(
            f"'{source}' has {len(members)} members; allowed: {MAX_ARCHIVE_MEMBERS}"
        )
    arrays: dict[str, NDArray[Any]] = {}
    total = 0
    for member in members:
        total += _check_header(source, archive, member)
        if total > max_bytes:
            raise FileFormatError(
                f"'{source}' unpacks to more than {max_bytes} bytes, which is much for its size; save "
                f"large arrays without compression (numpy.savez), or as .npy"
            )
    for member in members:
        try:
            with archive.open(member) as stream:
                array = _NPY.read_array(stream, allow_pickle=False)
        except Exception as error:  # zlib and numpy raise whatever damaged bytes provoke
            raise FileFormatError(
                f"'{source}': member '{member.filename}' is damaged: {error}"
            ) from error
        arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _check_header(source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes that the member's array will take, from its header alone."""
    if member.compress_type not in COMPRESSIONS:
        raise FileFormatError(
            f"'{source}': member '{member.filename}' is packed by method {member.compress_type}; "
            f"readable is what numpy.savez and savez_compressed write"
        )
    try:
        with archive.open(member) as stream:
            version = _NPY.read_magic(stream)
            reader = {
                (1, 0): _NPY.read_array_header_1_0,
                (2, 0): _NPY.read_array_header_2_0,
            }[version]
            shape, _, dtype = reader(stream)
    except Exception as error:  # numpy parses the header as Python text
        raise FileFormatError(
            f"'{source}': member '{member.filename}' is no plain array: {error}"
        ) from error
    if dtype.hasobject:
        raise FileFormatError(
            f"'{source}': member '{member.filename}' holds pickled objects, which are never loaded"
        )
    size = int(dtype.itemsize)
    for length in shape:
        size *= int(length)
    if not 0 <= size <= member.file_size or min(shape, default=0) < 0:
        raise FileFormatError(
            f"'{source}': member '{member.filename}' claims {size} bytes in shape {shape} but stores "
            f"{member.file_size}"
        )
    return size
