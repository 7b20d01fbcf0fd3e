"""A Lava network from plain data: Processes, wiring and recording, with lava-nc and numpy alone.

The network is described by a JSON-able dict (``inputs``, ``neurons``, ``connections``, ``outputs``,
``max_slack``) and arrays named ``neurons.0.vth``, ``connections.2.weight`` and so on. Shapes are in
torch order (C, H, W); only the ports of Lava's Conv are turned to (X, Y, C) and back. A population is
Lava's LIF or TernaryLIF, or for other compartment models a :class:`Compartments` that calls the model's
step.

Time: each connection costs one step plus its delay. The neurons of a sample are cleared at step
latency + 1, after receiving and before integrating. With ``max_slack`` 0 this is Lava's LIFReset;
else late spikes exist and every population is a :class:`GatedLIF`, which rests between samples.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

if __package__:
    from . import lava_compat
else:  # beside run_lava.py in a bundle
    import lava_compat  # type: ignore[import-not-found, no-redef]

from lava.magma.core.decorator import implements, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDelayDenseModelBitAcc, PyDenseModelBitAcc
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.source import PySendModelFixed, RingBuffer
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode

if __package__:
    from . import lava_compartments, lava_learning, lava_parts
else:  # beside run_lava.py in a bundle
    import lava_compartments  # type: ignore[import-not-found, no-redef]
    import lava_learning  # type: ignore[import-not-found, no-redef]
    import lava_parts  # type: ignore[import-not-found, no-redef]

__all__ = ["LavaNetwork"]

lava_compat.mend()  # above, when it is imported; once more so that no tool drops the import
lava_compat.mend_channels()


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
        learn: whether connections with a rule are plastic; else their weights are fixed.
    """

    def __init__(
        self,
        description: dict[str, Any],
        arrays: dict[str, Any],
        n_steps: int,
        name: str = "network",
        learn: bool = False,
    ) -> None:
        super().__init__(name=name)
        self.description = description
        self.learn = learn
        self.n_steps = n_steps
        self.period = n_steps + int(description["max_slack"])
        self.populations: dict[str, Any] = {}
        self.plastic: dict[str, Any] = {}
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
        """Lava's own LIF or TernaryLIF where it is the model, else the generic Process."""
        values: dict[str, Any] = {
            key: array if array.ndim else int(array) for key, array in registers.items()
        }
        values.update(node["shared"])
        common = {"shape": tuple(node["shape"]), "name": node["name"]}
        first_step, rests = node["latency"] + 1, self.period > self.n_steps
        n_steps = self.n_steps if rests else 0
        gate = {"first_step": first_step, "n_steps": n_steps, "period": self.period}
        model = node["model"]
        if model["lava_process"] == "TernaryLIF":
            part = lava_parts.GatedTernaryLIF(**gate, **values, **common)
        elif model["lava_process"] != "LIF":
            record = lava_compartments.compartment_model(model["name"])
            part = lava_compartments.Compartments(model=record, registers=values, **gate, **common)
        elif rests:
            part = lava_parts.GatedLIF(**gate, **values, **common)
        else:
            part = LIFReset(reset_interval=self.period, reset_offset=first_step, **values, **common)
        self.populations[node["name"]] = part
        self.parts.append(part)
        for variable in ("u", "v"):
            setattr(self, f"{_identifier(node['name'])}_{variable}", Var(shape=part.v.shape))

    def _add_connection(self, node: dict[str, Any], arrays: dict[str, Any]) -> None:
        plastic = self.learn and bool(node.get("rule"))
        part = (_PLASTIC if plastic else _SYNAPSES)[node["kind"]](node, arrays)
        self.parts.append(part)
        if plastic:
            self._add_plasticity(node, part)
        turn = isinstance(part, Conv)
        first = part.s_in
        if turn and node["delay"]:
            line = lava_parts.DelayLine(shape=tuple(node["source_shape"]), delay=node["delay"])
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

    def _add_plasticity(self, node: dict[str, Any], part: Any) -> None:
        """Back-propagated spikes of the target, and a ThirdFactor per modulator."""
        self.plastic[node["name"]] = part
        _join(self.populations[node["destination"]].s_out, part.s_in_bap)
        for factor, modulator in node.get("modulators", {}).items():
            sender = self._sender(modulator["source"])
            options = {key: modulator[key] for key in ("delay", "impulse", "tau")}
            third = lava_learning.ThirdFactor(
                shape=sender.shape, n_post=part.s_in_bap.shape[0], **options
            )
            self.parts.append(third)
            _join(third.y_out, getattr(part, f"s_in_{factor}"))
            if modulator["source"] in self.inputs:
                self.links.append((sender, third.s_in, False))
            else:
                _join(sender, third.s_in)

    def _tie_separate_parts(self) -> None:
        """Join the unconnected parts of the network, one representative of each to the next."""
        ends = [(node["source"], node["destination"]) for node in self.description["connections"]]
        ends += [
            (modulator["source"], node["destination"])
            for node in self.description["connections"]
            for modulator in (node.get("modulators", {}).values() if self.learn else ())
        ]
        first, *others = _separate_parts([*self.populations, *self.inputs], ends)
        for other in others:
            ports = [self._sender(name) for name in (first, other)]
            tie = lava_parts.Tie(shape_a=ports[0].shape, shape_b=ports[1].shape)
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
    LIFReset: lava_parts.RecordedLIFReset,
    lava_parts.GatedLIF: lava_parts.PyGatedLIFModel,
    lava_parts.GatedTernaryLIF: lava_parts.PyGatedTernaryLIFModel,
    Dense: PyDenseModelBitAcc,
    DelayDense: PyDelayDenseModelBitAcc,
    Sparse: PySparseModelBitAcc,
    DelaySparse: PyDelaySparseModelBitAcc,
    Conv: PyConvModelFixed,
    lava_compartments.Compartments: lava_compartments.PyCompartmentsModel,
    lava_parts.DelayLine: lava_parts.PyDelayLineModel,
    lava_parts.Tie: lava_parts.PyTieModel,
    RingBuffer: PySendModelFixed,
    **lava_learning.LEARNING_MODELS,
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


def _plastic_dense(node: dict[str, Any], arrays: dict[str, Any]) -> Any:
    return lava_learning.learning_dense(node, arrays, _synapse(node))


def _plastic_sparse(node: dict[str, Any], arrays: dict[str, Any]) -> Any:
    return lava_learning.learning_sparse(node, arrays, _synapse(node))


_SYNAPSES = {"Dense": _dense, "Sparse": _sparse, "Conv": _conv}
_PLASTIC = {"Dense": _plastic_dense, "Sparse": _plastic_sparse}
