"""Every way through the simulator's kernels, forced in turn: the same integers must come out.

Other types than those that weights and sums need are kernels of their own, which no other test compiles. So
the quick suite forces them on one small graph of all connections only (test_sim_reference.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.engine import blocks as engine
from biril_nm.hardware_sim.engine import program, synapses
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording import Recording

PATHS = {
    "as chosen": {},
    "16-bit weights, 32-bit sums": {"types": 1},
    "32-bit weights, 64-bit sums": {"types": 2},
    "no short step": {"short": False},
    "blocks of one sample and step": {"scratch": 1},
    "two threads": {"threads": 2},
}
OTHER_TYPES = tuple(path for path, how in PATHS.items() if how.get("types"))
QUICK_PATHS = tuple(path for path in PATHS if path not in OTHER_TYPES)


@contextmanager
def forced(path: str) -> Iterator[int]:
    """Compile and run graphs in this way within the block; yields the number of threads.

    A graph is compiled once in its life: run a copy (:func:`again`) of one that has run before.
    """
    how = PATHS[path]
    inside = program.STATE_LIMIT if how.get("short", True) else 0  # 0: no input stays inside
    with (
        mock.patch.object(synapses, "TYPES", synapses.TYPES[how.get("types", 0) :] * 2),
        mock.patch.object(program, "STATE_LIMIT", inside),
        mock.patch.object(engine, "SCRATCH_BYTES", how.get("scratch", engine.SCRATCH_BYTES)),
    ):
        yield how.get("threads", 1)


def again(graph: LoihiGraph) -> LoihiGraph:
    """An equal graph that is compiled anew."""
    return replace(graph)


def assert_every_path_gives(
    graph: LoihiGraph, spikes: Any, wanted: Recording, paths: Iterable[str] = QUICK_PATHS
) -> None:
    """Each path, with u recorded and without (a shorter step), equals what another engine recorded."""
    for path in paths:
        for record in (("s", "u", "v"), ("s", "v")):
            with forced(path) as n_threads:
                found = simulate(again(graph), spikes, record=record, n_threads=n_threads)
            for name, node in found.items():
                for variable, array in node.variables().items():
                    where = f"{path}: {name}.{variable}, recorded {record}"
                    assert_array_equal(array, getattr(wanted[name], variable), where)
