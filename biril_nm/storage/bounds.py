"""Bounds that every reader keeps: what may be opened, and how much a file may take in memory.

Files are treated as hostile. A reader opens them here, and compares what they claim with
:func:`allowed_bytes` before it allocates anything.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from biril_nm.errors import FileFormatError

__all__ = [
    "MAX_BYTES",
    "SMALL_BYTES",
    "allowed_bytes",
    "check_unpacked",
    "open_regular",
    "read_bytes",
]

SMALL_BYTES = 512 << 20  # a file may unpack to this much, whatever its own size
MAX_RATIO = 4  # beyond that, to this many times its own size: deflate reaches 1,000
MAX_BYTES = 2 << 30  # and never to more
# Opening a named pipe would wait for a writer without O_NONBLOCK.
READ_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}


def open_regular(path: str | Path, follow_links: bool = True) -> BinaryIO:
    """Open a regular file for reading; anything else is refused without waiting for it.

    Args:
        path: the file.
        follow_links: False for members of a folder, which must not point out of it.

    Raises:
        FileFormatError: it does not exist, cannot be opened, or is a folder, link, pipe or device.
    """
    source = Path(path)
    try:
        _check_kind(source, (os.stat if follow_links else os.lstat)(source).st_mode)
        handle = os.open(source, os.O_RDONLY | READ_FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileFormatError(f"file '{source}' does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise FileFormatError(f"file '{source}' cannot be opened: {error}") from error
    try:
        _check_kind(source, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check_kind(source: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        found = KINDS.get(stat.S_IFMT(mode), "something else")
        raise FileFormatError(f"'{source}' is {found}; expected a regular file")


def read_bytes(path: str | Path, max_bytes: int, follow_links: bool = True) -> bytes:
    """The whole file.

    Raises:
        FileFormatError: no regular file, or larger than ``max_bytes``.
    """
    with open_regular(path, follow_links) as stream:
        try:
            data = stream.read(max_bytes + 1)
        except OSError as error:
            raise FileFormatError(f"file '{path}' cannot be read: {error}") from error
    if len(data) > max_bytes:
        raise FileFormatError(f"file '{path}' is larger than {max_bytes} bytes")
    return data


def allowed_bytes(file_size: int) -> int:
    """Bytes to which a file of ``file_size`` bytes may unpack."""
    return min(MAX_BYTES, max(SMALL_BYTES, MAX_RATIO * file_size))


def check_unpacked(source: str | Path, n_bytes: int, allowed: int) -> None:
    """Refuse a file that unpacks to more than it may.

    Raises:
        FileFormatError: ``n_bytes`` is more than ``allowed``.
    """
    if n_bytes > allowed:
        raise FileFormatError(
            f"'{source}' unpacks to more than {allowed} bytes, which is much for its size. Save large "
            f"arrays without compression (numpy.savez), or as .npy"
        )
