"""Samples of one's own on the command line: spikes as the chip receives them, and their labels.

An ``.npz`` holds ``spikes``, integers ``(n_steps, samples, *shape)``, or one array per Input node; and
``labels``, classes ``(samples,)``. Each of them may be an ``.npy`` file of its own instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import check_arrays, check_inputs
from biril_nm.recording.readout import readout_node
from biril_nm.storage import map_npy, read_npz

__all__ = [
    "LABELS",
    "SPIKES",
    "OwnSamples",
    "Recorded",
    "read_arrays",
    "read_labels",
    "take_spikes",
]

SPIKES, LABELS = "spikes", "labels"
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Recorded:
    """Samples of a file.

    Attributes:
        spikes: input of each Input node, ``(n_steps, n, *shape)``.
        labels: classes ``(n,)``; None where the file holds none.
    """

    spikes: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return int(next(iter(self.spikes.values())).shape[1])

    @property
    def classes(self) -> NDArray[np.int64]:
        """The labels; empty where the file holds none."""
        return np.zeros(0, np.int64) if self.labels is None else self.labels

    def head(self, n: int | None) -> Recorded:
        """The first ``n`` samples; None: all."""
        spikes = {name: array[:, :n] for name, array in self.spikes.items()}
        return Recorded(spikes, None if self.labels is None else self.labels[:n])


@dataclass(frozen=True)
class OwnSamples:
    """Samples of your own instead of a data set."""

    spikes: Annotated[
        Path | None,
        typer.Option(
            help="Samples of your own: .npz with integers 'spikes' (steps, samples, *shape), as the chip "
            "receives them, and 'labels'; or .npy of that shape."
        ),
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Classes (samples,) of --spikes: .npy, or .npz with 'labels', unless --spikes holds them."
        ),
    ] = None

    def check(self, beside: Mapping[str, Any]) -> None:
        """Refuse options that contradict each other, before anything is read.

        Args:
            beside: other options of input by name, None where they are not given.

        Raises:
            ConfigError: there are some.
        """
        given = [flag for flag, value in beside.items() if value is not None]
        if self.spikes is not None and given:
            raise ConfigError(
                f"{', '.join(given)}: --spikes holds the samples and their steps; expected one of the two. "
                f"Leave --spikes or these options out"
            )
        if self.spikes is None and self.labels is not None:
            raise ConfigError(
                f"--labels is '{self.labels}', and --spikes is not given; expected both. Add --spikes"
            )

    def read(
        self, graph: LoihiGraph, need_labels: bool = False, learn: bool = False
    ) -> Recorded | None:
        """The samples, held against what a network takes; None without --spikes.

        Raises:
            FileFormatError: arrays are missing or do not fit.
            ConfigError: labels are missing or do not fit.
            RangeError: values that the input does not carry.
        """
        if self.spikes is None:
            return None
        arrays = read_arrays(self.spikes)
        spikes = take_spikes(self.spikes, arrays, graph, learn)
        check_inputs(graph, spikes, learn)
        own = arrays.get(LABELS) if LABELS not in graph.inputs else None
        labels = read_labels(self.labels, own, self.spikes) if need_labels or self.labels else own
        found = Recorded(spikes, None)
        if labels is None:
            return found
        n_classes = graph.neurons[readout_node(graph)].size
        return Recorded(
            spikes, check_labels(labels, len(found), n_classes, f"samples in '{self.spikes}'")
        )


def read_arrays(path: Path) -> Arrays:
    """The arrays of an ``.npz``; an ``.npy`` is memory-mapped as ``spikes``, so it may be larger than memory.

    Raises:
        FileFormatError: the file is damaged, or claims more than it may hold.
    """
    return {SPIKES: map_npy(path)} if path.suffix == ".npy" else read_npz(path)


def take_spikes(path: Path, arrays: Arrays, graph: LoihiGraph, learn: bool = False) -> Arrays:
    """The input of a network: array ``spikes``, or one array per Input node.

    Inputs that only modulate learning may be missing unless ``learn``.

    Raises:
        FileFormatError: arrays are missing or have the wrong shape; the message says which.
    """
    optional = () if learn else graph.modulator_inputs
    needed = [name for name in graph.inputs if name not in optional]
    given = {name: arrays[name] for name in graph.inputs if name in arrays}
    if not set(needed) <= set(given):
        if SPIKES not in arrays or len(needed) != 1:
            expected = f"'{SPIKES}'" if len(needed) == 1 else ", ".join(f"'{n}'" for n in needed)
            raise FileFormatError(
                f"'{path}' holds arrays {sorted(arrays)[:8]}; expected {expected} of shape (n_steps, batch, "
                f"*shape)"
            )
        given = {needed[0]: arrays[SPIKES]}
    try:
        check_arrays(graph.inputs, given, optional)
    except ConfigError as error:
        raise FileFormatError(f"'{path}': {error}") from error
    return given


def read_labels(path: Path | None, own: NDArray[Any] | None, spikes: Path) -> NDArray[Any]:
    """The labels of one of two files.

    Args:
        path: a file of labels.
        own: labels beside the spikes.
        spikes: the file of the spikes.

    Raises:
        FileFormatError: the file holds no labels.
        ConfigError: both files hold them, or none.
    """
    if path is None and own is None:
        raise ConfigError(
            f"'{spikes}' holds no '{LABELS}'; expected the class of each sample. Add --labels y.npy, or save "
            f"them beside: np.savez(path, spikes=..., labels=...)"
        )
    if path is None:
        return np.asarray(own)
    if own is not None:
        raise ConfigError(
            f"--labels is '{path}', and '{spikes}' holds '{LABELS}'; expected one of them. Leave --labels out"
        )
    if path.suffix == ".npy":
        return map_npy(path)
    arrays = read_npz(path)
    if LABELS not in arrays:
        raise FileFormatError(
            f"'{path}' holds arrays {sorted(arrays)[:8]}; expected '{LABELS}' (samples,)"
        )
    return arrays[LABELS]
