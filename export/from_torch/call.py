"""One call of a torch function with a traced argument, as the handlers receive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from biril_nm.export.from_torch.origins import Origins
from biril_nm.export.from_torch.signals import Expr

__all__ = ["Tracked", "all_of"]


@dataclass(frozen=True)
class Tracked:
    """One call of a torch function with a traced argument.

    Attributes:
        origins: what the tensors stand for.
        name: of the function.
        args: as given.
        kwargs: as given.
        before: what the first argument stood for.
        result: what the function returned.
    """

    origins: Origins
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    before: Expr | None
    result: Any


def all_of(part: Any) -> bool:
    """Whether a part of an index is ``:``; arrays and tensors compare by value, and are none."""
    return isinstance(part, slice) and part == slice(None)
