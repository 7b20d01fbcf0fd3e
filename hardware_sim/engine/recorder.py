"""Recording: arrays that the kernels write, counts, and their view in torch order."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

import biril_nm
from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.kernels.records import Probes
from biril_nm.recording import VARIABLES, NodeRecording
from biril_nm.recording.channels_last import torch_view
from biril_nm.recording.folder import DTYPES, SIGNED_SPIKES, RecordingFolder, check_memory

__all__ = ["Recorder", "run_meta"]

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


class Recorder:
    """What a run leaves behind: probes of some nodes, spike counts and last v of all nodes.

    Probes are arrays in memory, or in a ``folder`` on disk.

    Attributes:
        with_u: nodes whose u the run needs: it is recorded, or stays from step to step.

    Args:
        program: the compiled graph.
        n_steps: steps of the run.
        batch: its samples.
        wanted: variables to record, by node.
        folder: where to.

    Raises:
        ConfigError: memory or disk has no room for them.
    """

    def __init__(
        self,
        program: Program,
        n_steps: int,
        batch: int,
        wanted: Mapping[str, tuple[str, ...]],
        folder: RecordingFolder | None = None,
    ) -> None:
        self._program, self._wanted = program, wanted
        sizes = program.sizes
        types = {
            (name, variable): _dtype(program, name, variable)
            for name, variables in wanted.items()
            for variable in variables
        }
        if folder is None:
            row = sum([sizes[name] * dtype.itemsize for (name, _), dtype in types.items()])
            check_memory(batch * n_steps * row)
            self._arrays = {
                key: np.empty((batch, n_steps, sizes[key[0]]), dtype)
                for key, dtype in types.items()
            }
        else:
            self._arrays = {
                (name, variable): folder.allocate(name, variable, sizes[name], dtype)
                for (name, variable), dtype in types.items()
            }
        self.with_u = tuple(
            [
                name
                for name, node in program.compartments.items()
                if not node.memoryless or (name, "u") in types
            ]
        )
        self._probes = {name: self._probes_of(name) for name in program.compartments}
        self._last = {name: np.empty((batch, sizes[name]), np.int32) for name in self._probes}
        self._n_spikes = dict.fromkeys(self._probes, 0)
        self._lock = threading.Lock()

    def _probes_of(self, name: str) -> Probes:
        found = [
            self._arrays.get((name, variable), NOTHING[_dtype(self._program, name, variable)])
            for variable in VARIABLES
        ]
        return Probes(*found)

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
        return {name: torch_view(v, self._program.shapes[name]) for name, v in self._last.items()}

    def rows(self, name: str) -> dict[str, Array]:
        """What was recorded of a node, as views (batch, n_steps, *shape)."""
        return {
            variable: torch_view(self._arrays[name, variable], self._program.shapes[name])
            for variable in self._wanted[name]
        }

    def recordings(self) -> dict[str, NodeRecording]:
        """Recordings as views (n_steps, batch, *shape)."""
        return {
            name: NodeRecording(**{v: array.swapaxes(0, 1) for v, array in self.rows(name).items()})
            for name in self._wanted
        }
