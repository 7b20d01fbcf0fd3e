"""Reading and writing ``.nir`` files (HDF5): bounded, without links to elsewhere, atomic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np
from nir.serialization import hdf2dict

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.export.nir_files.repair import mended_graph
from biril_nm.export.nir_nodes.registry import kind_names
from biril_nm.storage import check_output
from biril_nm.storage.hdf5 import open_checked, write_whole

__all__ = ["read_nir", "write_nir"]


@checked
def read_nir(path: str | Path) -> nir.NIRGraph:
    """Read a NIR graph of any producer after checking the file.

    Recurrent files of nir 0.2 that nir itself refuses are mended where one way is possible
    (:mod:`biril_nm.export.nir_files.repair`); the metadata ``repairs`` say what was changed.

    Raises:
        FileFormatError: not HDF5, not a NIR graph, links out of the file, or too large.
    """
    source = Path(path)
    # nir computes shapes of whatever numbers there are; they are checked behind it.
    with open_checked(source, "NIR") as file, np.errstate(all="ignore"):
        found = file["node/type"][()] if "node/type" in file else None
        if found != b"NIRGraph":
            what = f"a single {found.decode()} node" if isinstance(found, bytes) else "no NIR graph"
            raise FileFormatError(f"'{source}' holds {what}; expected a NIRGraph")
        try:
            return _read(source)
        except Exception:  # nir raises errors of many types, none of which names the node
            image = hdf2dict(file["node"])
            _name_damaged(source, image, "")
            mended = mended_graph(str(source), image)
            if mended is None:
                raise
            return mended


def _read(source: Path) -> nir.NIRGraph:
    """Read with nir's type check, or without where it refuses scalar parameters (norse writes them)."""
    try:
        return nir.read(source)
    except ValueError:
        return nir.read(source, type_check=False)


def _name_damaged(source: Path, graph: Mapping[str, Any], prefix: str) -> None:
    """Raise with the name of the first node that cannot be read; return if all can."""
    known = kind_names()
    nodes = graph.get("nodes")
    for name, node in nodes.items() if isinstance(nodes, dict) else ():
        full = f"{prefix}{name}"
        kind = node.get("type") if isinstance(node, dict) else None
        if not isinstance(kind, str) or kind not in known:
            raise FileFormatError(
                f"'{source}': node '{full}' is of type {kind!r}; expected {', '.join(known)}"
            )
        if kind == "NIRGraph":
            _name_damaged(source, node, f"{full}.")
            continue
        try:
            nir.dict2NIRNode(dict(node))
        except Exception as error:  # whatever nir raises for such a node
            raise FileFormatError(
                f"'{source}': node '{full}' ({kind}) cannot be read ({type(error).__name__}: {error}); "
                f"expected the fields of its type. Write it again"
            ) from error


@checked
def write_nir(path: str | Path, graph: nir.NIRGraph, force: bool = False) -> None:
    """Write atomically; an existing file stays unless ``force``.

    Raises:
        ConfigError: a name or an open field that NIR files cannot hold.
    """
    target = check_output(path, force)
    _check_writable(graph, "")
    write_whole(target, lambda image: nir.write(image, graph), force)


def _check_writable(graph: nir.NIRGraph, prefix: str) -> None:
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        if not isinstance(name, str) or name in ("", ".") or set("/\0") & set(name):
            raise ConfigError(
                f"the name of node {full!r} has a '/' or a null byte, or is empty; expected a name that NIR "
                f"files hold. Rename it"
            )
        if isinstance(node, nir.NIRGraph):
            _check_writable(node, f"{full}.")
        elif isinstance(node, (nir.Conv1d, nir.Conv2d)) and node.input_shape is None:
            raise ConfigError(
                f"node '{full}' ({type(node).__name__}): input_shape is None; expected a shape, as NIR files "
                f"hold it. Set it, or call graph.infer_types()"
            )
