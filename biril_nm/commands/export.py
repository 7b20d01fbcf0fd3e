"""``biril export`` and ``biril-export``: from a model, a NIR file or an integer graph to a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biril_nm.commands.console import print_json, say, stderr
from biril_nm.commands.options import Chip, DataRoot, Dt, Force, Json, Reset, Seed, WeightBits
from biril_nm.commands.sources import (
    GRAPH_SUFFIX,
    Source,
    load_source,
    lowered,
    random_input,
    single_input,
)
from biril_nm.errors import ConfigError
from biril_nm.storage import check_output, read_npz

if TYPE_CHECKING:
    from biril_nm.hw_graph import LoihiGraph

__all__ = ["export_command"]

TARGETS = ("nir", "loihi", "lava", "netx")
SUFFIXES = {"nir": ".nir", "loihi": GRAPH_SUFFIX, "netx": ".net"}
BUNDLE_SAMPLES = 16

To = Annotated[str, typer.Option("--to", help=f"Target: {', '.join(TARGETS)}.")]
Plastic = Annotated[
    list[str] | None,
    typer.Option(
        help="CONNECTION=RULE: let it learn by the rule of this name or .toml/.json file; repeatable. "
        "A three-factor rule adds an Input CONNECTION.y1 (y2, y3) for each factor that it needs; "
        "CONNECTION=RULE,y3=NODE takes a factor from a node of the network instead."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Output; default: beside SRC.")]


def export_command(
    src: Annotated[
        Path, typer.Argument(help="model.pt, x.nir, x.net or x.loihi.npz", metavar="SRC")
    ],
    to: To,
    out: Out = None,
    dt: Dt = None,
    reset: Reset = None,
    chip: Chip = "loihi2",
    weight_bits: WeightBits = 8,
    calibration: Annotated[
        Path | None,
        typer.Option(help=".npz with integer 'spikes' that limit the scale by observed peaks."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Lava: put test samples of this data set beside it.")
    ] = None,
    data_root: DataRoot = None,
    input_message_bits: Annotated[
        int | None, typer.Option(help="Width of graded input of an x.net, which does not say.")
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut fractions in an x.net off, as netx does.")
    ] = False,
    round_bias: Annotated[
        bool, typer.Option("--round-bias", help="netx: round biases to multiples of 64.")
    ] = False,
    readout: Annotated[
        str | None,
        typer.Option(help="'accumulate': sum the output of a last linear layer over the steps."),
    ] = None,
    scale_search: Annotated[
        str, typer.Option(help="Largest weight that does not clip: by max, percentile or mse.")
    ] = "max",
    split_mixed: Annotated[
        bool, typer.Option("--split-mixed", help="Two one-signed connections, one bit more each.")
    ] = False,
    plastic: Plastic = None,
    unroll: Annotated[
        bool, typer.Option("--unroll", help="Let --plastic turn convolutions into Sparse ones.")
    ] = False,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Translate a network: a model to NIR, to integers, to a Lava bundle, to lava-dl's netx.

    Example: biril export out/model.pt --to loihi

    Example: biril export out/model.pt --to lava -o out/lava
    """
    if to not in TARGETS:
        raise ConfigError(f"target '{to}' is unknown; known targets: {', '.join(TARGETS)}")
    if plastic and to not in ("loihi", "lava"):
        raise ConfigError(f"--plastic needs --to loihi or lava; '{to}' knows no learning rules")
    target = _check_target(out or _default_output(src, to), to, force)
    source = load_source(src, dt, input_message_bits, truncate)
    if to == "nir":
        result: dict[str, Any] = _write_nir(source, target, force, dt)
    else:
        data = None if calibration is None else read_npz(calibration).get("spikes")
        if calibration is not None and data is None:
            raise ConfigError(f"'{calibration}' has no array 'spikes'")
        graph = lowered(
            source, chip, dt, weight_bits, reset, data,
            readout=readout, scale_search=scale_search, split_mixed=split_mixed,
        )  # fmt: skip
        graph = _with_rules(graph, plastic or [], unroll)
        _warn(graph, chip)
        if to == "netx":
            result = _write_netx(graph, target, force, round_bias)
        else:
            result = _write_graph(graph, to, target, force, dataset, data_root, seed)
    if json:
        print_json({"source": str(src), "target": to, "output": str(target), **result})
        return
    if "report" in result:
        say(result["report"])
    say(f"wrote {target}")
    if to == "lava":
        say(f"run it: python {target / 'run_lava.py'}")


def _check_target(path: Path, to: str, force: bool) -> Path:
    """A path whose name says what it holds, so that other commands can read it."""
    if to == "lava":
        from biril_nm.export.lava.bundle_files import RUNNER

        return check_output(path, force, folder_with=RUNNER)
    suffix = SUFFIXES[to]
    if not path.name.endswith(suffix):
        raise ConfigError(f"output '{path}' must end in {suffix} with --to {to}")
    return check_output(path, force)


def _with_rules(graph: LoihiGraph, plastic: list[str], unroll: bool) -> LoihiGraph:
    """Make connections plastic as ``--plastic`` says."""
    from biril_nm.hw_graph.plastic import make_plastic, rule_of

    for text in plastic:
        name, equals, told = text.partition("=")
        rule, *wiring = told.split(",")
        sources = dict(part.split("=", 1) for part in wiring if "=" in part)
        if not equals or not name or not rule or len(sources) != len(wiring):
            raise ConfigError(
                f"--plastic '{text}' is not of the form CONNECTION=RULE[,y3=NODE,...]"
            )
        graph = make_plastic(graph, name, rule_of(rule), sources, unroll=unroll)
    return graph


def _default_output(src: Path, to: str) -> Path:
    stem = src.name.removesuffix(GRAPH_SUFFIX) if src.name.endswith(GRAPH_SUFFIX) else src.stem
    return src.with_name(f"{stem}{SUFFIXES[to]}" if to in SUFFIXES else to)


def _write_nir(source: Source, target: Path, force: bool, dt: float | None) -> dict[str, Any]:
    from biril_nm.export.nir_files.files import write_nir

    graph = source.nir_graph
    if graph is None:
        from biril_nm.export.nir_files.exact_writing import exact_nir

        graph = exact_nir(lowered(source), dt)
    write_nir(target, graph, force=force)
    return {"nodes": {name: type(node).__name__ for name, node in graph.nodes.items()}}


def _write_netx(graph: LoihiGraph, target: Path, force: bool, round_bias: bool) -> dict[str, Any]:
    from biril_nm.export import write_netx

    write_netx(graph, target, force=force, round_bias=round_bias)
    return {"report": graph.report(), "metadata": dict(graph.metadata)}


def _warn(graph: LoihiGraph, chip: str) -> None:
    from biril_nm.export.design_rules import warnings

    for finding in warnings(graph, chip):
        stderr.print(f"[yellow]note[/yellow] {finding}", highlight=False)


def _write_graph(
    graph: LoihiGraph,
    to: str,
    target: Path,
    force: bool,
    dataset: str | None,
    data_root: Path | None,
    seed: int,
) -> dict[str, Any]:
    if to == "loihi":
        graph.save(target, force=force)
    else:
        from biril_nm.export.lava.backend import write

        spikes = _bundle_input(graph, dataset, data_root, seed)
        write(graph, target, force=force, spikes=spikes)
    return {"report": graph.report(), "metadata": dict(graph.metadata)}


def _bundle_input(
    graph: LoihiGraph, dataset: str | None, data_root: Path | None, seed: int
) -> dict[str, Any]:
    """A few samples to run the bundle with: test samples, or random ones."""
    told = [value["n_steps"] for value in graph.metadata.get("coding", {}).values()]
    if dataset is None:
        return random_input(graph, max([16 if n == 1 else n for n in told], default=16), 4, seed)
    from biril_nm.data import load_data

    name, coding = single_input(graph)
    values = load_data(dataset, data_root).test.head(BUNDLE_SAMPLES).values()
    return {name: coding.encode(values, seed)}
