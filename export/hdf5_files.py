"""HDF5 files from elsewhere: opened only after their headers were checked, shared by all readers.

Nothing outside of the file is ever touched: soft and external links, external storage and virtual
datasets are refused, and sizes are bounded before an array is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from biril_nm.errors import BirilError, FileFormatError

__all__ = ["MAX_BYTES", "check_members", "open_checked"]

MAX_BYTES = 8 << 30  # sum of all arrays, uncompressed
MAX_MEMBERS = 100_000
MAX_DEPTH = 64


@contextmanager
def open_checked(path: str | Path, kind: str, max_bytes: int = MAX_BYTES) -> Iterator[Any]:
    """Open a file for reading and check its members.

    Args:
        path: the file.
        kind: what it should be, for messages: "NIR" or "netx".
        max_bytes: bound on the sum of all arrays.

    Raises:
        FileFormatError: no HDF5, links, too large, or whatever h5py finds wrong while it is read.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"file '{source}' does not exist")
    try:
        with h5py.File(source, "r") as file:
            check_members(source, file, max_bytes)
            yield file
    except BirilError:
        raise
    except Exception as error:  # h5py raises whatever a broken file provokes
        raise FileFormatError(
            f"'{source}' is no readable {kind} file ({type(error).__name__}: {error})"
        ) from error


def check_members(source: Path, file: h5py.File, max_bytes: int = MAX_BYTES) -> None:
    """Refuse external data, cyclic groups and sizes beyond the bounds, from headers alone."""
    total = members = 0
    groups = [(file, "", 0)]
    while groups:
        group, where, depth = groups.pop()
        if depth > MAX_DEPTH:
            raise FileFormatError(f"'{source}': groups nest deeper than {MAX_DEPTH} at '{where}'")
        for key in group:
            members += 1
            path = f"{where}/{key}"
            if members > MAX_MEMBERS:
                raise FileFormatError(f"'{source}' has more than {MAX_MEMBERS} members")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise FileFormatError(f"'{source}': '{path}' is a link, which is never followed")
            item = group[key]
            if isinstance(item, h5py.Group):
                groups.append((item, path, depth + 1))
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise FileFormatError(f"'{source}': '{path}' takes its data from another file")
                total += int(item.size or 0) * item.dtype.itemsize
        if total > max_bytes:
            raise FileFormatError(f"'{source}' unpacks to more than {max_bytes} bytes")
