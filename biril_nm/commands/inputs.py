"""Input that the command line drives networks with: random, from a data set, or from a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import check_arrays, driving_inputs, input_coding, single_input
from biril_nm.storage import map_npy, read_npz

if TYPE_CHECKING:
    from biril_nm.data import Split

__all__ = [
    "coded_input",
    "n_steps_of",
    "random_input",
    "read_pictures",
    "read_spikes",
    "sample_input",
]

STEPS = 16  # of a sample, where the graph does not say
DENSITY = 0.3  # of random spikes


def n_steps_of(graph: LoihiGraph) -> int:
    """Steps of a sample as the network was trained, else 16."""
    codings = [input_coding(graph, name) for name in graph.inputs]
    return max((c.n_steps for c in codings if c is not None and c.n_steps > 1), default=STEPS)


def coded_input(graph: LoihiGraph) -> tuple[str, Coding]:
    """Name and coding of the only input.

    Raises:
        ConfigError: the graph has several inputs.
    """
    name = single_input(graph)
    bits = driving_inputs(graph)[name].message_bits
    default = Coding("direct" if bits else "spikes", 1, bits)
    return name, input_coding(graph, name) or default


def random_input(graph: LoihiGraph, n_steps: int, n_samples: int, seed: int) -> dict[str, Any]:
    """Random input for each Input node: spikes with probability 0.3, or uniform messages."""
    random = np.random.default_rng(seed)
    values = {}
    for name, node in graph.inputs.items():
        shape = (n_steps, n_samples, *node.shape)
        if node.message_bits:
            values[name] = random.integers(0, 1 << node.message_bits, shape, dtype=np.int32)
        else:
            values[name] = (random.random(shape) < DENSITY).astype(np.int32)
    return values


def sample_input(
    graph: LoihiGraph, samples: Split, seed: int, n_steps: int | None = None
) -> dict[str, Any]:
    """Samples of a data set, encoded for the only input.

    Raises:
        ConfigError: the graph has several inputs.
    """
    name, coding = coded_input(graph)
    if n_steps is not None:
        coding = replace(coding, n_steps=n_steps)
    return {name: coding.encode(samples.values(), seed)}


def read_spikes(path: Path, graph: LoihiGraph, learn: bool = False) -> dict[str, NDArray[Any]]:
    """Input for ``graph`` from an ``.npz``: array ``spikes``, or one array per Input node.

    An ``.npy`` holds the only input and is memory-mapped, so that it may be larger than memory.
    Inputs that only modulate learning may be missing unless ``learn``.

    Raises:
        FileFormatError: arrays are missing or have the wrong shape; the message says which.
    """
    arrays = {"spikes": map_npy(path)} if path.suffix == ".npy" else read_npz(path)
    optional = () if learn else graph.modulator_inputs
    needed = [name for name in graph.inputs if name not in optional]
    given = {name: arrays[name] for name in graph.inputs if name in arrays}
    if not set(needed) <= set(given):
        if "spikes" not in arrays or len(needed) != 1:
            expected = "'spikes'" if len(needed) == 1 else ", ".join(f"'{n}'" for n in needed)
            raise FileFormatError(
                f"'{path}' holds arrays {sorted(arrays)}; expected {expected} of shape (n_steps, "
                f"batch, *shape)"
            )
        given = {needed[0]: arrays["spikes"]}
    try:
        check_arrays(graph.inputs, given, optional)
    except ConfigError as error:
        raise FileFormatError(f"'{path}': {error}") from error
    return given


def read_pictures(path: Path) -> NDArray[Any]:
    """Numbers ``(batch, *shape)``: array ``pictures`` of an ``.npz``, or an ``.npy``.

    Raises:
        FileFormatError: the file is damaged, or holds no such array.
    """
    arrays = {"pictures": map_npy(path)} if path.suffix == ".npy" else read_npz(path)
    found = arrays.get("pictures")
    if found is None or found.ndim < 2 or not len(found):
        what = f"arrays {sorted(arrays)}" if found is None else f"pictures of shape {found.shape}"
        raise FileFormatError(
            f"'{path}' holds {what}; expected 'pictures' of shape (batch, *shape), one sample or more"
        )
    return found
