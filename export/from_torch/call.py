"""One call of a torch function with a traced argument, as the handlers receive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biril_nm.export.from_torch.signals import Expr

if TYPE_CHECKING:
    from biril_nm.export.from_torch.tracer import Tracer

__all__ = ["Tracked"]


@dataclass(frozen=True)
class Tracked:
    """One call of a torch function with a traced argument."""

    tracer: Tracer
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    before: Expr | None
    result: Any
