"""Files: atomic writes, and checked reading of archives and HDF5."""

from __future__ import annotations

from biril_nm.storage.npz import (
    atomic_directory,
    atomic_file,
    check_output,
    map_npy,
    read_npz,
    write_npz,
)

__all__ = ["atomic_directory", "atomic_file", "check_output", "map_npy", "read_npz", "write_npz"]
