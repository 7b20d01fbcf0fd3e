"""Files of events: N-MNIST's ``.bin``, AEDAT 2.0 of a DVS128, ``.npy``, ``.npz``, and ``.aedat4`` by tonic.

Files are hostile: they are opened as regular files of bounded size, and nothing in them runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.data.downloads import library
from biril_nm.data.frames import EVENT, as_events
from biril_nm.errors import FileFormatError
from biril_nm.storage import SMALL_BYTES, map_npy, open_regular, read_bytes, read_npz

__all__ = ["HDF5", "READERS", "check_events", "read_events"]

MAX_EVENTS = 1 << 25  # of a file, which takes 2 GB while they are put in order
BIN_BYTES = 5  # of an event
BIN_OVERFLOW_ROW = 240  # no event: the clock has run over (tonic/io.py read_mnist_file)
BIN_OVERFLOW_US = 1 << 13
AEDAT2 = b"#!AER-DAT2.0"
HDF5 = ".h5"
AEDAT2_BYTES = 8  # of an event
# Addresses that are no pixels: special events, and a signal at the camera's input. Source: jAER, DVS128 and
# CypressFX2DVS128HardwareInterface (SPECIAL_EVENT_BIT_MASK, SYNC_EVENT_BITMASK).
AEDAT2_SPECIAL, DVS128_SIGNAL = 1 << 31, 1 << 15
MAX_HEADER = 1 << 16
DVS128_TOP = 127


def _bin(path: Path) -> NDArray[Any]:
    """x, y, then 1 bit of polarity and 23 bits of microseconds (Orchard et al. 2015)."""
    data = read_bytes(path, MAX_EVENTS * BIN_BYTES)
    if len(data) % BIN_BYTES:
        raise FileFormatError(
            f"'{path}' has {len(data)} bytes; expected a multiple of {BIN_BYTES}, the bytes of an event"
        )
    raw = np.frombuffer(data, np.uint8).reshape(-1, BIN_BYTES)
    events = np.zeros(len(raw), EVENT)
    events["x"], events["y"], events["p"] = raw[:, 0], raw[:, 1], raw[:, 2] >> 7
    time = events["t"]
    for byte, bits in ((raw[:, 2] & 127, 16), (raw[:, 3], 8), (raw[:, 4], 0)):
        time += byte.astype(np.int64) << bits
    over = raw[:, 1] == BIN_OVERFLOW_ROW
    time += BIN_OVERFLOW_US * np.cumsum(over)
    return np.asarray(events[~over])


def _aedat2(path: Path) -> NDArray[Any]:
    """Lines that begin with #, then 32 bits of address and 32 of microseconds (jAER, DVS128)."""
    data = read_bytes(path, MAX_HEADER + MAX_EVENTS * AEDAT2_BYTES)
    if not data.startswith(AEDAT2):
        raise FileFormatError(
            f"'{path}' begins with {data[:12]!r}; expected {AEDAT2.decode()}, the format of a DVS128. "
            f"Convert it to .npy with the fields x, y, t, p"
        )
    start = 0
    while data[start : start + 1] == b"#" and (end := data.find(b"\n", start)) >= 0:
        start = end + 1
        if start > MAX_HEADER:  # each line is looked for by itself
            raise FileFormatError(
                f"'{path}' has a header of more than {MAX_HEADER} bytes; expected a few lines that begin "
                f"with #. Convert it to .npy with the fields x, y, t, p"
            )
    if (len(data) - start) % AEDAT2_BYTES:
        raise FileFormatError(
            f"'{path}' has {len(data) - start} bytes after its header; expected a multiple of "
            f"{AEDAT2_BYTES}, the bytes of an event"
        )
    raw = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2)
    raw = raw[raw[:, 0] < AEDAT2_SPECIAL]
    if len(raw) and raw[:, 0].max() >= 2 * DVS128_SIGNAL:
        raise FileFormatError(
            f"'{path}' holds address {raw[:, 0].max()}; expected those of a DVS128, which are below "
            f"{2 * DVS128_SIGNAL}. Convert recordings of other cameras to .npy with the fields x, y, t, p"
        )
    raw = raw[raw[:, 0] < DVS128_SIGNAL]
    events = np.zeros(len(raw), EVENT)
    events["x"] = DVS128_TOP - ((raw[:, 0] >> 1) & DVS128_TOP)
    events["y"] = DVS128_TOP - ((raw[:, 0] >> 8) & DVS128_TOP)
    events["p"], events["t"] = 1 - (raw[:, 0] & 1), raw[:, 1]
    return events


def _npy(path: Path) -> NDArray[Any]:
    """A structured array, or columns x, y, t, p."""
    found = map_npy(path, records=True)
    _check_count(path, found.shape)
    return found if found.dtype.names else _columns(found, path)


def _check_count(path: Path, shape: tuple[int, ...]) -> None:
    if shape and shape[0] > MAX_EVENTS:
        raise FileFormatError(
            f"'{path}' holds {shape[0]:,} events; expected at most {MAX_EVENTS:,}. Cut the recording"
        )


def _columns(found: NDArray[Any], path: Path) -> NDArray[Any]:
    if found.ndim != 2 or found.shape[1] != len(EVENT.names or ()):
        raise FileFormatError(
            f"'{path}' holds {found.dtype} in shape {found.shape}; expected columns x, y, t, p, or fields of "
            f"these names"
        )
    return _fields(dict(zip(EVENT.names or (), found.T)))


def _fields(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Arrays (n,) as fields of their own types, which :func:`as_events` checks."""
    count = len(next(iter(arrays.values())))
    events = np.zeros(count, [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        events[name] = array
    return events


def _npz(path: Path) -> NDArray[Any]:
    arrays = read_npz(path, SMALL_BYTES)
    names = EVENT.names or ()
    shapes = {arrays[name].shape for name in names if name in arrays}
    if not set(names) <= set(arrays) or len(shapes) != 1 or len(shapes.pop()) != 1:
        raise FileFormatError(
            f"'{path}' holds arrays {sorted(arrays)}; expected x, y, t and p of one shape (n,)"
        )
    _check_count(path, arrays[names[0]].shape)
    return _fields({name: arrays[name] for name in names})


def _aedat4(path: Path) -> NDArray[Any]:
    open_regular(path).close()
    read = library("tonic", f"read '{path}'").io.read_aedat4
    renamed = {"on": "p", "polarity": "p", "timestamp": "t"}
    try:
        found = read(str(path))
        found.dtype.names = [renamed.get(name, name) for name in found.dtype.names]
    except Exception as error:  # decoders raise anything on damaged files
        raise FileFormatError(f"'{path}' cannot be read: {error}") from error
    except BaseException as error:  # a panic of a decoder in Rust, which is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise FileFormatError(f"'{path}' cannot be read: {error}") from error
    _check_count(path, np.shape(found))
    return np.asarray(found)


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".bin": _bin,
    ".aedat": _aedat2,
    ".npy": _npy,
    ".npz": _npz,
    ".aedat4": _aedat4,
}


def check_events(path: Path) -> None:
    """Refuse a file that a library is about to read, by its ending, if our own readers would not take it.

    Raises:
        FileFormatError: no regular file, or more than it may hold.
    """
    ending = path.suffix.lower()
    if ending == HDF5:
        from biril_nm.storage.hdf5 import open_checked  # h5py takes long to import

        with open_checked(path, "HDF5", sequences=True):
            return
    if ending == ".npy":
        _check_count(path, map_npy(path).shape)
        return
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
    if ending == ".bin" and size > MAX_EVENTS * BIN_BYTES:
        raise FileFormatError(
            f"'{path}' holds {size} bytes; expected at most {MAX_EVENTS * BIN_BYTES}"
        )


def read_events(path: Path) -> NDArray[Any]:
    """Events of a file, by its ending.

    Raises:
        FileFormatError: no regular file, damaged, or of another format.
    """
    return as_events(READERS[path.suffix.lower()](path), f"'{path}'")
