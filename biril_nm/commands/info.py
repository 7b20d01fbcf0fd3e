"""``biril info``: versions, engines, targets and supported nodes, or the summary of a file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

import biril_nm
from biril_nm.commands.console import note, print_json, print_table, say
from biril_nm.commands.options import Json, LoweringChoice, OwnModule
from biril_nm.commands.sources import LoadedFile, load_source
from biril_nm.commands.unused import given
from biril_nm.engines import available_engines, get_engine
from biril_nm.errors import BirilError, ConfigError
from biril_nm.export.backends import available_backends
from biril_nm.hw_graph.table import CONNECTION_HEADER, connection_rows, neuron_table

__all__ = ["info_command", "supported_rows"]

OF_TORCH = ("torch", "snnTorch")  # sides of the table of supported nodes
PACKAGES = ("numpy", "numba", "torch", "snntorch", "nir", "lava-nc", "lava-dl")


def info_command(
    file: Annotated[
        Path | None, typer.Argument(help="model.pt, x.nir, x.net or x.loihi.npz", metavar="[FILE]")
    ] = None,
    *,
    own: OwnModule,
    json: Json = False,
) -> None:
    """Show what is installed and supported, or what a file holds.

    Example: biril info out/model.loihi.npz
    """
    if file is None:
        flags = given(own)
        if flags:
            raise ConfigError(f"{', '.join(flags)}: no file is named; expected a model.pt. Name it")
        _show_installation(json)
    else:
        _show_file(load_source(file, LoweringChoice(**vars(own))), json)


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def supported_rows() -> list[tuple[str, str, str]]:
    """Rows (side, layer or node, becomes) of the supported-node table; without torch those of NIR only."""
    from biril_nm.export.supported import stored_nodes

    listed = _torch_problem() is None
    return [row for row in stored_nodes() if listed or row[0] not in OF_TORCH]


def _torch_problem() -> BirilError | None:
    """Which package is missing for layers of torch; none of them is imported."""
    return get_engine("torch").why_not()


def _engines() -> dict[str, str | None]:
    """Engine -> why it cannot run here, or None."""
    found: dict[str, str | None] = {}
    for name in available_engines():
        try:
            problem = get_engine(name).why_not()
        except BirilError as error:  # an entry point that does not load
            problem = error
        found[name] = None if problem is None else str(problem)
    return found


def _show_installation(json: bool) -> None:
    versions = {package: _version_of(package) for package in PACKAGES}
    backends, engines = list(available_backends()), _engines()
    if json:
        facts = {
            "biril-nm": biril_nm.__version__,
            "python": platform.python_version(),
            "packages": versions,
            "backends": backends,
            "engines": engines,
            "supported": supported_rows(),
        }
        print_json(facts)
        return
    say(f"biril-nm {biril_nm.__version__}, Python {platform.python_version()}")
    rows = [(name, found or "not installed") for name, found in versions.items()]
    print_table("", ("package", "version"), rows)
    say(f"can be written here (biril export --to): {', '.join(backends)}")
    ready = [name for name, problem in engines.items() if problem is None]
    say(f"can run here (--against, --backend): {', '.join(ready) or 'nothing'}")
    rows = [(name, problem or "ready") for name, problem in engines.items()]
    print_table("", ("engine", "state"), rows)
    print_table("supported nodes", ("from", "node", "becomes"), supported_rows())
    problem = _torch_problem()
    if problem is not None:
        note(f"layers of torch are not listed: {problem}")


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Rows of a table with the names of their columns."""
    return [dict(zip(header, row)) for row in rows]


def _show_file(source: LoadedFile, json: bool) -> None:
    if source.graph is not None:
        if json:
            graph = source.graph
            tables = {
                "neurons": _rows(*neuron_table(graph)),
                "connections": _rows(CONNECTION_HEADER, connection_rows(graph)),
            }
            print_json({"kind": source.kind, **tables, "metadata": dict(graph.metadata)})
        else:
            say(source.graph.summary())
        return
    nodes: list[tuple[str, str, str]] = []
    nir_graph: Any = source.nir_graph
    for name, node in nir_graph.nodes.items():
        shape = node.output_type or {}
        first = next(iter(shape.values()), None)
        nodes.append((name, type(node).__name__, str(tuple(first)) if first is not None else "-"))
    if json:
        print_json({"kind": source.kind, "nodes": nodes, "metadata": nir_graph.metadata})
        return
    if source.net is not None:
        count = sum(p.numel() for p in source.net.parameters())
        what = getattr(source.net, "config", source.net.coding)  # of a BirilNet; of an own module
        say(f"model '{source.net.name}', {count:,} parameters, {what}")
    print_table("", ("node", "type", "output shape"), nodes)
