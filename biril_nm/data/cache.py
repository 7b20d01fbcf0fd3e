"""The cache: samples as the network takes them, packed once, then mapped from the disk.

A folder ``NAME-KEY`` for each part of a data set and its settings, where KEY is made from the settings and
from name, size and time of each file. It is written whole or not at all. It is read as any file is: what
is not as it was written is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.data.labels import check_labels
from biril_nm.errors import BirilError, ConfigError, FileFormatError, OutputInUseError
from biril_nm.storage import SMALL_BYTES, atomic_directory, map_npy, read_json, reports_full_disk

__all__ = ["CACHE_VARIABLE", "cache_folder", "files_key", "packed"]

CACHE_VARIABLE = "BIRIL_CACHE"
VERSION = 3  # of the layout, and of what is computed
ABOUT, VALUES, LABELS = "about.json", "values.npy", "labels.npy"
MAX_ABOUT_BYTES = 1 << 16
HEADER_BYTES = 182  # with the 10 bytes before it a multiple of 64
WAIT_S = 0.5  # between two looks for a cache that another process fills


def cache_folder() -> Path:
    """The folder of all caches: ``BIRIL_CACHE``, else ``biril-nm`` in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biril-nm"


def files_key(root: Path, files: Iterable[Path]) -> str:
    """A text that changes whenever a file is changed, added or removed.

    Raises:
        FileFormatError: a file that is not there.
    """
    total = hashlib.sha256()
    for path in files:
        try:
            state = path.stat()
        except OSError as error:  # a link to nothing, or a file that went away
            raise FileFormatError(f"file '{path}' cannot be read: {error.strerror}") from error
        line = f"{path.relative_to(root).as_posix()}\0{state.st_size}\0{state.st_mtime_ns}\n"
        total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def packed(
    name: str,
    settings: Mapping[str, Any],
    samples: Iterable[tuple[NDArray[np.uint8], int]],
    shape: tuple[int, ...],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Samples mapped from the cache, and their labels; it is filled first if it has none for these settings.

    Args:
        name: of the data set and its part, for the folder.
        settings: everything that the samples depend on.
        samples: the samples with their labels, all of one shape; looked at only if the cache has none.
        shape: of one sample, by the settings; 0 where the files decide.

    Raises:
        ConfigError: there are no samples.
        FileFormatError: samples of another shape, or a cache that is damaged or not what it should be.
        StorageError: there is no room for it.
    """
    about = {"version": VERSION, "name": name, **settings}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name}-{key}"
    while not _is_filled(folder):
        try:
            _fill(folder, about, samples, shape)
        except OutputInUseError:  # another process fills it; its lock goes when it ends
            time.sleep(WAIT_S)
        except _FilledError:
            pass
    return _read(folder, about, shape)


def _is_filled(folder: Path) -> bool:
    with reports_full_disk(folder):  # and names that are too long
        return (folder / ABOUT).is_file()


class _FilledError(Exception):
    """Another process has filled the cache while this one waited for its lock."""


def _fill(
    folder: Path,
    about: Mapping[str, Any],
    samples: Iterable[tuple[NDArray[np.uint8], int]],
    shape: tuple[int, ...],
) -> None:
    """Write one sample after the other; how many they are is known, and written, at the end."""
    with atomic_directory(folder, force=True, folder_with=ABOUT) as part:
        if _is_filled(folder):  # others read it already, and would not find it as it is replaced
            raise _FilledError
        labels: list[int] = []
        with (part / VALUES).open("wb") as stream:
            stream.write(_header((0,)))
            for sample, label in samples:
                if not _fits(sample, shape):
                    raise FileFormatError(
                        f"sample {len(labels)} of '{about['name']}' is {sample.dtype} in shape "
                        f"{sample.shape}; expected uint8 in shape {shape}"
                    )
                shape = sample.shape
                stream.write(np.ascontiguousarray(sample).data)
                labels.append(label)
            if not labels:
                raise ConfigError(f"'{about['name']}' holds no samples; expected one or more")
            stream.seek(0)
            stream.write(_header((len(labels), *shape)))
        try:
            classes = check_labels(labels, len(labels))
        except ConfigError as error:
            raise FileFormatError(f"'{about['name']}': {error}. Get its files again") from error
        np.save(part / LABELS, classes)
        (part / ABOUT).write_text(json.dumps(about, sort_keys=True), encoding="utf-8")


def _fits(sample: NDArray[Any], shape: tuple[int, ...]) -> bool:
    """Whether a sample is of bytes in this shape, where 0 stands for any length."""
    same = len(sample.shape) == len(shape)
    return (
        same and sample.dtype == np.uint8 and all(n in (0, m) for n, m in zip(shape, sample.shape))
    )


def _header(shape: tuple[int, ...]) -> bytes:
    """Start of an ``.npy`` of bytes, as long for any shape (numpy/lib/format.py, version 1.0)."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(HEADER_BYTES - 1)
    return b"\x93NUMPY\x01\x00" + HEADER_BYTES.to_bytes(2, "little") + text.encode() + b"\n"


def _read(
    folder: Path, about: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        found = read_json(folder / ABOUT, MAX_ABOUT_BYTES, follow_links=False)
        values = map_npy(folder / VALUES, follow_links=False)
        known = map_npy(folder / LABELS, follow_links=False)
        same = found == json.loads(json.dumps(about)) and values.shape[:1] == known.shape
        if not same or known.nbytes > SMALL_BYTES:
            raise FileFormatError(f"it is not the cache of {dict(about)}")
        labels = np.array(known)
        if not len(values) or not _fits(values[0], shape):
            raise FileFormatError(
                f"it holds {values.dtype} in shape {values.shape}; expected uint8 in shape (n, "
                f"{', '.join(str(n or 'any') for n in shape)})"
            )
        check_labels(labels, len(values))
    except BirilError as error:
        raise FileFormatError(
            f"the cache '{folder}' cannot be used: {error}. Remove that folder; it is made again"
        ) from error
    return values, labels
