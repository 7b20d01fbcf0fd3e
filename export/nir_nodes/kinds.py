"""What a type of node or layer is to the export: its record, from which checks and tables come.

A record holds all that is known of one type: its fields and metadata with their checks, the function
that translates it, what becomes of it, and whether that is exact. Records of NIR nodes stand in
:mod:`stateless` and :mod:`neurons`, those of torch in :mod:`biril_nm.export.from_torch.layers` and
:mod:`biril_nm.export.from_torch.neurons`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["APPROXIMATION", "EXACT", "POLICIES", "REFUSED", "Case", "Check", "NodeKind"]

EXACT, APPROXIMATION, REFUSED = "exact", "approximation", "refused"
POLICIES = (EXACT, APPROXIMATION, REFUSED)

# Takes what is checked, for the message, and its value; returns the value in its plain form.
Check = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Case:
    """A row of the table of supported nodes that is about no single type.

    Attributes:
        name: as users know it.
        becomes: what becomes of it, or why it is refused.
        policy: one of :data:`POLICIES`.
    """

    name: str
    becomes: str
    policy: str = EXACT


@dataclass(frozen=True)
class NodeKind:
    """One type of NIR node.

    Attributes:
        type: its class.
        becomes: what becomes of it, for the table of supported nodes.
        policy: one of :data:`POLICIES`.
        fields: field -> check of its value.
        metadata: key -> check of its value; other keys are left alone.
    """

    type: type
    becomes: str
    policy: str = EXACT
    fields: Mapping[str, Check] = field(default_factory=dict)
    metadata: Mapping[str, Check] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.type.__name__
