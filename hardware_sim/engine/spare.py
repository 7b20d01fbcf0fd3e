"""What one run leaves for the next of the same shape, so that short runs don't allocate their memory anew."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Spare"]

T = TypeVar("T")


class Spare(Generic[T]):
    """Room for one object. Threads that take it at the same time do not get the same one."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, T] = {}

    def take(self, key: Hashable) -> T | None:
        """The object that was given under this key, which nobody else gets until it is given again."""
        return self._kept.pop(key, None)

    def give(self, key: Hashable, used: T) -> None:
        """Keep an object in place of the one before."""
        self._kept = {key: used}
