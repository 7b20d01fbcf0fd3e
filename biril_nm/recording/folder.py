"""Traces on disk: a folder of plain ``.npy`` arrays for runs that no memory holds.

``trace.json`` names the arrays; each is (batch, n_steps, *shape), channels last, as the simulator
writes it, and is memory-mapped when read. Nothing is pickled, and every array is checked against
``trace.json`` before it is mapped.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from biril_nm.errors import ConfigError, FileFormatError, StorageError
from biril_nm.storage import map_npy, read_json
from biril_nm.storage.platform import memory_bytes, reserve

__all__ = ["DTYPES", "HEADER", "SIGNED_SPIKES", "RecordingFolder", "check_memory", "read_folder"]

_NPY: Any = npy_format  # numpy declares no types for it
HEADER = "trace.json"
FORMAT = "biril-nm trace folder 1"
DTYPES: dict[str, np.dtype[Any]] = {
    "s": np.dtype(np.uint8),
    "u": np.dtype(np.int32),
    "v": np.dtype(np.int32),
}
SIGNED_SPIKES = np.dtype(np.int8)  # s of neurons whose spikes have a sign
UNSAFE = re.compile(r"[^\w.+-]")
GIB = 1 << 30
CHUNK_BYTES = 1 << 24

Shape = tuple[int, ...]


class RecordingFolder:
    """Writes arrays of one run into an empty folder; :meth:`close` completes it."""

    def __init__(self, folder: Path, length: tuple[int, int]) -> None:
        self._folder, self._length = folder, length  # batch, n_steps
        self._arrays: dict[str, dict[str, Any]] = {}
        self._maps: list[Any] = []
        self._allocated = 0

    def allocate(
        self, node: str, variable: str, size: int, dtype: np.dtype[Any] | None = None
    ) -> NDArray[Any]:
        """An array on disk, (batch, n_steps, size), for a variable of a node; of its usual type for None.

        All its blocks are allocated here: a write into a map of a file without blocks kills the
        process when the disk is full.

        Raises:
            StorageError: the disk has no room for it.
        """
        dtype, shape = dtype or DTYPES[variable], (*self._length, size)
        file = f"{len(self._maps)}.{UNSAFE.sub('_', node)[:80]}.{variable}.npy"
        path, needed = self._folder / file, math.prod(shape) * dtype.itemsize
        free = shutil.disk_usage(self._folder).free
        try:
            with path.open("wb") as stream:
                header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                _NPY.write_array_header_1_0(stream, header)
                begin = stream.tell()
                if needed > free:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                _allocate(stream, begin, needed)
        except OSError as error:
            raise StorageError(
                f"recording '{variable}' of '{node}' takes {needed / GIB:.1f} GiB and the disk of "
                f"'{self._folder.parent}' has {free / GIB:.1f} GiB left after "
                f"{self._allocated / GIB:.1f} GiB for other arrays of this run ({error.strerror}). Record "
                f"fewer nodes or variables, or choose another disk"
            ) from error
        self._allocated += needed
        if needed:
            array: Any = np.memmap(path, dtype, "r+", begin, shape)
        else:  # nothing to map
            array = np.empty(shape, dtype)
        self._maps.append(array)
        self._arrays.setdefault(node, {})[variable] = file
        return np.asarray(array)

    def close(self, shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> None:
        """Flush the arrays and write the header; ``shapes`` are the nodes' in torch order."""
        for array in self._maps:
            if isinstance(array, np.memmap):
                array.flush()
        self._maps.clear()
        header = {
            "format": FORMAT,
            "axes": "batch, n_steps, shape (channels last)",
            "batch": self._length[0],
            "n_steps": self._length[1],
            "nodes": {
                name: {"shape": list(shapes[name]), "arrays": files}
                for name, files in self._arrays.items()
            },
            **facts,
        }
        (self._folder / HEADER).write_text(json.dumps(header), encoding="utf-8")


def _allocate(stream: BinaryIO, begin: int, n_bytes: int) -> None:
    """Give ``n_bytes`` of a file from ``begin`` on their blocks on the disk; they read as zeros.

    Raises:
        OSError: the disk is full.
    """
    stream.flush()
    if n_bytes == 0:
        return
    if reserve(stream, begin, n_bytes):
        return
    zeros = bytes(min(n_bytes, CHUNK_BYTES))
    for written in range(0, n_bytes, CHUNK_BYTES):
        stream.write(zeros[: n_bytes - written])
    stream.flush()
    os.fsync(stream.fileno())


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, tuple[Shape, dict[str, Any]]]]:
    """Header, and node -> (torch shape, variable -> array (batch, n_steps, size), memory-mapped).

    Raises:
        FileFormatError: the folder is damaged or no trace.
    """
    folder = Path(path)
    try:
        header = read_json(folder / HEADER, follow_links=False)
        if header["format"] != FORMAT:
            raise ValueError(f"format is {header['format']!r}; expected {FORMAT!r}")
        length = (int(header["batch"]), int(header["n_steps"]))
        nodes = {}
        for name, entry in header["nodes"].items():
            shape = tuple(int(n) for n in entry["shape"])
            size = math.prod(shape)
            arrays = {
                variable: _mapped(folder, str(file), DTYPES[variable], (*length, size))
                for variable, file in entry["arrays"].items()
            }
            nodes[str(name)] = (shape, arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"'{folder}' is not the folder of a recording: {error}") from error
    return header, nodes


def _mapped(folder: Path, file: str, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
    """An array of the folder, read-only, of exactly this kind."""
    if Path(file).name != file:
        raise ValueError(f"array '{file}' lies outside of the folder")
    array = map_npy(folder / file, follow_links=False)
    signed = dtype == DTYPES["s"] and array.dtype == SIGNED_SPIKES
    if array.shape != shape or not (array.dtype == dtype or signed):
        raise ValueError(
            f"'{file}' holds {array.dtype} of shape {array.shape}; expected {dtype} of shape {shape}"
        )
    return array


def check_memory(needed: int) -> None:
    """Refuse recordings of more bytes than the machine's memory.

    Raises:
        ConfigError: they take more than all memory of the machine.
    """
    if not needed:
        return
    memory = memory_bytes()
    if needed > memory:
        raise ConfigError(
            f"what is recorded takes {needed / GIB:.1f} GiB and the machine has {memory / GIB:.1f} GiB. "
            f"Record fewer nodes or variables, or pass record_to=FOLDER (--record-to) to record to disk"
        )
