"""Records of torch layers and snnTorch neurons: what they have besides those of NIR nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nir
from torch import nn

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import BirilError, UnsupportedNodeError
from biril_nm.export.nir_nodes.kinds import Check, NodeKind

__all__ = ["LayerKind", "NeuronKind", "Update", "check_fields", "one_of", "refuse", "sizes"]


@dataclass(frozen=True)
class LayerKind(NodeKind):
    """A torch layer without states; ``fields`` are attributes of the module.

    Attributes:
        node: (layer, its name, shape that it receives) -> NIR node; None where the layer does
            nothing at inference and vanishes.
        weightless: whether it may be used at many places, because it has nothing to share.
        largest: whether it takes the largest of some spikes; ``node`` is then the sum over them.
    """

    node: Callable[[Any, str, Shape], nir.NIRNode] | None = None
    weightless: bool = False
    largest: bool = False

    @property
    def vanishes(self) -> bool:
        """Whether nothing becomes of the layer."""
        return self.node is None


@dataclass(frozen=True)
class Update:
    """``syn = alpha syn + x; mem = beta mem + gain syn`` (without alpha: ``+ gain x``)."""

    beta: FloatArray
    gain: FloatArray
    alpha: FloatArray | None = None


@dataclass(frozen=True)
class NeuronKind(NodeKind):
    """A snnTorch neuron; ``fields`` are attributes of the module.

    Attributes:
        states: attributes that hold its states.
        update: (layer, its name, shape) -> its linear update.
        always_delayed: whether it cannot reset within the step of the spike.
        drops_input: whether a delayed reset to zero also loses the input of that step.
    """

    states: tuple[str, ...] = field(kw_only=True)
    update: Callable[[Any, str, Shape], Update] = field(kw_only=True)
    always_delayed: bool = False
    drops_input: bool = False


def one_of(*values: Any, way_out: str) -> Check:
    """Check for one of the ``values``."""

    def check(what: str, value: Any) -> Any:
        if value not in values:
            expected = " or ".join(repr(known) for known in values)
            raise UnsupportedNodeError(f"{what} is {value!r}; expected {expected}. {way_out}")
        return value

    return check


def check_fields(kind: NodeKind, layer: Any, name: str) -> None:
    """Check the attributes of a layer.

    Raises:
        UnsupportedNodeError: values that NIR has no form for; all are listed.
    """
    findings = []
    for attribute, check in kind.fields.items():
        try:
            check(attribute, getattr(layer, attribute, None))
        except BirilError as error:
            findings.append(str(error))
    if findings:
        who = f"layer '{name}' ({type(layer).__name__})"
        raise UnsupportedNodeError(f"{who} has no NIR form: {'; '.join(findings)}")


def sizes(value: Any, rank: int) -> tuple[int, ...]:
    """One number for each dimension."""
    return (value,) * rank if isinstance(value, int) else tuple(int(v) for v in value)


def refuse(module: nn.Module, name: str, text: str) -> UnsupportedNodeError:
    """The error about one layer."""
    return UnsupportedNodeError(f"layer '{name}' ({type(module).__name__}){text}")
