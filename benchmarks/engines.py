"""The engines that are compared; each takes a workload and input and runs it once per call.

An engine's ``run`` does one repetition, ``outputs`` gives the output spikes of the last repetition,
(n_steps, n_samples, n_classes), or None where they cannot be compared exactly (float engines).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workloads import BETA, DU, DV, POOL, Layer, Workload

from biril_nm.hardware_sim import simulate
from biril_nm.loihi import DECAY_UNITY, VTH_SHIFT

FLOAT_SCALE = 1 << VTH_SHIFT  # lava-dl slayer: integer weight = 64 x float weight


class Engine:
    """One way to run a workload."""

    name = ""
    exact = False

    def __init__(self, samples: int, n_steps: int) -> None:
        self.sample_steps = samples * n_steps

    def run(self) -> None:
        """One repetition."""
        raise NotImplementedError

    def outputs(self) -> NDArray[Any] | None:
        """Output spikes (n_steps, n_samples, n_classes) of the last repetition."""
        return None

    def close(self) -> None:
        """Stop processes."""


class Ours(Engine):
    """biril_nm.hardware_sim."""

    exact = True

    def __init__(self, work: Workload, spikes: NDArray[Any], threads: int, one_call: bool = True):
        super().__init__(spikes.shape[1], spikes.shape[0])
        calls = "one call" if one_call else "one call per sample"
        self.name = f"biril_nm, {threads} thread{'s' if threads > 1 else ''}, {calls}"
        self.graph, self.threads = work.graph(), threads
        self.readout = next(iter(self.graph.outputs.values()))
        self.parts = (
            [spikes] if one_call else [spikes[:, i : i + 1] for i in range(spikes.shape[1])]
        )
        self.last: list[Any] = []

    def run(self) -> None:
        """Output spikes are recorded, as Lava's sink does."""
        self.last = [
            simulate(self.graph, part, nodes=(self.readout,), n_threads=self.threads)
            for part in self.parts
        ]

    def outputs(self) -> NDArray[Any]:
        """All samples."""
        return np.concatenate([trace[self.readout].s for trace in self.last], axis=1)


# --- Lava ------------------------------------------------------------------------------------------


class LavaEngine(Engine):
    """Lava Processes, streaming sample after sample; started once, timed per run."""

    exact = True

    def __init__(self, work: Workload, spikes: NDArray[Any]) -> None:
        super().__init__(spikes.shape[1], spikes.shape[0])
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.io.sink import RingBuffer as Sink
        from lava.proc.io.source import RingBuffer as Source

        self.shape = spikes.shape[:2]
        order = spikes.transpose(*reversed(range(2, spikes.ndim)), 1, 0)  # (W, H, C) as Lava has it
        stream = order.reshape(*order.shape[:-2], -1).astype(np.int32)
        self.source = Source(data=stream)
        self.config = Loihi2SimCfg(select_tag="fixed_pt")
        out, self.delay = self._network(work, self.source)
        self.sink = Sink(shape=(work.layers[-1].out_shape[0],), buffer=self.sample_steps)
        out.connect(self.sink.a_in)
        self.run()  # starts the processes and fills the pipeline

    def _network(self, work: Workload, source: Any) -> tuple[Any, int]:
        raise NotImplementedError

    def run(self) -> None:
        """Stream all samples once."""
        from lava.magma.core.run_conditions import RunSteps

        self.source.run(condition=RunSteps(num_steps=self.sample_steps), run_cfg=self.config)

    def outputs(self) -> NDArray[Any]:
        """The stream, moved back by the steps that the network takes; valid from the second run."""
        n_steps, n_samples = self.shape
        data = np.roll(self.sink.data.get(), -self.delay, axis=1)
        return data.reshape(-1, n_samples, n_steps).transpose(2, 1, 0)

    def close(self) -> None:
        """Stop the processes."""
        self.source.stop()


class LavaFixed(LavaEngine):
    """lava-nc, tag fixed_pt: Dense, Conv and LIFReset Processes."""

    name = "Lava fixed_pt, streaming"

    def _network(self, work: Workload, source: Any) -> tuple[Any, int]:
        from lava.proc.conv.process import Conv
        from lava.proc.dense.process import Dense
        from lava.proc.lif.process import LIFReset

        port, shape, stages = source.s_out, tuple(reversed(work.in_shape)), 0
        for layer in work.layers:
            graded = 0
            if layer.pool:
                kernel = np.ones((shape[2], POOL, POOL, 1), dtype=int)
                pool = Conv(weight=kernel, input_shape=shape, stride=POOL, groups=shape[2])
                port.connect(pool.s_in)
                port, stages, graded = pool.a_out, stages + 1, 8
                shape = (shape[0] // POOL, shape[1] // POOL, shape[2])
            if layer.is_conv:
                kernel = layer.weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
                options = {"stride": layer.stride, "padding": layer.padding}
                link = Conv(weight=kernel, input_shape=shape, num_message_bits=graded, **options)
            else:
                link = Dense(weights=layer.weight, num_message_bits=graded)
                port = port.transpose([2, 1, 0]).flatten() if len(shape) == 3 else port
            port.connect(link.s_in)
            stages += 1
            shape = tuple(reversed(layer.out_shape))
            registers = {"du": DU, "dv": DV, "vth": layer.vth}
            reset = {"reset_interval": work.n_steps, "reset_offset": (stages + 1) % work.n_steps}
            neurons = LIFReset(shape=shape, **registers, **reset)
            link.a_out.connect(neurons.a_in)
            port = neurons.s_out
        return port, stages


class LavaNetx(LavaEngine):
    """lava-dl netx: the network read from an HDF5 file; pooling is folded into the weights."""

    name = "lava-dl netx, streaming"

    def _network(self, work: Workload, source: Any) -> tuple[Any, int]:
        from lava.lib.dl.netx.hdf5 import Network

        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "network.net")
            n_layers = write_net(path, work)
            with contextlib.redirect_stdout(io.StringIO()):
                net = Network(net_config=path, reset_interval=work.n_steps, reset_offset=1)
        source.s_out.connect(net.inp)
        return net.out, n_layers


def write_net(path: str, work: Workload) -> int:
    """The .net layout of lava-dl; a dense layer behind a convolution needs a flatten between."""
    import h5py

    graph = work.graph()
    blocks: list[dict[str, Any]] = [{"type": "input", "shape": work.in_shape}]
    for layer, (name, node) in zip(work.layers, graph.connections.items()):
        neuron = {
            "neuron/type": "LOIHI", "neuron/iDecay": DU + 1, "neuron/vDecay": DV,
            "neuron/vThMant": layer.vth, "neuron/refDelay": 1,
        }  # fmt: skip
        source = graph.shape_of(graph.ends[name][0])
        if layer.is_conv:
            kind = {
                "type": "conv", "kernelSize": node.weight.shape[2:], "stride": node.stride[0],
                "padding": node.padding[0], "dilation": 1, "groups": 1,
                "inChannels": node.weight.shape[1], "outChannels": node.weight.shape[0],
            }  # fmt: skip
        else:
            kind = {"type": "dense", "inFeatures": node.weight.shape[1]}
            kind["outFeatures"] = node.weight.shape[0]
            if len(source) == 3:
                blocks.append({"type": "flatten", "shape": (int(np.prod(source)),)})
        blocks.append({**kind, "shape": layer.out_shape, "weight": node.weight, **neuron})
    with h5py.File(path, "w") as file:
        for i, block in enumerate(blocks):
            for key, value in block.items():
                if isinstance(value, str):
                    file.create_dataset(f"layer/{i}/{key}", (1,), "S10", [value.encode("ascii")])
                else:
                    file.create_dataset(f"layer/{i}/{key}", data=np.asarray(value))
    return len(work.layers)


# --- torch -----------------------------------------------------------------------------------------


class SnnTorch(Engine):
    """snnTorch Leaky in a loop over time, float32; the usual way to run such a network."""

    def __init__(self, work: Workload, spikes: NDArray[Any], threads: int) -> None:
        super().__init__(spikes.shape[1], spikes.shape[0])
        import snntorch
        import torch

        self.name = f"snnTorch float loop, batch {spikes.shape[1]}, {threads} threads"
        self.threads, self.torch = threads, torch
        self.inputs = torch.tensor(spikes, dtype=torch.float32)
        self.stages = [torch_stage(layer) for layer in work.layers]
        self.cells = [
            snntorch.Leaky(beta=BETA, threshold=float(layer.vth), reset_mechanism="zero")
            for layer in work.layers
        ]

    def run(self) -> None:
        """All samples side by side."""
        self.torch.set_num_threads(self.threads)
        with self.torch.no_grad():
            states = [cell.reset_mem() for cell in self.cells]
            for step in self.inputs:
                out = step
                for i, (stage, cell) in enumerate(zip(self.stages, self.cells)):
                    out, states[i] = cell(stage(out), states[i])


def torch_stage(layer: Layer) -> Callable[[Any], Any]:
    """A synapse layer in float32."""
    import torch
    from torch.nn import functional

    weight = torch.tensor(layer.weight, dtype=torch.float32)

    def stage(x: Any) -> Any:
        if layer.pool:
            x = functional.avg_pool2d(x, POOL, divisor_override=1)
        if layer.is_conv:
            return functional.conv2d(x, weight, stride=layer.stride, padding=layer.padding)
        return functional.linear(x.flatten(1), weight)

    return stage


class Slayer(Engine):
    """lava-dl slayer blocks in eval mode (quantised weights, float arithmetic)."""

    def __init__(self, work: Workload, spikes: NDArray[Any], threads: int) -> None:
        super().__init__(spikes.shape[1], spikes.shape[0])
        import torch

        self.name = f"lava-dl slayer, batch {spikes.shape[1]}, {threads} threads"
        self.torch, self.threads = torch, threads
        axes = (*range(1, spikes.ndim), 0)  # slayer has time last
        self.inputs = torch.tensor(spikes.transpose(axes).copy(), dtype=torch.float32)
        self.blocks = _slayer_blocks(work)

    def run(self) -> None:
        """All samples side by side."""
        self.torch.set_num_threads(self.threads)
        with self.torch.no_grad():
            out = self.inputs
            for block in self.blocks:
                out = block(out)


def _slayer_blocks(work: Workload) -> list[Any]:
    import torch
    from lava.lib.dl.slayer import block

    graph, blocks = work.graph(), []
    for layer, (name, node) in zip(work.layers, graph.connections.items()):
        cell = {"threshold": layer.vth / FLOAT_SCALE, "current_decay": 1.0}
        cell["voltage_decay"] = DV / DECAY_UNITY
        post, pre, *kernel = node.weight.shape
        options = {"weight_norm": False, "delay": False}
        if layer.is_conv:
            options |= {"stride": node.stride[0], "padding": node.padding[0]}
            made = block.cuba.Conv(cell, pre, post, kernel[0], **options)
        else:
            if len(graph.shape_of(graph.ends[name][0])) == 3:
                blocks.append(block.cuba.Flatten())
            made = block.cuba.Dense(cell, pre, post, **options)
        weight = torch.tensor(node.weight, dtype=torch.float32) / FLOAT_SCALE
        made.synapse.weight.data = weight.reshape(made.synapse.weight.shape)
        blocks.append(made.eval())
    return blocks
