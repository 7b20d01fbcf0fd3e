"""LoihiGraph: the integer network between the exporter and every target.

Nodes are frozen dataclasses with read-only arrays in torch order; edges join names. A connection
(Dense, Sparse, Conv) has one source (Input or Neurons) and one destination (Neurons). IF, LIF,
CUBA-LIF and integrators are one compartment node with different registers. Time: every connection
costs one step plus its delay (:mod:`biril_nm.hw_graph.timing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError
from biril_nm.hw_graph.timing import Timing
from biril_nm.hw_graph.values import (
    ByValue,
    Shape,
    as_csr,
    as_integer,
    as_integers,
    as_pair,
    as_register,
    as_shape,
)
from biril_nm.learning.rule import LearningRule
from biril_nm.loihi import NO_SYNAPTIC_MEMORY, TAG_MAX, TAG_T_MIN, WEIGHT_BITS, SignMode

if TYPE_CHECKING:
    import scipy.sparse

__all__ = [
    "Connection",
    "Conv",
    "Dense",
    "Input",
    "LoihiGraph",
    "Neurons",
    "Node",
    "Output",
    "Shape",
    "Sparse",
    "conv_output_shape",
]

_SYNAPSE_INTEGERS = ("weight_exp", "weight_bits", "delay")
TAG_LIMITS = {"tag_t": (TAG_T_MIN, TAG_MAX), "tag_d": (0, TAG_MAX)}


@dataclass(frozen=True, eq=False)
class Input(ByValue):
    """Where spikes enter. ``message_bits`` 0: binary spikes, else graded unsigned integers."""

    shape: Shape
    message_bits: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", as_shape(self.shape))
        _set_integers(self, "message_bits")


def _set_integers(node: Any, *names: str) -> None:
    for name in names:
        value = as_integer(getattr(node, name), f"{type(node).__name__} {name}")
        object.__setattr__(node, name, value)


@dataclass(frozen=True, eq=False)
class Neurons(ByValue):
    """CUBA-LIF compartments: HARDWARE-level registers, one integer each or one per neuron.

    Per step, with a = summed input: ``u = wrap(trunc0(u, du + 1) + (a << 6))``,
    ``v = clip(trunc0(v, dv) + u + (bias_mant << bias_exp))``, spike and v = 0 where
    ``v > vth << 6``.
    """

    shape: Shape
    vth: Any
    du: Any = NO_SYNAPTIC_MEMORY
    dv: Any = 0
    bias_mant: Any = 0
    bias_exp: int = 0

    def __post_init__(self) -> None:
        shape = as_shape(self.shape)
        object.__setattr__(self, "shape", shape)
        for name in ("vth", "du", "dv", "bias_mant"):
            object.__setattr__(self, name, as_register(getattr(self, name), shape, name))
        _set_integers(self, "bias_exp")

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Output(ByValue):
    """Marks a Neurons node as a result of the network."""


@dataclass(frozen=True, eq=False)
class Dense(ByValue):
    """All-to-all connection: ``a = (W s) << weight_exp`` (floor shift if negative).

    ``weight`` is (post, pre) with source and destination flattened in torch order. With a ``rule`` the
    connection can learn (:mod:`biril_nm.hardware_sim.learning`).

    Attributes:
        rule: learning rule of a plastic connection.
        tag_t: initial tags t (Lava's tag_1), shape of the weights, -257..255; None: zeros.
        tag_d: initial delays d (Lava's tag_2), 0..255; they are learned but do not delay.
        modulators: for three-factor rules, "y1", "y2" or "y3" to the name of the Input (reward, label,
            error from outside) or Neurons node (error neurons, or the destination itself) whose
            values are that factor. Input step t of an Input modulates what the destination does in
            answer to input step t; Neurons modulate in the chip step in which they spike. A node of
            one element counts for all destination neurons.
    """

    weight: NDArray[np.int32]
    weight_exp: int = 0
    weight_bits: int = WEIGHT_BITS
    sign_mode: SignMode = SignMode.MIXED
    delay: int = 0
    rule: LearningRule | None = None
    tag_t: Any = None
    tag_d: Any = None
    modulators: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_integers(self.weight, "Dense weights"))
        object.__setattr__(self, "sign_mode", SignMode(self.sign_mode))
        if self.weight.ndim != 2:
            raise ConfigError(f"Dense weights must be (post, pre), found shape {self.weight.shape}")
        _set_integers(self, *_SYNAPSE_INTEGERS)
        _set_plasticity(self, self.weight.shape)


@dataclass(frozen=True, eq=False)
class Sparse(ByValue):
    """Like Dense on a ``scipy.sparse`` CSR matrix (post, pre); stored zeros are kept.

    Tags are arrays (n_synapses,) in the order of ``weight.data``.
    """

    weight: scipy.sparse.csr_matrix
    weight_exp: int = 0
    weight_bits: int = WEIGHT_BITS
    sign_mode: SignMode = SignMode.MIXED
    delay: int = 0
    rule: LearningRule | None = None
    tag_t: Any = None
    tag_d: Any = None
    modulators: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tagged = self.tag_t is not None or self.tag_d is not None
        matrix = as_csr(self.weight, tagged)
        object.__setattr__(self, "weight", matrix)
        object.__setattr__(self, "sign_mode", SignMode(self.sign_mode))
        _set_integers(self, *_SYNAPSE_INTEGERS)
        _set_plasticity(self, matrix.data.shape)


def _set_plasticity(node: Dense | Sparse, shape: Shape) -> None:
    """Check and freeze the fields that only plastic connections need."""
    sources = {str(name): str(source) for name, source in dict(node.modulators).items()}
    object.__setattr__(node, "modulators", MappingProxyType(sources))
    for name, (low, high) in TAG_LIMITS.items():
        if getattr(node, name) is None:
            continue
        tags = as_integers(getattr(node, name), name)
        if tags.shape != shape:
            raise ConfigError(
                f"{name} has shape {tags.shape}; needed is that of the weights, {shape}"
            )
        if tags.size and (tags.min() < low or tags.max() > high):
            raise ConfigError(
                f"{name} holds {tags.min()} to {tags.max()}; allowed are {low} to {high}"
            )
        object.__setattr__(node, name, tags)


@dataclass(frozen=True, eq=False)
class Conv(ByValue):
    """2-D convolution (cross-correlation) with zero padding, kernel in torch order.

    ``weight`` is (out, in/groups, kH, kW); source (in, H, W), destination (out, H', W').
    """

    weight: NDArray[np.int32]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight_exp: int = 0
    weight_bits: int = WEIGHT_BITS
    sign_mode: SignMode = SignMode.MIXED
    delay: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_integers(self.weight, "Conv weights"))
        object.__setattr__(self, "sign_mode", SignMode(self.sign_mode))
        for name in ("stride", "padding", "dilation"):
            object.__setattr__(self, name, as_pair(getattr(self, name), f"Conv {name}"))
        _set_integers(self, "groups", *_SYNAPSE_INTEGERS)
        if self.weight.ndim != 4:
            raise ConfigError(
                f"Conv weights must be (out, in/groups, kH, kW), found shape {self.weight.shape}"
            )


Connection = Union[Dense, Sparse, Conv]
Node = Union[Input, Neurons, Output, Dense, Sparse, Conv]
CONNECTIONS = (Dense, Sparse, Conv)


def conv_output_shape(node: Conv, source: Shape) -> Shape:
    """Shape (out, H', W') with ``H' = (H + 2 pad - dil (k - 1) - 1) // stride + 1``."""
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            source[1:], node.padding, node.dilation, node.weight.shape[2:], node.stride
        )
    ]
    return (int(node.weight.shape[0]), *size)


@dataclass(frozen=True, eq=False)
class LoihiGraph:
    """An integer network: named nodes, edges between names, and what is known about them.

    Attributes:
        nodes: name -> node, in the order given.
        edges: (source name, destination name).
        metadata: JSON-able facts: dt_s, reset, coding, scales, quantisation errors, versions.

    Raises:
        ConfigError: the wiring or a shape makes no sense; all findings are listed.
    """

    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from biril_nm.hw_graph.wiring import check_wiring

        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))
        object.__setattr__(self, "edges", tuple((str(a), str(b)) for a, b in self.edges))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        check_wiring(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LoihiGraph):
            return NotImplemented
        return (
            dict(self.nodes) == dict(other.nodes)
            and sorted(self.edges) == sorted(other.edges)
            and dict(self.metadata) == dict(other.metadata)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}: {type(node).__name__}" for name, node in self.nodes.items())
        return f"LoihiGraph({kinds})"

    def _of_type(self, kind: Any) -> Iterator[tuple[str, Any]]:
        return ((name, node) for name, node in self.nodes.items() if isinstance(node, kind))

    @cached_property
    def inputs(self) -> dict[str, Input]:
        """Input nodes by name."""
        return dict(self._of_type(Input))

    @cached_property
    def neurons(self) -> dict[str, Neurons]:
        """Neurons nodes by name."""
        return dict(self._of_type(Neurons))

    @cached_property
    def connections(self) -> dict[str, Connection]:
        """Dense, Sparse and Conv nodes by name."""
        return dict(self._of_type(CONNECTIONS))

    @cached_property
    def plastic(self) -> dict[str, Dense | Sparse]:
        """Connections with a learning rule, by name."""
        return {
            name: node
            for name, node in self.connections.items()
            if isinstance(node, (Dense, Sparse)) and node.rule is not None
        }

    @cached_property
    def modulator_inputs(self) -> tuple[str, ...]:
        """Inputs that modulate learning and drive nothing; without learning they need no values."""
        driving = {source for source, _ in self.ends.values()}
        named = {name for node in self.plastic.values() for name in node.modulators.values()}
        return tuple(name for name in self.inputs if name in named - driving)

    @cached_property
    def ends(self) -> dict[str, tuple[str, str]]:
        """Connection name -> (source name, destination name)."""
        source = {b: a for a, b in self.edges if b in self.connections}
        destination = {a: b for a, b in self.edges if a in self.connections}
        return {name: (source[name], destination[name]) for name in self.connections}

    @cached_property
    def outputs(self) -> dict[str, str]:
        """Output node name -> name of the Neurons node that it marks."""
        return {b: a for a, b in self.edges if isinstance(self.nodes[b], Output)}

    def incoming(self, neurons: str) -> list[str]:
        """Names of the connections that end at a Neurons node."""
        return [name for name, (_, dst) in self.ends.items() if dst == neurons]

    def shape_of(self, name: str) -> Shape:
        """Shape of the spikes of an Input or Neurons node."""
        node = self.nodes[name]
        if not isinstance(node, (Input, Neurons)):
            raise ConfigError(f"node '{name}' ({type(node).__name__}) sends no spikes")
        return node.shape

    def message_bits_into(self, connection: str) -> int:
        """Message bits of the source of a connection: 0 for binary spikes."""
        node = self.nodes[self.ends[connection][0]]
        return node.message_bits if isinstance(node, Input) else 0

    @cached_property
    def timing(self) -> Timing:
        """Latency of each node and slack of each connection (:mod:`biril_nm.hw_graph.timing`)."""
        return Timing.of(
            inputs=tuple(self.inputs),
            neurons=tuple(self.neurons),
            links={name: (*self.ends[name], node.delay) for name, node in self.connections.items()},
        )

    @property
    def latency(self) -> Mapping[str, int]:
        """Steps from input to each Neurons node (0 for inputs)."""
        return self.timing.latency

    def sample_period(self, n_steps: int) -> int:
        """Chip steps from one sample's start to the next when samples stream back to back."""
        return self.timing.sample_period(n_steps)

    def with_node(self, name: str, **changes: Any) -> LoihiGraph:
        """A copy in which the fields ``changes`` of one node are replaced."""
        if name not in self.nodes:
            raise ConfigError(f"node '{name}' is not in the graph: {', '.join(self.nodes)}")
        nodes = {**self.nodes, name: replace(self.nodes[name], **changes)}
        return LoihiGraph(nodes, self.edges, self.metadata)

    def with_metadata(self, **changes: Any) -> LoihiGraph:
        """A copy with changed metadata."""
        return LoihiGraph(self.nodes, self.edges, {**self.metadata, **changes})

    def report(self) -> str:
        """Plain-text table: scale, bits used, clipped weights and rounding error of each node."""
        from biril_nm.hw_graph.table import report_text

        return report_text(self)

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write ``x.loihi.npz`` atomically: arrays and one JSON string, no pickle."""
        from biril_nm.hw_graph.files import save_graph

        save_graph(self, path, force=force)

    @staticmethod
    def load(path: str | Path) -> LoihiGraph:
        """Read a file of :meth:`save`; sizes and shapes are checked first.

        Raises:
            FileFormatError: the file is damaged or not a LoihiGraph.
        """
        from biril_nm.hw_graph.files import load_graph

        return load_graph(path)
