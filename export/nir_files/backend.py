"""Back end ``nir``: a ``.nir`` file, of a float network or of exact integers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from biril_nm.errors import ConfigError
from biril_nm.export.backends import NIR, Target
from biril_nm.hw_graph import LoihiGraph

if TYPE_CHECKING:
    import nir

__all__ = ["NirBackend"]


class NirBackend:
    """NIR: a NIR graph as it is, an integer network as the float network of the same numbers."""

    target = Target(suffix=".nir", takes=NIR, options=("dt_s",))

    def build(
        self, graph: nir.NIRGraph | LoihiGraph, n_steps: int, dt_s: float | None = None
    ) -> nir.NIRGraph:
        """The NIR graph; it describes one step, so ``n_steps`` changes nothing.

        Raises:
            ConfigError: ``dt_s`` of a float network, which is written as it is.
        """
        if not isinstance(graph, LoihiGraph):
            written = (graph.metadata or {}).get("dt")
            if dt_s is not None and dt_s != written:
                raise ConfigError(
                    f"dt_s is {dt_s}; a float network is written as it is, with dt {written}. Leave it out"
                )
            return graph
        from biril_nm.export.nir_files.exact_writing import exact_nir

        return exact_nir(graph, dt_s)

    def write(
        self,
        graph: nir.NIRGraph | LoihiGraph,
        path: str | Path,
        force: bool = False,
        dt_s: float | None = None,
    ) -> Path:
        """Write the file; see :func:`biril_nm.export.nir_files.write_nir`."""
        from biril_nm.export.nir_files.files import write_nir

        write_nir(path, self.build(graph, n_steps=1, dt_s=dt_s), force=force)
        return Path(path)
