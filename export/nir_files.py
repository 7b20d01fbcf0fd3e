"""Reading and writing ``.nir`` files (HDF5): bounded, without links to elsewhere, atomic."""

from __future__ import annotations

from pathlib import Path

import nir

from biril_nm.errors import FileFormatError
from biril_nm.export.hdf5_files import open_checked
from biril_nm.storage import atomic_file, check_output

__all__ = ["read_nir", "write_nir"]


def read_nir(path: str | Path) -> nir.NIRGraph:
    """Read a NIR graph of any producer after checking the file.

    Raises:
        FileFormatError: no HDF5, no NIR graph, links out of the file, or too large.
    """
    source = Path(path)
    with open_checked(source, "NIR"):
        graph = _read(source)
    if not isinstance(graph, nir.NIRGraph):
        raise FileFormatError(
            f"'{source}' holds a single {type(graph).__name__} node; a NIRGraph is needed"
        )
    return graph


def _read(source: Path) -> nir.NIRNode:
    """Read with nir's type check, or without where it refuses scalar parameters (norse writes them)."""
    try:
        return nir.read(source)
    except ValueError:
        return nir.read(source, type_check=False)


def write_nir(path: str | Path, graph: nir.NIRGraph, force: bool = False) -> None:
    """Write atomically; an existing file stays unless ``force``."""
    target = check_output(path, force)
    with atomic_file(target) as part:
        nir.write(part, graph)
