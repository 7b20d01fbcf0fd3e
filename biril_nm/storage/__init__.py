"""Files: atomic writes, and checked reading of archives and HDF5."""

from __future__ import annotations

from biril_nm.storage.npz import map_npy, read_npz, write_npz
from biril_nm.storage.paths import atomic_directory, atomic_file, check_output

__all__ = ["atomic_directory", "atomic_file", "check_output", "map_npy", "read_npz", "write_npz"]
