"""A Lava network from plain data: Processes, wiring and recording, with lava-nc and numpy alone.

The network is described by a JSON-able dict (``inputs``, ``neurons``, ``connections``, ``outputs``,
``max_slack``) and arrays named ``neurons.0.vth``, ``connections.2.weight`` and so on. Shapes are in
torch order (C, H, W); only the ports of Lava's Conv are turned to (X, Y, C) and back.

Time: each connection costs one step plus its delay. The neurons of a sample are cleared at step
latency + 1, after receiving and before integrating. With ``max_slack`` 0 this is Lava's LIFReset;
else late spikes exist and every population is a :class:`GatedLIF`, which rests between samples.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDelayDenseModelBitAcc, PyDenseModelBitAcc
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.source import PySendModelFixed, RingBuffer
from lava.proc.lif.models import PyLifModelBitAcc, PyLifResetModelBitAcc
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode

__all__ = ["DelayLine", "GatedLIF", "LavaNetwork"]


class GatedLIF(LIF):  # type: ignore[misc]
    """LIF that works only while a sample is present and rests (u = v = 0, no spike) in between.

    Awake during the steps ``first_step + i * period + (0 .. n_steps - 1)`` for i = 0, 1, ...; at
    the first of them u and v are cleared after receiving and before integrating. While awake it is
    Lava's LIF. Input that arrives during rest is received and dropped.

    Args:
        first_step: chip step at which the first sample reaches this population.
        n_steps: steps of one sample.
        period: steps from one sample's start to the next.
        registers: shape, du, dv, vth, bias_mant, bias_exp, name of Lava's LIF.
    """

    def __init__(self, *, first_step: int, n_steps: int, period: int, **registers: Any) -> None:
        super().__init__(**registers)
        for key, value in (("first_step", first_step), ("n_steps", n_steps), ("period", period)):
            self.proc_params[key] = value


class DelayLine(AbstractProcess):  # type: ignore[misc]
    """Passes integers on ``delay`` steps later (at least 1); Lava's Conv has no delay of its own."""

    def __init__(self, *, shape: tuple[int, ...], delay: int, name: str | None = None) -> None:
        super().__init__(delay=delay, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.line = Var(shape=(delay, *shape), init=0)


class Tie(AbstractProcess):  # type: ignore[misc]
    """Receives from two parts of a network and does nothing.

    lava-nc 0.10.0 compiles only one of several unconnected parts and leaves the others out without a
    word; a tie between them keeps all.
    """

    def __init__(self, *, shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
        super().__init__()
        self.a_in = InPort(shape=shape_a)
        self.b_in = InPort(shape=shape_b)


class _Recorded:
    """Mix-in of a LIF model: Lava's own step, then s, u and v go into shared memory.

    ``proc_params["record"]`` maps "s", "u", "v" to arrays of shape (n_rows, *shape) over memory that
    the parent process shares; row c is chip step c + 1. ``proc_params["clock"]`` counts the steps.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)  # type: ignore[call-arg]
        self._record: dict[str, Any] = proc_params.get("record") or {}
        self._clock = proc_params.get("clock")
        self._spikes: Any = 0

    def reset_voltage(self, spike_vector: Any) -> None:
        super().reset_voltage(spike_vector)  # type: ignore[misc]
        self._spikes = spike_vector

    def run_spk(self) -> None:
        super().run_spk()  # type: ignore[misc]
        row = self.time_step - 1  # type: ignore[attr-defined]
        state = {"s": self._spikes, "u": self.u, "v": self.v}  # type: ignore[attr-defined]
        for name, rows in self._record.items():
            if row < len(rows):
                rows[row] = state[name]
        if self._clock is not None:
            self._clock[...] = row + 1


class RecordedLIFReset(_Recorded, PyLifResetModelBitAcc):  # type: ignore[misc]
    """Lava's fixed-point LIFReset, recorded."""


class _GatedModel(PyLifModelBitAcc):  # type: ignore[misc]
    implements_process = GatedLIF

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._first_step = proc_params["first_step"]
        self._n_steps = proc_params["n_steps"]
        self._period = proc_params["period"]

    def run_spk(self) -> None:
        elapsed = self.time_step - self._first_step
        phase = elapsed % self._period
        if elapsed < 0 or phase >= self._n_steps:
            self.a_in.recv()
            self.u[:] = 0
            self.v[:] = 0
            rest = np.zeros(self.v.shape, dtype=bool)
            self.reset_voltage(spike_vector=rest)
            self.s_out.send(rest)
            return
        if phase == 0:
            self.u[:] = 0
            self.v[:] = 0
        super().run_spk()


class PyGatedLIFModel(_Recorded, _GatedModel):
    """Fixed-point model of :class:`GatedLIF`: Lava's LIF step while awake."""


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyDelayLineModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Sends what came in ``delay`` steps ago, then receives."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    line: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def run_spk(self) -> None:
        slot = (self.time_step - 1) % len(self.line)
        self.s_out.send(self.line[slot])
        self.line[slot] = self.s_in.recv()


@implements(proc=Tie, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyTieModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Receives, so that the senders never wait."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    b_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def run_spk(self) -> None:
        self.a_in.recv()
        self.b_in.recv()


class LavaNetwork(AbstractProcess):  # type: ignore[misc]
    """The whole network as one Lava Process; its ProcessModel needs the tag ``fixed_pt``.

    ``s_in`` and ``s_out`` are its ports if it has one input and one output; ``inputs`` and
    ``outputs`` map node names to ports in any case (attributes ``s_in_0``, ``s_in_1``, ...). The u
    and v of each population are Vars ``<node>_u`` and ``<node>_v`` (other characters than letters,
    digits and ``_`` become ``_``), for ``get()`` and Lava's Monitor.

    Args:
        description: the network as plain data (see the module docstring).
        arrays: its arrays.
        n_steps: steps of one sample; samples start every ``n_steps + max_slack`` steps.
    """

    def __init__(
        self,
        description: dict[str, Any],
        arrays: dict[str, Any],
        n_steps: int,
        name: str = "network",
    ) -> None:
        super().__init__(name=name)
        self.description = description
        self.n_steps = n_steps
        self.period = n_steps + int(description["max_slack"])
        self.populations: dict[str, Any] = {}
        self.parts: list[Any] = []
        self.links: list[tuple[Any, Any, bool]] = []  # own ports, joined by the SubProcessModel
        self.inputs = self._ports("s_in", description["inputs"], InPort)
        for index, node in enumerate(description["neurons"]):
            self._add_population(node, _take(arrays, f"neurons.{index}."))
        for index, node in enumerate(description["connections"]):
            self._add_connection(node, _take(arrays, f"connections.{index}."))
        self._tie_separate_parts()
        marked = [n for n in description["neurons"] if n["name"] in description["outputs"]]
        self.outputs = self._ports("s_out", marked, OutPort)
        for node_name, port in self.outputs.items():
            self.links.append((self.populations[node_name].s_out, port, False))

    def _ports(self, kind: str, nodes: list[dict[str, Any]], port_type: Any) -> dict[str, Any]:
        ports = {node["name"]: port_type(shape=tuple(node["shape"])) for node in nodes}
        for index, port in enumerate(ports.values()):
            setattr(self, kind if len(ports) == 1 else f"{kind}_{index}", port)
        return ports

    def _add_population(self, node: dict[str, Any], registers: dict[str, Any]) -> None:
        values: dict[str, Any] = {
            key: array if array.ndim else int(array) for key, array in registers.items()
        }
        values.update(shape=tuple(node["shape"]), bias_exp=node["bias_exp"], name=node["name"])
        first_step = node["latency"] + 1
        if self.period > self.n_steps:
            part = GatedLIF(
                first_step=first_step, n_steps=self.n_steps, period=self.period, **values
            )
        else:
            part = LIFReset(reset_interval=self.period, reset_offset=first_step, **values)
        self.populations[node["name"]] = part
        self.parts.append(part)
        for variable in ("u", "v"):
            setattr(self, f"{_identifier(node['name'])}_{variable}", Var(shape=part.v.shape))

    def _add_connection(self, node: dict[str, Any], arrays: dict[str, Any]) -> None:
        part = _SYNAPSES[node["kind"]](node, arrays)
        self.parts.append(part)
        turn = isinstance(part, Conv)
        first = part.s_in
        if turn and node["delay"]:
            line = DelayLine(shape=tuple(node["source_shape"]), delay=node["delay"])
            self.parts.append(line)
            _join(line.s_out, first, turn)
            first, turn_input = line.s_in, False
        else:
            turn_input = turn
        _join(part.a_out, self.populations[node["destination"]].a_in, turn)
        port = self.inputs.get(node["source"])
        if port is not None:
            self.links.append((port, first, turn_input))
        else:
            _join(self.populations[node["source"]].s_out, first, turn_input)

    def _tie_separate_parts(self) -> None:
        """Join the unconnected parts of the network, one representative of each to the next."""
        ends = [(node["source"], node["destination"]) for node in self.description["connections"]]
        first, *others = _separate_parts([*self.populations, *self.inputs], ends)
        for other in others:
            ports = [self._sender(name) for name in (first, other)]
            tie = Tie(shape_a=ports[0].shape, shape_b=ports[1].shape)
            self.parts.append(tie)
            for name, port, target in zip((first, other), ports, (tie.a_in, tie.b_in)):
                if name in self.inputs:
                    self.links.append((port, target, False))
                else:
                    _join(port, target)

    def _sender(self, name: str) -> Any:
        return self.inputs[name] if name in self.inputs else self.populations[name].s_out

    def variable(self, node: str, name: str) -> Any:
        """The Var ``name`` ("u" or "v") of a population, readable from outside."""
        return getattr(self, f"{_identifier(node)}_{name}")

    def fixed_point_config(self, sources: dict[str, Any] | None = None) -> Any:
        """Run configuration that names the ``fixed_pt`` model of each part, with recording.

        The models are those that ``Loihi2SimCfg(select_tag="fixed_pt")`` finds by executing the files
        of Lava's packages once per Process, which this saves.
        """
        parts = [*self.parts, *(sources or {}).values()]
        models = {part: _MODELS[type(part)] for part in parts}
        models[self] = LavaNetworkModel
        return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)


@implements(proc=LavaNetwork, protocol=LoihiProtocol)
@tag("fixed_pt", "bit_accurate_loihi")
class LavaNetworkModel(AbstractSubProcessModel):  # type: ignore[misc]
    """Joins the ports and Vars of a :class:`LavaNetwork` to its parts."""

    def __init__(self, proc: LavaNetwork) -> None:
        for index, part in enumerate(proc.parts):
            setattr(self, f"part_{index}", part)
        for link in proc.links:
            _join(*link)
        for name, part in proc.populations.items():
            for variable in ("u", "v"):
                proc.variable(name, variable).alias(getattr(part, variable))


_MODELS = {
    LIFReset: RecordedLIFReset,
    GatedLIF: PyGatedLIFModel,
    Dense: PyDenseModelBitAcc,
    DelayDense: PyDelayDenseModelBitAcc,
    Sparse: PySparseModelBitAcc,
    DelaySparse: PyDelaySparseModelBitAcc,
    Conv: PyConvModelFixed,
    DelayLine: PyDelayLineModel,
    Tie: PyTieModel,
    RingBuffer: PySendModelFixed,
}


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _take(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key[len(prefix) :]: a for key, a in arrays.items() if key.startswith(prefix)}


def _separate_parts(names: list[str], ends: list[tuple[str, str]]) -> list[str]:
    """The first name of each connected part."""
    part = {name: index for index, name in enumerate(names)}
    for source, destination in ends:
        low, high = sorted((part[source], part[destination]))
        part = {name: low if index == high else index for name, index in part.items()}
    return [names[index] for index in sorted(set(part.values()))]


def _join(source: Any, destination: Any, turn: bool = False) -> None:
    """Connect two ports: turned between (C, H, W) and (X, Y, C), or read in C order."""
    if turn:
        source.transpose([2, 1, 0]).connect(destination)
    elif source.shape != destination.shape:
        source.reshape(destination.shape).connect(destination)
    else:
        source.connect(destination)


def _synapse(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "weight_exp": node["weight_exp"],
        "num_weight_bits": node["weight_bits"],
        "sign_mode": SignMode[node["sign_mode"].upper()],
        "num_message_bits": node["message_bits"],
        "name": node["name"],
    }


def _dense(node: dict[str, Any], arrays: dict[str, Any]) -> Any:
    weights = arrays["weight"].astype(np.int32)
    if node["delay"]:
        return DelayDense(weights=weights, delays=node["delay"], **_synapse(node))
    return Dense(weights=weights, **_synapse(node))


def _sparse(node: dict[str, Any], arrays: dict[str, Any]) -> Any:
    from scipy.sparse import csr_matrix

    places, shape = (arrays["indices"], arrays["indptr"]), tuple(node["matrix_shape"])
    weights = csr_matrix((arrays["data"].astype(np.int32), *places), shape=shape)
    if node["delay"]:
        delays = csr_matrix((np.full(weights.nnz, node["delay"]), *places), shape=shape)
        return DelaySparse(
            weights=weights, delays=delays, max_delay=node["delay"], **_synapse(node)
        )
    return Sparse(weights=weights, **_synapse(node))


def _conv(node: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """Lava flips the kernel, counts (X, Y, C) and ignores exponents: flip, turn and shift here."""
    kernel = arrays["weight"].astype(np.int32)[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    channels, height, width = node["source_shape"]
    return Conv(
        weight=np.ascontiguousarray(kernel << node["weight_exp"]),
        input_shape=(width, height, channels),
        stride=tuple(reversed(node["stride"])),
        padding=tuple(reversed(node["padding"])),
        dilation=tuple(reversed(node["dilation"])),
        groups=node["groups"],
        num_message_bits=node["message_bits"],
        name=node["name"],
    )


_SYNAPSES = {"Dense": _dense, "Sparse": _sparse, "Conv": _conv}
