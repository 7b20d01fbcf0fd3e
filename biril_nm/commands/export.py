"""``biril export`` and ``biril-export``: from a model, a NIR file or an integer graph to a target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from biril_nm.commands.console import note, print_json, say
from biril_nm.commands.inputs import n_steps_of, random_input, sample_input
from biril_nm.commands.options import (
    DataRoot,
    Force,
    Json,
    LoweringChoice,
    NetxReading,
    Seed,
    To,
    one_of,
)
from biril_nm.commands.samples import SPIKES, OwnSamples, read_arrays
from biril_nm.commands.sources import GRAPH_SUFFIX, LoadedFile, load_source, lowered
from biril_nm.commands.unused import given, refuse_unused, unused_lowering, unused_root
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.export.backends import NIR, Target, get_backend, get_target
from biril_nm.hw_graph import LoihiGraph
from biril_nm.storage import keep_inputs

__all__ = ["export_command", "with_rules"]

FLOAT = ("--decision", "--coding", "--architecture", "--input-shape")  # what a float network keeps
SAMPLES, RANDOM_SAMPLES = 16, 4  # beside a bundle: of a data set, or random ones

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Output; default: beside SRC.")]


@dataclass(frozen=True)
class Quantisation:
    """Choices of the lowering that only the export has."""

    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Samples that limit the scale by observed peaks: .npz with integers 'spikes' (steps, "
            "samples, *shape) or an array per input, or .npy."
        ),
    ] = None
    readout: Annotated[
        str | None,
        one_of(
            ("accumulate",), "'accumulate': sum the output of a last linear layer over the steps."
        ),
    ] = None
    scale_search: Annotated[
        str,
        one_of(
            ("auto", "max", "percentile", "mse"),
            "Largest weight that does not clip: by max, percentile or mse; auto: mse below 5 bits, "
            "else max.",
        ),
    ] = "auto"
    split_mixed: Annotated[
        bool, typer.Option("--split-mixed", help="Two one-signed connections, one bit more each.")
    ] = False


@dataclass(frozen=True)
class Plasticity:
    """Connections that learn on the chip."""

    plastic: Annotated[
        list[str] | None,
        typer.Option(
            help="CONNECTION=RULE: let it learn by the rule of this name or .toml/.json file; "
            "repeatable. A three-factor rule adds an Input CONNECTION.y1 (y2, y3) for each factor that "
            "it needs; CONNECTION=RULE,y3=NODE takes a factor from a node of the network instead."
        ),
    ] = None
    unroll: Annotated[
        bool, typer.Option("--unroll", help="Let --plastic turn convolutions into Sparse ones.")
    ] = False


@dataclass(frozen=True)
class BundleSamples:
    """Samples that are written beside a bundle."""

    dataset: Annotated[
        str | None, typer.Option(help="Put test samples of this data set beside a Lava bundle.")
    ] = None
    spikes: Annotated[
        Path | None,
        typer.Option(
            help="Put the first of these samples beside it: .npz with 'spikes' (steps, samples, *shape), "
            "or .npy."
        ),
    ] = None
    data_root: DataRoot = None
    seed: Seed = 0


def export_command(
    src: Annotated[
        Path, typer.Argument(help="model.pt, x.nir, x.net or x.loihi.npz", metavar="SRC")
    ],
    to: To,
    *,
    out: Out = None,
    lowering: LoweringChoice,
    quantisation: Quantisation,
    plasticity: Plasticity,
    netx: NetxReading,
    samples: BundleSamples,
    round_bias: Annotated[
        bool, typer.Option("--round-bias", help="netx: round biases to multiples of 64.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Translate a network: a model to NIR, to integers, to a Lava bundle, to lava-dl's netx.

    Example: biril export out/model.pt --to loihi

    Example: biril export out/model.pt --to lava -o out/lava
    """
    target, rules = get_target(to), plasticity.plastic or []
    _check_learns(target, to, rules)
    path = out or _default_output(src, to, target)
    keep_inputs([path], [src, quantisation.calibration, samples.spikes, *_rule_files(rules)])
    target.check_path(path, to, force)
    source = load_source(src, lowering, netx)
    findings = [
        *_unused_by_target(target, to, lowering, round_bias, samples),
        *_unused_by_source(source, target, lowering, quantisation),
    ]
    if source.kind != "netx" and given(netx):
        findings.append(
            f"{', '.join(given(netx))}: '{src}' is not an x.net; only those leave this open. "
            f"Leave the option out"
        )
    if plasticity.unroll and not rules:
        findings.append("--unroll: it is about convolutions that learn; name them with --plastic")
    refuse_unused(findings)
    network: Any = source.nir_graph if target.takes == NIR else None
    graph = None
    if network is None:
        graph = with_rules(_integers(source, lowering, quantisation), rules, plasticity.unroll)
        if target.takes != NIR:
            _warn(graph, lowering.chip)
        network = graph
    asked: dict[str, Any] = {"round_bias": round_bias, "dt_s": lowering.dt}
    if "spikes" in target.options and graph is not None:
        asked["spikes"] = _beside(graph, samples)
    choices = {name: value for name, value in asked.items() if name in target.options}
    get_backend(to).write(network, path, force=force, **choices)
    facts = _facts(network)
    if json:
        print_json({"source": str(src), "target": to, "output": str(path), **facts})
        return
    if "report" in facts:
        say(facts["report"])
    say(f"wrote {path}")
    if target.hint:
        say(target.hint.format(path=path))


def _rule_files(rules: list[str]) -> list[Path]:
    """The files that ``--plastic`` may name."""
    return [Path(text.partition("=")[2].split(",")[0]) for text in rules]


def _check_learns(target: Target, to: str, rules: list[str]) -> None:
    if rules and not target.learns:
        raise ConfigError(
            f"target '{to}' cannot express learning rules. Leave --plastic out, or export --to loihi"
        )


def _unused_by_target(
    target: Target, to: str, lowering: LoweringChoice, round_bias: bool, samples: BundleSamples
) -> list[str]:
    found = unused_root(samples.dataset, samples.data_root)
    if round_bias and "round_bias" not in target.options:
        found.append(f"--round-bias: target '{to}' keeps biases as they are")
    for flag, value in (("--dataset", samples.dataset), ("--spikes", samples.spikes)):
        if value is not None and "spikes" not in target.options:
            found.append(f"{flag}: target '{to}' has no samples beside it")
    if samples.seed and "spikes" not in target.options:
        found.append(f"--seed: nothing that target '{to}' writes is random")
    if lowering.decision is not None and target.suffix == ".net":
        found.append("--decision: an x.net has no place for it, and lava-dl counts spikes")
    return found


def _unused_by_source(
    source: LoadedFile, target: Target, lowering: LoweringChoice, quantisation: Quantisation
) -> list[str]:
    """Options of a lowering that is not made: the source holds integers, or the target takes floats."""
    uses = ("--chip", *(("--dt",) if "dt_s" in target.options else ()))
    found = unused_lowering([source], lowering, uses)
    if source.graph is not None:
        why = f"'{source.path}' holds integers, which are not lowered again"
    elif target.takes == NIR:
        why = "a float network is written as it is, without lowering"
        kept = (*FLOAT, *(("--dt",) if source.kind == "pt" else ()))
        flags = [flag for flag in given(lowering) if flag not in kept]
        found += [f"{', '.join(flags)}: {why}"] if flags else []
    else:
        return found
    flags = given(quantisation)
    return [*found, f"{', '.join(flags)}: {why}"] if flags else found


def _default_output(src: Path, to: str, target: Target) -> Path:
    named = src.resolve() if src.name in ("", "..") else src  # the folder of a run may be "."
    ours = named.name.endswith(GRAPH_SUFFIX)
    stem = named.name.removesuffix(GRAPH_SUFFIX) if ours else named.stem
    return named.parent / (f"{stem}{target.suffix}" if target.suffix else to)


def _integers(source: LoadedFile, lowering: LoweringChoice, choices: Quantisation) -> LoihiGraph:
    data: Any = None
    if choices.calibration is not None:
        data = _calibration(choices.calibration, source)
    return lowered(
        source,
        lowering,
        calibration=data,
        readout=choices.readout,
        scale_search=choices.scale_search,
        split_mixed=choices.split_mixed,
    )


def _calibration(path: Path, source: LoadedFile) -> Any:
    """Input that is measured: array ``spikes``, or one of each input."""
    arrays = read_arrays(path)
    nodes = {} if source.nir_graph is None else source.nir_graph.nodes
    inputs = [n for n, node in nodes.items() if type(node).__name__ == "Input"]
    given = {name: arrays[name] for name in inputs if name in arrays}
    if given and len(given) == len(inputs):
        return given
    if SPIKES not in arrays:
        raise FileFormatError(
            f"'{path}' holds arrays {sorted(arrays)[:8]}; expected '{SPIKES}' (steps, samples, *shape)"
        )
    return arrays[SPIKES]


def with_rules(graph: LoihiGraph, plastic: list[str], unroll: bool) -> LoihiGraph:
    """Make connections plastic as ``--plastic CONNECTION=RULE[,y3=NODE,...]`` says.

    Raises:
        ConfigError: a text of another form, or a connection that cannot learn by that rule.
    """
    from biril_nm.hw_graph.plastic import make_plastic, rule_of

    for text in plastic:
        name, equals, rest = text.partition("=")
        rule, *wiring = rest.split(",")
        sources = dict(part.split("=", 1) for part in wiring if "=" in part)
        if not equals or not name or not rule or len(sources) != len(wiring):
            raise ConfigError(
                f"--plastic '{text}' is not of the form CONNECTION=RULE[,y3=NODE,...]"
            )
        graph = make_plastic(graph, name, rule_of(rule), sources, unroll=unroll)
    return graph


def _warn(graph: LoihiGraph, chip: str) -> None:
    from biril_nm.export.design_rules import warnings

    for finding in warnings(graph, chip):
        note(str(finding))


def _beside(graph: LoihiGraph, samples: BundleSamples) -> dict[str, Any]:
    """A few samples to run the bundle with: test samples, those of a file, or random ones."""
    if samples.spikes is not None:
        OwnSamples(samples.spikes).check({"--dataset": samples.dataset})
        found = OwnSamples(samples.spikes).read(graph)
        return {} if found is None else dict(found.head(SAMPLES).spikes)
    if samples.dataset is None:
        return random_input(graph, n_steps_of(graph), RANDOM_SAMPLES, samples.seed)
    from biril_nm.data import load_data

    test = load_data(samples.dataset, samples.data_root).test
    return sample_input(graph, test.head(SAMPLES), samples.seed)


def _facts(network: Any) -> dict[str, Any]:
    """What was written."""
    if isinstance(network, LoihiGraph):
        return {"report": network.summary(), "metadata": dict(network.metadata)}
    return {"nodes": {name: type(node).__name__ for name, node in network.nodes.items()}}
