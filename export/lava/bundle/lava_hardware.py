"""Run a network on Loihi 2 through Intel's lava-loihi, which members of its research community have.

lava-nc has the run configuration, ``Loihi2HwCfg``; lava-loihi brings the programs of the cores and the
adapters between host and chip. biril-nm has never run this on silicon: what is here follows Lava's
interfaces, and its order of calls is tested with the models of the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["objections", "predictions", "run_on_hardware"]

NATIVE = ("LIF", "Dense", "Sparse", "Conv")  # Processes of Lava with programs in lava-loihi


def objections(network: Any, learn: bool) -> list[str]:
    """Why a ``LavaNetwork`` cannot run on the chip; empty if nothing is known against it."""
    from lava.utils import loihi

    found = []
    if not loihi.is_installed():
        found.append(
            "Intel's lava-loihi is not installed; expected it, as members of the Intel Neuromorphic "
            "Research Community have it. Leave --hardware out to run on the CPU"
        )
    if learn:
        found.append("plastic connections run on the CPU only. Leave --learn out")
    if network.period > network.n_steps:
        found.append("paths of different length need neurons that rest between samples: CPU only")
    kinds = sorted({_kind(part) for part in network.parts} - set(NATIVE))
    if kinds:
        found.append(
            f"Processes {', '.join(kinds)} have models for the CPU alone; expected {', '.join(NATIVE)}. "
            f"Train with reset_mechanism='zero' and without delays between layers"
        )
    return found


def _kind(part: Any) -> str:
    """The name of a Process; LIFReset is Lava's LIF with a reset between samples."""
    name = type(part).__name__
    return "LIF" if name == "LIFReset" else name


def run_on_hardware(
    network: Any, spikes: dict[str, Any], n_rows: int, config: Any = None
) -> dict[str, Any]:
    """Stream inputs to the chip and read the spikes of the outputs.

    Args:
        network: a ``LavaNetwork`` without objections.
        spikes: input name -> (*shape, n_rows), in chip time.
        n_rows: steps of the chip.
        config: run configuration; by default that of Loihi 2.

    Returns:
        Output name -> spikes (n_rows, *shape), in chip time.
    """
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.proc import embedded_io
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    model = network.fixed_point_config().exception_proc_model_map[network]
    chosen = config or Loihi2HwCfg(select_tag="fixed_pt", exception_proc_model_map={network: model})
    for name, port in network.inputs.items():
        source, adapter = (
            Source(data=spikes[name]),
            embedded_io.spike.PyToNxAdapter(shape=port.shape),
        )
        source.s_out.connect(adapter.inp)
        adapter.out.connect(port)
    sinks = {}
    for name, port in network.outputs.items():
        adapter = embedded_io.spike.NxToPyAdapter(shape=port.shape)
        sinks[name] = Sink(shape=port.shape, buffer=n_rows)
        port.connect(adapter.inp)
        adapter.out.connect(sinks[name].a_in)
    try:
        network.run(condition=RunSteps(num_steps=n_rows), run_cfg=chosen)
        return {
            name: np.moveaxis(np.asarray(sink.data.get()), -1, 0).astype(np.uint8)
            for name, sink in sinks.items()
        }
    finally:
        network.stop()


def predictions(traces: dict[str, dict[str, Any]]) -> str:
    """The class with the most spikes of each sample, a line each; the chip sends no membranes."""
    lines = []
    for name, trace in traces.items():
        counts = trace["s"].reshape(*trace["s"].shape[:2], -1).sum(axis=0)
        lines += [
            f"sample {sample}: {name} predicts {best} (count, on Loihi 2)\n"
            for sample, best in enumerate(counts.argmax(axis=-1))
        ]
    return "".join(lines)
