"""``biril info``: versions, back ends and supported nodes, or the summary of a file."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

import biril_nm
from biril_nm.commands.console import print_json, print_table, say
from biril_nm.commands.options import Json
from biril_nm.commands.sources import Source, load_source

__all__ = ["info_command", "supported_rows"]

PACKAGES = ("numpy", "numba", "torch", "snntorch", "nir", "lava-nc", "lava-dl")


def info_command(
    file: Annotated[
        Path | None, typer.Argument(help="model.pt, x.nir, x.net or x.loihi.npz", metavar="[FILE]")
    ] = None,
    json: Json = False,
) -> None:
    """Show what is installed and supported, or what a file holds.

    Example: biril info out/model.loihi.npz
    """
    if file is None:
        _show_installation(json)
    else:
        _show_file(load_source(file), json)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def supported_rows() -> list[tuple[str, str, str]]:
    """Rows (layer or node, side, becomes) of the supported-node table, read from the registries."""
    from biril_nm.export.supported import supported_nodes

    return supported_nodes()


def _show_installation(json: bool) -> None:
    from biril_nm.export.backends import available_backends

    versions = {package: _installed(package) for package in PACKAGES}
    facts = {
        "biril-nm": biril_nm.__version__,
        "python": platform.python_version(),
        "packages": versions,
        "backends": list(available_backends()),
        "supported": supported_rows(),
    }
    if json:
        print_json(facts)
        return
    say(f"biril-nm {biril_nm.__version__}, Python {platform.python_version()}")
    rows = [(name, found or "not installed") for name, found in versions.items()]
    print_table("", ("package", "version"), rows)
    if versions["lava-nc"] is None:
        say('Lava back end: install with  pip install "biril-nm[lava]"  (Python 3.10)')
    say(f"back ends: {', '.join(available_backends())}")
    print_table("supported nodes", ("from", "node", "becomes"), supported_rows())


def _show_file(source: Source, json: bool) -> None:
    if source.graph is not None:
        if json:
            print_json({"kind": source.kind, "metadata": dict(source.graph.metadata)})
        else:
            say(source.graph.report())
        return
    nodes: list[tuple[str, str, str]] = []
    graph: Any = source.nir_graph
    for name, node in graph.nodes.items():
        shape = node.output_type or {}
        first = next(iter(shape.values()), None)
        nodes.append((name, type(node).__name__, str(tuple(first)) if first is not None else "-"))
    if json:
        print_json({"kind": source.kind, "nodes": nodes, "metadata": graph.metadata})
        return
    if source.net is not None:
        count = sum(p.numel() for p in source.net.parameters())
        say(f"model '{source.net.name}', {count:,} parameters, {source.net.config}")
    print_table("", ("node", "type", "output shape"), nodes)
