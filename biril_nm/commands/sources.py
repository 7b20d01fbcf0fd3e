"""Networks that the command line reads: models, NIR files, netx files and integer graphs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from biril_nm.coding import Coding, check_decision
from biril_nm.commands.architectures import architecture_of, own_net, sample_for
from biril_nm.commands.options import LoweringChoice, NetxReading
from biril_nm.commands.unused import given
from biril_nm.display import shown
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.export.loihi_file import GRAPH_SUFFIX
from biril_nm.export.weight_bits import parse_weight_bits
from biril_nm.hw_graph import LoihiGraph

if TYPE_CHECKING:
    import nir

    from biril_nm.export.lowering import Lowering, LoweringOptions
    from biril_nm.models import SpikingNet

TORCH = (".pt", ".pth", ".ckpt", ".tar")  # x.ckpt of Lightning, x.pth.tar
ENDINGS = (*TORCH, ".nir", ".net", GRAPH_SUFFIX)
CONFIG, MODEL, GRAPH = "config.toml", "model.pt", "model.loihi.npz"  # in the folder of a run

__all__ = [
    "CONFIG",
    "GRAPH",
    "GRAPH_SUFFIX",
    "MODEL",
    "LoadedFile",
    "load_source",
    "lowered",
    "lowered_stages",
    "lowering_options",
    "model_in",
]


@dataclass(frozen=True)
class LoadedFile:
    """A loaded file: what it held, and the stages that follow from it.

    Attributes:
        path: the file.
        kind: ``pt``, ``nir``, ``netx`` or ``loihi``.
        net: the torch network (``pt``); an OwnNet where the file holds the weights of a user's module.
        nir_graph: the NIR graph (``pt`` and ``nir``).
        graph: the integer network; None until lowered.
    """

    path: Path
    kind: str
    net: SpikingNet | None = None
    nir_graph: nir.NIRGraph | None = None
    graph: LoihiGraph | None = None


def model_in(src: Path) -> Path:
    """The model of a folder that biril train has written, or the file itself.

    Raises:
        FileFormatError: a folder of another kind.
    """
    if not src.is_dir():
        return src
    for name in (MODEL, GRAPH):
        if (src / name).is_file():
            return src / name
    raise FileFormatError(
        f"'{src}' is a folder without {MODEL} and {GRAPH}; expected a folder of a finished biril train, or "
        f"model.pt, x.nir, x.net or x{GRAPH_SUFFIX}. Name a file"
    )


def load_source(
    path: Path, options: LoweringChoice | None = None, netx: NetxReading | None = None
) -> LoadedFile:
    """Read a ``.pt`` (``.pth``, ``.ckpt``, ``.tar``), ``.nir``, ``.net`` or ``.loihi.npz`` file.

    Args:
        path: the file, or the folder of a training.
        options: width of a step, for models; coding, for NIR graphs; decision.
        netx: what a ``.net`` file does not say.

    Raises:
        ConfigError: a coding for a file that has its own, or an unknown decision.
        FileFormatError: unknown ending, damaged or hostile file.
    """
    how = options or LoweringChoice()
    found = _read(model_in(path), how, netx or NetxReading())
    if how.decision is None:
        return found
    if found.nir_graph is not None:
        from biril_nm.export.nir_nodes.decision import with_decision

        return replace(found, nir_graph=with_decision(found.nir_graph, how.decision))
    chosen = check_decision(how.decision)
    return replace(found, graph=cast(LoihiGraph, found.graph).with_metadata(decision=chosen))


def _read(path: Path, how: LoweringChoice, netx: NetxReading) -> LoadedFile:
    """The file as it is, with what the options say of its input."""
    if not path.name.endswith(ENDINGS):
        raise FileFormatError(
            f"'{path}' has an unknown ending; expected model.pt, x.nir, x.net or x{GRAPH_SUFFIX}. Weights of "
            f"torch may end in {', '.join(TORCH)}"
        )
    if path.suffix in TORCH:
        return _read_torch(path, how)
    if how.coding is not None and path.suffix != ".nir":
        raise ConfigError(
            f"--coding {how.coding}: '{path}' has its own input; only an x.nir takes another. Leave it out"
        )
    flags = [flag for flag in given(how) if flag in ("--architecture", "--input-shape")]
    if flags:
        raise ConfigError(
            f"{', '.join(flags)}: '{path}' holds no weights of a module; only a model.pt does. Leave it out"
        )
    if path.name.endswith(GRAPH_SUFFIX):
        return LoadedFile(path, "loihi", graph=LoihiGraph.load(path))
    if path.suffix == ".net":
        from biril_nm.export import read_netx

        graph = read_netx(path, input_message_bits=netx.input_message_bits, truncate=netx.truncate)
        return LoadedFile(path, "netx", graph=graph)
    from biril_nm.export.nir_files.files import read_nir
    from biril_nm.export.nir_nodes.coding import with_coding

    found = read_nir(path)
    if how.coding is not None:
        found = with_coding(found, Coding.parse(how.coding))
    return LoadedFile(path, "nir", nir_graph=found)


def _read_torch(path: Path, how: LoweringChoice) -> LoadedFile:
    """A network of this package, or a user's module that ``--architecture`` makes."""
    from biril_nm.export import to_nir
    from biril_nm.models import BirilNet
    from biril_nm.models.saving import read_network

    architecture = None if how.architecture is None else architecture_of(how.architecture)
    stored = read_network(path, architecture)
    width: dict[str, Any] = {} if how.dt is None else {"dt_s": how.dt}
    if isinstance(stored.net, BirilNet):
        for flag, value in (("--coding", how.coding), ("--input-shape", how.input_shape)):
            if value is not None:
                raise ConfigError(
                    f"{flag} {value}: '{path}' has its own input; only an x.nir or a module of yours takes "
                    f"another. Leave it out"
                )
        return LoadedFile(path, "pt", net=stored.net, nir_graph=to_nir(stored.net, **width))
    net = own_net(stored, path, how.coding)
    sample = sample_for(net, stored, path, how)
    return LoadedFile(path, "pt", net=net, nir_graph=to_nir(net, sample, **width))


def lowered(
    source: LoadedFile, options: LoweringChoice | None = None, **choices: Any
) -> LoihiGraph:
    """The integer network of a file, lowered where it is not one already.

    Args:
        source: the file.
        options: options that all commands have.
        choices: further arguments of :func:`biril_nm.export.lower`.
    """
    if source.graph is not None:
        return source.graph
    return lowered_stages(source, options, **choices).graph


def lowered_stages(
    source: LoadedFile, options: LoweringChoice | None = None, **choices: Any
) -> Lowering:
    """All stages from the NIR graph of a file to its integer network; arguments of :func:`lowered`."""
    from biril_nm.export.lowering import lower_stages

    found = lower_stages(source.nir_graph, lowering_options(source, options, **choices))
    return replace(
        found, graph=found.graph.with_metadata(source=shown(source.path.name, lines=False))
    )


def lowering_options(
    source: LoadedFile, options: LoweringChoice | None = None, **choices: Any
) -> LoweringOptions:
    """How a file is lowered; arguments of :func:`lowered`."""
    from biril_nm.export.lowering import LoweringOptions

    how = options or LoweringChoice()
    return LoweringOptions(
        chip=how.chip,
        dt_s=None if source.kind == "pt" else how.dt,
        weight_bits=parse_weight_bits(how.weight_bits),
        reset=how.reset,
        if_integration=how.if_integration,
        **choices,
    )
