"""Bounded ``.npz`` archives, and documents: one JSON header with arrays beside it.

Nothing is unpickled, and sizes are checked from the headers before any array is allocated.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.storage.bounds import MAX_BYTES, SMALL_BYTES, allowed_bytes, check_unpacked
from biril_nm.storage.npy import NpyHeader, read_array, read_header
from biril_nm.storage.paths import atomic_file
from biril_nm.storage.text import MAX_TEXT_BYTES, check_plain, parse_json
from biril_nm.storage.zips import MAX_MEMBER_BYTES, file_size, name_problem, open_zip

__all__ = ["read_document", "read_npz", "write_document", "write_npz"]

_NPY: Any = npy_format  # numpy declares no types for it
HEADER = "header"  # name of the JSON text (UTF-8 bytes) of a document
Arrays = dict[str, NDArray[Any]]


def write_npz(
    path: str | Path,
    arrays: Mapping[str, NDArray[Any]],
    compress: bool = True,
    force: bool = True,
) -> None:
    """Write an ``.npz`` atomically that :func:`read_npz` takes: equal arrays give equal bytes.

    Args:
        path: the file to make.
        arrays: numbers and text.
        compress: deflate, unless the arrays are large.
        force: as for :func:`atomic_file`.

    Raises:
        FileFormatError: object arrays, names that an archive cannot hold, or more than may be read again.
    """
    for name, array in arrays.items():
        problem = name_problem(name, MAX_MEMBER_BYTES)
        if problem:
            raise FileFormatError(f"the name {name!r:.60} in '{path}' {problem}")
        if np.asarray(array).dtype.hasobject:
            raise FileFormatError(f"array '{name}' holds Python objects and cannot be stored")
    size = sum(int(np.asarray(array).nbytes) for array in arrays.values())
    if size > MAX_BYTES:
        raise FileFormatError(
            f"'{path}' would hold {size} bytes; an .npz is read up to {MAX_BYTES}. Record to a "
            f"folder (--record-to), or save less"
        )
    small = compress and size <= SMALL_BYTES
    method = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
    # numpy.savez leaves its archive open on a full disk, which Python then reports on stderr.
    with atomic_file(path, force) as part, zipfile.ZipFile(part, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                _NPY.write_array(stream, np.asanyarray(array), allow_pickle=False)


def read_npz(path: str | Path, max_bytes: int = MAX_BYTES, item_bytes: int = 1) -> Arrays:
    """Read all arrays of an ``.npz`` after checking the headers.

    Args:
        path: the file.
        max_bytes: bound on the sum of all arrays.
        item_bytes: what an element will take at least, where the caller widens them.

    Raises:
        FileFormatError: no archive, a damaged member, a pickled (object) array, or more than
            ``max_bytes`` in all; the message names the file and the member.
    """
    source = Path(path)
    with open_zip(source, "a readable .npz archive") as archive:
        allowed = min(max_bytes, allowed_bytes(file_size(archive)))
        headers: dict[str, tuple[zipfile.ZipInfo, NpyHeader]] = {}
        total = 0
        for member in archive.infolist():
            header = _member_header(source, archive, member)
            total += max(header.nbytes, header.size * item_bytes)
            check_unpacked(source, total, allowed)
            headers[member.filename.removesuffix(".npy")] = member, header
        return {
            name: _member_array(source, archive, member, header)
            for name, (member, header) in headers.items()
        }


def _member_header(source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NpyHeader:
    what = f"'{source}': member '{member.filename[:80]}'"
    try:
        with archive.open(member) as stream:
            header = read_header(stream, what)
    except BirilError:
        raise
    except Exception as error:  # zlib and zipfile raise whatever damaged bytes provoke
        raise FileFormatError(f"{what} is damaged: {error}") from error
    if header.start + header.nbytes != member.file_size:
        raise FileFormatError(
            f"{what} claims {header.nbytes} bytes in shape {header.shape} but stores "
            f"{member.file_size - header.start}"
        )
    return header


def _member_array(
    source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: NpyHeader
) -> NDArray[Any]:
    what = f"'{source}': member '{member.filename[:80]}'"
    try:
        with archive.open(member) as stream:
            stream.read(header.start)
            array = read_array(stream, header, what)
            stream.read(1)  # at the end, zipfile compares the checksum
    except BirilError:
        raise
    except Exception as error:  # zlib and zipfile raise whatever damaged bytes provoke
        raise FileFormatError(f"{what} is damaged: {error}") from error
    return array


def write_document(
    path: str | Path,
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    compress: bool = True,
    force: bool = True,
) -> None:
    """Write a header of plain values and arrays as one ``.npz``, atomically.

    Raises:
        FileFormatError: more or something else than may be read again.
    """
    check_plain(header, f"the header that '{path}' would get")
    text = json.dumps(header, allow_nan=False).encode("utf-8")
    if len(text) > MAX_TEXT_BYTES:
        raise FileFormatError(f"'{path}' would have a header of {len(text)} bytes")
    first = {HEADER: np.frombuffer(text, dtype=np.uint8)}
    write_npz(path, {**first, **arrays}, compress, force)


def read_document(
    path: str | Path,
    file_format: str | Mapping[str, Sequence[int]],
    versions: Sequence[int] = (),
    max_bytes: int = MAX_BYTES,
    item_bytes: int = 1,
) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a file of :func:`write_document`.

    Args:
        path: the file.
        file_format: its format; or several, each with its versions.
        versions: of the one format.
        max_bytes: as for :func:`read_npz`.
        item_bytes: as for :func:`read_npz`.

    Raises:
        FileFormatError: damaged, hostile, or of another format or version.
    """
    known = {file_format: versions} if isinstance(file_format, str) else file_format
    arrays = read_npz(path, max_bytes, item_bytes)
    text = arrays.pop(HEADER, None)
    if text is None or text.dtype != np.uint8 or text.ndim != 1:
        wanted = " or ".join(f"'{name}'" for name in known)
        raise FileFormatError(f"'{path}' has no header; expected a {wanted} file")
    header = parse_json(text.tobytes(), f"the header of '{path}'")
    found = (header.get("format"), header.get("version")) if isinstance(header, dict) else ()
    if not any(found == (name, version) for name, of_it in known.items() for version in of_it):
        wanted = ", or ".join(
            f"'{name}' of version {' or '.join(map(str, of_it))}" for name, of_it in known.items()
        )
        raise FileFormatError(f"'{path}' has format and version {found!r:.80}; expected {wanted}")
    return header, arrays
