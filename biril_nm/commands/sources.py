"""What the command line reads: models, NIR files, integer graphs, and the input to drive them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.storage import map_npy, read_npz

if TYPE_CHECKING:
    import nir

    from biril_nm.models import BirilNet

__all__ = ["GRAPH_SUFFIX", "Source", "load_source", "random_input", "read_spikes", "single_input"]

GRAPH_SUFFIX = ".loihi.npz"


@dataclass(frozen=True)
class Source:
    """A loaded file: what it held, and the stages that follow from it.

    Attributes:
        path: the file.
        kind: ``pt``, ``nir``, ``netx`` or ``loihi``.
        net: the torch network (``pt``).
        nir_graph: the NIR graph (``pt`` and ``nir``).
        graph: the integer network; None until lowered.
    """

    path: Path
    kind: str
    net: BirilNet | None = None
    nir_graph: nir.NIRGraph | None = None
    graph: LoihiGraph | None = None


def load_source(
    path: Path,
    dt_s: float | None = None,
    input_message_bits: int | None = None,
    truncate: bool = False,
) -> Source:
    """Read a ``.pt``, ``.nir``, ``.net`` or ``.loihi.npz`` file.

    Args:
        path: the file.
        dt_s: width of a step, for models.
        input_message_bits: width of graded input, for ``.net`` files.
        truncate: cut fractions off, for ``.net`` files.

    Raises:
        FileFormatError: unknown ending, damaged or hostile file.
    """
    if path.name.endswith(GRAPH_SUFFIX):
        return Source(path, "loihi", graph=LoihiGraph.load(path))
    if path.suffix == ".net":
        from biril_nm.export import read_netx

        graph = read_netx(path, input_message_bits=input_message_bits, truncate=truncate)
        return Source(path, "netx", graph=graph)
    if path.suffix == ".nir":
        from biril_nm.export.nir_files.files import read_nir

        return Source(path, "nir", nir_graph=read_nir(path))
    if path.suffix == ".pt":
        from biril_nm.export import to_nir
        from biril_nm.models import load

        net = load(path)
        graph = to_nir(net) if dt_s is None else to_nir(net, dt_s=dt_s)
        return Source(path, "pt", net=net, nir_graph=graph)
    raise FileFormatError(
        f"'{path}' has an unknown ending; readable are model.pt, x.nir, x.net and x{GRAPH_SUFFIX}"
    )


def lowered(
    source: Source,
    chip: str = "loihi2",
    dt_s: float | None = None,
    weight_bits: int = 8,
    reset: str | None = None,
    calibration: NDArray[Any] | None = None,
    **choices: Any,
) -> LoihiGraph:
    """The integer network of a source, lowering it if needed; ``choices`` go to :func:`lower`."""
    if source.graph is not None:
        return source.graph
    from biril_nm.export import lower

    graph: LoihiGraph = lower(
        source.nir_graph,
        chip=chip,
        dt_s=None if source.kind == "pt" else dt_s,
        weight_bits=weight_bits,
        reset=reset,
        calibration=calibration,
        **choices,
    )
    return graph.with_metadata(source=source.path.name)


def single_input(graph: LoihiGraph) -> tuple[str, Coding]:
    """Name and coding of the only input.

    Raises:
        ConfigError: the graph has several inputs.
    """
    driving = {n: i for n, i in graph.inputs.items() if n not in graph.modulator_inputs}
    if len(driving) != 1:
        raise ConfigError(
            f"the graph has inputs {', '.join(graph.inputs)}; give their spikes in an .npz with one "
            f"array each"
        )
    ((name, node),) = driving.items()
    told = graph.metadata.get("coding", {}).get(name)
    if told:
        return name, Coding.from_dict(told)
    kind = "direct" if node.message_bits else "spikes"
    return name, Coding(kind, 1, node.message_bits)


def random_input(graph: LoihiGraph, n_steps: int, n_samples: int, seed: int) -> dict[str, Any]:
    """Random input for each Input node: binary at 30 % density, or uniform messages."""
    random = np.random.default_rng(seed)
    values = {}
    for name, node in graph.inputs.items():
        shape = (n_steps, n_samples, *node.shape)
        if node.message_bits:
            values[name] = random.integers(0, 1 << node.message_bits, shape, dtype=np.int32)
        else:
            values[name] = (random.random(shape) < 0.3).astype(np.int32)
    return values


def read_spikes(
    path: Path, graph: LoihiGraph, learn: bool = False
) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Input for ``graph`` from an ``.npz``: array ``spikes``, or one array per Input node.

    An ``.npy`` holds the only input and is memory-mapped, so that it may be larger than memory.
    Inputs that only modulate learning may be missing unless ``learn``.

    Raises:
        FileFormatError: arrays are missing or have the wrong shape; the message says which.
    """
    arrays = {"spikes": map_npy(path)} if path.suffix == ".npy" else read_npz(path)
    optional = () if learn else graph.modulator_inputs
    names = [name for name in graph.inputs if name in arrays or name not in optional]
    if set(names) <= set(arrays):
        chosen = {name: arrays[name] for name in names}
    elif "spikes" in arrays and len(names) == 1:
        chosen = {names[0]: arrays["spikes"]}
    else:
        wanted = "'spikes'" if len(names) == 1 else ", ".join(f"'{name}'" for name in names)
        raise FileFormatError(
            f"'{path}' holds arrays {sorted(arrays)}; needed is {wanted} of shape (n_steps, batch, "
            f"*shape)"
        )
    for name, array in chosen.items():
        shape = graph.inputs[name].shape
        if array.ndim != len(shape) + 2 or array.shape[2:] != shape or 0 in array.shape:
            raise FileFormatError(
                f"'{path}': spikes for input '{name}' have shape {array.shape}; needed is (n_steps, "
                f"batch, {', '.join(map(str, shape))})"
            )
        if array.dtype.kind not in "iub":
            raise FileFormatError(
                f"'{path}': spikes for input '{name}' are {array.dtype}; needed are integers"
            )
    return chosen
