"""Input that the command line drives networks with: random, from a data set, or from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.coding import Coding
from biril_nm.commands.samples import read_arrays, take_spikes
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.hw_graph import Input, LoihiGraph, Shape
from biril_nm.hw_graph.inputs import driving_inputs, input_coding, single_input
from biril_nm.hw_graph.outputs import integrators
from biril_nm.storage import map_npy, read_npz

if TYPE_CHECKING:
    from biril_nm.data import Split

__all__ = [
    "Drive",
    "coded_input",
    "n_steps_of",
    "picture_input",
    "random_input",
    "read_pictures",
    "read_spikes",
    "sample_input",
    "silent_layers",
    "waking_input",
]

STEPS = 16  # of a sample, where the graph does not say
DENSITY = 0.3  # of random spikes
MAX_VALUES = 1 << 40  # of generated input: more than any memory holds
STEP_FACTORS = (1, 4, 16)  # how much longer samples may become


@dataclass(frozen=True)
class Drive:
    """Strong input: samples of rising density, messages of the upper half of their range.

    Attributes:
        least: density of the first sample; that of the last is 1.
        held: whether a sample is one image that is repeated at every step.
    """

    least: float
    held: bool

    def values(self, random: np.random.Generator, node: Input, shape: Shape) -> NDArray[Any]:
        """Input of one node, ``(n_steps, n_samples, *shape)``."""
        drawn = (1, *shape[1:]) if self.held else shape
        density = np.linspace(self.least, 1.0, shape[1])[::-1]
        active = random.random(drawn) < density.reshape(1, -1, *(1 for _ in node.shape))
        size = random.integers((node.high + 1) // 2, node.high + 1, drawn, dtype=np.int64)
        if node.signed:
            size *= random.choice((-1, 1), drawn)
        return np.broadcast_to(active * size, shape)


DRIVES = (None, Drive(0.3, False), Drive(0.1, True))  # weakest first


def waking_input(
    graph: LoihiGraph, n_steps: int, n_samples: int, seed: int, longer: bool = True
) -> dict[str, Any]:
    """Random input on which every layer spikes; if none is found, one on which most do.

    The drive rises first, the number of steps then.

    Args:
        graph: the network.
        n_steps: steps of each sample.
        n_samples: samples.
        seed: of the random numbers.
        longer: whether more steps may be tried.
    """
    from biril_nm.hardware_sim import simulate

    best: tuple[int, dict[str, Any]] | None = None
    for factor in STEP_FACTORS if longer else (1,):
        for drive in DRIVES:
            values = random_input(graph, n_steps * factor, n_samples, seed, drive)
            counts = simulate(graph, values, record=()).n_spikes
            silent = len(silent_layers(graph, counts))
            if best is None or silent < best[0]:
                best = silent, values
            if not silent:
                return values
    return best[1] if best is not None else {}


def silent_layers(graph: LoihiGraph, n_spikes: Mapping[str, int]) -> list[str]:
    """Nodes without a spike, except those that never send one on purpose."""
    never = integrators(graph)
    return [name for name in graph.neurons if not n_spikes[name] and name not in never]


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
    node, known = driving_inputs(graph)[name], input_coding(graph, name)
    if known is not None and known.message_bits == node.message_bits:
        return name, known
    kind = "signed" if node.signed else "direct" if node.message_bits else "spikes"
    return name, Coding(kind, known.n_steps if known else 1, node.message_bits)


def picture_input(graph: LoihiGraph, samples: Split) -> tuple[str, Coding]:
    """Name and coding of the only input, if it takes pictures or frames such as these.

    Raises:
        ConfigError: it takes something else, or the graph has several inputs.
    """
    name, coding = coded_input(graph)
    node = driving_inputs(graph)[name]
    what = "frames of events" if samples.steps else "pictures"
    if node.shape != samples.shape:
        raise ConfigError(
            f"input '{name}' has shape {node.shape}; the {what} of the data set have {samples.shape}. Choose "
            f"another data set, or give input with --spikes where the command has it"
        )
    own = coding.kind in ("spikes", "counts")
    if own and not samples.steps:
        raise ConfigError(
            f"the coding of input '{name}' is {coding.kind}, and the data set holds pictures; expected "
            f"direct, rate or signed. Give the x.nir with --coding, such as --coding rate:16"
        )
    if samples.steps and not own:
        raise ConfigError(
            f"the coding of input '{name}' is {coding.kind}, and the data set holds frames of events; "
            f"expected counts or spikes. Choose a data set of pictures"
        )
    return name, coding


def random_input(
    graph: LoihiGraph, n_steps: int, n_samples: int, seed: int, drive: Drive | None = None
) -> dict[str, Any]:
    """Random input for each Input node: spikes with probability 0.3, or uniform messages.

    Args:
        graph: the network.
        n_steps: steps of each sample.
        n_samples: samples.
        seed: of the random numbers.
        drive: stronger input instead.
    """
    random = np.random.default_rng(seed)
    values = {}
    for name, node in graph.inputs.items():
        shape = (n_steps, n_samples, *node.shape)
        if math.prod(shape) > MAX_VALUES:
            raise MemoryError
        if drive is not None:
            values[name] = drive.values(random, node, shape)
        elif node.message_bits:
            values[name] = random.integers(node.low, node.high + 1, shape, dtype=np.int64)
        else:
            values[name] = (random.random(shape) < DENSITY).astype(np.int32)
    return values


def sample_input(
    graph: LoihiGraph, samples: Split, seed: int, n_steps: int | None = None
) -> dict[str, Any]:
    """Samples of a data set, encoded for the only input.

    Raises:
        ConfigError: the graph has several inputs, or one that takes no such pictures.
    """
    values = samples.values()
    name, coding = picture_input(graph, samples)
    if n_steps is not None and samples.steps:
        raise ConfigError(
            f"--steps is {n_steps}, and the frames of the data set are the steps; expected none. Give "
            f"--dataset NAME:steps={n_steps}"
        )
    if n_steps is not None:
        coding = replace(coding, n_steps=n_steps)
    return {name: coding.encode(values, seed)}


def read_spikes(path: Path, graph: LoihiGraph, learn: bool = False) -> dict[str, NDArray[Any]]:
    """Input for ``graph`` from an ``.npz`` or ``.npy`` (:mod:`biril_nm.commands.samples`).

    Raises:
        FileFormatError: arrays are missing or have the wrong shape; the message says which.
    """
    return take_spikes(path, read_arrays(path), graph, learn)


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
