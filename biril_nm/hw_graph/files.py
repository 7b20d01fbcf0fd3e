"""Reading and writing ``x.loihi.npz``: plain arrays and one JSON header, checked before use.

Version 2 names the compartment model of each population, and the decision of the readout. Files of
version 1 hold CUBA-LIF alone, and decide by score, as all networks did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from biril_nm.compartments import COMPARTMENTS
from biril_nm.decision import OLD_DECISION
from biril_nm.errors import BirilError, FileFormatError
from biril_nm.hw_graph.metadata import check_metadata
from biril_nm.hw_graph.nodes import NODE_KINDS, Node
from biril_nm.storage import check_output, read_document, write_document

__all__ = ["load_graph", "save_graph"]

FORMAT = "biril-nm LoihiGraph"
VERSION = 2
READABLE = (1, VERSION)
ITEM_BYTES = 4  # a graph holds every value as an integer of 32 bits
DAMAGED = (
    BirilError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
)

Arrays = dict[str, NDArray[Any]]
Record = dict[str, Any]
Graph = TypeVar("Graph")


def save_graph(
    path: str | Path,
    nodes: Mapping[str, Node],
    edges: Sequence[tuple[str, str]],
    metadata: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write a graph to ``path`` atomically."""
    target = check_output(path, force)
    arrays: Arrays = {}
    records: list[Record] = []
    for index, (name, node) in enumerate(nodes.items()):
        record, own = node.to_arrays()
        records.append({"name": name, "kind": type(node).__name__, **record})
        arrays |= {f"{index}.{key}": array for key, array in own.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "nodes": records,
        "edges": [list(edge) for edge in edges],
        "metadata": dict(metadata),
    }
    write_document(target, header, arrays, force=force)


def load_graph(path: str | Path, build: Callable[[Any, Any, Any], Graph]) -> Graph:
    """``build(nodes, edges, metadata)`` of a file; every failure names the file.

    Raises:
        FileFormatError: damaged, hostile, of another format, or inconsistent.
    """
    header, arrays = read_document(path, FORMAT, READABLE, item_bytes=ITEM_BYTES)
    try:
        check_metadata(header["metadata"])
        names = [record["name"] for record in header["nodes"]]
        texts = {name for name in names if isinstance(name, str) and name}
        if len(texts) < len(names):
            raise FileFormatError(
                f"'{path}' has node names that are not texts or occur twice; expected texts, each once"
            )
        _check_models(path, header["nodes"])
        own = _by_node(arrays)
        nodes = {
            name: _node(path, index, record, own.get(str(index), {}))
            for index, (name, record) in enumerate(zip(names, header["nodes"]))
        }
        edges = tuple((str(a), str(b)) for a, b in header["edges"])
        old = {"decision": OLD_DECISION} if header["version"] == 1 else {}
        return build(nodes, edges, {**old, **header["metadata"]})
    except FileFormatError:
        raise
    except DAMAGED as error:
        raise FileFormatError(
            f"'{path}' is not a valid LoihiGraph file ({type(error).__name__}: {error}). "
            f"Write it again with graph.save() or 'biril export --to loihi'"
        ) from error


def _check_models(path: str | Path, records: Sequence[Mapping[str, Any]]) -> None:
    models = (record["model"] for record in records if "model" in record)
    unknown = [f"{model!r:.60}" for model in models if model not in COMPARTMENTS]
    if unknown:
        raise FileFormatError(
            f"'{path}' has neurons of compartment model {unknown[0]}, which is not registered; expected "
            f"one of {', '.join(COMPARTMENTS)}. Import the module that registers it first"
        )


def _by_node(arrays: Arrays) -> dict[str, Arrays]:
    """Arrays by node, from names such as ``3.weight``."""
    found: dict[str, Arrays] = {}
    for key, array in arrays.items():
        index, _, name = key.partition(".")
        found.setdefault(index, {})[name] = array
    return found


def _node(path: str | Path, index: int, record: Mapping[str, Any], arrays: Arrays) -> Node:
    kind = record["kind"]
    if kind not in NODE_KINDS:
        raise FileFormatError(
            f"'{path}': node kind '{kind}' is unknown; expected {', '.join(NODE_KINDS)}"
        )
    try:
        node: Node = NODE_KINDS[kind].from_arrays(record, arrays)
    except KeyError as error:
        raise FileFormatError(
            f"'{path}': {kind} '{record['name']}' has neither field nor array "
            f"'{index}.{error.args[0]}'"
        ) from error
    return node
