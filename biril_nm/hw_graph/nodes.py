"""Nodes of a LoihiGraph: frozen dataclasses with read-only arrays in torch order.

Each turns into a record and arrays (``to_arrays``) and back (``from_arrays``), as files keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Union

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Unchecked, checked
from biril_nm.compartments import CUBA_LIF, CompartmentModel, compartment
from biril_nm.errors import ConfigError
from biril_nm.hw_graph.input_node import Input
from biril_nm.hw_graph.values import (
    ByValue,
    Pair,
    Shape,
    as_csr,
    as_integer,
    as_integers,
    as_pair,
    as_register,
    as_shape,
    csr_from_parts,
)
from biril_nm.learning.rule import LearningRule
from biril_nm.loihi import TAG_MAX, TAG_T_MIN, WEIGHT_BITS, SignMode

if TYPE_CHECKING:
    import scipy.sparse

__all__ = [
    "CONNECTIONS",
    "NODE_KINDS",
    "TAG_LIMITS",
    "Connection",
    "Conv",
    "Dense",
    "Input",
    "Neurons",
    "Node",
    "Output",
    "Sparse",
    "conv_output_shape",
    "convolved_shape",
]

Arrays = dict[str, NDArray[Any]]
Record = dict[str, Any]

_SYNAPSE_INTEGERS = ("weight_exp", "weight_bits", "delay")
_SYNAPSE_FIELDS = (*_SYNAPSE_INTEGERS, "sign_mode")
_GEOMETRY = ("stride", "padding", "dilation")
TAG_LIMITS = {"tag_t": (TAG_T_MIN, TAG_MAX), "tag_d": (0, TAG_MAX)}


def _set_integers(node: Any, *names: str) -> None:
    for name in names:
        value = as_integer(getattr(node, name), f"{type(node).__name__} {name}")
        object.__setattr__(node, name, value)


@checked
@dataclass(frozen=True, eq=False, init=False)
class Neurons(ByValue):
    """A population of compartments of one model, with the registers of that model.

    Registers are given by keyword, or in the model's order, and read as attributes:
    ``Neurons((10,), vth=100, dv=40).vth``. One integer holds for all neurons, an array of the node's
    shape for each. :mod:`biril_nm.compartments` has the models, their registers and equations.

    Attributes:
        shape: of the population.
        model: name of its :class:`~biril_nm.compartments.CompartmentModel`.
        registers: name -> read-only array, without dimensions where one value holds for all; an int
            for registers that a population shares.

    Raises:
        ConfigError: an unknown model, an unknown or missing register, a value that is not an integer.
    """

    shape: Shape
    model: str
    registers: Mapping[str, Any]

    def __init__(
        self,
        shape: Any,
        *values: Any,
        model: str = CUBA_LIF.name,
        registers: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> None:
        kind = compartment(model)
        object.__setattr__(self, "shape", as_shape(shape))
        object.__setattr__(self, "model", kind.name)
        given = {**(registers or {}), **_by_name(kind, values, named), **named}
        object.__setattr__(self, "registers", MappingProxyType(self._checked(kind, given)))

    def _checked(self, model: CompartmentModel, given: Mapping[str, Any]) -> dict[str, Any]:
        known = [register.name for register in model.registers]
        unknown = [name for name in given if name not in known]
        missing = [r.name for r in model.registers if r.default is None and r.name not in given]
        if unknown or missing:
            what = f"has no register {', '.join(unknown)}" if unknown else ""
            what += " and " if unknown and missing else ""
            what += f"needs a value for {', '.join(missing)}" if missing else ""
            raise ConfigError(
                f"compartment model '{model.name}' {what}; its registers are {', '.join(known)}"
            )
        values: dict[str, Any] = {}
        for register in model.registers:
            value = given.get(register.name, register.default)
            if register.shared:
                values[register.name] = as_integer(value, f"Neurons {register.name}")
            else:
                values[register.name] = as_register(value, self.shape, register.name)
        return values

    def __getattr__(self, name: str) -> Any:
        registers = self.__dict__.get("registers", {})
        if name in registers:
            return registers[name]
        raise AttributeError(
            f"Neurons has no attribute '{name}'; its registers are {', '.join(registers)}"
        )

    @property
    def compartment(self) -> CompartmentModel:
        """The record of the model."""
        return compartment(self.model)

    @property
    def spike_threshold(self) -> NDArray[np.int64]:
        """Potential that one spike stands for, in units of ``1 << VTH_SHIFT`` of v."""
        return self.compartment.threshold(self.registers)

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))

    def to_arrays(self) -> tuple[Record, Arrays]:
        """The node as a record, with registers that a population shares, and arrays."""
        shared = {k: value for k, value in self.registers.items() if isinstance(value, int)}
        arrays = {k: value for k, value in self.registers.items() if k not in shared}
        return {"shape": list(self.shape), "model": self.model, **shared}, arrays

    @classmethod
    def from_arrays(cls, record: Mapping[str, Any], arrays: Arrays) -> Neurons:
        """The node of :meth:`to_arrays`; records of before there were models are CUBA-LIF."""
        model = compartment(record.get("model", CUBA_LIF.name))
        registers = {r.name: (record if r.shared else arrays)[r.name] for r in model.registers}
        return cls(record["shape"], model=model.name, registers=registers)


def _by_name(
    model: CompartmentModel, values: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Positional registers by name."""
    names = [register.name for register in model.registers]
    if len(values) > len(names):
        raise ConfigError(
            f"compartment model '{model.name}' has {len(values)} values; expected at most "
            f"{len(names)}: {', '.join(names)}"
        )
    found = dict(zip(names, values))
    twice = [name for name in found if name in named]
    if twice:
        raise ConfigError(
            f"register {', '.join(twice)} is given by place and by name; expected one"
        )
    return found


@checked
@dataclass(frozen=True, eq=False)
class Output(ByValue):
    """Marks a Neurons node as a result of the network."""

    def to_arrays(self) -> tuple[Record, Arrays]:
        """The node as a record and arrays: nothing."""
        return {}, {}

    @classmethod
    def from_arrays(cls, record: Mapping[str, Any], arrays: Arrays) -> Output:
        """The node of :meth:`to_arrays`."""
        return cls()


@checked
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
            raise ConfigError(f"Dense weights have shape {self.weight.shape}; expected (post, pre)")
        _set_integers(self, *_SYNAPSE_INTEGERS)
        _set_plasticity(self, self.weight.shape)

    def to_arrays(self) -> tuple[Record, Arrays]:
        """The node as a record and arrays."""
        record, arrays = _plasticity(self)
        return {**_fields(self, _SYNAPSE_FIELDS), **record}, {"weight": self.weight, **arrays}

    @classmethod
    def from_arrays(cls, record: Mapping[str, Any], arrays: Arrays) -> Dense:
        """The node of :meth:`to_arrays`."""
        values = {key: record[key] for key in _SYNAPSE_FIELDS}
        return cls(arrays["weight"], **values, **_plastic_fields(record, arrays))


@checked
@dataclass(frozen=True, eq=False)
class Sparse(ByValue):
    """Like Dense on a ``scipy.sparse`` CSR matrix (post, pre); stored zeros are kept.

    Tags are arrays (n_synapses,) in the order of ``weight.data``.
    """

    weight: Annotated[scipy.sparse.csr_matrix, Unchecked()]  # any matrix is taken
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

    def to_arrays(self) -> tuple[Record, Arrays]:
        """The node as a record and arrays; ``shape`` is that of the matrix."""
        record, arrays = _plasticity(self)
        arrays |= {key: getattr(self.weight, key) for key in ("data", "indices", "indptr")}
        shape = list(self.weight.shape)
        return {**_fields(self, _SYNAPSE_FIELDS), "shape": shape, **record}, arrays

    @classmethod
    def from_arrays(cls, record: Mapping[str, Any], arrays: Arrays) -> Sparse:
        """The node of :meth:`to_arrays`."""
        rows, columns = (int(n) for n in record["shape"])
        data, indices, indptr = (arrays[key] for key in ("data", "indices", "indptr"))
        matrix = csr_from_parts(data, indices, indptr, (rows, columns))
        values = {key: record[key] for key in _SYNAPSE_FIELDS}
        return cls(matrix, **values, **_plastic_fields(record, arrays))


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
                f"{name} has shape {tags.shape}; expected that of the weights, {shape}"
            )
        if tags.size and (tags.min() < low or tags.max() > high):
            raise ConfigError(
                f"{name} holds {tags.min()} to {tags.max()}; expected {low} to {high}"
            )
        object.__setattr__(node, name, tags)


def _fields(node: Any, names: tuple[str, ...]) -> Record:
    values = ((name, getattr(node, name)) for name in names)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def _plasticity(node: Dense | Sparse) -> tuple[Record, Arrays]:
    """Rule, modulators and tags as a record and arrays; empty without them."""
    record: Record = {}
    if node.rule is not None:
        record = {"rule": node.rule.to_dict(), "modulators": dict(node.modulators)}
    tags = {key: getattr(node, key) for key in TAG_LIMITS}
    return record, {key: tag for key, tag in tags.items() if tag is not None}


def _plastic_fields(record: Mapping[str, Any], arrays: Arrays) -> Record:
    """Fields of what :func:`_plasticity` gave."""
    fields: Record = {key: arrays[key] for key in TAG_LIMITS if key in arrays}
    if record.get("rule") is not None:
        fields["rule"] = LearningRule.from_dict(record["rule"])
        fields["modulators"] = dict(record.get("modulators", {}))
    return fields


@checked
@dataclass(frozen=True, eq=False)
class Conv(ByValue):
    """2-D convolution (cross-correlation) with zero padding, kernel in torch order.

    ``weight`` is (out, in/groups, kH, kW); source (in, H, W), destination (out, H', W').
    """

    weight: NDArray[np.int32]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    weight_exp: int = 0
    weight_bits: int = WEIGHT_BITS
    sign_mode: SignMode = SignMode.MIXED
    delay: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_integers(self.weight, "Conv weights"))
        object.__setattr__(self, "sign_mode", SignMode(self.sign_mode))
        for name in _GEOMETRY:
            object.__setattr__(self, name, as_pair(getattr(self, name), f"Conv {name}"))
        _set_integers(self, "groups", *_SYNAPSE_INTEGERS)
        if self.weight.ndim != 4:
            raise ConfigError(
                f"Conv weights have shape {self.weight.shape}; expected (out, in/groups, kH, kW)"
            )

    def to_arrays(self) -> tuple[Record, Arrays]:
        """The node as a record and arrays."""
        return _fields(self, (*_GEOMETRY, "groups", *_SYNAPSE_FIELDS)), {"weight": self.weight}

    @classmethod
    def from_arrays(cls, record: Mapping[str, Any], arrays: Arrays) -> Conv:
        """The node of :meth:`to_arrays`."""
        values = {key: record[key] for key in (*_GEOMETRY, "groups", *_SYNAPSE_FIELDS)}
        return cls(arrays["weight"], **values)


Connection = Union[Dense, Sparse, Conv]  # what takes spikes from one node to another
Node = Union[Input, Neurons, Output, Dense, Sparse, Conv]  # any node of a graph
CONNECTIONS = (Dense, Sparse, Conv)
NODE_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (Input, Neurons, Output, Dense, Sparse, Conv)
}


@checked
def conv_output_shape(node: Conv, source: Shape) -> Shape:
    """Shape (out, H', W') with ``H' = (H + 2 pad - dil (k - 1) - 1) // stride + 1``.

    Raises:
        ConfigError: ``source`` is not (in, H, W).
    """
    if len(source) != 3:
        raise ConfigError(f"source has shape {source}; expected (in, H, W)")
    return convolved_shape(node, source)


def convolved_shape(node: Any, source: Shape) -> Shape:
    """:func:`conv_output_shape` of anything with a kernel and its geometry."""
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            source[1:], node.padding, node.dilation, node.weight.shape[2:], node.stride
        )
    ]
    return (int(node.weight.shape[0]), *size)
