"""Files: atomic writes, no overwriting by accident, and bounded reading of ``.npz`` archives.

Loaded files are treated as hostile: nothing is unpickled, and sizes are checked from the headers
before any array is allocated.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from biril_nm.errors import FileFormatError, OutputExistsError

__all__ = [
    "atomic_directory",
    "atomic_file",
    "check_folder",
    "check_output",
    "map_npy",
    "read_npz",
    "write_npz",
]

_NPY: Any = npy_format  # numpy declares no types for it
MAX_ARCHIVE_BYTES = 8 << 30  # sum of all arrays of one archive, uncompressed
MAX_ARCHIVE_MEMBERS = 100_000


def check_output(path: str | Path, force: bool) -> Path:
    """Return ``path`` if it may be written.

    Raises:
        OutputExistsError: it exists and ``force`` is False.
    """
    target = Path(path)
    if target.exists() and not force:
        raise OutputExistsError(
            f"output '{target}' exists already; pass --force (force=True) to replace it, or choose "
            f"another path"
        )
    return target


def check_folder(path: str | Path, force: bool, mark: str, what: str) -> Path:
    """Return ``path`` if a folder may be written there; ``force`` replaces folders of the same kind only.

    Args:
        path: the folder.
        force: whether it may be replaced.
        mark: file that every folder of this kind holds.
        what: kind of folder, for the message.

    Raises:
        OutputExistsError: it exists and may not be replaced.
    """
    target = check_output(path, force)
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not (target / mark).is_file():
        raise OutputExistsError(
            f"output '{target}' exists already and is no {what} (it holds no {mark}); force replaces "
            f"nothing else. Choose another path"
        )
    return target


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there only if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it replaces ``path`` only if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        yield part
        part.chmod(0o777 & ~_umask())
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
            target.replace(old / target.name)
            part.replace(target)
            shutil.rmtree(old)
        else:
            part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed ``.npz`` atomically; object arrays are refused."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise FileFormatError(f"array '{name}' holds Python objects and cannot be stored")
    with atomic_file(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_npz(path: str | Path, max_bytes: int = MAX_ARCHIVE_BYTES) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` after checking the headers.

    Raises:
        FileFormatError: no archive, a damaged member, a pickled (object) array, or more than
            ``max_bytes`` in all; the message names the file and the member.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"file '{source}' does not exist")
    try:
        with zipfile.ZipFile(source) as archive:
            return _read_members(source, archive, max_bytes)
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
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
            raise FileFormatError(f"'{source}' unpacks to more than {max_bytes} bytes")
    for member in members:
        try:
            with archive.open(member) as stream:
                array = _NPY.read_array(stream, allow_pickle=False)
        except (ValueError, RuntimeError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise FileFormatError(
                f"'{source}': member '{member.filename}' is damaged: {error}"
            ) from error
        arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _check_header(source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes that the member's array will take, from its header alone."""
    try:
        with archive.open(member) as stream:
            version = _NPY.read_magic(stream)
            reader = {
                (1, 0): _NPY.read_array_header_1_0,
                (2, 0): _NPY.read_array_header_2_0,
            }[version]
            shape, _, dtype = reader(stream)
    except (KeyError, ValueError, RuntimeError, SyntaxError, zipfile.BadZipFile, EOFError) as error:
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
    if size > member.file_size:
        raise FileFormatError(
            f"'{source}': member '{member.filename}' claims {size} bytes in shape {shape} but stores "
            f"{member.file_size}"
        )
    return size
