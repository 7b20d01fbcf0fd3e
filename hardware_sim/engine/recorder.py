"""Recording: arrays that the kernels write, counts, and their view in torch order."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import biril_nm
from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.kernels.records import Probes
from biril_nm.recording import VARIABLES, NodeRecording
from biril_nm.recording.channels_last import torch_view
from biril_nm.recording.folder import DTYPES, SIGNED_SPIKES, RecordingFolder, check_memory

__all__ = ["Recorder", "Wanted", "run_meta"]

# What the kernels write of a variable that is not recorded, by dtype.
NOTHING = {dtype: np.empty((0, 0, 0), dtype) for dtype in (*DTYPES.values(), SIGNED_SPIKES)}


def run_meta(n_steps: int, batch: int) -> dict[str, Any]:
    """Metadata of a recording: which engine made it, and its size."""
    return {
        "engine": "biril_nm.hardware_sim",
        "version": biril_nm.__version__,
        "n_steps": n_steps,
        "batch": batch,
    }


def _dtype(program: Program, name: str, variable: str) -> np.dtype[Any]:
    return SIGNED_SPIKES if variable == "s" and name in program.graded else DTYPES[variable]


@dataclass(frozen=True, eq=False)
class Wanted:
    """What runs of a program record, prepared once for many of them.

    Attributes:
        program: the compiled graph.
        variables: to record, by node.
        types: of what is recorded, by node and variable.
        row: bytes of one step of one sample.
        with_u: nodes whose u a run needs: it is recorded, or stays from step to step.
        silent: probes of nodes that record nothing.
    """

    program: Program
    variables: Mapping[str, tuple[str, ...]]
    types: Mapping[tuple[str, str], np.dtype[Any]]
    row: int
    with_u: tuple[str, ...]
    silent: Mapping[str, Probes]

    @staticmethod
    def of(program: Program, variables: Mapping[str, tuple[str, ...]]) -> Wanted:
        """Prepare the recording of ``variables``, by node."""
        types = {(name, v): _dtype(program, name, v) for name in variables for v in variables[name]}
        nodes = program.compartments
        return Wanted(
            program,
            variables,
            types,
            sum([program.sizes[name] * dtype.itemsize for (name, _), dtype in types.items()]),
            tuple([n for n, node in nodes.items() if not node.memoryless or (n, "u") in types]),
            {
                name: Probes(*[NOTHING[_dtype(program, name, v)] for v in VARIABLES])
                for name in nodes
            },
        )


class Recorder:
    """What a run leaves behind: probes of some nodes, spike counts and last v of all nodes.

    Probes are arrays in memory, or in a ``folder`` on disk.

    Attributes:
        with_u: nodes whose u the run needs.

    Args:
        wanted: what to record.
        n_steps: steps of the run.
        batch: its samples.
        folder: where to.

    Raises:
        ConfigError: memory or disk has no room for it.
    """

    def __init__(
        self, wanted: Wanted, n_steps: int, batch: int, folder: RecordingFolder | None = None
    ) -> None:
        self._wanted, self.with_u = wanted, wanted.with_u
        self._shapes, sizes = wanted.program.shapes, wanted.program.sizes
        if folder is None:
            check_memory(batch * n_steps * wanted.row)
            self._arrays = {
                key: np.empty((batch, n_steps, sizes[key[0]]), dtype)
                for key, dtype in wanted.types.items()
            }
        else:
            self._arrays = {
                (name, variable): folder.allocate(name, variable, sizes[name], dtype)
                for (name, variable), dtype in wanted.types.items()
            }
        self._probes = dict(wanted.silent)
        for name, variable in self._arrays:
            self._probes[name] = self._probes[name]._replace(
                **{variable: self._arrays[name, variable]}
            )
        self._last = {name: np.empty((batch, sizes[name]), np.int32) for name in self._probes}
        self._n_spikes = dict.fromkeys(self._probes, 0)
        self._lock = threading.Lock()

    def probes(self, name: str) -> Probes:
        """Arrays for s, u and v of a node, empty where not recorded."""
        return self._probes[name]

    def count(self, name: str, n_spikes: int) -> None:
        """Add spikes of a node."""
        with self._lock:
            self._n_spikes[name] += n_spikes

    def keep_last(self, name: str, b0: int, v: Array) -> None:
        """Keep the membrane potential of samples from b0 after their last step."""
        self._last[name][b0 : b0 + len(v)] = v

    @property
    def n_spikes(self) -> dict[str, int]:
        """Spikes per node over all samples and steps."""
        return dict(self._n_spikes)

    def v_last(self) -> dict[str, Array]:
        """Last membrane potential per node, (batch, *shape)."""
        return {name: torch_view(v, self._shapes[name]) for name, v in self._last.items()}

    def rows(self, name: str) -> dict[str, Array]:
        """What was recorded of a node, as views (batch, n_steps, *shape)."""
        return {
            variable: torch_view(self._arrays[name, variable], self._shapes[name])
            for variable in self._wanted.variables[name]
        }

    def recordings(self) -> dict[str, NodeRecording]:
        """Recordings as views (n_steps, batch, *shape)."""
        return {
            name: NodeRecording(**{v: array.swapaxes(0, 1) for v, array in self.rows(name).items()})
            for name in self._wanted.variables
        }
