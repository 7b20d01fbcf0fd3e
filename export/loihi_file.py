"""Back end ``loihi``: the integer network itself, as a ``.loihi.npz`` file."""

from __future__ import annotations

from pathlib import Path

from biril_nm.export.backends import Target
from biril_nm.hw_graph import LoihiGraph

__all__ = ["GRAPH_SUFFIX", "LoihiFileBackend"]

GRAPH_SUFFIX = ".loihi.npz"


class LoihiFileBackend:
    """A LoihiGraph stays what it is."""

    target = Target(suffix=GRAPH_SUFFIX, learns=True)

    def build(self, graph: LoihiGraph, n_steps: int) -> LoihiGraph:
        """The graph itself, if samples of ``n_steps`` steps have a period."""
        graph.sample_period(n_steps)
        return graph

    def write(self, graph: LoihiGraph, path: str | Path, force: bool = False) -> Path:
        """Write the file that :meth:`LoihiGraph.load` reads."""
        graph.save(path, force=force)
        return Path(path)
