"""Runs on Lava past the design rules of a chip: any integers, also those that a chip lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from biril_nm.export.lava import backend
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons


@contextmanager
def any_integers() -> Iterator[None]:
    """Within the block ``build`` and ``run_lava`` accept graphs that no chip holds."""
    with mock.patch.object(backend, "check_design", lambda *_: None):
        yield


def load_lava() -> None:
    """Import Lava as the back end does, which settles the start method of processes."""
    nodes = {"in": Input((1,)), "fc": Dense([[2]]), "n": Neurons((1,), vth=1)}
    backend.build(LoihiGraph(nodes, (("in", "fc"), ("fc", "n"))), n_steps=1)
