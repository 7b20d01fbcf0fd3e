"""What the tensors of one traced run stand for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from biril_nm.arrays import Shape
from biril_nm.export.from_torch.replayed import Replayed
from biril_nm.export.from_torch.signals import Applied, Expr, Operation

__all__ = ["Origins"]

_Named = tuple[str, "nn.Module | Replayed"]


class Origins:
    """Expressions of tensors, and the constants and layers that expressions refer to by number.

    Attributes:
        constants: of :class:`Scaled` signals.
        functions: (name, layer) of :class:`Applied` signals.
        parts: whether ``x[:, n]`` is a part of each sample; else it may be a step of a whole input.
        sliced: input -> (time axis, shape of one step), where the forward takes it apart.
    """

    def __init__(self, parts: bool = False) -> None:
        self.parts = parts
        self._known: dict[int, tuple[torch.Tensor, Expr]] = {}
        self.constants: list[torch.Tensor] = []
        self.functions: list[tuple[str, nn.Module | Replayed]] = []
        self.sliced: dict[int, tuple[int, Shape]] = {}

    def know(self, tensor: torch.Tensor, expr: Expr) -> None:
        """From now on ``tensor`` stands for ``expr``; it is kept alive, so that its id stays its own."""
        self._known[id(tensor)] = (tensor, expr)

    def expr(self, value: Any) -> Expr | None:
        """What ``value`` stands for, None for constants."""
        found = self._known.get(id(value)) if isinstance(value, torch.Tensor) else None
        return found[1] if found is not None and found[0] is value else None

    def overwritten(self, target: torch.Tensor, name: str) -> None:
        """Other tensors in the memory of one that was written into have changed with it."""
        place = target.untyped_storage().data_ptr()
        for tensor, expr in list(self._known.values()):
            if tensor is not target and tensor.untyped_storage().data_ptr() == place:
                self.know(tensor, Operation(name, (expr,)))

    def constant(self, value: torch.Tensor) -> int:
        """Number of a constant; equal ones share one."""
        for number, other in enumerate(self.constants):
            if other.shape == value.shape and torch.equal(other, value):
                return number
        self.constants.append(value.detach().clone())
        return len(self.constants) - 1

    def applied(
        self, of: Expr, name: str, layer: nn.Module | Replayed, before: Any, after: Any
    ) -> Applied:
        """``of`` through a layer without states; equal layers of one name share their number."""
        number = next((i for i, f in enumerate(self.functions) if _equal(f, (name, layer))), None)
        if number is None:
            number = len(self.functions)
            self.functions.append((name, layer))
        return Applied(of, number, tuple(before.shape[1:]), tuple(after.shape[1:]))


def _equal(first: _Named, second: _Named) -> bool:
    """Whether two named layers without states do the same."""
    (name, one), (other_name, other) = first, second
    if one is other or name != other_name or type(one) is not type(other):
        return one is other
    if isinstance(one, Replayed) or isinstance(other, Replayed):
        return isinstance(one, Replayed) and one.same(other)

    def settings(layer: nn.Module) -> dict[str, Any]:
        return {k: v for k, v in vars(layer).items() if isinstance(v, (int, float, str, tuple))}

    mine, theirs = one.state_dict(), other.state_dict()
    return (
        settings(one) == settings(other)
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[key], theirs[key]) for key in mine)
    )
