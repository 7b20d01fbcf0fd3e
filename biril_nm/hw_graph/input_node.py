"""The node where spikes enter a LoihiGraph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.hw_graph.values import ByValue, Shape, as_message_bits, as_shape

__all__ = ["Input"]


@checked
@dataclass(frozen=True, eq=False)
class Input(ByValue):
    """Where spikes enter.

    Attributes:
        shape: of one step.
        message_bits: 0 for binary spikes, else the width of graded ones, without their sign.
        signed: whether graded spikes may be below zero.
    """

    shape: Shape
    message_bits: int = 0
    signed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", as_shape(self.shape))
        object.__setattr__(self, "message_bits", as_message_bits(self.message_bits))
        if not isinstance(self.signed, (bool, np.bool_)):
            raise ConfigError(f"Input signed is {self.signed!r:.60}; expected True or False")
        object.__setattr__(self, "signed", bool(self.signed))
        if self.signed and self.message_bits < 1:
            raise ConfigError(
                f"Input is signed with message_bits {self.message_bits}; expected 1 or more. Binary "
                f"spikes have no sign"
            )

    @property
    def high(self) -> int:
        """Largest value that the input carries."""
        return (1 << self.message_bits) - 1 if self.message_bits > 0 else 1

    @property
    def low(self) -> int:
        """Smallest value that the input carries."""
        return -self.high if self.signed else 0

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The node as a record and arrays."""
        record: dict[str, Any] = {"shape": list(self.shape), "message_bits": self.message_bits}
        return record | ({"signed": True} if self.signed else {}), {}

    @classmethod
    def from_arrays(cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Input:
        """The node of :meth:`to_arrays`."""
        return cls(record["shape"], record["message_bits"], record.get("signed", False))
