"""Reading and writing ``.nir`` files (HDF5): bounded, without links to elsewhere, atomic."""

from __future__ import annotations

from pathlib import Path

import h5py
import nir

from biril_nm.errors import FileFormatError
from biril_nm.storage import atomic_file, check_output

__all__ = ["read_nir", "write_nir"]

MAX_BYTES = 8 << 30  # sum of all arrays, uncompressed
MAX_MEMBERS = 100_000
MAX_DEPTH = 64


def read_nir(path: str | Path) -> nir.NIRGraph:
    """Read a NIR graph of any producer after checking the file.

    Raises:
        FileFormatError: no HDF5, no NIR graph, links out of the file, or too large.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"file '{source}' does not exist")
    try:
        with h5py.File(source, "r") as file:
            _check(source, file)
        graph = nir.read(source)
    except FileFormatError:
        raise
    except Exception as error:  # h5py and nir raise whatever a broken file provokes
        raise FileFormatError(
            f"'{source}' is no readable NIR file ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(graph, nir.NIRGraph):
        raise FileFormatError(
            f"'{source}' holds a single {type(graph).__name__} node; a NIRGraph is needed"
        )
    return graph


def _check(source: Path, file: h5py.File) -> None:
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
        if total > MAX_BYTES:
            raise FileFormatError(f"'{source}' unpacks to more than {MAX_BYTES} bytes")


def write_nir(path: str | Path, graph: nir.NIRGraph, force: bool = False) -> None:
    """Write atomically; an existing file stays unless ``force``."""
    target = check_output(path, force)
    with atomic_file(target) as part:
        nir.write(part, graph)
