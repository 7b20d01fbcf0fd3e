"""Back end ``netx``: a ``.net`` file of lava-dl."""

from __future__ import annotations

from pathlib import Path

from biril_nm.export.backends import Target
from biril_nm.export.netx.files import write_netx
from biril_nm.export.netx.records import LayerRecord
from biril_nm.export.netx.writing import plan_layers
from biril_nm.hw_graph import LoihiGraph

__all__ = ["NetxBackend"]


class NetxBackend:
    """lava-dl's netx: sequential networks that do not learn."""

    target = Target(suffix=".net", options=("round_bias",))

    def build(self, graph: LoihiGraph, n_steps: int) -> list[LayerRecord]:
        """The layers of the file, in order."""
        graph.sample_period(n_steps)
        return list(plan_layers(graph, round_bias=False)[0])

    def write(
        self, graph: LoihiGraph, path: str | Path, force: bool = False, round_bias: bool = False
    ) -> Path:
        """Write the file; see :func:`biril_nm.export.netx.write_netx`."""
        write_netx(graph, path, force=force, round_bias=round_bias)
        return Path(path)
