"""Checked access to the datasets of one group of a ``.net`` file."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import IntArray, Shape
from biril_nm.errors import FileFormatError, RangeError
from biril_nm.hw_graph.values import MAX_NEURONS

__all__ = ["Members"]

INTEGER_LIMIT = 1 << 31


class Members:
    """Checked access to the datasets of one group."""

    def __init__(self, group: Any, where: str, truncate: bool) -> None:
        self.group, self.where, self.truncate = group, where, truncate

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def at(self, name: str) -> str:
        """Name of a member for messages."""
        return f"{self.where}/{name}"

    def inner(self, name: str) -> Members:
        """A group inside this one."""
        if not isinstance(self.group.get(name), h5py.Group):
            raise FileFormatError(
                f"{self.at(name)} is not a group; expected one. Write the file again"
            )
        return Members(self.group[name], self.at(name), self.truncate)

    def _dataset(self, name: str) -> Any:
        item = self.group.get(name)
        if not isinstance(item, h5py.Dataset) or item.shape is None or 0 in item.shape:
            found = "missing" if item is None else "empty or not a dataset"
            raise FileFormatError(f"{self.at(name)} is {found}; expected a dataset")
        return item

    def text(self, name: str) -> str:
        """A string, stored alone or as the first of an array."""
        item = self._dataset(name)
        if h5py.check_string_dtype(item.dtype) is None:
            raise FileFormatError(f"{self.at(name)} is {item.dtype} {item.shape}; expected text")
        value = np.asarray(item[()]).reshape(-1)[0]
        try:
            return value.decode("ascii") if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError as error:
            raise FileFormatError(
                f"{self.at(name)} is not ASCII text ({error}); expected ASCII"
            ) from error

    def integers(self, name: str) -> IntArray:
        """Whole numbers of any stored dtype.

        Raises:
            RangeError: fractions (unless they are to be truncated), or more than 32 bits.
        """
        item = self._dataset(name)
        if item.dtype.kind not in "biuf":
            raise FileFormatError(f"{self.at(name)} is {item.dtype}; expected numbers")
        array = np.asarray(item[()])
        if array.dtype.kind == "f":
            array = self._whole(name, array)
        if np.any(array >= INTEGER_LIMIT) or np.any(array < -INTEGER_LIMIT):
            raise RangeError(
                f"{self.at(name)} holds numbers of more than 32 bits; expected at most 32"
            )
        return array.astype(np.int64)

    def _whole(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        if not np.all(np.isfinite(array)):
            raise FileFormatError(
                f"{self.at(name)} holds numbers that are not finite; expected integers"
            )
        cut = np.trunc(array)
        changed = cut != array
        if np.any(changed) and not self.truncate:
            raise RangeError(
                f"{self.at(name)}: {int(changed.sum())} of {array.size} values are not whole, the first "
                f"{float(array[changed].flat[0]):.6g}; expected integers, since netx cuts fractions off "
                f"silently. Quantise before export_hdf5, or read with truncate=True (--truncate) to get what "
                f"netx gets"
            )
        return np.asarray(cut)

    def scalar(self, name: str, default: int | None = None) -> int:
        """One number."""
        if default is not None and name not in self:
            return default
        array = self.integers(name)
        if array.size != 1:
            raise FileFormatError(f"{self.at(name)} has shape {array.shape}; expected one number")
        return int(array.flat[0])

    def pair(self, name: str) -> tuple[int, int]:
        """One number or (h, w)."""
        array = self.integers(name).ravel()
        if array.size not in (1, 2):
            raise FileFormatError(f"{self.at(name)} has {array.size} numbers; expected 1 or 2")
        return int(array[0]), int(array[-1])

    def shape(self) -> Shape:
        """Dataset ``shape``: positive lengths of bounded product."""
        lengths = tuple(int(n) for n in self.integers("shape").ravel())
        size = 1
        for n in lengths:
            size *= n
            if n < 1 or size > MAX_NEURONS:
                raise FileFormatError(
                    f"{self.at('shape')} is {lengths[:8]}; expected positive lengths and at most "
                    f"{MAX_NEURONS} neurons"
                )
        return lengths
