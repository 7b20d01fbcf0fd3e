"""Files as lava-dl writes them, made with h5py, and what netx computes from them in Lava."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests.support.lava_runs import load_lava


def neuron(i_decay=1024, v_decay=256, vth=40, **more):
    return {"iDecay": i_decay, "vDecay": v_decay, "vThMant": vth, **more}


def write_file(path: Path, layers: list[dict]) -> Path:
    """Layers as dicts of datasets; ``neuron`` is a dict of its own."""
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for key, value in layer.items():
                if key == "type":
                    group.create_dataset("type", (1,), "S10", [value.encode()])
                elif key == "neuron":
                    registers = {"type": "CUBA", "refDelay": 1, "gradedSpike": False, **value}
                    for name, register in registers.items():
                        group.create_dataset(f"neuron/{name}", data=register)
                else:
                    group.create_dataset(key, data=value)
    return path


def _record(neuron, steps: int) -> tuple[type, dict[str, np.ndarray]]:
    """Lava's own model of a neuron Process, recorded, and where it records.

    Lava's Monitors show the same (test_lava_process.py), but each is a process of its own, and the processes
    are what a run costs.
    """
    from lava.proc.lif.models import PyLifModelBitAcc
    from lava.proc.lif.process import LIF, LIFReset

    from biril_nm.export.lava.bundle.lava_parts import Recorded, RecordedLIFReset
    from biril_nm.export.lava.bundle.run_lava import VARIABLE_TYPES, shared_array

    models = {
        LIF: type("RecordedLIF", (Recorded, PyLifModelBitAcc), {}),
        LIFReset: RecordedLIFReset,
    }
    rows = {k: shared_array((steps, *neuron.v.shape), kind) for k, kind in VARIABLE_TYPES.items()}
    neuron.proc_params["record"] = rows
    return models[type(neuron)], rows


def run_netx(
    path: Path,
    x: np.ndarray,
    message_bits: int = 0,
    reset: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    drive_bias: Callable[[dict], np.ndarray] | None = None,
):
    """netx in Lava: {"s", "u", "v"} per layer, rows are chip steps, torch order.

    Args:
        path: a ``.net`` file.
        x: (steps, *shape) in torch order, sent at chip steps 1, 2, ...
        message_bits: of the input.
        reset: interval of the reset; layer n is cleared at its own latency + 1.
        input_shape: torch order, for files without an input layer.
        drive_bias: bias of the input layer's neurons from its transform, in place of ``x``.
    """
    load_lava()
    from lava.lib.dl.netx.hdf5 import Network
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        net = Network(
            str(path),
            input_message_bits=message_bits,
            input_shape=None if input_shape is None else tuple(input_shape[::-1]),
            reset_interval=reset,
            reset_offset=1,
        )
        steps = len(x)
        if drive_bias is None:
            flat = x.reshape(steps, -1) if len(net.inp.shape) == 1 else x
            source = RingBuffer(data=flat.transpose(*range(flat.ndim)[::-1]).astype(np.int32))
            source.s_out.connect(net.inp)
        else:
            net.in_layer.neuron.bias_mant.init = drive_bias(net.in_layer.transform)
        recorded = [_record(layer.neuron, steps) for layer in net.layers]
        models = {layer.neuron: model for layer, (model, _) in zip(net.layers, recorded)}
        config = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
        try:
            net.run(condition=RunSteps(num_steps=steps), run_cfg=config)
        finally:
            net.stop()
    return [
        {
            k: data.astype(np.int64).transpose(0, *range(1, data.ndim)[::-1])
            for k, data in rows.items()
        }
        for _, rows in recorded
    ]


def in_netx(path: Path, graph, x: np.ndarray, input_shape: tuple[int, ...] | None = None):
    """netx in node time: {"s", "u", "v"} per population of ``graph``, (n_steps, batch, *shape).

    Samples stream with resets where nothing is late, else each has a run of its own.
    """
    n_steps, batch = x.shape[:2]
    bits = next(iter(graph.inputs.values())).message_bits
    last = max(graph.latency.values())
    quiet = np.zeros((last, *x.shape[2:]), dtype=x.dtype)
    delayed = any(c.delay for c in graph.connections.values())
    streams = graph.timing.max_slack == 0 and not delayed
    if streams:
        chain = np.concatenate([*x.transpose(1, 0, *range(2, x.ndim)), quiet])
        runs = [run_netx(path, chain, bits, n_steps, input_shape)]
    else:
        length = n_steps + last + 1
        runs = [
            run_netx(path, np.concatenate([x[:, b], quiet]), bits, length, input_shape)
            for b in range(batch)
        ]
    found = {}
    for index, (name, node) in enumerate(graph.neurons.items()):
        start = graph.latency[name]
        found[name] = {}
        for key in ("s", "u", "v"):
            if streams:
                parts = [runs[0][index][key][start + b * n_steps :][:n_steps] for b in range(batch)]
            else:
                parts = [run[index][key][start : start + n_steps] for run in runs]
            found[name][key] = np.stack(parts, axis=1).reshape(n_steps, batch, *node.shape)
    return found


def dense(**changes):
    layer = {"type": "dense", "shape": [2], "weight": [[2, -4, 6], [8, 0, -2]], "neuron": neuron()}
    return {k: v for k, v in (layer | changes).items() if v is not None}


def conv(**changes):
    layer = {
        "type": "conv", "shape": [1, 2, 2], "weight": np.full((1, 1, 2, 2), 4), "stride": 1,
        "padding": 0, "dilation": 1, "groups": 1, "neuron": neuron(),
    }  # fmt: skip
    return [{"type": "input", "shape": [1, 3, 3]}, layer | changes]
