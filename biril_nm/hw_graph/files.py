"""Reading and writing ``x.loihi.npz``: plain arrays and one JSON header, checked before use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.hw_graph.graph import (
    TAG_LIMITS,
    Conv,
    Dense,
    Input,
    LoihiGraph,
    Neurons,
    Node,
    Output,
    Sparse,
)
from biril_nm.hw_graph.metadata import check_metadata
from biril_nm.learning.rule import LearningRule
from biril_nm.storage import check_output, read_npz, write_npz

__all__ = ["load_graph", "save_graph"]

FORMAT = "biril-nm LoihiGraph"
VERSION = 1

Arrays = dict[str, NDArray[Any]]
Record = dict[str, Any]

_SCALARS: dict[str, tuple[str, ...]] = {
    "Input": ("shape", "message_bits"),
    "Neurons": ("shape", "bias_exp"),
    "Output": (),
    "Dense": ("weight_exp", "weight_bits", "sign_mode", "delay"),
    "Sparse": ("weight_exp", "weight_bits", "sign_mode", "delay"),
    "Conv": (
        "stride",
        "padding",
        "dilation",
        "groups",
        "weight_exp",
        "weight_bits",
        "sign_mode",
        "delay",
    ),
}
_ARRAYS: dict[str, tuple[str, ...]] = {
    "Neurons": ("vth", "du", "dv", "bias_mant"),
    "Dense": ("weight",),
    "Conv": ("weight",),
}


def save_graph(graph: LoihiGraph, path: str | Path, force: bool = False) -> None:
    """Write ``graph`` to ``path`` atomically."""
    target = check_output(path, force)
    arrays: Arrays = {}
    records = [_pack(i, name, node, arrays) for i, (name, node) in enumerate(graph.nodes.items())]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "nodes": records,
        "edges": [list(edge) for edge in graph.edges],
        "metadata": dict(graph.metadata),
    }
    text = json.dumps(header)
    arrays["header"] = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    write_npz(target, arrays)


def _pack(index: int, name: str, node: Node, arrays: Arrays) -> Record:
    kind = type(node).__name__
    record: Record = {"name": name, "kind": kind}
    for key in _SCALARS[kind]:
        value = getattr(node, key)
        record[key] = list(value) if isinstance(value, tuple) else value
    if isinstance(node, (Dense, Sparse)) and node.rule is not None:
        record["rule"] = node.rule.to_dict()
        record["modulators"] = dict(node.modulators)
    for key in TAG_LIMITS if isinstance(node, (Dense, Sparse)) else ():
        if getattr(node, key) is not None:
            arrays[f"{index}.{key}"] = getattr(node, key)
    for key in _ARRAYS.get(kind, ()):
        arrays[f"{index}.{key}"] = getattr(node, key)
    if isinstance(node, Sparse):
        record["shape"] = list(node.weight.shape)
        for key in ("data", "indices", "indptr"):
            arrays[f"{index}.{key}"] = getattr(node.weight, key)
    return record


def load_graph(path: str | Path) -> LoihiGraph:
    """Read a graph; every failure names the file.

    Raises:
        FileFormatError: damaged, hostile, of another format, or inconsistent.
    """
    arrays = read_npz(path)
    try:
        header = json.loads(arrays["header"].tobytes().decode("utf-8"))
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise FileFormatError(
                f"'{path}' is '{header.get('format')}' version {header.get('version')}; "
                f"readable is '{FORMAT}' version {VERSION}"
            )
        check_metadata(header["metadata"])
        names = [record["name"] for record in header["nodes"]]
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(
            names
        ):
            raise FileFormatError(f"'{path}': node names must be texts that occur once")
        nodes = {
            name: _unpack(i, record, arrays)
            for i, (name, record) in enumerate(zip(names, header["nodes"]))
        }
        edges = tuple((str(a), str(b)) for a, b in header["edges"])
        return LoihiGraph(nodes, edges, header["metadata"])
    except FileFormatError:
        raise
    except (
        BirilError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise FileFormatError(
            f"'{path}' is no valid LoihiGraph file ({type(error).__name__}: {error}). "
            f"Write it again with graph.save() or 'biril export --to loihi'"
        ) from error


def _unpack(index: int, record: Mapping[str, Any], arrays: Arrays) -> Node:
    kind = record["kind"]
    if kind not in _BUILDERS:
        raise FileFormatError(f"node kind '{kind}' is unknown; known: {', '.join(_BUILDERS)}")
    values: Record = {key: record[key] for key in _SCALARS[kind]}
    for key in _ARRAYS.get(kind, ()):
        values[key] = arrays[f"{index}.{key}"]
    if record.get("rule") is not None:
        values["rule"] = LearningRule.from_dict(record["rule"])
        values["modulators"] = dict(record.get("modulators", {}))
    if kind in ("Dense", "Sparse"):
        values.update({k: arrays[f"{index}.{k}"] for k in TAG_LIMITS if f"{index}.{k}" in arrays})
    if kind == "Sparse":
        values["weight"] = _csr(index, record, arrays)
    node: Node = _BUILDERS[kind](**values)
    return node


def _csr(index: int, record: Mapping[str, Any], arrays: Arrays) -> Any:
    import scipy.sparse

    parts = tuple(arrays[f"{index}.{key}"] for key in ("data", "indices", "indptr"))
    rows, columns = (int(n) for n in record["shape"])
    data, indices, indptr = parts
    if (
        any(part.ndim != 1 or part.dtype.kind not in "iu" for part in parts)
        or indptr.shape != (rows + 1,)
        or (indptr[0], indptr[-1]) != (0, len(data))
        or len(indices) != len(data)
        or (np.diff(indptr.astype(np.int64)) < 0).any()
        or (len(indices) and (indices.min() < 0 or indices.max() >= columns))
    ):
        raise FileFormatError(f"Sparse node '{record['name']}' holds no valid CSR matrix")
    return scipy.sparse.csr_matrix(parts, shape=(rows, columns))


_BUILDERS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind for kind in (Input, Neurons, Output, Dense, Sparse, Conv)
}
