"""Zip archives: opened with a bounded directory, each member once and packed as numpy packs.

The sizes that the directory states hold for reading as well: zipfile never returns more of a member.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from biril_nm.errors import BirilError, FileFormatError
from biril_nm.storage.bounds import open_regular
from biril_nm.storage.text import is_unicode

__all__ = [
    "COMPRESSIONS",
    "MAX_MEMBERS",
    "MAX_MEMBER_BYTES",
    "file_size",
    "name_problem",
    "open_zip",
]

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # numpy's; bz2 unpacks without bound
MAX_MEMBERS = 100_000
MAX_READ = 32 << 20  # bytes of the directory, which zipfile reads at once
ENCRYPTED = 1
MAX_NAME_BYTES = 60_000  # of nodes, to whose names endings are added
MAX_MEMBER_BYTES = 65_000  # zip ends names at 65,535


def name_problem(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Why an archive cannot hold a member of this name; empty where it can."""
    if not name or "\0" in name:
        return "is empty or has a null character; expected letters"
    if not is_unicode(name):
        return "is not Unicode; expected text that UTF-8 can say"
    n_bytes = len(name.encode("utf-8"))
    return f"has {n_bytes} bytes; expected at most {max_bytes}" if n_bytes > max_bytes else ""


class _BoundedReader(io.BufferedReader):
    """Refuses single reads that are larger than :data:`MAX_READ`."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = MAX_READ
        if size > MAX_READ:
            raise FileFormatError(f"its directory is larger than {MAX_READ} bytes")
        return super().read(size)


@contextmanager
def open_zip(path: str | Path, kind: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive for reading and check its directory.

    Args:
        path: the file.
        kind: what it should be, for messages, such as "an .npz archive".

    Raises:
        FileFormatError: no zip, too many members, a name that occurs twice, or a packing that numpy does
            not write; also whatever zipfile finds wrong while it is read.
    """
    with _BoundedReader(cast(Any, open_regular(path)).detach()) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                _check_directory(path, archive.infolist())
                yield archive
        except BirilError:
            raise
        except Exception as error:  # zipfile raises whatever a damaged directory provokes
            raise FileFormatError(f"'{path}' is not {kind}: {error}") from error


def file_size(archive: zipfile.ZipFile) -> int:
    """Bytes of the file that an open archive lies in."""
    return os.fstat(cast(Any, archive.fp).fileno()).st_size


def _check_directory(path: str | Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise FileFormatError(
            f"'{path}' has {len(members)} members; expected at most {MAX_MEMBERS}"
        )
    seen: set[str] = set()
    for member in members:
        name = member.filename[:80]
        if member.filename in seen:
            raise FileFormatError(f"'{path}': member '{name}' occurs twice")
        seen.add(member.filename)
        if member.compress_type not in COMPRESSIONS:
            raise FileFormatError(
                f"'{path}': member '{name}' is packed by method {member.compress_type}; readable is "
                f"what numpy.savez and savez_compressed write"
            )
        if member.flag_bits & ENCRYPTED:
            raise FileFormatError(f"'{path}': member '{name}' is encrypted")
